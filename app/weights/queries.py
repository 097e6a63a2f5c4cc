"""SQL on scores and weights."""

import json
from collections.abc import Iterator, Sequence
from dataclasses import asdict

from sqlalchemy import text

from app.db import Prepared, db, execute, fetch_all, fetch_one
from app.proofs.normalise import Weight
from app.weights.models import (
    Balance,
    Holder,
    MinerScore,
    RecordedScore,
    Result,
    ScoredCycle,
    SettledScore,
    WeightedCycle,
)

_SCORE_COLUMNS = """
    miner_uid, miner_hotkey, total_submissions, accepted_submissions, avg_score, total_score,
    scores_by_category
"""

# A cycle's scores in one pass. Final scores have four places, so within a prompt they are added up as
# integers; the few sums that are left are weighted and added as decimals. Both are exact: the order of the
# rows, and so the plan, cannot change a digit, as it could in sums of floats. Corrections are few: what they
# change is added to the sums; late ones change a later cycle instead. A submission that had no cycle when it
# was corrected may have joined one since.
_AGGREGATE = """
    SELECT miner_uid, miner_hotkey,
           sum(total)::integer AS total_submissions,
           sum(accepted)::integer AS accepted_submissions,
           coalesce(sum(points) / (10000.0 * nullif(sum(accepted), 0)), 0)::double precision AS avg_score,
           (sum(weighted_points) / 10000)::double precision AS total_score,
           jsonb_object_agg(category, (weighted_points / 10000)::double precision) AS scores_by_category
    FROM (
        SELECT s.miner_uid, s.miner_hotkey, p.category, sum(s.total) AS total, sum(s.accepted) AS accepted,
               sum(s.points) AS points, sum(s.points * s.prompt_weight::numeric) AS weighted_points
        FROM (
            SELECT miner_uid, miner_hotkey, prompt_id, prompt_weight, count(*) AS total,
                   count(*) FILTER (WHERE status = 'SCORED') AS accepted,
                   coalesce(sum(round(final_score * 10000)::integer), 0) AS points
            FROM submissions WHERE cycle_id = :cycle_id
            GROUP BY miner_uid, miner_hotkey, prompt_id, prompt_weight
            UNION ALL
            SELECT s.miner_uid, s.miner_hotkey, s.prompt_id, s.prompt_weight, 0, c.accepted_change,
                   c.points_change
            FROM corrections c JOIN submissions s ON s.id = c.submission_id
            WHERE NOT c.is_late AND (c.cycle_id = :cycle_id OR c.cycle_id IS NULL) AND s.cycle_id = :cycle_id
        ) s JOIN prompts p ON p.id = s.prompt_id
        GROUP BY s.miner_uid, s.miner_hotkey, p.category
    ) by_category
    GROUP BY miner_uid, miner_hotkey
"""
_BEST_FIRST = "ORDER BY total_score DESC, miner_uid, miner_hotkey"

