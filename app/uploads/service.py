"""The rules of uploads, whole or in parts."""

from collections.abc import Iterator
from math import ceil
from uuid import uuid4

from anyascii import anyascii
from werkzeug.utils import secure_filename

from app.clients.storage import Storage, StorageRefused
from app.config import Settings
from app.db import autocommit, db
from app.enums import MultipartState
from app.errors import Conflict, DomainError, Forbidden, NotFound, TooManyRequests, invalid_field
from app.uploads import queries
from app.uploads.models import (
    PART_BYTES,
    Multipart,
    MultipartOut,
    MultipartStateOut,
    NamedMultipart,
    NewMultipart,
    NewUpload,
    PartOut,
    PartsOut,
    UploadedParts,
    UploadOut,
    WantedParts,
)
from app.uploads.rules import refuse_beyond_quota, refuse_unregistered

MAX_FILENAME_LENGTH = 100
# Until then an upload in parts can be gone on with. The store's own rule aborts it a little later.
MULTIPART_SECONDS = 86_400
MAX_OPEN_MULTIPARTS = 8
ABORTED_A_TICK = 100


def safe_filename(name: str) -> str:
    """Return `name` reduced to ASCII letters, digits, dots, dashes and underscores, ending as it did.

    Other scripts are transliterated: `видео.mp4` becomes `video.mp4`.
    """
    stem, dot, suffix = (secure_filename(anyascii(name)) or "video").rpartition(".")
    if not dot or len(suffix) > 10:
        stem, dot, suffix = stem + dot + suffix, "", ""
    return stem[: MAX_FILENAME_LENGTH - len(dot + suffix)] + dot + suffix


def presign(new: NewUpload, miner_hotkey: str | None, settings: Settings, storage: Storage) -> UploadOut:
    """Create an upload. `miner_hotkey` is None for an unsigned request, which no quota can count.

    Raises Forbidden for a hotkey that is not registered, and TooManyRequests if the quota is used up.
    """
    video_key = _new_key(new)
    expires_in = settings.presign_expires_seconds
    url, headers = storage.presign_put(video_key, new.content_type, new.size_bytes, expires_in)
    if miner_hotkey is not None:
        queries.lock_presigns(miner_hotkey)
        _raise_first(list_obstacles(miner_hotkey, settings))
    queries.insert_upload(video_key, miner_hotkey, new.content_type, new.size_bytes, expires_in)
    db.session.commit()
    return UploadOut(upload_url=url, video_key=video_key, expires_in=expires_in, headers=headers)


def list_obstacles(miner_hotkey: str, settings: Settings, in_parts: bool = False) -> Iterator[DomainError]:
    """Yield each reason why this hotkey cannot begin an upload now."""
    quota = settings.max_presigns_per_hour
    admission = queries.get_upload_admission(miner_hotkey, quota, settings.netuid)
    if refusal := refuse_unregistered(admission, settings.netuid, "This hotkey is not registered"):
        yield refusal
    if refusal := refuse_beyond_quota(admission.quota_wait_seconds, quota, "presigned uploads"):
        yield refusal
    if in_parts and admission.open_multiparts >= MAX_OPEN_MULTIPARTS:
        wait = max(admission.multipart_wait_seconds or 0.0, 0.0)
        yield TooManyRequests(
            f"This hotkey has {admission.open_multiparts} uploads in parts that are not complete; complete "
            f"or abort one of them, or try again in {ceil(wait)} seconds.",
            wait,
        )


