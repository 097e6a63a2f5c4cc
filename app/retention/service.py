"""How long objects in storage are kept, and the sweep that deletes what is over its time.

A sweep lists the bucket and asks the database what each object is. So it finds also what nobody remembers.
What was accepted is never deleted: it is what all this is for. Before an object goes, the database lets it
go: an upload that is submitted in that moment, or a rejection that is appealed against, comes first.
"""

import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from datetime import UTC, datetime, timedelta
from uuid import UUID

import structlog

from app.appeals.service import HOURS_TO_APPEAL
from app.clients.storage import MIRROR_PREFIX, SHEETS_PREFIX, ListedObject, Storage, StorageRefused
from app.config import Settings
from app.corrections import queries as corrections
from app.db import autocommit, db
from app.errors import Unavailable
from app.releases.places import FILM_ENDINGS, FILMS_PREFIX
from app.releases.places import PREFIX as RELEASES_PREFIX
from app.retention import queries
from app.retention.models import Judged, Kind, Sweep, Tallies

log = structlog.get_logger(__name__)

UPLOADS_PREFIX = "uploads/"
GOLD_PREFIX = "gold/"
_ENDINGS = sorted(FILM_ENDINGS, key=len, reverse=True)
# In the order of keys. What lies under other prefixes is somebody else's.
PREFIXES = (GOLD_PREFIX, "ledgers/", MIRROR_PREFIX, RELEASES_PREFIX, SHEETS_PREFIX, UPLOADS_PREFIX)
# Kept, also what the database does not know: a ledger that was published is published.
_KEPT = {"ledgers/": Kind.LEDGER, MIRROR_PREFIX: Kind.MIRROR}
# an object may be there before its row
ORPHAN_AGE = timedelta(days=1)
# an upload in parts that was begun so long ago is abandoned
MULTIPART_AGE = timedelta(days=1)
# objects that are looked at in one go; to delete so many takes some seconds
PAGE = 250
# of a tick: the other periodic jobs wait meanwhile
STEP_SECONDS = 5.0


def has_work() -> bool:
    """Whether a sweep is under way, or due."""
    sweep = queries.find_latest()
    return sweep is None or sweep.finished_at is None or queries.is_due()


def tick(settings: Settings, storage: Storage) -> None:
    """Do some seconds of the nightly sweep, if there is one to do. Storage that is away delays it."""
    with autocommit():
        sweep = queries.find_latest()
        if (sweep is None or sweep.finished_at) and queries.is_due():
            queries.start()
            sweep = queries.find_latest()
        before = queries.list_finished(1)
    if sweep is None or sweep.finished_at:
        return
    # In the first night nothing unknown is deleted, nor where there is too much of it.
    with_orphans = bool(before) and not before[0].tallies.has_too_many_orphans
    try:
        _step(sweep, settings, storage, with_orphans)
    except Unavailable as error:
        db.session.rollback()
        log.warning("sweep_interrupted", reason=error.detail)
        with autocommit():
            queries.note_error(sweep.id, str(error.detail))


def _step(sweep: Sweep, settings: Settings, storage: Storage, with_orphans: bool) -> None:
    began, tallies = time.monotonic(), sweep.tallies
    for page in list_pages(storage, sweep.after_key):
        _sweep_page(page, tallies, settings, storage, datetime.now(UTC), with_orphans)
        with autocommit():
            queries.save(sweep.id, page[-1].key, tallies, is_finished=False)
        if time.monotonic() - began > STEP_SECONDS:
            return
    tallies.aborted += abort_multiparts(storage, datetime.now(UTC))
    with autocommit():
        queries.save(sweep.id, "", tallies, is_finished=True)
    log.info("sweep_finished", objects=tallies.objects, bytes=tallies.size_bytes, aborted=tallies.aborted)


def look(
    settings: Settings,
    storage: Storage,
    moment: datetime,
    tell: Callable[[Judged], None] = lambda judged: None,
    progress: Callable[[int], None] = lambda objects: None,
) -> Tallies:
    """Walk over the bucket and delete nothing. Raise Unavailable.

    `tell` gets each object that is due, `progress` how many were seen so far.
    """
    tallies = Tallies()
    for page in list_pages(storage):
        progress(tallies.objects)
        for judged in judge(page, settings):
            is_due = judged.is_due(moment)
            tallies.add(judged, is_due, is_deleted=False)
            if is_due:
                tell(judged)
    return tallies


def prune(
    settings: Settings,
    storage: Storage,
    moment: datetime,
    progress: Callable[[int], None] = lambda objects: None,
) -> Tallies:
    """Delete all that is due, orphans as well. Raise Unavailable.

    `progress` gets how many objects were seen so far.
    """
    tallies = Tallies()
    for page in list_pages(storage):
        _sweep_page(page, tallies, settings, storage, moment, with_orphans=True)
        progress(tallies.objects)
    tallies.aborted = abort_multiparts(storage, moment)
    return tallies


def list_pages(storage: Storage, after_key: str = "") -> Iterator[list[ListedObject]]:
    """All objects of ours whose keys come after the given one, some at a time."""
    for prefix in PREFIXES:
        if prefix < after_key and not after_key.startswith(prefix):
            continue
        after = after_key if after_key.startswith(prefix) else ""
        while page := storage.list_objects(prefix, after, PAGE):
            yield page
            after = page[-1].key


