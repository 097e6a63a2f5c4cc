"""The rules of what an operator decides about a submission of his own accord: corrections and takedowns.

Locks are taken in the order of the recording of results: memory, the submission's row, corrections.
"""

from typing import Any
from uuid import UUID

import structlog

from app.appeals import queries as appeal_queries
from app.appeals import service as appeals
from app.assessment.report import REPORT_VERSION, Report
from app.clients.storage import Storage
from app.corrections import queries as corrections
from app.corrections import service as correcting
from app.corrections.models import Decision
from app.db import db
from app.duplicates import queries as memory
from app.enums import CorrectionKind, ReviewState, SubmissionStatus
from app.errors import Conflict, NotFound, Unavailable
from app.moderation import queries
from app.moderation.models import Takedown
from app.moderation.queries import Submission
from app.reviews import queries as review_queries
from app.reviews import service as reviews
from app.sheets import service as sheets
from app.webhooks import service as webhooks
from app.webhooks.events import Evaluated, TakenDown

log = structlog.get_logger(__name__)

# objects that are deleted in one round, and other submissions of a file that are named
AT_MOST = 100


def correct(
    uuid: UUID, status: SubmissionStatus, score: float, reason: str, by: str, evidence: dict[str, Any]
) -> None:
    """Correct the result of a submission. Its evaluation stays as it is.

    Raise NotFound. Raise Conflict if there is no result, if it is the same, or if the video was taken down.
    """
    submission = _lock(uuid)
    effective = corrections.find_effective(submission.id)
    if effective and (effective.status, effective.final_score) == (status, round(score, 4)):
        raise Conflict(f"The result is {status} with the final score {effective.final_score:g} already.")
    correcting.correct(submission.id, Decision(CorrectionKind.OPERATOR, status, score, reason, by, evidence))
    reviews.follow(submission.id, uuid, status)
    db.session.commit()


def take_down(uuid: UUID, reason: str, by: str, evidence: dict[str, Any], storage: Storage) -> Takedown:
    """Take a video down: it is rejected for good, and its object is deleted from storage.

    An appeal and a review that wait for a decision end. What is remembered of the footage stays, so that
    nobody is paid for the same footage again. The same takedown again changes nothing. Raise NotFound.
    """
    submission = _lock(uuid)
    if not submission.is_taken_down:
        _take_down(submission, reason, by, evidence)
        db.session.commit()
        log.warning("taken_down", submission=str(uuid), decided_by=by)
    db.session.rollback()
    # the tick tries again if this fails
    is_deleted = submission.is_deleted or _delete(submission.id, uuid, submission.video_key, storage)
    same_file = queries.list_same_file(submission.id, AT_MOST)
    db.session.rollback()
    return Takedown(uuid, is_deleted, same_file)


def delete_objects(storage: Storage) -> None:
    """Delete the objects of videos that were taken down, while storage answers."""
    due = queries.list_due_deletions(AT_MOST)
    db.session.rollback()
    for each in due:
        if not _delete(each.submission_id, each.uuid, each.video_key, storage):
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


def _lock(uuid: UUID) -> Submission:
    memory.lock_memory()
    submission = queries.lock_submission(uuid)
    if submission is None:
        raise NotFound("There is no such submission; check its UUID.")
    corrections.lock()
    return submission


def _take_down(submission: Submission, reason: str, by: str, evidence: dict[str, Any]) -> None:
    if submission.status in (SubmissionStatus.PENDING, SubmissionStatus.EVALUATING):
        report = Report(report_version=REPORT_VERSION, review="It was taken down.")
        review_queries.refuse(submission.id, reason, report)
        webhooks.record_submission(submission.id, Evaluated(status=SubmissionStatus.REJECTED, final_score=0))
    queries.end_claim(submission.id)
    if appeal := appeal_queries.find_undecided(submission.id):
        appeals.decide(appeal, None, by, f"The video was taken down: {reason}")
    correcting.correct(
        submission.id,
        Decision(CorrectionKind.TAKEDOWN, SubmissionStatus.REJECTED, 0.0, reason, by, evidence),
    )
    review = review_queries.find(submission.uuid)
    if review and review.state == ReviewState.OPEN:
        review_queries.close(submission.id, ReviewState.REJECTED, by, reason)
    memory.count_everywhere(submission.id)
    queries.insert_takedown(submission.id)
    webhooks.record_submission(submission.id, TakenDown(status=SubmissionStatus.REJECTED, final_score=0))
