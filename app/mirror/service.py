"""The mirror: copies of weights and ledgers that anyone may read while the API is away.

The bucket itself says how far the mirror is: the files called latest are written last. So what could not be
written is written by a later tick, whatever happened in between.
"""

import time
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime, timedelta
from http import HTTPStatus

import structlog

from app.clients.http import exchange
from app.clients.retry import RetryableError
from app.clients.storage import MIRROR_PREFIX, Storage
from app.config import Settings
from app.db import db
from app.ledger import service as ledgers
from app.mirror import queries
from app.proofs.receipts import read_receipt
from app.proofs.sealed import Sealed, seal
from app.weights import service as weights
from app.weights.models import WeightsOut

log = structlog.get_logger(__name__)

# A tick ends in time for the next; what is left comes then.
TICK_SECONDS = 60.0
PUBLIC_SECONDS = 10.0
MAX_FILE_BYTES = 16 * 1024 * 1024
_LATEST_WEIGHTS = f"{MIRROR_PREFIX}weights/latest.json"
_LATEST_HEAD = f"{MIRROR_PREFIX}heads/latest.json"
_FOR_EVER = "public, max-age=31536000, immutable"
_REVALIDATE = "public, no-cache"


def publish(settings: Settings, storage: Storage) -> None:
    """Bring the mirror up to date, the oldest cycle first. Raises Unavailable while storage is away."""
    if settings.mirror_bucket:
        mirror = Storage(replace(settings, s3_bucket=settings.mirror_bucket))
        publisher = _Publisher(settings, storage, mirror)
        # so that whoever finds the latest weights finds their ledger
        publisher.publish_ledgers()
        publisher.publish_weights()


@dataclass(frozen=True)
class State:
    """How the mirror stands: cycles that it should have by now and has not; whether strangers can read it."""

    late: list[int]
    is_public: bool


def examine(settings: Settings, storage: Storage, seconds: float) -> State:
    """Return how the mirror stands; what was completed in the last `seconds` may be missing.

    Raises Unavailable while storage is away.
    """
    mirror = Storage(replace(settings, s3_bucket=settings.mirror_bucket))
    # a bucket that is not there would look like one that is empty
    mirror.check()
    publisher = _Publisher(settings, storage, mirror)
    missing = {*publisher.list_missing_weights(), *(cycle for cycle, _ in publisher.list_missing_ledgers())}
    before = datetime.now(UTC) - timedelta(seconds=seconds)
    late = [cycle for cycle in sorted(missing) if (queries.find_completed_at(cycle) or before) < before]
    db.session.rollback()
    return State(late, is_public=mirror.head(_LATEST_HEAD) is None or _is_public(mirror))


def _is_public(mirror: Storage) -> bool:
    """Whether a stranger, who signs nothing, can read the mirror."""
    url = mirror.presign_get(_LATEST_HEAD, 60).partition("?")[0]
    try:
        with exchange("GET", url, time.monotonic() + PUBLIC_SECONDS) as answer:
            return answer.status_code == HTTPStatus.OK
    except RetryableError:
        return False


@dataclass
class _Publisher:
    settings: Settings
    storage: Storage
    mirror: Storage
    _deadline: float = field(default_factory=lambda: time.monotonic() + TICK_SECONDS)

    def publish_weights(self) -> None:
        for cycle_id in self.list_missing_weights():
            if time.monotonic() > self._deadline:
                return
            answer = weights.describe_weights(weights.get_weighted_cycle(cycle_id)).model_dump_json()
            key = ledgers.find_signing_key(self.settings)
            assert key, "the settings do not allow a mirror without a key"
            content = seal("weights", answer, key)
            self._put(f"weights/{cycle_id}.json", content, _FOR_EVER)
            self._put("weights/latest.json", content, _REVALIDATE)
            log.info("weights_mirrored", cycle_id=cycle_id)

    def publish_ledgers(self) -> None:
        for cycle_id, root in self.list_missing_ledgers():
            if time.monotonic() > self._deadline:
                return
            head = ledgers.get_head(cycle_id, self.settings).encode()
            # no connection is held meanwhile
            db.session.rollback()
            self.storage.copy(
                ledgers.object_key(cycle_id, root),
                f"{MIRROR_PREFIX}ledgers/{cycle_id}.jsonl.zst",
                "application/zstd",
                to_bucket=self.settings.mirror_bucket,
                cache_control=_FOR_EVER,
            )
            self._put(f"heads/{cycle_id}.json", head, _FOR_EVER)
            self._put("heads/latest.json", head, _REVALIDATE)
            log.info("ledger_mirrored", cycle_id=cycle_id)

    def list_missing_weights(self) -> list[int]:
        last = self._find_last_weights()
        if last is None:
            # older weights than the last are of no use to validators
            newest = queries.find_last_weighted()
            return [] if newest is None else [newest]
        return queries.list_weighted_after(last)

    def list_missing_ledgers(self) -> list[tuple[int, str]]:
        return queries.list_stored_after(self._find_last_ledger() or 0)

    def _put(self, name: str, content: bytes, cache_control: str) -> None:
        db.session.rollback()
        self.mirror.put(f"{MIRROR_PREFIX}{name}", content, "application/json", cache_control)

    def _find_last_weights(self) -> int | None:
        """The cycle whose weights the mirror has as the latest; None if it is none of this database."""
        content = self.mirror.read(_LATEST_WEIGHTS, MAX_FILE_BYTES)
        if content is None:
            return None
        try:
            latest = WeightsOut.model_validate_json(Sealed.model_validate_json(content).payload)
        except ValueError:
            return None
        is_ours = queries.find_completed_at(latest.cycle_id) == latest.created_at
        return latest.cycle_id if is_ours else None

    def _find_last_ledger(self) -> int | None:
        content = self.mirror.read(_LATEST_HEAD, MAX_FILE_BYTES)
        if content is None:
            return None
        try:
            latest = read_receipt(content)
        except ValueError:
            return None
        return latest.cycle_id if queries.find_root(latest.cycle_id) == latest.root else None
