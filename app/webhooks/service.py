"""The rules of webhooks: who is told what, and where events are sent.

An event is recorded in the transaction that it tells of. So none is lost, and none is sent of what was rolled
back. `scope` is the hotkey of a miner, who sees his own endpoints only, or None for an admin, who sees all.
"""

import base64
import secrets
import threading
from collections.abc import Iterable
from uuid import UUID

import structlog

from app.clients.strangers import AddressRefused, Strangers
from app.config import Settings
from app.db import autocommit, db
from app.enums import WebhookEvent
from app.errors import Conflict, Forbidden, NotFound, Unavailable, invalid_field
from app.webhooks import queries
from app.webhooks.events import MINERS_EVENTS, CycleFacts, SubmissionFacts
from app.webhooks.models import MAX_REPLAYED, Delivery, Endpoint, ReplayIn

log = structlog.get_logger(__name__)

MAX_ENDPOINTS_OF_A_MINER = 3
MAX_ENDPOINTS_OF_ADMINS = 50
SECRET_BYTES = 32
SECRET_PREFIX = "whsec_"  # noqa: S105
# deleted in one statement, and statements in one tick, so that none takes long
DELETED_AT_ONCE = 5000
MAX_DELETIONS = 10

# A name server may take its time. At most one thread of a web process waits for one.
_looking_up = threading.Lock()


def record_submission(submission_id: int, facts: SubmissionFacts) -> None:
    """Record an event about a submission for whoever wants it. The caller commits."""
    queries.insert_of_submission(facts.event, submission_id, facts.model_dump_json())


def record_cycle(cycle_id: int, facts: CycleFacts) -> None:
    """Record an event about a cycle for whoever wants it. The caller commits."""
    queries.insert_of_cycle(facts.event, cycle_id, facts.model_dump_json())


def register(
    scope: str | None, url: str, events: list[WebhookEvent] | None, settings: Settings, strangers: Strangers
) -> tuple[Endpoint, str]:
    """Register an endpoint; return it with its secret, which is never shown again.

    Raises Invalid for an address that we would not call, Forbidden for a hotkey that is not registered, and
    Conflict if its owner has too many.
    """
    events = _check_events(scope, events)
    with autocommit():
        # asked before the name server is, and again under the lock
        _check_owner(scope, settings)
    _check_url(url, strangers)
    queries.lock_owner(scope)
    _check_owner(scope, settings)
    secret = secrets.token_bytes(SECRET_BYTES)
    endpoint = queries.insert_endpoint(scope, url, events, secret)
    db.session.commit()
    log.info("webhook_registered", endpoint=str(endpoint.uuid), miner_hotkey=scope)
    return endpoint, _show_secret(secret)


def get_endpoint(scope: str | None, uuid: UUID) -> Endpoint:
    """Return an endpoint; raise NotFound if there is none in this scope."""
    endpoint = queries.find_endpoint(scope, uuid)
    if endpoint is None:
        raise NotFound("You have no such webhook; check its UUID in the list of your webhooks.")
    return endpoint


def change(
    scope: str | None, uuid: UUID, events: list[WebhookEvent] | None, is_enabled: bool | None
) -> Endpoint:
    """Change what is given of an endpoint, and return it. Raises NotFound or Invalid."""
    endpoint = get_endpoint(scope, uuid)
    if events is not None:
        queries.set_events(endpoint.id, _check_events(endpoint.miner_hotkey, events))
    if is_enabled:
        queries.enable(endpoint.id)
    elif is_enabled is False:
        queries.disable(endpoint.id, "Its owner or an admin switched it off. Enable it to get events again.")
    db.session.commit()
    return get_endpoint(scope, uuid)


def remove(scope: str | None, uuid: UUID) -> Endpoint:
    """Remove an endpoint with all of its deliveries; return what it was."""
    endpoint = get_endpoint(scope, uuid)
    queries.remove(endpoint.id)
    db.session.commit()
    log.info("webhook_removed", endpoint=str(uuid))
    return endpoint


def rotate(scope: str | None, uuid: UUID, overlap_hours: float) -> tuple[Endpoint, str]:
    """Give an endpoint a new secret, and return both. The old one signs too for so many hours."""
    endpoint = get_endpoint(scope, uuid)
    secret = secrets.token_bytes(SECRET_BYTES)
    queries.rotate(endpoint.id, secret, overlap_hours * 3600)
    db.session.commit()
    return get_endpoint(scope, uuid), _show_secret(secret)


def get_delivery(endpoint: Endpoint, uuid: UUID) -> Delivery:
    """Return a delivery of an endpoint; raise NotFound if there is none, or none any longer."""
    delivery = queries.find_delivery(endpoint.id, uuid)
    if delivery is None:
        raise NotFound("This webhook has no such delivery; it may have been deleted after some days.")
    return delivery


def replay(scope: str | None, uuid: UUID, what: ReplayIn) -> int:
    """Send ended deliveries of an endpoint again, at most MAX_REPLAYED; return how many.

    Those that still wait are left alone. Raises Conflict if the endpoint is disabled.
    """
    endpoint = get_endpoint(scope, uuid)
    if endpoint.disabled_at is not None:
        raise Conflict("This webhook is disabled; enable it first, then replay.")
    if what.failed_since is not None:
        replayed = queries.replay_failed(endpoint.id, what.failed_since, MAX_REPLAYED)
    else:
        replayed = queries.replay(endpoint.id, what.deliveries or [])
    db.session.commit()
    return replayed


def tidy(settings: Settings) -> None:
    """Delete what ended WEBHOOK_RETENTION_DAYS ago, and what is left of removed endpoints."""
    seconds = settings.webhook_retention_days * 86_400
    with autocommit():
        for delete in (queries.delete_old, queries.delete_unwanted):
            for _ in range(MAX_DELETIONS):
                if delete(seconds, DELETED_AT_ONCE) < DELETED_AT_ONCE:
                    break
        queries.delete_removed()


def _show_secret(secret: bytes) -> str:
    return SECRET_PREFIX + base64.b64encode(secret).decode()


def _check_events(owner: str | None, events: Iterable[WebhookEvent] | None) -> list[WebhookEvent]:
    """Return the events of an endpoint of `owner`: those wanted, or all there are for him."""
    permitted = MINERS_EVENTS if owner else tuple(WebhookEvent)
    wanted = list(permitted if events is None else events)
    if refused := [event for event in wanted if event not in permitted]:
        raise invalid_field(
            "events", f"{refused[0]} is for admins only; a miner gets {', '.join(MINERS_EVENTS)}."
        )
    return wanted


def _check_owner(scope: str | None, settings: Settings) -> None:
    if scope and settings.netuid is not None and not queries.has_uid(scope):
        raise Forbidden(
            f"This hotkey is not registered on subnet {settings.netuid}. If you have just registered, try "
            "again in some minutes."
        )
    most = MAX_ENDPOINTS_OF_A_MINER if scope else MAX_ENDPOINTS_OF_ADMINS
    if queries.count_endpoints(scope) >= most:
        raise Conflict(f"There are {most} webhooks already, and no more are possible; delete one first.")


def _check_url(url: str, strangers: Strangers) -> None:
    if not _looking_up.acquire(blocking=False):
        raise Unavailable("Another address is being looked up; try again in some seconds.", retry_after=3)
    try:
        strangers.check_url(url)
    except AddressRefused as refusal:
        raise invalid_field("url", f"{refusal}.") from refusal
    finally:
        _looking_up.release()
