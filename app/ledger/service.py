"""The rules of ledgers, receipts and keys.

A ledger is recorded once, in the transaction that completes its cycle. Its file is put into storage later.
"""

import tempfile
import time
from bisect import bisect_right
from collections.abc import Iterator, Sequence
from datetime import UTC, datetime
from io import BufferedIOBase
from pathlib import Path
from uuid import UUID

import structlog

from app.clients.storage import Storage
from app.config import ConfigError, Settings
from app.db import db
from app.errors import Conflict, NotFound, Unavailable
from app.ledger import contents, queries
from app.ledger.models import Basis, Draft, Ledger, Part
from app.proofs.keys import SigningKey, load_key
from app.proofs.merkle import inclusion_proof, root_of
from app.proofs.packing import pack
from app.proofs.receipts import FORMAT, Receipt

log = structlog.get_logger(__name__)

DOWNLOAD_SECONDS = 3600
# how long ledgers are compared with the database in a tick, and how often each of them
COMPARE_SECONDS = 2.0
COMPARE_EVERY_SECONDS = 6 * 3600.0
_ROW = "its row in the table ledgers"


class Differs(Conflict):
    """The database no longer gives the ledger that was published. `what` is where it differs first."""

    def __init__(self, cycle_id: int, what: str):
        super().__init__(
            f"The database no longer gives the ledger that was published for cycle {cycle_id}: rows were "
            f"changed by hand, or lost. What differs first is {what}. The file in storage is what was "
            f"published; kibotos ledger check --cycle {cycle_id} compares again."
        )
        self.cycle_id = cycle_id
        self.what = what


def record(
    cycle_id: int, netuid: int | None, metagraph_at: datetime | None, drafted: Draft | None = None
) -> None:
    """Record the ledger of a cycle that has just been completed, with all its results. The caller commits.

    `netuid` is None if registration was not checked. Else the metagraph in the database is what was used.
    With the draft of a large cycle it is done in a moment.
    """
    previous_cycle_id, previous_root = queries.find_last() or (None, None)
    basis = Basis(
        previous_cycle_id=previous_cycle_id,
        previous_root=previous_root,
        netuid=netuid,
        metagraph_at=metagraph_at,
        neurons=[] if netuid is None else queries.list_neurons(),
    )
    ledger = _compose(cycle_id, basis, list(contents.finish(cycle_id, basis, drafted or Draft())))
    queries.insert(ledger)
    log.info("ledger_recorded", cycle_id=cycle_id, root=ledger.root, lines=ledger.lines)


def _compose(cycle_id: int, basis: Basis, parts: Sequence[Part]) -> Ledger:
    roots = [part.root for part in parts]
    return Ledger(
        cycle_id=cycle_id,
        root=root_of(roots).hex(),
        lines=sum(part.lines for part in parts),
        chunk_roots=roots,
        first_ids=[part.first_id for part in parts if part.first_id is not None],
        basis=basis,
    )


def write(cycle_id: int, file: BufferedIOBase) -> Ledger:
    """Write the lines of a recorded ledger, as they follow from the database now.

    Raises Differs at the first ones that are not those that were published.
    """
    ledger = _get(cycle_id)
    for chunk in _compared(ledger, 0):
        file.write(b"\n".join(chunk.lines) + b"\n")
    return ledger


def _compared(ledger: Ledger, number: int) -> Iterator[contents.Chunk]:
    """The chunks that the database gives, from a number on. Raises Differs where one was not published."""
    lines = number * contents.CHUNK
    for chunk in contents.read_chunks_from(ledger, number):
        if [chunk.part.root] != ledger.chunk_roots[number : number + 1]:
            raise Differs(ledger.cycle_id, _name_lines(number, len(chunk.lines)))
        first_ids = [] if chunk.part.first_id is None else [chunk.part.first_id]
        if first_ids != ledger.first_ids[number : number + 1]:
            raise Differs(ledger.cycle_id, _ROW)
        yield chunk
        number += 1
        lines += len(chunk.lines)
    found = (number, lines, root_of(ledger.chunk_roots).hex())
    if found != (len(ledger.chunk_roots), ledger.lines, ledger.root):
        raise Differs(ledger.cycle_id, _ROW)


