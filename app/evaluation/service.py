"""The rules of claims and results.

A claim gives a lease in the database: a token and an end. The holder of the token can extend the lease,
release the submission or record its one result. After the lease has expired, the holder can do none of it.
"""

import json
from collections.abc import Sequence
from uuid import UUID

import structlog

from app.appeals import queries as appeals
from app.appeals import service as appealing
from app.assessment import formula
from app.assessment.model import Claim, LeaseLost, Outcome
from app.assessment.report import Report
from app.config import OFFLINE_MODEL, Settings
from app.corrections import queries as corrections
from app.db import autocommit, db
from app.enums import Dependency, EvaluatedBy, SubmissionStatus
from app.errors import ChangingVideo, Conflict, Deferred, NotFound, TransientError, invalid_field
from app.evaluation import breaker, breaker_queries, queries
from app.evaluation.backlog import Backlog
from app.evaluation.judge_memory import DatabaseMemory
from app.evaluation.queries import OpenCounts, Released
from app.gold import queries as gold_queries
from app.gold import service as gold
from app.redaction import stripped
from app.reviews import service as reviews
from app.video.frames import FrameHash
from app.webhooks import service as webhooks
from app.webhooks.events import Evaluated

log = structlog.get_logger(__name__)

# A worker's lease: short, since the worker extends it all the time and its death shows by its end.
WORKER_LEASE_SECONDS = 30.0
# A single video can cause transient errors: useless answers, refusals, time-outs, changing bytes, killed
# evaluators. These are the most such attempts in a submission's life, and for all videos of a hotkey in a UTC
# day. Then a person looks.
MAX_SUSPECT_ATTEMPTS = 3
MAX_SUSPECT_ATTEMPTS_A_DAY = 12
# The most attempts of a submission that end in a transient error, unless storage or a judge is the cause.
# Then a person looks, so that nothing is tried for ever.
MAX_UNEXPLAINED_FAULTS = 10
# How much a remote evaluator's final score may differ from ours.
FORMULA_TOLERANCE = 0.001


def claim_due(
    limit: int,
    claimed_by: str,
    lease_seconds: float,
    by: EvaluatedBy = EvaluatedBy.WORKER,
    evaluator: str | None = None,
) -> list[Claim]:
    """Claim up to `limit` due submissions, the oldest first, each for one caller only.

    Nothing is claimed for a blocked remote `evaluator`, nor while a circuit breaker that concerns `by` is
    open. While the breaker is probed, one submission at a time is claimed.
    """
    needs, is_remote = breaker.NEEDS[by], by == EvaluatedBy.EVALUATOR

    def claim(at_most: int, probing: bool) -> list[Claim]:
        return queries.claim_due(
            at_most,
            claimed_by,
            lease_seconds,
            needs,
            is_remote=is_remote,
            evaluator=evaluator,
            probing=probing,
        )

    with autocommit():
        claims = claim(limit, probing=False)
    if not claims and breaker.take_probe(by):
        claims = claim(1, probing=True)
        if claims:
            db.session.commit()
    # without due work the probe is left for the next caller
    db.session.rollback()
    return claims


def claimant(evaluator: str) -> str:
    """What `claimed_by` says of a remote evaluator."""
    return f"evaluator with {evaluator}"


def fetch(
    limit: int, evaluator: str, lease_seconds: float, backlog: Backlog
) -> tuple[list[Claim], OpenCounts]:
    """Claim for a remote evaluator like `claim_due`, and count what is open.

    The counts are exact for a limit of 0, which claims nothing, and otherwise those of `backlog`. A blocked
    evaluator is claimed nothing for.
    """
    by, claims = EvaluatedBy.EVALUATOR, []
    if limit:
        claims = claim_due(limit, claimant(evaluator), lease_seconds, by, evaluator)
    with autocommit():
        return claims, backlog.count() if limit else queries.count_open(None)


def extend_lease(claim: Claim, lease_seconds: float) -> None:
    """Let the lease end `lease_seconds` from now; raise LeaseLost if it has ended already."""
    extended = queries.extend_lease(claim, lease_seconds) or gold_queries.extend_lease(claim, lease_seconds)
    db.session.commit()
    if not extended:
        raise LeaseLost(f"The lease on submission {claim.id} has ended.")


def count_judge_calls(claim: Claim, calls: int) -> bool:
    """Count requests to a judge about a submission; False if it has used up its number."""
    db.session.rollback()
    return DatabaseMemory().counter(claim).count(calls)


