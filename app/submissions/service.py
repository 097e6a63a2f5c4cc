"""The rules of uploads and submissions."""

from math import ceil
from uuid import UUID, uuid4

import structlog
from anyascii import anyascii
from redis import Redis, RedisError
from werkzeug.utils import secure_filename

from app.assessment.technical import largest_file
from app.clients.storage import Storage, StoredObject
from app.config import Settings
from app.db import autocommit, db
from app.errors import (
    Conflict,
    Forbidden,
    NotFound,
    TooManyRequests,
    Unauthorized,
    Unavailable,
    invalid_field,
)
from app.hotkeys import is_signed, submission_statement
from app.queue import enqueue_evaluations
from app.submissions import queries
from app.submissions.models import (
    Admission,
    NewSubmission,
    NewUpload,
    Receipt,
    Submission,
    UploadAdmission,
    UploadOut,
    read_signature,
)

log = structlog.get_logger(__name__)

MAX_FILENAME_LENGTH = 100


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
    video_key = f"uploads/{uuid4()}/{safe_filename(new.filename)}"
    expires_in = settings.presign_expires_seconds
    url, headers = storage.presign_put(video_key, new.content_type, new.size_bytes, expires_in)
    if miner_hotkey is not None:
        quota = settings.max_presigns_per_hour
        queries.lock_presigns(miner_hotkey)
        admission = queries.get_upload_admission(miner_hotkey, quota, settings.netuid)
        _check_registration(admission, settings.netuid, "This hotkey is not registered")
        _check_quota(admission.quota_wait_seconds, quota, "presigned uploads")
    queries.insert_upload(video_key, miner_hotkey, new.content_type, new.size_bytes, expires_in)
    db.session.commit()
    return UploadOut(upload_url=url, video_key=video_key, expires_in=expires_in, headers=headers)


def submit(
    new: NewSubmission, unsigned_allowed: bool, settings: Settings, storage: Storage, redis: Redis
) -> tuple[Receipt, bool]:
    """Accept a submission; return its receipt and whether it is new.

    The same statement again gets the same receipt, even if other things have changed since. If the submission
    cannot be accepted, this raises a DomainError and writes nothing.
    """
    signature = _check_signature(new, unsigned_allowed)
    # two blocks, since no connection is held while storage is asked, nor while Redis is
    with autocommit():
        admission = _admit(new, unsigned_allowed, settings)
    if admission.receipt:
        return admission.receipt, False
    _check_object(storage.head(new.video_key), admission)
    with autocommit():
        receipt = queries.insert_submission(
            new.model_dump(), signature, settings.max_submissions_per_hour, settings.netuid
        )
        if receipt is None:
            # it was acceptable a moment ago and no longer is; find out why
            admission = _admit(new, unsigned_allowed, settings)
            if admission.receipt:
                return admission.receipt, False
            raise Unavailable("Something changed just as this was submitted; submit it again.", retry_after=1)
    try:
        enqueue_evaluations(redis, 1, settings.job_timeout_seconds)
    except RedisError as error:
        # the row is safe; the next reconciliation queues it
        log.warning("enqueue_failed", error=type(error).__name__, submission=str(receipt.submission_uuid))
    return receipt, True


def get_submission(uuid: UUID) -> Submission:
    """Return the submission; raise NotFound if there is none."""
    submission = queries.find_submission(uuid)
    if submission is None:
        raise NotFound("There is no such submission; use the UUID that you got when you submitted the video.")
    return submission


def _check_signature(new: NewSubmission, unsigned_allowed: bool) -> bytes | None:
    """Return the signature, or None if there is none and none is needed."""
    signature = read_signature(new.signature)
    if signature is None:
        if unsigned_allowed:
            return None
        raise invalid_field(
            "signature", "must be 128 hexadecimal digits, made with the hotkey; /docs says what to sign."
        )
    statement = submission_statement(
        new.miner_hotkey,
        new.miner_uid,
        new.prompt_id,
        new.video_key,
        new.video_hash,
        new.statement_head,
    )
    if not is_signed(statement, signature, new.miner_hotkey):
        raise Unauthorized(
            "The signature is not an sr25519 signature of this submission by miner_hotkey; "
            "/docs says what to sign, with a licence or consent and without.",
            "Signature",
        )
    return signature