def _name_lines(chunk: int, lines: int) -> str:
    first = chunk * contents.CHUNK
    return f"one of the lines {first} to {first + lines - 1}, counted from 0"


def compare(cycle_id: int) -> Ledger:
    """Compare a recorded ledger with what the database gives, and remember the outcome. Raises Differs."""
    try:
        ledger = _get(cycle_id)
        for _ in _compared(ledger, 0):
            pass
    except Differs as found:
        _remember(found)
        raise
    queries.record_comparison(cycle_id, None)
    db.session.commit()
    return ledger


def compare_some(seconds: float = COMPARE_SECONDS) -> None:
    """Compare ledgers for some seconds, those first that were not compared for the longest time.

    So a row that somebody changed by hand is found, and receipts of its cycle are refused.
    """
    deadline = time.monotonic() + seconds
    while cycle_id := queries.find_least_compared(COMPARE_EVERY_SECONDS):
        try:
            _compare_until(deadline, _get(cycle_id))
        except Differs as found:
            _remember(found)
        if time.monotonic() >= deadline:
            return


def _compare_until(deadline: float, ledger: Ledger) -> None:
    """Go on to compare a ledger. At the deadline remember how far it is: a large one takes several ticks."""
    start = min(ledger.compared_chunks, max(0, len(ledger.first_ids) - 1))
    for number, _ in enumerate(_compared(ledger, start), start + 1):
        if time.monotonic() >= deadline and number < len(ledger.first_ids):
            queries.record_progress(ledger.cycle_id, number)
            db.session.commit()
            return
    queries.record_comparison(ledger.cycle_id, None)
    db.session.commit()


def store(cycle_id: int, storage: Storage) -> None:
    """Put the file of a cycle's ledger into storage, also if it was there before; see write()."""
    with tempfile.TemporaryDirectory() as directory:
        path = Path(directory) / "ledger"
        with path.open("wb") as file, pack(file) as packed:
            ledger = write(cycle_id, packed)
        # no connection is held during the upload
        db.session.rollback()
        storage.put_file(object_key(cycle_id, ledger.root), path, "application/zstd")
    queries.record_stored(cycle_id)
    queries.record_comparison(cycle_id, None)
    db.session.commit()
    log.info("ledger_stored", cycle_id=cycle_id)


def store_all(storage: Storage) -> None:
    """Put the files of all ledgers that are not there yet into storage."""
    not_stored = queries.list_not_stored()
    db.session.rollback()
    if not_stored:
        # before a million lines are made for nothing
        storage.check()
    for cycle_id in not_stored:
        try:
            store(cycle_id, storage)
        except Differs as found:
            # the others may be in order
            _remember(found)


def _remember(found: Differs) -> None:
    db.session.rollback()
    queries.record_comparison(found.cycle_id, found.what)
    db.session.commit()
    log.error("ledger_differs", cycle_id=found.cycle_id, what=found.what)


def object_key(cycle_id: int, root: str) -> str:
    """The key of a ledger's file: two different ledgers never have the same."""
    return f"ledgers/{cycle_id}-{root}.jsonl.zst"


def get_stored_key(cycle_id: int) -> str:
    """Return the key of the file of a cycle's ledger; raise Unavailable until it is in storage."""
    found = queries.find_stored(cycle_id)
    if found is None:
        raise _explain_missing(cycle_id)
    root, stored_at = found
    if stored_at is None:
        raise Unavailable(
            f"The ledger of cycle {cycle_id} is not in storage yet; try again in a minute.", retry_after=30
        )
    return object_key(cycle_id, root)


def get_url(cycle_id: int, storage: Storage) -> str:
    """Return an address to download the file of a cycle's ledger from."""
    return storage.presign_get(get_stored_key(cycle_id), DOWNLOAD_SECONDS)


def get_head(cycle_id: int, settings: Settings) -> Receipt:
    """Return the receipt of the first line of a cycle's ledger."""
    return _sign(_prove(_get(cycle_id), 0, None), settings)


