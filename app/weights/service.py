"""The rules of scores and weights."""

from collections import defaultdict
from collections.abc import Iterable, Sequence
from dataclasses import asdict, dataclass
from fractions import Fraction
from itertools import islice

from app.assessment.formula import final_score
from app.corrections import queries as corrections
from app.db import db
from app.enums import CycleStatus, SubmissionStatus
from app.errors import Conflict, NotFound
from app.proofs.normalise import Weight, normalise
from app.weights import queries
from app.weights.models import (
    MinerScore,
    RecordedScore,
    ScoredCycle,
    SettledScore,
    WeightedCycle,
    WeightsOut,
    WeightsU16,
)
from app.weights.settle import points, settle

# How many wrong results recompute() names; it counts on.
_NAME_AT_MOST = 20


@dataclass(frozen=True)
class Recorded:
    """What was written for a cycle: how many miners have a score, how many uids a weight, who judged.

    `last_correction_id` is that of the last correction it takes account of, None if there was none yet.
    """

    miners: int
    uids: int
    judge_models: list[str]
    last_correction_id: int | None


@dataclass(frozen=True)
class Recomputation:
    """The weights of a completed cycle, computed again, and a sentence about each result that differs."""

    cycle_id: int
    weights: list[Weight]
    differences: list[str]


def record(cycle_id: int, check_registration: bool) -> Recorded:
    """Write the scores and weights of a cycle without open submissions, once. The caller commits.

    With `check_registration` the weight of a uid is the share of the hotkey that holds it in the metagraph.
    Changes by corrections of earlier cycles are settled with hotkeys that hold a uid now. For other hotkeys
    they remain due.
    """
    corrections.lock()
    last_correction_id = corrections.find_last_id()
    settled = _settle(cycle_id, last_correction_id, check_registration)
    queries.insert_scores(cycle_id, settled, check_registration)
    scores = queries.list_recorded_scores(cycle_id)
    weights = _weigh(scores)
    queries.insert_weights(cycle_id, weights)
    return Recorded(len(scores), len(weights), queries.list_judge_models(cycle_id), last_correction_id)


def draft_shares(cycle_id: int, check_registration: bool) -> dict[str, float]:
    """Return the weight of each hotkey if record() were called with the results that there are now.

    Nothing is written. Hotkeys that would get nothing are left out.
    """
    settled = _settle(cycle_id, corrections.find_last_id(), check_registration)
    holders = {holder.hotkey: holder.uid for holder in queries.list_registered()}
    scores = [
        _held(score, not check_registration or holders.get(score.miner_hotkey) == score.miner_uid)
        for score in settled
    ]
    weights = {weight.uid: weight.weight for weight in _weigh(scores)}
    return {
        score.miner_hotkey: weights[score.miner_uid]
        for score in scores
        if score.holds_uid and score.miner_uid in weights
    }


def _settle(cycle_id: int, last_correction_id: int | None, check_registration: bool) -> list[SettledScore]:
    """The scores of a cycle as they stand, with what earlier cycles owe or are owed."""
    earned = queries.list_current_scores(cycle_id)
    best = {score.miner_hotkey: score.miner_uid for score in reversed(earned)}
    due = {}
    for balance in queries.list_balances(cycle_id, last_correction_id or 0):
        uid = balance.registered_uid if check_registration else best.get(balance.hotkey, balance.last_uid)
        if uid is not None:
            due[uid, balance.hotkey] = balance.points
    return list(settle(earned, due).values())


def get_cycle(cycle_id: int | None) -> ScoredCycle:
    """Return a cycle (None: the last completed one); raise NotFound if there is none."""
    cycle = queries.find_last_completed_cycle() if cycle_id is None else queries.find_cycle(cycle_id)
    if cycle is None:
        raise NotFound(
            "No cycle has been completed yet; GET /v1/cycles/status shows which one is active."
            if cycle_id is None
            else "There is no such cycle; GET /v1/cycles/status names the latest."
        )
    return cycle


def list_scores(cycle: ScoredCycle) -> list[MinerScore]:
    """Return the scores of a cycle, best first: as recorded, or so far if it is not completed yet."""
    if cycle.status == CycleStatus.COMPLETED:
        return list(queries.list_recorded_scores(cycle.id))
    return queries.list_current_scores(cycle.id)


def list_judge_models(cycle: ScoredCycle) -> Sequence[str]:
    """Return the names of the models that judged the submissions of a cycle."""
    if cycle.status == CycleStatus.COMPLETED:
        return cycle.judge_models
    return queries.list_judge_models(cycle.id)


