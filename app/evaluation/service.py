"""The rules of claims and results.

A claim is a lease in the database: a token and an end. Whoever holds the token may extend the lease, give
the submission back or record its one result; whoever lost it can do none of the three.
"""

from collections.abc import Sequence
from uuid import UUID

import structlog

from app.assessment import formula
from app.assessment.model import Claim, LeaseLost, Outcome
from app.assessment.report import Report
from app.config import OFFLINE_MODEL, Settings
from app.db import autocommit, db
from app.enums import EvaluatedBy, SubmissionStatus
from app.errors import ChangingVideo, Conflict, Deferred, NotFound, TransientError, invalid_field
from app.evaluation import breaker, breaker_queries, queries
from app.evaluation.judge_memory import DatabaseMemory
from app.evaluation.queries import OpenCounts, Released
from app.redaction import stripped
from app.reviews import service as reviews
from app.video.frames import FrameHash

log = structlog.get_logger(__name__)

# A worker's lease: short, since the worker extends it all the time and its death shows by its end.
WORKER_LEASE_SECONDS = 30.0
# Counting a million rows for an evaluator that polls every few seconds would cost more than its work.
COUNT_AT_MOST = 1000
# What a single video alone can bring about (answers without sense, refusals, time-outs, changing bytes,
# killed evaluators) is tried so many times in a submission's life, and so often for all videos of a hotkey
# in a UTC day. Then a person looks.
MAX_SUSPECT_ATTEMPTS = 3
MAX_SUSPECT_ATTEMPTS_A_DAY = 12
# How far a remote evaluator's final score may be from ours.
FORMULA_TOLERANCE = 0.001


def claim_due(
    limit: int, claimed_by: str, lease_seconds: float, by: EvaluatedBy = EvaluatedBy.WORKER
) -> list[Claim]:
    """Claim up to `limit` due submissions, oldest first, each for one caller only.

    None are claimed while a circuit breaker that concerns `by` is open, and one at a time while it is tried
    again.
    """
    needs = breaker.NEEDS[by]
    with autocommit():
        claims = queries.claim_due(limit, claimed_by, lease_seconds, needs)
    if not claims and breaker.take_probe(by):
        claims = queries.claim_due(1, claimed_by, lease_seconds, needs, probing=True)
        if claims:
            db.session.commit()
    # an untaken probe stays for whoever finds work
    db.session.rollback()
    return claims


def fetch(limit: int, claimed_by: str, lease_seconds: float) -> tuple[list[Claim], OpenCounts]:
    """Claim for a remote evaluator like `claim_due`, and count what is open.

    The counts are exact for a limit of 0, which claims nothing, and otherwise end at COUNT_AT_MOST.
    """
    claims = claim_due(limit, claimed_by, lease_seconds, EvaluatedBy.EVALUATOR) if limit else []
    with autocommit():
        return claims, queries.count_open(COUNT_AT_MOST if limit else None)


def extend_lease(claim: Claim, lease_seconds: float) -> None:
    """Let the lease end `lease_seconds` from now; raise LeaseLost if it has ended already."""
    extended = queries.extend_lease(claim, lease_seconds)
    db.session.commit()
    if not extended:
        raise LeaseLost(f"The lease on submission {claim.id} has ended.")


def count_judge_calls(claim: Claim, calls: int) -> bool:
    """Count calls of a judge about a submission; False if it has cost all that it may."""
    db.session.rollback()
    return DatabaseMemory().counter(claim).count(calls)


def release(claim: Claim, fault: TransientError, by: EvaluatedBy = EvaluatedBy.WORKER) -> None:
    """Return a submission to PENDING, to be tried again later; a fault that is not Deferred is counted.

    Does nothing if the claim is not ours any more.
    """
    reason = stripped(str(fault))[:1000] or type(fault).__name__
    released = queries.release(
        claim,
        reason,
        fault.retry_after or 0,
        is_fault=not isinstance(fault, Deferred),
        is_suspect=fault.suspect_video,
        is_change=isinstance(fault, ChangingVideo),
        most_changes=MAX_SUSPECT_ATTEMPTS,
    )
    if released is None:
        db.session.rollback()
        return
    hold_spent([released])
    if fault.dependency:
        breaker.count_failure(fault.dependency, reason, claim.id)
    else:
        # if it was a probe, it told nothing: the next need not wait for its end
        breaker.release_probes(by)
    db.session.commit()
    due_again = released.not_before.isoformat()
    log.warning("evaluation_released", submission_id=claim.id, reason=reason, due_again=due_again)


def hold_spent(released: Sequence[Released]) -> None:
    """Put suspect videos up for review whose attempts, or whose miner's of the day, are spent.

    Until a person has looked they are not claimed again. The caller commits.
    """
    # all are counted before the first is held, and in one order, so that two never wait for each other
    suspects = sorted((each for each in released if each.is_suspect), key=lambda each: each.miner_hotkey)
    for each, today in [(each, queries.count_suspect(each.miner_hotkey)) for each in suspects]:
        if each.suspect_attempts >= MAX_SUSPECT_ATTEMPTS or today > MAX_SUSPECT_ATTEMPTS_A_DAY:
            reviews.hold(each.id, f"It could not be evaluated: {each.last_fault}"[:2000])


def release_all(claimed_by: str, fault: TransientError) -> None:
    """Give back whatever `claimed_by` holds, like `release`, since it was killed.

    What kills its evaluator a second time is suspect.
    """
    for claim in queries.list_claims(claimed_by):
        suspect = claim.attempt > 1 and not isinstance(fault, Deferred)
        release(claim, TransientError(fault.reason, suspect_video=True) if suspect else fault)