_LIST_CURRENT = text(f"SELECT {_SCORE_COLUMNS} FROM ({_AGGREGATE}) scores {_BEST_FIRST}")
# Not INSERT … SELECT of the aggregate: PostgreSQL uses one processor for that, several for a bare SELECT.
_INSERT_SCORES = text(f"""
    INSERT INTO miner_scores (cycle_id, {_SCORE_COLUMNS}, adjustment, holds_uid)
    SELECT :cycle_id, {_SCORE_COLUMNS}, adjustment,
           NOT :check_registration OR EXISTS (
               SELECT 1 FROM metagraph m WHERE m.uid = miner_uid AND m.hotkey = miner_hotkey)
    FROM jsonb_to_recordset(CAST(:scores AS jsonb)) AS scores(
        miner_uid integer, miner_hotkey text, total_submissions integer, accepted_submissions integer,
        avg_score double precision, total_score double precision, scores_by_category jsonb,
        adjustment numeric)
""")
_LIST_RECORDED = text(f"""
    SELECT {_SCORE_COLUMNS}, adjustment, holds_uid
    FROM miner_scores WHERE cycle_id = :cycle_id {_BEST_FIRST}
""")
# The change by late corrections of points that were paid, minus the adjustments so far. Points that were not
# paid, since the hotkey did not hold the uid, are neither due nor taken back.
_LIST_BALANCES = text("""
    WITH due AS (
        SELECT s.miner_hotkey, sum(c.points_change * s.prompt_weight::numeric) / 10000 AS points,
               (array_agg(s.miner_uid ORDER BY c.id DESC))[1] AS last_uid
        FROM corrections c JOIN submissions s ON s.id = c.submission_id
        JOIN miner_scores m ON m.cycle_id = s.cycle_id AND m.miner_uid = s.miner_uid
                           AND m.miner_hotkey = s.miner_hotkey
        WHERE c.is_late AND c.id <= :last_correction_id AND m.holds_uid GROUP BY s.miner_hotkey
    ), settled AS (
        SELECT miner_hotkey, sum(adjustment) AS points FROM miner_scores
        WHERE adjustment <> 0 AND cycle_id < :cycle_id GROUP BY miner_hotkey
    )
    SELECT d.miner_hotkey AS hotkey, d.points - coalesce(settled.points, 0) AS points,
           g.uid AS registered_uid, d.last_uid
    FROM due d LEFT JOIN settled USING (miner_hotkey) LEFT JOIN metagraph g ON g.hotkey = d.miner_hotkey
    WHERE d.points <> coalesce(settled.points, 0) ORDER BY d.miner_hotkey
""")
_LIST_WRONG_CORRECTIONS = text("""
    SELECT id FROM (
        SELECT c.id, c.points_change, c.accepted_change,
               round(c.final_score * 10000) - round(lag(c.final_score, 1, s.final_score) OVER own * 10000)
                   AS points,
               (c.status = 'SCORED')::integer - (lag(c.status, 1, s.status) OVER own = 'SCORED')::integer
                   AS accepted
        FROM corrections c JOIN submissions s ON s.id = c.submission_id WHERE s.cycle_id = :cycle_id
        WINDOW own AS (PARTITION BY c.submission_id ORDER BY c.id)
    ) chain WHERE points_change <> points OR accepted_change <> accepted ORDER BY id
""")
_INSERT_WEIGHTS = text("""
    INSERT INTO computed_weights (cycle_id, miner_uid, weight, weight_u16)
    SELECT :cycle_id, * FROM unnest(CAST(:uids AS integer[]), CAST(:weights AS double precision[]),
                                    CAST(:weights_u16 AS integer[]))
""")
_LIST_WEIGHTS = text("""
    SELECT miner_uid AS uid, weight, weight_u16 FROM computed_weights
    WHERE cycle_id = :cycle_id ORDER BY miner_uid
""")
# Where registration was not checked, several hotkeys may have submitted with one uid: then none is named.
_LIST_HOLDERS = text("""
    SELECT miner_uid AS uid, min(miner_hotkey) AS hotkey
    FROM miner_scores JOIN computed_weights USING (cycle_id, miner_uid)
    WHERE cycle_id = :cycle_id AND holds_uid GROUP BY miner_uid HAVING count(*) = 1 ORDER BY miner_uid
""")
_LIST_REGISTERED = text("SELECT uid, hotkey FROM metagraph")
_LIST_JUDGE_MODELS = text("""
    SELECT DISTINCT e.judge_model FROM submissions s JOIN evaluations e ON e.submission_id = s.id
    WHERE s.cycle_id = :cycle_id AND e.judge_model IS NOT NULL ORDER BY e.judge_model
""")
_SCORED_CYCLE = """
    SELECT id, status, started_at, completed_at, judge_models, last_correction_id FROM cycles
"""
_FIND_CYCLE = Prepared(f"{_SCORED_CYCLE} WHERE id = :id")
_FIND_LAST_COMPLETED_CYCLE = Prepared(f"{_SCORED_CYCLE} WHERE status = 'COMPLETED' ORDER BY id DESC LIMIT 1")
_WEIGHTED_CYCLE = """
    SELECT id, block_number, block_number_is_current, judge_models, completed_at,
           l.root AS ledger_root, l.lines AS ledger_lines
    FROM cycles c LEFT JOIN ledgers l ON l.cycle_id = c.id
    WHERE status = 'COMPLETED' AND EXISTS (SELECT 1 FROM computed_weights w WHERE w.cycle_id = c.id)
"""
_FIND_WEIGHTED_CYCLE = Prepared(f"{_WEIGHTED_CYCLE} AND id = :id")
_FIND_LAST_WEIGHTED_CYCLE = Prepared(f"{_WEIGHTED_CYCLE} ORDER BY id DESC LIMIT 1")
_STREAM_RESULTS = text("""
    SELECT s.id, s.status, s.final_score, e.technical_score, e.relevance_score, e.quality_score,
           e.rejection_reason
    FROM submissions s LEFT JOIN evaluations e ON e.submission_id = s.id
    WHERE s.cycle_id = :cycle_id AND s.status IN ('SCORED', 'REJECTED')
""").execution_options(yield_per=5000)