def start_multipart(
    new: NewMultipart, miner_hotkey: str | None, settings: Settings, storage: Storage
) -> MultipartOut:
    """Begin an upload in parts. It counts as a presigned one, and a hotkey has few that are open.

    Raises what presign() does.
    """
    if miner_hotkey is not None:
        # Not locked: storage is asked first, and no connection is held meanwhile. This is for strangers, who
        # must not reach storage at all.
        with autocommit():
            _raise_first(list_obstacles(miner_hotkey, settings, in_parts=True))
    video_key = _new_key(new)
    upload_id = storage.start_multipart(video_key, new.content_type)
    try:
        if miner_hotkey is not None:
            queries.lock_presigns(miner_hotkey)
            _raise_first(list_obstacles(miner_hotkey, settings, in_parts=True))
    except DomainError:
        db.session.rollback()
        storage.abort_multipart(video_key, upload_id)
        raise
    queries.insert_upload(video_key, miner_hotkey, new.content_type, new.size_bytes, MULTIPART_SECONDS)
    queries.insert_multipart(video_key, upload_id, PART_BYTES)
    db.session.commit()
    return MultipartOut(
        video_key=video_key,
        upload_id=upload_id,
        part_size=PART_BYTES,
        part_count=-(-new.size_bytes // PART_BYTES),
        expires_in=MULTIPART_SECONDS,
    )


def sign_parts(
    wanted: WantedParts, miner_hotkey: str | None, settings: Settings, storage: Storage
) -> PartsOut:
    """Return where the wanted parts are to be put. Raises NotFound, Forbidden or Conflict."""
    upload = _get_own(wanted.video_key, miner_hotkey)
    _check_open(upload)
    if max(wanted.part_numbers) > upload.part_count:
        raise invalid_field("part_numbers", f"this upload has the parts 1 to {upload.part_count}.")
    expires_in = max(1, min(settings.presign_expires_seconds, int(upload.seconds_left)))
    parts = []
    for number in wanted.part_numbers:
        url, headers = storage.presign_part(
            upload.video_key, upload.upload_id, number, upload.length(number), expires_in
        )
        parts.append(PartOut(part_number=number, upload_url=url, headers=headers))
    return PartsOut(parts_expire_in=expires_in, parts=parts)


def complete_multipart(parts: UploadedParts, miner_hotkey: str | None, storage: Storage) -> MultipartStateOut:
    """Make one object of all parts. What is complete already stays so.

    Raises NotFound, Forbidden or Conflict; then no object is there.
    """
    upload = _get_own(parts.video_key, miner_hotkey)
    if upload.state != MultipartState.COMPLETED:
        _check_open(upload)
        if len(parts.etags) != upload.part_count:
            raise invalid_field("etags", f"must have one for each of the {upload.part_count} parts.")
        _join(upload, [etag.strip('"') for etag in parts.etags], storage)
        with autocommit():
            queries.end_multipart(upload.video_key, MultipartState.COMPLETED)
    return MultipartStateOut(video_key=upload.video_key, state=MultipartState.COMPLETED)


def _join(upload: Multipart, etags: list[str], storage: Storage) -> None:
    if storage.complete_multipart(upload.video_key, upload.upload_id, etags):
        return
    # it may be complete, and the answer to that was lost
    stored = storage.head(upload.video_key)
    if stored is None or stored.size_bytes != upload.size_bytes:
        raise Conflict(
            "Storage does not have all these parts, or no longer; abort this upload and begin another one."
        )


def abort_multipart(named: NamedMultipart, miner_hotkey: str | None, storage: Storage) -> MultipartStateOut:
    """Give up an upload in parts, and free what it takes. Raises NotFound, Forbidden or Conflict."""
    upload = _get_own(named.video_key, miner_hotkey)
    if upload.state == MultipartState.COMPLETED:
        raise Conflict("This upload is complete, so there is nothing to abort.")
    if upload.state == MultipartState.OPEN:
        storage.abort_multipart(upload.video_key, upload.upload_id)
        with autocommit():
            queries.end_multipart(upload.video_key, MultipartState.ABORTED)
    return MultipartStateOut(video_key=upload.video_key, state=MultipartState.ABORTED)


def abort_stale(storage: Storage) -> None:
    """Abort uploads in parts that are open beyond their time.

    What storage refuses is tried again by the next tick, and does not keep the others waiting. Raises
    Unavailable while storage is away.
    """
    with autocommit():
        stale = queries.list_stale(ABORTED_A_TICK)
    refused = None
    for each in stale:
        try:
            storage.abort_multipart(each.video_key, each.upload_id)
        except StorageRefused as error:
            refused = error
            continue
        with autocommit():
            queries.end_multipart(each.video_key, MultipartState.ABORTED)
    if refused:
        raise refused


def _new_key(new: NewUpload) -> str:
    return f"uploads/{uuid4()}/{safe_filename(new.filename)}"


def _raise_first(obstacles: Iterator[DomainError]) -> None:
    for obstacle in obstacles:
        raise obstacle


def _get_own(video_key: str, miner_hotkey: str | None) -> Multipart:
    with autocommit():
        upload = queries.find_multipart(video_key)
    if upload is None:
        raise NotFound(
            "There is no upload in parts under this video_key; begin one by POST /v1/upload/multipart."
        )
    # unsigned requests are let in by the route, in development only
    if upload.owner != miner_hotkey and miner_hotkey is not None:
        raise Forbidden("This upload belongs to another hotkey; sign with the hotkey that began it.")
    return upload


def _check_open(upload: Multipart) -> None:
    if upload.state != MultipartState.OPEN or upload.seconds_left <= 0:
        ended = "complete" if upload.state == MultipartState.COMPLETED else "aborted"
        raise Conflict(f"This upload is {ended} already; begin another one for another file.")