def get_receipt(uuid: UUID, settings: Settings) -> Receipt:
    """Return the receipt of a submission.

    Raises Conflict until its cycle is completed, and NotFound if that cycle has no ledger.
    """
    place = queries.find_place(uuid)
    if place is None:
        raise NotFound("There is no such submission; use the UUID that you got when you submitted the video.")
    if place.cycle_id is None or not place.is_completed:
        raise Conflict(
            "The cycle of this submission is not completed yet; ask for the receipt when "
            "GET /v1/weights/latest names that cycle or a later one."
        )
    ledger = _get(place.cycle_id)
    return _sign(_prove(ledger, bisect_right(ledger.first_ids, place.id) - 1, place.id), settings)


def _prove(ledger: Ledger, number: int, submission_id: int | None) -> Receipt:
    """The unsigned receipt of a submission's line in chunk `number`, or of the first line for None.

    Raises Differs if the database does not give this line, or did not give all lines when last compared.
    """
    if ledger.difference is not None:
        raise Differs(ledger.cycle_id, ledger.difference)
    chunk = contents.read_chunk(ledger, number)
    if [chunk.part.root] != ledger.chunk_roots[number : number + 1] or submission_id not in chunk.ids:
        log.error("ledger_differs", cycle_id=ledger.cycle_id, chunk=number)
        raise Differs(ledger.cycle_id, _name_lines(number, len(chunk.lines)))
    place = chunk.ids.index(submission_id)
    proof = inclusion_proof(chunk.leaves, place) + inclusion_proof(ledger.chunk_roots, number)
    return Receipt(
        format=FORMAT,
        cycle_id=ledger.cycle_id,
        root=ledger.root,
        lines=ledger.lines,
        index=number * contents.CHUNK + place,
        proof=[node.hex() for node in proof],
        line=chunk.lines[place].decode(),
        key=None,
        signed_at=None,
        signature=None,
    )


def _sign(receipt: Receipt, settings: Settings) -> Receipt:
    key = find_signing_key(settings)
    return receipt if key is None else key.sign(receipt, datetime.now(UTC))


def find_signing_key(settings: Settings) -> SigningKey | None:
    """Return the key that signs now, or None if none is configured. It is on /v1/keys and not retired.

    Raises Unavailable if the configured key is not such a key.
    """
    if not settings.receipt_key_file:
        return None
    try:
        key = load_key(Path(settings.receipt_key_file))
    except ConfigError as error:
        log.error("signing_key_unusable", error=str(error))
        raise Unavailable(
            "The key that signs receipts cannot be used; tell the operator to run `kibotos doctor`."
        ) from error
    period = queries.find_key(key.address)
    if period is None:
        raise Unavailable(
            "The key that signs receipts is new and not published yet; try again in a minute. If this goes "
            "on, the operator must start the scheduler with the RECEIPT_KEY_FILE of the web service.",
            retry_after=30,
        )
    if period.retired_at is not None:
        raise Unavailable(
            "The web service signs receipts with a key that was retired; the operator must start it with the "
            "RECEIPT_KEY_FILE of the scheduler."
        )
    return key


def publish_key(settings: Settings) -> None:
    """Make the configured key the one that is valid, unless it is already; the one before is retired."""
    if not settings.receipt_key_file:
        return
    key = load_key(Path(settings.receipt_key_file)).address
    period = queries.find_key(key)
    if period is None:
        queries.replace_key(key)
        db.session.commit()
        log.info("signing_key_published", key=key)
    elif period.retired_at is not None:
        log.error("signing_key_is_retired", key=key, retired_at=period.retired_at.isoformat())
    db.session.rollback()


def _get(cycle_id: int) -> Ledger:
    try:
        ledger = queries.find(cycle_id)
    except TypeError as error:
        # its neurons are none
        raise Differs(cycle_id, _ROW) from error
    if ledger is None:
        raise _explain_missing(cycle_id)
    return ledger


def _explain_missing(cycle_id: int) -> NotFound:
    completed = queries.is_completed(cycle_id)
    if completed is None:
        return NotFound("There is no such cycle; GET /v1/cycles/status names the latest.")
    if completed:
        return NotFound(
            f"Cycle {cycle_id} was completed before this backend wrote ledgers; later cycles have one."
        )
    return NotFound(f"Cycle {cycle_id} is not completed yet; its ledger is written when it is.")
