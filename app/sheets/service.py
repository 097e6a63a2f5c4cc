"""Contact sheets in storage: some pictures of each video, for its miner and for admins.

A row says that there may be a sheet. It is written before the object and deleted after it, so that no object
is forgotten. A takedown while a sheet is stored is noticed afterwards.
"""

from uuid import UUID

import structlog

from app.clients.storage import SHEETS_PREFIX, Storage, StorageRefused
from app.config import Settings
from app.db import autocommit, db
from app.errors import Unavailable
from app.sheets import queries
from app.video.sheet import MAX_BYTES, is_sheet

log = structlog.get_logger(__name__)

# that are deleted in one round
AT_MOST = 100
CONTENT_TYPE = "image/webp"


def keep(uuid: UUID, sheet: bytes, settings: Settings, storage: Storage) -> None:
    """Store the contact sheet of a submission whose result is recorded. A failure is logged, and no more.

    Does nothing without a sheet, for a video that was taken down, and if none are kept. A gold film's is
    stored too, though nobody looks at it: else an evaluator could tell it by the time that our answer takes.
    """
    if not sheet or not settings.retain_contact_sheets_days:
        return
    try:
        _store(uuid, sheet, storage)
    except Exception as error:
        db.session.rollback()
        log.warning("contact_sheet_not_kept", submission=str(uuid), error=f"{type(error).__name__}: {error}")


def _store(uuid: UUID, sheet: bytes, storage: Storage) -> None:
    with autocommit():
        is_wanted = queries.insert(uuid)
    if not is_wanted:
        return
    try:
        storage.put(_key(uuid), sheet, CONTENT_TYPE, "no-store")
    except StorageRefused:
        # nothing is there: without its row a takedown need not delete it, for which there may be no right
        with autocommit():
            queries.delete(uuid)
        raise
    with autocommit():
        is_taken_down = queries.is_taken_down(uuid)
    if is_taken_down:
        forget(uuid, storage)


def read(uuid: UUID, storage: Storage) -> bytes | None:
    """Return the contact sheet of a submission, or None: there is none, or the video was taken down.

    Raises Unavailable.
    """
    with autocommit():
        is_there = queries.exists(uuid) and not queries.is_taken_down(uuid)
    sheet = storage.read(_key(uuid), MAX_BYTES) if is_there else None
    return sheet if sheet and is_sheet(sheet) else None


def forget(uuid: UUID, storage: Storage) -> None:
    """Delete the contact sheet of a submission, if there is one. Raises Unavailable."""
    with autocommit():
        is_there = queries.exists(uuid)
    if is_there:
        storage.delete(_key(uuid))
        with autocommit():
            queries.delete(uuid)


def delete_old(settings: Settings, storage: Storage) -> None:
    """Delete the sheets that are older than RETAIN_CONTACT_SHEETS_DAYS, while storage answers."""
    with autocommit():
        old = queries.list_old(settings.retain_contact_sheets_days * 86_400, AT_MOST)
    for uuid in old:
        try:
            forget(uuid, storage)
        except Unavailable as error:
            log.warning("contact_sheet_not_deleted", reason=error.detail)
            return


def _key(uuid: UUID) -> str:
    return f"{SHEETS_PREFIX}{uuid}.webp"
