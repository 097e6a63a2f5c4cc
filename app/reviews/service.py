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

    `accept` gives the score that the evaluation found before the video was rejected or reduced. `reject`
    gives 0. A submission without a result can be rejected or judged again. Raises NotFound or Conflict.
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
            status, score = SubmissionStatus.SCORED, _score_in_favour(review).final_score
        _correct(review, status, score, reason, by)
    elif not review.is_held:
        raise Conflict("This submission is being judged again; decide when it has its result.")
    elif verb == "accept":
        raise Conflict("This submission has no score to accept; reject it, or have it judged again.")
    elif verb == "reject":
        queries.refuse(
            review.submission_id, reason, Report(report_version=REPORT_VERSION, review=review.reason)
        )
    else:
        queries.let_go(review.submission_id)
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
    """Decide reviews that are open for more than REVIEW_DEADLINE_DAYS in the miner's favour; return how many.

    A submission without a score is judged again, and its review stays open.
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
            queries.wait_anew(review.submission_id)
        else:
            verdict = _score_in_favour(review, settings.min_relevance)
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


def _score_in_favour(review: Review, min_relevance: float = 0.0) -> formula.Verdict:
    """The verdict as if nothing had been found against the video.

    A score stays as it is. For a rejection the formula uses the judge's answer and the quality before
    duplicates. With `min_relevance` the gates apply.
    """
    if review.status == SubmissionStatus.SCORED and review.final_score is not None:
        return formula.Verdict(SubmissionStatus.SCORED, None, review.final_score)
    findings = queries.find_findings(review.submission_id)
    assert findings is not None
    report = Report.read(findings.report or {})
    relevance, judge = findings.relevance_score, report.judge
    if judge:
        relevance = formula.relevance_score(
            judge.action_match, judge.perspective_correct, judge.demonstration_quality, judge.training_utility
        )
    return formula.verdict(
        findings.technical_score,
        relevance,
        report.quality.score if report.quality else findings.quality_score,
        min_relevance=min_relevance,
        action_match=judge.action_match if judge and min_relevance else None,
    )
