"""The rules of reviews: what a person is asked, what a decision does, and what happens without a decision.

Reviews change under the lock of corrections, which is taken after all other locks.
"""

from typing import Literal
from uuid import UUID

import structlog

from app.assessment import formula
from app.assessment.report import REPORT_VERSION, Report
from app.config import Settings
from app.corrections import queries as corrections
from app.corrections import service as correcting
from app.corrections.models import Decision
from app.db import db
from app.enums import CorrectionKind, ReviewState, SubmissionStatus
from app.errors import Conflict, NotFound
from app.reviews import queries
from app.reviews.queries import Review
from app.webhooks import service as webhooks
from app.webhooks.events import Evaluated

log = structlog.get_logger(__name__)

Verb = Literal["accept", "reject", "judge_again"]


def open_review(submission_id: int, reason: str) -> None:
    """Put a submission up for review; the caller commits."""
    corrections.lock()
    queries.open_review(submission_id, reason)


def hold(submission_id: int, reason: str) -> None:
    """Hold a PENDING submission: take it out of the queue and its cycle until a person has looked.

    No other submission waits for it, and its miner loses nothing. The caller commits.
    """
    queries.hold(submission_id)
    open_review(submission_id, reason)
    log.warning("submission_held", submission_id=submission_id, reason=reason)


def get_review(uuid: UUID) -> Review:
    """Return the review of a submission; raise NotFound if there is none."""
    review = queries.find(uuid)
    if review is None:
        raise NotFound("This submission has no review; check its UUID in the list of reviews.")
    return review


def decide(uuid: UUID, verb: Verb, reason: str, by: str) -> Review:
    """Decide an open review and return it with the decision.

    To accept restores what the evaluation found, without what was held against it; to reject gives 0. What
    is rejected for known footage cannot be accepted. A submission without a result can be rejected or judged
    again. Raises NotFound or Conflict.
    """
    corrections.lock()
    review = get_review(uuid)
    if review.state != ReviewState.OPEN:
        raise Conflict(f"This review was closed by {review.decided_by}: {review.state}.")
    if review.final_score is not None:
        if verb == "judge_again":
            raise Conflict("This submission has a result; accept or reject it.")
        status, score = SubmissionStatus.REJECTED, 0.0
        if verb == "accept":
            verdict = _reconsider(review)
            if verdict.status == SubmissionStatus.REJECTED:
                raise Conflict(
                    f"This submission cannot be accepted, for it is a duplicate: {verdict.rejection_reason} "
                    "Reject it."
                )
            status, score = verdict.status, verdict.final_score
        _correct(review, status, score, reason, by)
    elif not review.is_held:
        raise Conflict("This submission is being judged again; decide when it has its result.")
    elif verb == "accept":
        raise Conflict("This submission has no score to accept; reject it, or have it judged again.")
    elif verb == "reject":
        queries.refuse(
            review.submission_id, reason, Report(report_version=REPORT_VERSION, review=review.reason)
        )
        webhooks.record_submission(
            review.submission_id, Evaluated(status=SubmissionStatus.REJECTED, final_score=0)
        )
    else:
        queries.let_go(review.submission_id)
        queries.forget_judge_calls(review.submission_id)
    state = {
        "accept": ReviewState.ACCEPTED,
        "reject": ReviewState.REJECTED,
        "judge_again": ReviewState.JUDGED_AGAIN,
    }[verb]
    queries.close(review.submission_id, state, by, reason)
    db.session.commit()
    log.info("review_decided", submission_id=review.submission_id, state=state, decided_by=by)
    return get_review(uuid)


def decide_overdue(settings: Settings) -> int:
    """Decide what no person did within REVIEW_DEADLINE_DAYS; return how many.

    In the miner's favour, but for what `_reconsider` keeps. What has no score is judged again, once; its
    review stays open.
    """
    decided = 0
    seconds = settings.review_deadline_days * 86_400
    # asked before the lock as well as under it: almost always there is nothing to do
    while queries.find_overdue(seconds):
        corrections.lock()
        review = queries.find_overdue(seconds)
        if review is None:
            break
        reason = f"No person decided within {settings.review_deadline_days:g} days."
        if review.final_score is None:
            queries.let_go(review.submission_id)
            queries.note_let_go(review.submission_id)
        else:
            verdict = _reconsider(review, undecided_under=settings)
            if verdict.rejection_reason:
                # what counts comes first in the reason that the miner reads, and fits whatever follows
                reason = f"{verdict.rejection_reason[:1900]} {reason}"
            _correct(review, verdict.status, verdict.final_score, reason, correcting.SYSTEM)
            accepted = verdict.status == SubmissionStatus.SCORED
            state = ReviewState.ACCEPTED if accepted else ReviewState.REJECTED
            queries.close(review.submission_id, state, correcting.SYSTEM, reason)
        db.session.commit()
        decided += 1
        log.info("review_overdue", submission_id=review.submission_id)
    db.session.rollback()
    return decided


def _correct(review: Review, status: SubmissionStatus, score: float, reason: str, by: str) -> None:
    evidence = {"review": review.reason}
    correcting.correct(
        review.submission_id, Decision(CorrectionKind.REVIEW, status, score, reason, by, evidence)
    )


def _reconsider(review: Review, undecided_under: Settings | None = None) -> formula.Verdict:
    """The verdict without what is held against the video, except that its footage is known.

    A score stands, and so does what duplicates left of one. For another rejection the formula takes what the
    judge answered. Where nobody decided, `undecided_under` these settings, more stays: the gates, a
    rejection because text speaks to the judge, and every correction.
    """
    if review.status == SubmissionStatus.SCORED and review.final_score is not None:
        return formula.Verdict(SubmissionStatus.SCORED, None, review.final_score)
    findings = queries.find_findings(review.submission_id)
    assert findings is not None
    rejected = formula.Verdict(SubmissionStatus.REJECTED, findings.reason or review.reason, 0.0)
    if undecided_under and findings.is_corrected:
        return rejected
    copy = queries.find_late_copy(review.submission_id)
    if copy:
        is_scored = copy.status == SubmissionStatus.SCORED
        return formula.Verdict(
            SubmissionStatus(copy.status), None if is_scored else copy.reason, copy.final_score
        )
    report = Report.read(findings.report or {})
    judge = report.judge
    if report.duplicates and formula.is_duplicate(report.duplicates):
        return rejected
    if undecided_under and judge and judge.addresses_judge:
        return rejected
    relevance = findings.relevance_score
    if judge:
        relevance = formula.relevance_score(
            judge.action_match, judge.perspective_correct, judge.demonstration_quality, judge.training_utility
        )
    return formula.verdict(
        findings.technical_score,
        relevance,
        findings.quality_score,
        min_relevance=undecided_under.min_relevance if undecided_under else 0.0,
        action_match=judge.action_match if judge and undecided_under else None,
    )