def judge(page: Sequence[ListedObject], settings: Settings) -> list[Judged]:
    """Say of objects under one prefix what they are, and when they are to be deleted."""
    prefix = next(prefix for prefix in PREFIXES if page[0].key.startswith(prefix))
    with autocommit():
        if prefix == UPLOADS_PREFIX:
            known = {
                each.key: (Kind(each.kind), each.due_at)
                for each in queries.judge_uploads([each.key for each in page], **_seconds(settings))
            }
        elif prefix == GOLD_PREFIX:
            known = {key: (Kind.GOLD, None) for key in queries.list_gold([each.key for each in page])}
        elif prefix == SHEETS_PREFIX:
            known = {key: (Kind.SHEET, None) for key in _list_sheets(page)}
        elif prefix == RELEASES_PREFIX:
            known = {key: (Kind.RELEASE, None) for key in _list_of_releases(page)}
        else:
            known = {each.key: (_KEPT[prefix], None) for each in page}
    judged = []
    for each in page:
        kind, due_at = known.get(each.key, (Kind.ORPHAN, None))
        if kind == Kind.ORPHAN:
            due_at = each.modified_at + ORPHAN_AGE
        judged.append(Judged(each.key, each.size_bytes, kind, due_at))
    return judged


def _list_sheets(page: Iterable[ListedObject]) -> set[str]:
    keys = {}
    for each in page:
        try:
            uuid = UUID(each.key.removeprefix(SHEETS_PREFIX).removesuffix(".webp"))
        except ValueError:
            continue
        if each.key == f"{SHEETS_PREFIX}{uuid}.webp":
            keys[uuid] = each.key
    return {keys[uuid] for uuid in queries.list_sheets(list(keys))}


def _list_of_releases(page: Iterable[ListedObject]) -> set[str]:
    """All objects under releases/, except films and their sidecars that belong to no release."""
    films: dict[tuple[str, str], list[str]] = {}
    kept = set()
    for each in page:
        name = each.key.removeprefix(FILMS_PREFIX)
        if name == each.key:
            kept.add(each.key)
            continue
        # the longest ending first
        ending = next((ending for ending in _ENDINGS if name.endswith(ending)), "")
        source, slash, recipe = name.removesuffix(ending).partition("/")
        if ending and slash:
            films.setdefault((source, recipe), []).append(each.key)
    known = queries.list_films(list(films)) if films else set()
    return kept.union(*(keys for name, keys in films.items() if "/".join(name) in known))


def _sweep_page(
    page: Sequence[ListedObject],
    tallies: Tallies,
    settings: Settings,
    storage: Storage,
    moment: datetime,
    with_orphans: bool,
) -> None:
    """Delete what is due of a page, and count all of it; nothing is counted if storage goes away."""
    judged = judge(page, settings)
    due = [each for each in judged if each.is_due(moment)]
    free = _let_go(due, settings, moment, with_orphans)
    for key in list(free):
        try:
            storage.delete(key)
        except StorageRefused as error:
            # the next night tries again, and nothing else waits for it
            log.warning("object_not_deleted", key=key, reason=error.detail)
            free.discard(key)
    for each in judged:
        tallies.add(each, each.is_due(moment), each.key in free)


def _let_go(due: Sequence[Judged], settings: Settings, moment: datetime, with_orphans: bool) -> set[str]:
    """Let the database know that objects go. Return the keys of those that may."""

    def keys_of(kind: Kind) -> list[str]:
        return [each.key for each in due if each.kind == kind]

    free = set(keys_of(Kind.TAKEN_DOWN))
    if with_orphans:
        free |= set(keys_of(Kind.ORPHAN))
    if keys := keys_of(Kind.UNSUBMITTED):
        free |= queries.forget_uploads(keys)
        db.session.commit()
    if keys := keys_of(Kind.REJECTED):
        queries.lock_submissions(keys)
        corrections.lock()
        free |= queries.mark_pruned(keys, moment, **_seconds(settings, "unsubmitted_seconds"))
        db.session.commit()
    return free


def _seconds(settings: Settings, without: str = "") -> dict[str, float]:
    seconds = {
        "unsubmitted_seconds": settings.retain_unsubmitted_days * 86_400,
        "rejected_seconds": settings.retain_rejected_days * 86_400,
        "appeal_seconds": HOURS_TO_APPEAL * 3600.0,
    }
    return {name: value for name, value in seconds.items() if name != without}


def abort_multiparts(storage: Storage, moment: datetime) -> int:
    """Abort uploads in parts that were begun too long ago; return how many.

    A store that does not offer it, or a key without the right, is left to the bucket's own rule.
    """
    aborted = 0
    try:
        for each in storage.list_multiparts(UPLOADS_PREFIX):
            if each.begun_at + MULTIPART_AGE <= moment:
                storage.abort_multipart(each.key, each.upload_id)
                aborted += 1
    except StorageRefused as error:
        log.warning("multiparts_not_aborted", reason=error.detail)
    return aborted