def release(claim: Claim, fault: TransientError, by: EvaluatedBy = EvaluatedBy.WORKER) -> None:
    """Return a submission to PENDING, so that it is tried again later. Count the fault unless it is Deferred.

    Do nothing if the lease has ended.
    """
    reason = stripped(str(fault))[:1000] or type(fault).__name__
    released = queries.release(
        claim,
        reason,
        fault.retry_after or 0,
        is_fault=not isinstance(fault, Deferred),
        is_unexplained=not isinstance(fault, Deferred) and fault.dependency is None,
        is_suspect=fault.suspect_video,
        is_change=isinstance(fault, ChangingVideo),
        most_changes=MAX_SUSPECT_ATTEMPTS,
    )
    not_before = released.not_before if released else None
    if released is not None:
        hold_spent([released])
    else:
        not_before = gold_queries.release(
            claim, fault.retry_after or 0, is_fault=not isinstance(fault, Deferred)
        )
    if not_before is None:
        db.session.rollback()
        return
    # a remote evaluator's judge and network are its own, and appeals may have another judge
    is_ours = by == EvaluatedBy.WORKER and not (claim.is_appeal and fault.dependency == Dependency.VLM)
    if fault.dependency and is_ours:
        breaker.count_failure(fault.dependency, reason, claim.id)
    else:
        # if it was a probe, it showed nothing about the breaker, so the next probe may start at once
        breaker.release_probes(by)
    db.session.commit()
    due_again = not_before.isoformat()
    log.warning("evaluation_released", submission_id=claim.id, reason=reason, due_again=due_again)


def hold_spent(released: Sequence[Released]) -> None:
    """Hold submissions that have failed too often, or suspect videos of a miner who had too many today.

    They are not claimed again until a person has decided. The caller commits.
    """
    # all are counted before the first is held, and in one order, so that two never wait for each other
    ordered = sorted(released, key=lambda each: (each.miner_hotkey, each.id))
    counted = [(each, queries.count_suspect(each.miner_hotkey) if each.is_suspect else 0) for each in ordered]
    for each, today in counted:
        if (
            (each.is_suspect and each.suspect_attempts >= MAX_SUSPECT_ATTEMPTS)
            or today > MAX_SUSPECT_ATTEMPTS_A_DAY
            or each.unexplained_faults >= MAX_UNEXPLAINED_FAULTS
        ):
            ask = reviews.ask_about_appeal if each.is_appeal else reviews.hold
            what = "could not be evaluated for its appeal" if each.is_appeal else "could not be evaluated"
            ask(each.id, f"It {what}: {each.last_fault}"[:2000])


def release_all(claimed_by: str, fault: TransientError) -> None:
    """Release every claim that `claimed_by` holds, since that process was killed.

    A video is suspect if evaluators on two machines were lost with it: one may fail on every video.
    """
    for claim in queries.list_claims(claimed_by):
        suspect = not isinstance(fault, Deferred) and queries.note_loss(claim)
        release(claim, TransientError(fault.reason, suspect_video=True) if suspect else fault)


def record_result(
    claim: Claim,
    outcome: Outcome,
    evaluated_by: EvaluatedBy,
    settings: Settings,
    evaluator: str | None = None,
) -> formula.Verdict:
    """Apply duplicates, gates and formula to `outcome`, write the one result of a submission, and return it.

    Status, scores, report and fingerprint are written in one transaction, guarded by the claim's token.
    Raises LeaseLost, having written nothing, if the lease has ended. `evaluator` is the name of a remote
    evaluator's token. The answer to a gold film takes the same way, and is written apart.
    """
    # numpy takes 11 MB: a web process that gets no results does not need it
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
        "evaluator": evaluator,
    }
    record = queries.record_appealed if claim.is_appeal else queries.record
    recorded = record(claim, values, report)
    if recorded is None and claim.is_appeal:
        raise _lease_lost(claim)
    if recorded is None:
        # a gold film may come again, and may have been submitted: nothing is held against it
        unknown = duplicates.NOT_COMPARED
        if isinstance(compared, duplicates.Comparison):
            unknown = duplicates.conclude(compared.subject.miner_hotkey, compared.plain, [], [])
        answer = gold.record(claim, unknown.applied_to(judged), evaluator, settings)
        if answer is None:
            raise _lease_lost(claim)
        breaker.count_success(evaluated_by, was_judged=outcome.judge_model is not None)
        db.session.commit()
        _log_result(claim, answer)
        return answer
    to_review = {claim.id: report.review[:2000]} if report.review else {}
    if claim.is_appeal:
        if isinstance(compared, duplicates.Comparison) and judged.judge_model:
            duplicates.remember_appealed(compared)
        _conclude_appeal(claim)
        if verdict.status == SubmissionStatus.REJECTED:
            # what it says against the video changes nothing, or a person is asked already
            to_review = {}
    elif isinstance(compared, duplicates.Comparison):
        for other in compared.unverified:
            to_review[other] = (
                f"It has the hash assertion of submission {claim.submission_uuid}, but the bytes of its own "
                "file were never verified."
            )
        for copy in duplicates.remember(compared, judged, verdict.status):
            to_review[copy] = f"It shows footage of submission {claim.submission_uuid}, which came first."
    for id, reason in to_review.items():
        reviews.open_review(id, reason)
    if recorded.has_breakers:
        breaker.count_success(evaluated_by, outcome.judge_model is not None and not claim.is_appeal)
    if recorded.has_listeners and not claim.is_appeal:
        webhooks.record_submission(
            claim.id, Evaluated(status=verdict.status, final_score=verdict.final_score)
        )
    db.session.commit()
    _log_result(claim, verdict)
    return verdict


