"""The rules of reviews: what a person is asked, what a decision does, and what happens without a decision.

Reviews change under the lock of corrections, which is taken after all other locks.
"""

from typing import Literal
from uuid import UUID

import structlog

from app.appeals import queries as appeal_queries
from app.appeals import rule
from app.appeals import service as appeals
from app.appeals.models import Appeal
from app.assessment import formula
from app.assessment.report import REPORT_VERSION, Report
from app.config import Settings
from app.corrections import queries as corrections
from app.corrections import service as correcting
from app.corrections.models import Decision
from app.db import db
from app.duplicates import queries as memory
from app.enums import AppealState, CorrectionKind, ReviewState, SubmissionStatus
from app.errors import Conflict, NotFound
from app.reviews import queries
from app.reviews.queries import Review
from app.webhooks import service as webhooks
from app.webhooks.events import Evaluated

log = structlog.get_logger(__name__)

# how long a person can watch the video at the address that a review shows
VIDEO_SECONDS = 3600

Verb = Literal["accept", "reject", "uphold", "judge_again"]


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


def ask_about_appeal(submission_id: int, reason: str) -> None:
    """Let a person decide an OPEN appeal; the caller commits."""
    corrections.lock()
    appeal_queries.set_in_review(submission_id)
    queries.open_review(submission_id, reason)
    log.info("appeal_in_review", submission_id=submission_id, reason=reason)


def get_review(uuid: UUID) -> Review:
    """Return the review of a submission; raise NotFound if there is none."""
    review = queries.find(uuid)
    if review is None:
        raise NotFound("This submission has no review; check its UUID in the list of reviews.")
    return review


def decide(uuid: UUID, verb: Verb, reason: str, by: str) -> Review:
    """Decide an open review and return it with the decision.

    To accept restores what the evaluation found, without what was held against it, or takes what an appeal's
    evaluation found; to reject gives 0; to uphold changes nothing. What is rejected for known footage cannot
    be accepted. What could not be evaluated can be judged again. Raises NotFound or Conflict.
    """
    memory.lock_memory()
    corrections.lock()
    review = get_review(uuid)
    if review.state != ReviewState.OPEN:
        raise Conflict(f"This review was closed by {review.decided_by}: {review.state}.")
    appeal = _find_appeal(review)
    if verb == "judge_again":
        _judge_again(review, appeal)
    elif review.final_score is None:
        _decide_without_result(review, verb, reason)
    else:
        _decide_result(review, appeal, verb, reason, by)
    state = {
        "accept": ReviewState.ACCEPTED,
        "reject": ReviewState.REJECTED,
        "uphold": ReviewState.UPHELD,
        "judge_again": ReviewState.JUDGED_AGAIN,
    }[verb]
    queries.close(review.submission_id, state, by, reason)
    db.session.commit()
    log.info("review_decided", submission_id=review.submission_id, state=state, decided_by=by)
    return get_review(uuid)


def _find_appeal(review: Review) -> Appeal | None:
    """The appeal that waits for this review, or None."""
    appeal = appeal_queries.find_undecided(review.submission_id)
    return appeal if appeal and appeal.state == AppealState.IN_REVIEW else None


def _judge_again(review: Review, appeal: Appeal | None) -> None:
    """Let what could not be evaluated be tried again, at the price of as many requests to the judge."""
    if appeal and appeal.new_result is None:
        appeal_queries.evaluate_again(review.submission_id)
    elif review.final_score is not None:
        raise Conflict("This submission has a result; accept, reject or uphold it.")
    elif not review.is_held:
        raise Conflict("This submission is being judged again; decide when it has its result.")
    else:
        queries.let_go(review.submission_id)
    queries.forget_judge_calls(review.submission_id)


def _decide_without_result(review: Review, verb: Verb, reason: str) -> None:
    if not review.is_held:
        raise Conflict("This submission is being judged again; decide when it has its result.")
    if verb != "reject":
        raise Conflict(f"This submission has no score to {verb}; reject it, or have it judged again.")
    queries.refuse(review.submission_id, reason, Report(report_version=REPORT_VERSION, review=review.reason))
    webhooks.record_submission(
        review.submission_id, Evaluated(status=SubmissionStatus.REJECTED, final_score=0)
    )