def _admit(new: NewSubmission, unsigned_allowed: bool, settings: Settings) -> Admission:
    """Return what the database knows about `new`. Raise the first reason to refuse it. Storage is not asked.

    A statement that was submitted before is never refused: the admission has its receipt.
    """
    quota = settings.max_submissions_per_hour
    admission = queries.get_admission(
        new.video_key,
        new.video_hash,
        new.prompt_id,
        new.miner_uid,
        new.miner_hotkey,
        quota,
        settings.netuid,
    )
    stated = ("prompt_id", "miner_uid", "miner_hotkey", "video_hash", "statement_head")
    if admission.is_gold or (
        admission.receipt and any(getattr(admission, name) != getattr(new, name) for name in stated)
    ):
        raise Conflict("This video_key was submitted with another statement; upload a new video.")
    if admission.receipt:
        return admission
    if not admission.is_presigned:
        raise invalid_field(
            "video_key",
            "use the video_key that you got from POST /v1/upload/presign; an upload that is not submitted "
            f"within {settings.retain_unsubmitted_days:g} days is deleted.",
        )
    # an upload without an owner was presigned by an unsigned request, in development
    if admission.owner != new.miner_hotkey and not (admission.owner is None and unsigned_allowed):
        raise Forbidden("This video_key belongs to another hotkey; upload the video with your own hotkey.")
    if admission.prompt_is_open is None:
        raise invalid_field("prompt_id", "there is no such prompt; GET /v1/prompts lists them.")
    if not admission.prompt_is_open:
        raise Conflict("This prompt is closed; choose another one: GET /v1/prompts lists them.")
    _check_licence(new.licence, settings)
    if admission.taken_down_as:
        raise Conflict(
            f"This video was taken down, as submission {admission.taken_down_as}, and cannot come back. Film "
            "a new one; if it was taken down by mistake, ask the operator."
        )
    _check_registration(admission, settings.netuid, f"miner_hotkey does not hold miner_uid {new.miner_uid}")
    _check_quota(admission.quota_wait_seconds, quota, "submissions")
    return admission


def _check_licence(licence: str | None, settings: Settings) -> None:
    if licence in (None, *settings.licences):
        return
    allowed = (
        f"must be one of {', '.join(settings.licences)}" if settings.licences else "must be left out here"
    )
    raise invalid_field("licence", f"{allowed}; GET /v1/licences says what this backend takes.")


def _check_registration(admission: Admission | UploadAdmission, netuid: int | None, refusal: str) -> None:
    """Raise unless the stored metagraph knows the miner; without a netuid nothing is checked."""
    if netuid is None:
        return
    if not admission.has_metagraph:
        raise Unavailable("The subnet's metagraph is not loaded yet; try again in a minute.", retry_after=60)
    if not admission.is_registered:
        raise Forbidden(
            f"{refusal} on subnet {netuid}. If you have just registered, try again in some minutes."
        )


def _check_quota(wait_seconds: float | None, quota: int, what: str) -> None:
    if wait_seconds is not None:
        raise TooManyRequests(
            f"This hotkey has used up its {quota} {what} an hour; try again in {ceil(wait_seconds)} seconds.",
            wait_seconds,
        )


def _check_object(stored: StoredObject | None, admission: Admission) -> None:
    """Raise Conflict unless the object in storage has the type and the size that were presigned."""
    if stored is None:
        raise Conflict("There is no upload under this video_key; upload the video first.")
    if stored.content_type != admission.content_type:
        raise Conflict(
            f"The upload was announced as {admission.content_type}, but storage has it with another content "
            "type; upload the video again."
        )
    if stored.size_bytes == 0 or admission.size_bytes not in (None, stored.size_bytes):
        raise Conflict(
            f"The upload has {stored.size_bytes} bytes, which is not the size that was announced; "
            "upload the video again."
        )
    most = largest_file(admission.requirements or {})
    if stored.size_bytes > most:
        raise Conflict(
            f"The upload has {stored.size_bytes} bytes, and this prompt accepts at most {most}; "
            "upload a smaller video."
        )