def list_current_scores(cycle_id: int) -> list[MinerScore]:
    """Aggregate the cycle's submissions as they stand, best first."""
    return fetch_all(MinerScore, _LIST_CURRENT, cycle_id=cycle_id)


def list_balances(cycle_id: int, last_correction_id: int) -> list[Balance]:
    """What is to be settled when this cycle completes, in view of the corrections up to the given one."""
    return fetch_all(Balance, _LIST_BALANCES, cycle_id=cycle_id, last_correction_id=last_correction_id)


def list_wrong_corrections(cycle_id: int) -> list[int]:
    """The corrections of the cycle's submissions whose change is not that from the result before."""
    return list(db.session.scalars(_LIST_WRONG_CORRECTIONS, {"cycle_id": cycle_id}))


def insert_scores(cycle_id: int, scores: Sequence[SettledScore], check_registration: bool) -> None:
    """Insert the scores; one holds its uid if the metagraph says so, or if registration is not checked."""
    rows = json.dumps([asdict(score) for score in scores], default=str)
    execute(_INSERT_SCORES, cycle_id=cycle_id, scores=rows, check_registration=check_registration)


def list_recorded_scores(cycle_id: int) -> list[RecordedScore]:
    """The completed cycle's scores, best first."""
    return fetch_all(RecordedScore, _LIST_RECORDED, cycle_id=cycle_id)


def insert_weights(cycle_id: int, weights: Sequence[Weight]) -> None:
    execute(
        _INSERT_WEIGHTS,
        cycle_id=cycle_id,
        uids=[weight.uid for weight in weights],
        weights=[weight.weight for weight in weights],
        weights_u16=[weight.weight_u16 for weight in weights],
    )


def list_weights(cycle_id: int) -> list[Weight]:
    return fetch_all(Weight, _LIST_WEIGHTS, cycle_id=cycle_id)


def list_holders(cycle_id: int) -> list[Holder]:
    """The hotkeys that the weighted uids of a completed cycle are paid for, in the order of uids."""
    return fetch_all(Holder, _LIST_HOLDERS, cycle_id=cycle_id)


def list_registered() -> list[Holder]:
    """The hotkeys that hold uids in the stored metagraph."""
    return fetch_all(Holder, _LIST_REGISTERED)


def list_judge_models(cycle_id: int) -> list[str]:
    return list(db.session.scalars(_LIST_JUDGE_MODELS, {"cycle_id": cycle_id}))


def find_cycle(id: int) -> ScoredCycle | None:
    return fetch_one(ScoredCycle, _FIND_CYCLE, id=id)


def find_last_completed_cycle() -> ScoredCycle | None:
    return fetch_one(ScoredCycle, _FIND_LAST_COMPLETED_CYCLE)


def find_weighted_cycle(id: int) -> WeightedCycle | None:
    return fetch_one(WeightedCycle, _FIND_WEIGHTED_CYCLE, id=id)


def find_last_weighted_cycle() -> WeightedCycle | None:
    return fetch_one(WeightedCycle, _FIND_LAST_WEIGHTED_CYCLE)


def stream_results(cycle_id: int) -> Iterator[Result]:
    """Every result of the cycle, fetched in batches: memory does not grow with the cycle."""
    for row in db.session.execute(_STREAM_RESULTS, {"cycle_id": cycle_id}).mappings():
        yield Result(**row)