def _decide_result(review: Review, appeal: Appeal | None, verb: Verb, reason: str, by: str) -> None:
    assert review.final_score is not None
    status, score = SubmissionStatus(review.status), review.final_score
    if verb == "reject":
        status, score = SubmissionStatus.REJECTED, 0.0
    elif verb == "accept":
        verdict = _accepted(review, appeal)
        if verdict.status == SubmissionStatus.REJECTED:
            raise Conflict(
                f"This submission cannot be accepted, for it is a duplicate: {verdict.rejection_reason} "
                "Reject it."
            )
        status, score = verdict.status, verdict.final_score
    if appeal:
        appeals.decide(appeal, rule.Result(status, score), by, reason)
        follow(review.submission_id, review.submission_uuid, status)
    elif verb != "uphold":
        _correct(review, status, score, reason, by)


def _accepted(review: Review, appeal: Appeal | None) -> formula.Verdict:
    """What accepting gives: the score of the appeal's evaluation, if there is one and it accepts.

    What is known footage stays so, unless that evaluation has compared it again.
    """
    verdict = _reconsider(review)
    if appeal and appeal.final_score is not None and appeal.status == SubmissionStatus.SCORED:
        compared = Report.read(appeal.report or {}).duplicates
        if verdict.status == SubmissionStatus.SCORED or (compared and compared.compared):
            return formula.Verdict(SubmissionStatus.SCORED, None, appeal.final_score)
    return verdict


def decide_overdue(settings: Settings) -> int:
    """Decide what no person did within REVIEW_DEADLINE_DAYS; return how many.

    In the miner's favour, but for what `_reconsider` keeps, and by half where two evaluations disagree. What
    has no score, or no evaluation because of its appeal, is judged again, once; its review stays open.
    """
    decided = 0
    seconds = settings.review_deadline_days * 86_400
    # asked before the locks as well as under them: almost always there is nothing to do
    while queries.find_overdue(seconds):
        memory.lock_memory()
        corrections.lock()
        review = queries.find_overdue(seconds)
        if review is None:
            break
        reason = f"No person decided within {settings.review_deadline_days:g} days."
        appeal = _find_appeal(review)
        if appeal and appeal.new_result is None:
            appeal_queries.evaluate_again(review.submission_id)
            queries.note_let_go(review.submission_id)
        elif review.final_score is None:
            queries.let_go(review.submission_id)
            queries.note_let_go(review.submission_id)
        else:
            _decide_overdue(review, appeal, reason, settings)
        db.session.commit()
        decided += 1
        log.info("review_overdue", submission_id=review.submission_id)
    db.session.rollback()
    return decided


def _decide_overdue(review: Review, appeal: Appeal | None, reason: str, settings: Settings) -> None:
    verdict = _reconsider(review, undecided_under=settings)
    status, score = verdict.status, verdict.final_score
    if appeal:
        standing, new = appeals.standing_result(appeal), appeal.new_result
        assert new is not None
        result = standing if _stays(review) else rule.without_a_person(standing, new)
        appeals.decide(appeal, result, correcting.SYSTEM, reason)
        status, score = SubmissionStatus(result.status), result.final_score
        follow(review.submission_id, review.submission_uuid, status)
    else:
        if verdict.rejection_reason:
            # what counts comes first in the reason that the miner reads, and fits whatever follows
            reason = f"{verdict.rejection_reason[:1900]} {reason}"
        _correct(review, status, score, reason, correcting.SYSTEM)
    state = ReviewState.ACCEPTED if status == SubmissionStatus.SCORED else ReviewState.REJECTED
    queries.close(review.submission_id, state, correcting.SYSTEM, reason)


def _correct(review: Review, status: SubmissionStatus, score: float, reason: str, by: str) -> None:
    evidence = {"review": review.reason}
    correcting.correct(
        review.submission_id, Decision(CorrectionKind.REVIEW, status, score, reason, by, evidence)
    )
    follow(review.submission_id, review.submission_uuid, status)


def follow(submission_id: int, uuid: UUID, status: SubmissionStatus) -> None:
    """Let what is known of a video's footage follow its corrected result; see `duplicates.follow`."""
    # numpy takes 11 MB, which a web process that decides nothing does not need
    from app.duplicates import service as duplicates

    for id in duplicates.follow(submission_id, status):
        queries.open_review(id, f"It shows footage of submission {uuid}, which came first.")


def _stays(review: Review) -> bool:
    """Whether a result stays if nobody decides.

    It does if it comes from a correction, from known footage, or from text that speaks to the judge. And if
    the video was taken down, so that nobody could look.
    """
    if queries.is_taken_down(review.submission_uuid):
        return True
    findings = queries.find_findings(review.submission_id)
    assert findings is not None
    report = Report.read(findings.report or {})
    return (
        findings.is_corrected
        or (report.duplicates is not None and formula.is_duplicate(report.duplicates))
        or (report.judge is not None and report.judge.addresses_judge)
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