def _lease_lost(claim: Claim) -> LeaseLost:
    db.session.rollback()
    return LeaseLost(f"The lease on submission {claim.id} has ended.")


def _log_result(claim: Claim, verdict: formula.Verdict) -> None:
    log.info(
        "evaluation_recorded",
        submission_id=claim.id,
        attempt=claim.attempt,
        status=verdict.status,
        final_score=verdict.final_score,
        reason=verdict.rejection_reason,
    )


def _conclude_appeal(claim: Claim) -> None:
    """Decide an appeal whose evaluation was just recorded, or let a person do it."""
    corrections.lock()
    appeal = appeals.find_undecided(claim.id)
    assert appeal is not None and appeal.new_result is not None, "it holds the row under its claim"
    if not appealing.conclude(appeal):
        new = appeal.new_result
        reviews.ask_about_appeal(
            claim.id,
            f"Its result is appealed against, and a new evaluation gives {new.status} {new.final_score}.",
        )


def find_known_footage(claim: Claim, frames: tuple[FrameHash, ...], features: bytes) -> str | None:
    """Why the claimed video, whose bytes were verified, will be rejected for known footage, or None.

    This is the precheck: it comes before the judge is paid.
    """
    from app.duplicates import service as duplicates

    reason = duplicates.find_known(claim.id, frames, features, is_appeal=claim.is_appeal)
    if reason and gold_queries.is_showing(claim):
        reason = None
    db.session.rollback()
    return reason


def record_reported(
    claim: Claim, outcome: Outcome, final_score: float, settings: Settings, evaluator: str
) -> formula.Verdict:
    """Record what a remote evaluator found, like `record_result`.

    Its `final_score` must be the formula's for the three scores, or 0 if they fail a gate. In production the
    offline judge does not count, so an evaluator that sends a judge's findings must name the judge. One that
    sends only the four scores need not: with its token we trust it. Raises Invalid for any other result, and
    Conflict if the lease has ended.
    """
    judges = {outcome.judge_model, outcome.report.judge and outcome.report.judge.model}
    was_judged = outcome.action_match is not None or outcome.reasoning or outcome.report.judge
    if was_judged and not outcome.judge_model and not settings.development:
        raise invalid_field("metadata.kibotos.judge_model", "name the model that judged the video.")
    if OFFLINE_MODEL in judges and not settings.development:
        raise invalid_field(
            "metadata.kibotos.judge_model",
            f"{OFFLINE_MODEL} may judge in development only; set VLM_MODEL and VLM_API_URL to a real judge.",
        )
    gated = formula.verdict_of(outcome, settings.min_relevance)
    expected = formula.final_score(*outcome.scores)
    if min(abs(final_score - expected), abs(final_score - gated.final_score)) > FORMULA_TOLERANCE:
        raise invalid_field(
            "final_score", f"must be {gated.final_score} for these scores by the formula, not {final_score}."
        )
    try:
        return record_result(claim, outcome, EvaluatedBy.EVALUATOR, settings, evaluator)
    except LeaseLost:
        raise Conflict(
            "The lease on this submission ended before the result arrived; fetch submissions again."
        ) from None


def get_live_claim(submission_id: int, claim_token: UUID | None) -> Claim:
    """Return the claim that a remote evaluator reports on.

    Without a token any live claim is accepted. Raises NotFound for an unknown submission. Raises Conflict if
    it has a result, if its lease has ended, or if another evaluator holds it.
    """
    claim = queries.find_claim(submission_id)
    if claim is not None and claim_token in {None, claim.claim_token}:
        return claim
    status = queries.find_status(submission_id)
    if status is None:
        raise NotFound("There is no such submission; send the id that /v1/evaluate/fetch returned.")
    if status in {SubmissionStatus.SCORED, SubmissionStatus.REJECTED}:
        raise Conflict(
            "This submission already has a result, and only the first one counts; fetch other submissions."
        )
    raise Conflict("You hold no lease on this submission, or it has ended; fetch submissions again.")


def get_report(uuid: UUID) -> str:
    """Return the verification report as JSON; raise NotFound if there is none, or none yet."""
    stored = queries.find_report(uuid)
    if stored is None:
        raise NotFound("There is no such submission; check its UUID.")
    if stored.report is None:
        raise NotFound("This submission has not been evaluated yet; ask for the report when it has a result.")
    return stored.report if stored.is_hashed else Report.read(json.loads(stored.report)).dump_json()


def find_obstacle(settings: Settings) -> str | None:
    """A sentence that says why our workers evaluate nothing at the moment, or None if they do."""
    if not settings.has_judge:
        return "No judge is configured: submissions wait until VLM_API_URL is set."
    if faults := breaker_queries.list_faults():
        first = faults[0]
        if not first.is_tripped:
            return f"The latest evaluation failed because of {first.name}: {first.last_error}"
        names = " and ".join(fault.name for fault in faults if fault.is_tripped)
        return f"Evaluations wait for {names} to recover: {first.last_error}"
    budget = settings.vlm_daily_token_budget
    if budget and DatabaseMemory().tokens_today() >= budget:
        return "The judge's tokens for today are used up: evaluations continue at 0:00 UTC."
    return None