def record_result(
    claim: Claim, outcome: Outcome, evaluated_by: EvaluatedBy, settings: Settings
) -> formula.Verdict:
    """Apply duplicates, gates and formula to `outcome`, write the one result of a submission, and return it.

    Status, scores, report and fingerprint are written in one transaction, guarded by the claim's token.
    Raises LeaseLost, having written nothing, if the lease has ended.
    """
    # numpy costs 11 MB, which web processes that take in no results are spared
    from app.duplicates import service as duplicates

    judged = outcome
    compared = duplicates.compare(claim, judged)
    originality = compared.originality if isinstance(compared, duplicates.Comparison) else compared
    outcome = originality.applied_to(judged)
    verdict = formula.verdict_of(outcome, settings.min_relevance)
    report = outcome.report.model_copy(update={"verdict": formula.explain(verdict, *outcome.scores)})
    values = {
        "status": verdict.status,
        "final_score": verdict.final_score,
        "rejection_reason": verdict.rejection_reason,
        "technical_score": outcome.technical_score,
        "relevance_score": outcome.relevance_score,
        "quality_score": outcome.quality_score,
        "evaluated_by": evaluated_by,
        "judge_model": outcome.judge_model,
        "prompt_version": outcome.prompt_version,
    }
    if not queries.record(claim, values, report):
        db.session.rollback()
        raise LeaseLost(f"The lease on submission {claim.id} has ended.")
    to_review = {claim.id: report.review[:2000]} if report.review else {}
    if isinstance(compared, duplicates.Comparison):
        for other in compared.unverified:
            to_review[other] = (
                f"Claims the file that submission {claim.submission_uuid} is; its own was never verified."
            )
        for copy in duplicates.remember(compared, judged, verdict.status):
            to_review[copy] = f"Shows footage of submission {claim.submission_uuid}, which was first."
    for id, reason in to_review.items():
        reviews.open_review(id, reason)
    breaker.count_success(evaluated_by, was_judged=outcome.judge_model is not None)
    db.session.commit()
    log.info(
        "evaluation_recorded",
        submission_id=claim.id,
        attempt=claim.attempt,
        status=verdict.status,
        final_score=verdict.final_score,
        reason=verdict.rejection_reason,
    )
    return verdict


def find_known_footage(claim: Claim, frames: tuple[FrameHash, ...]) -> str | None:
    """Why the claimed video, whose bytes were verified, will be rejected for known footage, or None.

    Asked before the judge is paid.
    """
    from app.duplicates import service as duplicates

    reason = duplicates.find_known(claim.id, frames)
    db.session.rollback()
    return reason


def record_reported(
    claim: Claim, outcome: Outcome, final_score: float, settings: Settings
) -> formula.Verdict:
    """Record what a remote evaluator found, like `record_result`.

    Its `final_score` must be what the formula makes of its three scores, or 0 where they fail a gate; Invalid
    is raised for any other. Raises Conflict if the lease has ended.
    """
    judges = {outcome.judge_model, outcome.report.judge and outcome.report.judge.model}
    if OFFLINE_MODEL in judges and not settings.development:
        raise invalid_field(
            "metadata.kibotos.judge_model",
            f"{OFFLINE_MODEL} stands in for a judge in development only; set VLM_MODEL and VLM_API_URL.",
        )
    gated = formula.verdict_of(outcome, settings.min_relevance)
    expected = formula.final_score(*outcome.scores)
    if min(abs(final_score - expected), abs(final_score - gated.final_score)) > FORMULA_TOLERANCE:
        raise invalid_field(
            "final_score", f"the formula gives {gated.final_score} for these scores, not {final_score}."
        )
    try:
        return record_result(claim, outcome, EvaluatedBy.EVALUATOR, settings)
    except LeaseLost:
        raise Conflict("The lease on this submission ended before its result came; fetch it again.") from None


def get_live_claim(submission_id: int, claim_token: UUID | None) -> Claim:
    """Return the claim that a remote evaluator reports on.

    Without a token any live claim will do. Raises NotFound for an unknown submission, Conflict if it has a
    result, is under no live claim, or under another's.
    """
    claim = queries.find_claim(submission_id)
    if claim is not None and claim_token in {None, claim.claim_token}:
        return claim
    status = queries.find_status(submission_id)
    if status is None:
        raise NotFound("There is no such submission; send the id that /v1/evaluate/fetch gave.")
    if status in {SubmissionStatus.SCORED, SubmissionStatus.REJECTED}:
        raise Conflict("This submission has its result already; the first one stands.")
    raise Conflict("This submission is not under a live claim of yours; fetch it again.")


def get_report(uuid: UUID) -> Report:
    """Return the verification report; raise NotFound if there is none, or none yet."""
    stored = queries.find_report(uuid)
    if stored is None:
        raise NotFound("There is no such submission; check its UUID.")
    if stored.report is None:
        raise NotFound("This submission has not been evaluated yet; its report comes with its result.")
    return Report.read(stored.report)


def find_obstacle(settings: Settings) -> str | None:
    """Why our workers take nothing up at the moment, in a sentence, or None if they do."""
    if not settings.has_judge:
        return "No judge is configured: submissions wait until VLM_API_URL is set."
    tripped = breaker_queries.list_tripped()
    if tripped:
        names = " and ".join(item.name for item in tripped)
        return f"Evaluations wait for {names} to recover: {tripped[0].last_error}"
    for failing in breaker_queries.list_failing():
        return f"The latest evaluation failed because of {failing.name}: {failing.last_error}"
    budget = settings.vlm_daily_token_budget
    if budget and DatabaseMemory().tokens_today() >= budget:
        return "Today's tokens of the judge are spent: evaluations go on at 0:00 UTC."
    return None