def get_weighted_cycle(cycle_id: int | None) -> WeightedCycle:
    """Return a completed cycle that has weights (None: the last such).

    Raises NotFound for a cycle that is not completed, or in which nothing was accepted.
    """
    cycle = queries.find_last_weighted_cycle() if cycle_id is None else queries.find_weighted_cycle(cycle_id)
    if cycle is None:
        raise NotFound(
            "No weights have been computed yet; try again when a cycle with scored submissions is completed."
            if cycle_id is None
            else "This cycle has no weights: it does not exist, is not completed, or scored no submission."
        )
    return cycle


def describe_weights(cycle: WeightedCycle) -> WeightsOut:
    """Return the weights of a cycle as they are published."""
    weights = queries.list_weights(cycle.id)
    units = [weight for weight in weights if weight.weight_u16]
    return WeightsOut(
        cycle_id=cycle.id,
        block_number=cycle.block_number,
        block_number_is_current=cycle.block_number_is_current,
        judge_models=cycle.judge_models,
        created_at=cycle.completed_at,
        weights={str(weight.uid): weight.weight for weight in weights},
        weights_u16=WeightsU16(
            uids=[weight.uid for weight in units], weights=[weight.weight_u16 for weight in units]
        ),
        hotkeys={str(holder.uid): holder.hotkey for holder in queries.list_holders(cycle.id)},
        ledger_root=cycle.ledger_root,
        ledger_lines=cycle.ledger_lines,
        ledger_url=f"/v1/cycles/{cycle.id}/ledger" if cycle.ledger_root else None,
    )


def recompute(cycle_id: int) -> Recomputation:
    """Compute a completed cycle's results again from the evaluations, and compare. Nothing is written.

    Four steps are checked. Each final score is compared with its evaluation and the formula. Each correction
    is compared with the result before it. Each miner's score is compared with its submissions, their
    corrections and what had to be settled. The weights are compared with the scores of the hotkeys that held
    the uids. Who held a uid is taken as recorded. Raises NotFound for an unknown cycle, and Conflict for one
    that is not completed.
    """
    cycle = queries.find_cycle(cycle_id)
    if cycle is None:
        raise NotFound(f"There is no cycle {cycle_id}.")
    if cycle.status != CycleStatus.COMPLETED:
        raise Conflict(f"Cycle {cycle_id} is {cycle.status}; only a completed cycle has results to check.")
    wrong = _wrong_results(cycle_id)
    differences = list(islice(wrong, _NAME_AT_MOST))
    if more := sum(1 for _ in wrong):
        differences.append(f"and {more} more final scores differ")

    differences += [
        f"correction {id} does not state what it changed" for id in queries.list_wrong_corrections(cycle_id)
    ]

    recorded = {_miner(score): score for score in queries.list_recorded_scores(cycle_id)}
    payees = {score.miner_hotkey: miner for miner, score in reversed(recorded.items()) if score.holds_uid}
    payees |= {score.miner_hotkey: miner for miner, score in recorded.items() if score.adjustment}
    balances = queries.list_balances(cycle_id, cycle.last_correction_id or 0)
    due = {payees[balance.hotkey]: balance.points for balance in balances if balance.hotkey in payees}
    current = settle(queries.list_current_scores(cycle_id), due)
    for miner in sorted(recorded.keys() | current.keys()):
        then, now = recorded.get(miner), current.get(miner)
        if then is None or now is None or then != _held(now, then.holds_uid):
            differences.append(f"uid {miner[0]} with hotkey {miner[1]}: recorded {then}, recomputed {now}")

    weights = _weigh(_held(current[miner], recorded[miner].holds_uid) for miner in current.keys() & recorded)
    stored = queries.list_weights(cycle_id)
    if weights != stored:
        differences.append(f"weights: recorded {stored}, recomputed {weights}")
    db.session.rollback()
    return Recomputation(cycle_id, weights, differences)


def _weigh(scores: Iterable[RecordedScore]) -> list[Weight]:
    totals: dict[int, Fraction] = defaultdict(Fraction)
    for score in scores:
        if score.holds_uid:
            totals[score.miner_uid] += Fraction(points(score.total_score))
    return normalise(totals)


def _miner(score: MinerScore) -> tuple[int, str]:
    return score.miner_uid, score.miner_hotkey


def _held(score: SettledScore, holds_uid: bool) -> RecordedScore:
    return RecordedScore(**asdict(score), holds_uid=holds_uid)


def _wrong_results(cycle_id: int) -> Iterable[str]:
    for result in queries.stream_results(cycle_id):
        if result.technical_score is None or result.relevance_score is None or result.quality_score is None:
            yield f"submission {result.id} has a final score without an evaluation"
            continue
        score = final_score(result.technical_score, result.relevance_score, result.quality_score)
        status = SubmissionStatus.SCORED
        if result.rejection_reason is not None:
            status, score = SubmissionStatus.REJECTED, 0.0
        if (status, score) != (result.status, result.final_score):
            yield (
                f"submission {result.id}: {result.status} with final score {result.final_score}, "
                f"by its evaluation {status} with {score}"
            )
