"""The rules of what an operator decides about a submission of his own accord: corrections and takedowns.

Locks are taken in the order of the recording of results: memory, the submission's row, corrections.
"""

from hashlib import sha256
from typing import Any
from uuid import UUID

import structlog

from app.appeals import queries as appeal_queries
from app.appeals import service as appeals
from app.assessment.report import REPORT_VERSION, Report
from app.clients.storage import Storage
from app.config import Settings
from app.corrections import queries as corrections
from app.corrections import service as correcting
from app.corrections.models import Decision
from app.db import db
from app.duplicates import queries as memory
from app.enums import CorrectionKind, ReviewState, SubmissionStatus
from app.errors import Conflict, Forbidden, NotFound, Unauthorized, Unavailable, invalid_field
from app.hotkeys import is_signed, takedown_statement
from app.moderation import queries
from app.moderation.models import NewTakedown, Order, Takedown
from app.moderation.queries import Submission
from app.reviews import queries as review_queries
from app.reviews import service as reviews
from app.sheets import service as sheets
from app.submissions.models import read_signature
from app.webhooks import service as webhooks
from app.webhooks.events import Evaluated, TakenDown

log = structlog.get_logger(__name__)

# objects that are deleted in one round, and other submissions of a file that are named
AT_MOST = 100
# so long before the time is over the deletion begins, since storage may be away
_TIME_TO_TRY = 3600
# in a row, after which storage counts as away
_FAILURES = 3
_UNKNOWN = "There is no such submission; check its UUID."


def correct(
    uuid: UUID, status: SubmissionStatus, score: float, reason: str, by: str, evidence: dict[str, Any]
) -> None:
    """Correct the result of a submission. Its evaluation stays as it is.

    Raise NotFound. Raise Conflict if there is no result, or if it is the same.
    """
    submission = _lock(uuid)
    effective = corrections.find_effective(submission.id)
    if effective and (effective.status, effective.final_score) == (status, round(score, 4)):
        raise Conflict(f"The result is {status} with the final score {effective.final_score:g} already.")
    correcting.correct(submission.id, Decision(CorrectionKind.OPERATOR, status, score, reason, by, evidence))
    reviews.follow(submission.id, uuid, status)
    db.session.commit()


def withdraw(
    uuid: UUID, new: NewTakedown, unsigned_allowed: bool, settings: Settings, storage: Storage
) -> Takedown:
    """Take a video down at the word of its miner, who signs it; see `take_down`.

    Raise NotFound, Forbidden for the video of another miner, or Unauthorized.
    """
    signature = _check_signature(uuid, new, unsigned_allowed)
    owner = queries.find_owner(uuid)
    if owner is None:
        raise NotFound(_UNKNOWN)
    if owner != new.miner_hotkey:
        raise Forbidden("Only the hotkey that submitted the video can take it down; sign with that hotkey.")
    order = Order(new.reason, new.miner_hotkey, by_miner=True, signature=signature)
    return take_down(uuid, order, settings, storage)


def take_down(uuid: UUID, order: Order, settings: Settings, storage: Storage) -> Takedown:
    """Take a video down. From now on nobody sees it, and its object is deleted within RAW_DELETE_HOURS.

    A result stands. Without one the submission is rejected. What is remembered of the footage stays, so that
    it cannot come back. The same takedown again changes nothing. Raise NotFound.
    """
    submission = _lock(uuid)
    if not submission.is_taken_down:
        delay = max(0.0, settings.raw_delete_hours * 3600 - _TIME_TO_TRY)
        _take_down(submission, order, delay)
        db.session.commit()
        log.warning("taken_down", submission=str(uuid), by=order.by, by_miner=order.by_miner)
    db.session.rollback()
    if settings.raw_delete_hours == 0:
        # the tick tries again if this fails
        _delete(submission.id, uuid, submission.video_key, storage)
    taken = queries.find_takedown(uuid, AT_MOST)
    assert taken is not None
    db.session.rollback()
    return taken


def delete_objects(storage: Storage) -> None:
    """Delete the objects of videos that were taken down, as their time has come, while storage answers."""
    due = queries.list_due_deletions(AT_MOST)
    db.session.rollback()
    failures = 0
    for each in due:
        if _delete(each.submission_id, each.uuid, each.video_key, storage):
            failures = 0
        elif (failures := failures + 1) == _FAILURES:
            break


def _delete(submission_id: int, uuid: UUID, video_key: str, storage: Storage) -> bool:
    """Delete a video and its contact sheet, and note it. False if storage is away.

    No connection is held while storage is asked.
    """
    try:
        storage.delete(video_key)
        sheets.forget(uuid, storage)
    except Unavailable as error:
        log.warning("object_not_deleted", submission_id=submission_id, reason=error.detail)
        return False
    queries.note_deleted(submission_id)
    db.session.commit()
    return True


def _check_signature(uuid: UUID, new: NewTakedown, unsigned_allowed: bool) -> bytes | None:
    """Return the signature, or None if there is none and none is needed."""
    signature = read_signature(new.signature)
    if signature is None:
        if unsigned_allowed:
            return None
        raise invalid_field(
            "signature", "must be 128 hexadecimal digits, made with the hotkey; /docs says what to sign."
        )
    hashed = sha256(new.reason.encode()).hexdigest()
    if not is_signed(takedown_statement(new.miner_hotkey, str(uuid), hashed), signature, new.miner_hotkey):
        raise Unauthorized(
            "The signature is not an sr25519 signature of this takedown by miner_hotkey; "
            "/docs says what to sign.",
            "Signature",
        )
    return signature


def _lock(uuid: UUID) -> Submission:
    memory.lock_memory()
    submission = queries.lock_submission(uuid)
    if submission is None:
        raise NotFound(_UNKNOWN)
    corrections.lock()
    return submission


def _take_down(submission: Submission, order: Order, delay_seconds: float) -> None:
    if submission.status in (SubmissionStatus.PENDING, SubmissionStatus.EVALUATING):
        reason = f"It was taken down before it was evaluated: {order.reason}"
        report = Report(report_version=REPORT_VERSION, review="It was taken down.")
        review_queries.refuse(submission.id, reason, report)
        webhooks.record_submission(submission.id, Evaluated(status=SubmissionStatus.REJECTED, final_score=0))
    queries.end_claim(submission.id)
    effective = corrections.find_effective(submission.id)
    assert effective is not None, "what had no result was rejected just now"
    is_scored = effective.status == SubmissionStatus.SCORED
    _end_questions(submission, order, is_scored)
    memory.count_everywhere(submission.id)
    queries.insert_takedown(submission.id, order, delay_seconds)
    webhooks.record_submission(
        submission.id,
        TakenDown(status=SubmissionStatus(effective.status), final_score=effective.final_score),
    )


def _end_questions(submission: Submission, order: Order, is_scored: bool) -> None:
    """End the appeal and the review that wait, and let the result stand.

    Not a review that could take points from the miner who takes down: he would escape it.
    """
    review = review_queries.find(submission.uuid)
    is_asked = review is not None and review.state == ReviewState.OPEN
    stays = is_asked and is_scored and order.by_miner
    appeal = appeal_queries.find_undecided(submission.id)
    if appeal and not (stays and appeal.new_result):
        appeals.decide(appeal, None, order.by, f"The video was taken down: {order.reason}")
    if is_asked and not stays:
        state = ReviewState.UPHELD if is_scored else ReviewState.REJECTED
        review_queries.close(submission.id, state, order.by, order.reason)
