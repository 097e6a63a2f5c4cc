"""The rules of submissions."""

from collections.abc import Iterator
from math import ceil
from uuid import UUID

import structlog
from redis import RedisError

from app.assessment.technical import largest_file
from app.clients.storage import Storage, StoredObject
from app.config import Settings
from app.db import autocommit
from app.errors import (
    Conflict,
    DomainError,
    Forbidden,
    NotFound,
    TooManyRequests,
    Unauthorized,
    Unavailable,
    invalid_field,
)
from app.hotkeys import is_signed, submission_statement
from app.queue import Hints
from app.submissions import queries
from app.submissions.models import (
    Admission,
    CheckOut,
    NewSubmission,
    Obstacle,
    Receipt,
    Submission,
    SubmissionCheck,
    read_signature,
)
from app.uploads import service as uploads
from app.uploads.models import MAX_UPLOAD_BYTES
from app.uploads.rules import refuse_beyond_quota, refuse_unregistered

log = structlog.get_logger(__name__)

# of one hotkey in a minute, with all else that it signs
MAX_CHECKS_PER_MINUTE = 60


def submit(
    new: NewSubmission, unsigned_allowed: bool, settings: Settings, storage: Storage, hints: Hints
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
        hints.give()
    except RedisError as error:
        # the row is safe; the next reconciliation queues it
        log.warning("enqueue_failed", error=type(error).__name__, submission=str(receipt.submission_uuid))
    return receipt, True


def check(new: SubmissionCheck, unsigned_allowed: bool, settings: Settings) -> CheckOut:
    """Return everything that would refuse this submission, and its upload if that is still to come.

    The rules are those of submit(), in their order. Nothing is locked or changed: what is acceptable now may
    be refused later. Raises TooManyRequests if the hotkey asks all the time.
    """
    with autocommit():
        if queries.count_requests(new.miner_hotkey, 60.0) > MAX_CHECKS_PER_MINUTE:
            raise TooManyRequests("This hotkey asks too often; try again in a minute.", 60.0)
        admission = _get_admission(new, settings)
        obstacles = list(_list_obstacles(new, admission, unsigned_allowed, settings))
        if new.video_key is None and not unsigned_allowed:
            # registration was asked for already, with the uid
            obstacles += [
                each
                for each in uploads.list_obstacles(new.miner_hotkey, settings, new.in_parts)
                if isinstance(each, TooManyRequests)
            ]
    most = min(MAX_UPLOAD_BYTES, largest_file(admission.requirements or {}))
    if new.size_bytes is not None and new.size_bytes > most:
        obstacles.append(_too_large(new.size_bytes, most))
    return CheckOut(
        is_acceptable=not obstacles,
        obstacles=[
            Obstacle(
                status=each.status,
                detail=each.detail,
                retry_after=None if each.retry_after is None else ceil(each.retry_after),
            )
            for each in obstacles
        ],
        max_size_bytes=most,
    )


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
    admission = _get_admission(new, settings)
    for obstacle in _list_obstacles(new, admission, unsigned_allowed, settings):
        raise obstacle
    return admission


def _get_admission(new: NewSubmission | SubmissionCheck, settings: Settings) -> Admission:
    return queries.get_admission(
        new.video_key,
        new.video_hash,
        new.prompt_id,
        new.miner_uid,
        new.miner_hotkey,
        settings.max_submissions_per_hour,
        settings.netuid,
    )


def _list_obstacles(
    new: NewSubmission | SubmissionCheck, admission: Admission, unsigned_allowed: bool, settings: Settings
) -> Iterator[DomainError]:
    """Yield each reason to refuse `new`, in the order in which they are told."""
    stated = ("prompt_id", "miner_uid", "miner_hotkey", "video_hash", "statement_head")
    if admission.is_gold or (
        admission.receipt and any(getattr(admission, name) != getattr(new, name) for name in stated)
    ):
        yield Conflict("This video_key was submitted with another statement; upload a new video.")
        # nothing more, or a gold film would be told from a submission
        return
    if admission.receipt:
        return
    if new.video_key is not None:
        if not admission.is_presigned:
            yield invalid_field(
                "video_key",
                "use the video_key that you got from POST /v1/upload/presign; an upload that is not "
                f"submitted within {settings.retain_unsubmitted_days:g} days is deleted.",
            )
        # an upload without an owner was presigned by an unsigned request, in development
        elif admission.owner != new.miner_hotkey and not (admission.owner is None and unsigned_allowed):
            yield Forbidden(
                "This video_key belongs to another hotkey; upload the video with your own hotkey."
            )
    if admission.prompt_is_open is None:
        yield invalid_field("prompt_id", "there is no such prompt; GET /v1/prompts lists them.")
    elif not admission.prompt_is_open:
        yield Conflict("This prompt is closed; choose another one: GET /v1/prompts lists them.")
    if new.licence not in (None, *settings.licences):
        yield _refuse_licence(settings)
    if admission.taken_down_as:
        yield Conflict(
            f"This video was taken down, as submission {admission.taken_down_as}, and cannot come back. Film "
            "a new one; if it was taken down by mistake, ask the operator."
        )
    refusal = f"miner_hotkey does not hold miner_uid {new.miner_uid}"
    if obstacle := refuse_unregistered(admission, settings.netuid, refusal):
        yield obstacle
    quota = settings.max_submissions_per_hour
    if obstacle := refuse_beyond_quota(admission.quota_wait_seconds, quota, "submissions"):
        yield obstacle


def _refuse_licence(settings: Settings) -> DomainError:
    allowed = (
        f"must be one of {', '.join(settings.licences)}" if settings.licences else "must be left out here"
    )
    return invalid_field("licence", f"{allowed}; GET /v1/licences says what this backend takes.")


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
        raise _too_large(stored.size_bytes, most)


def _too_large(size_bytes: int, most: int) -> Conflict:
    return Conflict(
        f"The upload has {size_bytes} bytes, and this prompt accepts at most {most}; upload a smaller video."
    )
