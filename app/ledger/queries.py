"""SQL on ledgers and on the keys that sign receipts."""

import json
from collections.abc import Sequence
from datetime import datetime
from typing import Any
from uuid import UUID

from sqlalchemy import text

from app.db import db, execute, fetch_all, fetch_one, fetch_value
from app.hotkeys import STATEMENT_1, STATEMENT_2
from app.ledger.models import Basis, KeyPeriod, Ledger, Place
from app.proofs.lines import (
    FORMAT,
    BalanceLine,
    Correction,
    CycleLine,
    LateCorrectionLine,
    MinerLine,
    NeuronLine,
    WeightLine,
    write_score,
    write_time,
)
from app.proofs.merkle import HASH_BYTES

# amounts, times and scores in the form in which a line has them
_WEIGHT = "trim_scale(s.prompt_weight::numeric)::text"
_TIME = """to_char({} AT TIME ZONE 'UTC', 'YYYY-MM-DD"T"HH24:MI:SS.US"Z"')"""
# of numbers from 0 to 1
_SCORE = "CASE WHEN {0} IN (0, 1) THEN {0}::text || '.0' ELSE {0}::text END"
# what `statement_head` makes
_STATEMENT = f"""
    CASE WHEN s.licence IS NULL AND s.consent_hash IS NULL THEN '{STATEMENT_1}' ELSE concat_ws(E'\\n',
        '{STATEMENT_2}', coalesce(s.licence, ''), coalesce(s.consent_hash, ''),
        coalesce(s.consent_version, ''), coalesce(to_char(s.consent_date, 'YYYY-MM-DD'), '')) END
"""
_CORRECTION = f"""
    c.id, c.kind, c.status, {_SCORE.format("c.final_score")} AS final_score, c.points_change,
    c.accepted_change, c.reason, c.decided_by, {_TIME.format("c.decided_at")} AS decided_at
"""

_GET_CYCLE = text(f"""
    SELECT id AS cycle_id, {_TIME.format("started_at")} AS started_at,
           {_TIME.format("closed_at")} AS closed_at, {_TIME.format("completed_at")} AS completed_at,
           block_number, block_number_is_current, last_correction_id
    FROM cycles WHERE id = :cycle_id
""")
_FIND_PAGE_END = text("""
    SELECT max(id) FROM (
        SELECT id FROM submissions WHERE cycle_id = :cycle_id AND id >= :first_id ORDER BY id LIMIT :limit
    ) page
""")
# PostgreSQL makes the whole line, since a cycle may have a million: to put one together here from its fields
# took 20 us. It writes json as docs/ledger.md wants it. Each table is told the range of ids: by it alone the
# planner sees that this is a small part of a large table.
_LIST_SUBMISSIONS = text(f"""
    WITH own AS (
        SELECT c.submission_id, string_agg(row_to_json(one)::text, ',' ORDER BY c.id) AS listed,
               (array_agg(one.status ORDER BY c.id DESC))[1] AS status,
               (array_agg(one.final_score ORDER BY c.id DESC))[1] AS final_score
        FROM corrections c CROSS JOIN LATERAL (SELECT {_CORRECTION}) one
        WHERE c.submission_id BETWEEN :first_id AND :last_id AND NOT c.is_late GROUP BY c.submission_id
    )
    SELECT s.id, row_to_json(line)::text AS line
    FROM submissions s
    JOIN evaluations e ON e.submission_id = s.id AND e.submission_id BETWEEN :first_id AND :last_id
    LEFT JOIN verification_reports r
           ON r.submission_id = s.id AND r.submission_id BETWEEN :first_id AND :last_id
    LEFT JOIN own ON own.submission_id = s.id
    CROSS JOIN LATERAL (
        SELECT 'submission' AS kind, s.uuid, s.miner_hotkey AS hotkey, s.miner_uid AS uid, s.prompt_id,
               {_WEIGHT} AS prompt_weight, s.video_key, s.video_hash,
               {_TIME.format("s.submitted_at")} AS submitted_at, {_STATEMENT} AS statement, s.signature,
               {_SCORE.format("e.technical_score")} AS technical_score,
               {_SCORE.format("e.relevance_score")} AS relevance_score,
               {_SCORE.format("e.quality_score")} AS quality_score,
               s.status, {_SCORE.format("s.final_score")} AS final_score,
               e.judge_model, e.prompt_version, r.report_hash,
               ('[' || coalesce(own.listed, '') || ']')::json AS corrections,
               coalesce(own.status, s.status) AS effective_status,
               coalesce(own.final_score, {_SCORE.format("s.final_score")}) AS effective_score
    ) line
    WHERE s.cycle_id = :cycle_id AND s.id BETWEEN :first_id AND :last_id ORDER BY s.id
""")
_LIST_CORRECTED_AFTER = text("""
    SELECT DISTINCT c.submission_id FROM corrections c JOIN submissions s ON s.id = c.submission_id
    WHERE c.id > :correction_id AND s.cycle_id = :cycle_id
""")
# What was decided since the cycle before was completed: what that one took account of has ids up to its last
# correction.
_AFTER = """
    (SELECT coalesce((SELECT last_correction_id FROM cycles
                      WHERE status = 'COMPLETED' AND id < :cycle_id ORDER BY id DESC LIMIT 1), 0))
"""
_LIST_LATE_CORRECTIONS = text(f"""
    SELECT s.uuid::text, s.miner_hotkey, s.miner_uid, {_WEIGHT}, s.cycle_id, coalesce(m.holds_uid, false),
           {_CORRECTION}
    FROM corrections c JOIN submissions s ON s.id = c.submission_id
    LEFT JOIN miner_scores m ON m.cycle_id = s.cycle_id AND m.miner_uid = s.miner_uid
                            AND m.miner_hotkey = s.miner_hotkey
    WHERE c.is_late AND c.id > {_AFTER} AND c.id <= :last_correction_id ORDER BY c.id
""")
# The same sums as in app/weights/queries.py, so that they are rounded alike.
_LIST_BALANCES = text(f"""
    WITH due AS (
        SELECT s.miner_hotkey, bool_or(c.id > {_AFTER}) AS changed,
               coalesce(sum(c.points_change * s.prompt_weight::numeric) FILTER (WHERE c.id <= {_AFTER}), 0)
                   / 10000 AS before,
               sum(c.points_change * s.prompt_weight::numeric) / 10000 AS now
        FROM corrections c JOIN submissions s ON s.id = c.submission_id
        JOIN miner_scores m ON m.cycle_id = s.cycle_id AND m.miner_uid = s.miner_uid
                           AND m.miner_hotkey = s.miner_hotkey
        WHERE c.is_late AND c.id <= :last_correction_id AND m.holds_uid GROUP BY s.miner_hotkey
    ), settled AS (
        SELECT miner_hotkey, sum(adjustment) AS by_now,
               coalesce(sum(adjustment) FILTER (WHERE cycle_id < :cycle_id), 0) AS before
        FROM miner_scores WHERE adjustment <> 0 AND cycle_id <= :cycle_id GROUP BY miner_hotkey
    ), balances AS (
        SELECT due.miner_hotkey AS hotkey, due.changed, due.before - coalesce(settled.before, 0) AS carried,
               coalesce(settled.by_now - settled.before, 0) AS settled,
               due.now - coalesce(settled.by_now, 0) AS left_open
        FROM due LEFT JOIN settled USING (miner_hotkey)
    )
    SELECT hotkey, trim_scale(carried)::text, trim_scale(settled)::text, trim_scale(left_open)::text
    FROM balances WHERE changed OR carried <> 0 OR settled <> 0 OR left_open <> 0
    ORDER BY hotkey COLLATE "C"
""")
_LIST_MINERS = text("""
    SELECT miner_uid, miner_hotkey, total_submissions, accepted_submissions,
           trim_scale(adjustment)::text, total_score, holds_uid
    FROM miner_scores WHERE cycle_id = :cycle_id ORDER BY miner_uid, miner_hotkey COLLATE "C"
""")
_LIST_WEIGHTS = text("""
    SELECT miner_uid, weight, weight_u16 FROM computed_weights WHERE cycle_id = :cycle_id ORDER BY miner_uid
""")
_LIST_NEURONS = text("SELECT uid, hotkey, validator_permit FROM metagraph ORDER BY uid")
_FIND_LAST = text("SELECT cycle_id, root FROM ledgers ORDER BY cycle_id DESC LIMIT 1")
_INSERT = text("""
    INSERT INTO ledgers (cycle_id, previous_cycle_id, root, lines, netuid, metagraph_at, neurons, chunk_roots,
                         chunk_first_ids)
    VALUES (:cycle_id, :previous_cycle_id, :root, :lines, :netuid, :metagraph_at, CAST(:neurons AS jsonb),
            :chunk_roots, :first_ids)
""")
_FIND = text("""
    SELECT l.cycle_id, l.root, l.lines, l.chunk_roots, l.chunk_first_ids, l.previous_cycle_id,
           p.root AS previous_root, l.netuid, l.metagraph_at, l.neurons, l.difference,
           l.compared_chunks
    FROM ledgers l LEFT JOIN ledgers p ON p.cycle_id = l.previous_cycle_id WHERE l.cycle_id = :cycle_id
""")
_FIND_STORED = text("SELECT root, stored_at FROM ledgers WHERE cycle_id = :cycle_id")
_LIST_NOT_STORED = text("SELECT cycle_id FROM ledgers WHERE stored_at IS NULL ORDER BY cycle_id")
_RECORD_STORED = text("""
    UPDATE ledgers SET stored_at = now() WHERE cycle_id = :cycle_id AND stored_at IS NULL
""")
_FIND_LEAST_COMPARED = text("""
    SELECT cycle_id FROM ledgers
    WHERE compared_chunks > 0 OR compared_at IS NULL
       OR compared_at <= now() - make_interval(secs => :older_than_seconds)
    ORDER BY compared_chunks DESC, compared_at NULLS FIRST, cycle_id LIMIT 1
""")
_RECORD_COMPARISON = text("""
    UPDATE ledgers SET compared_at = now(), difference = :difference, compared_chunks = 0
    WHERE cycle_id = :cycle_id
""")
_RECORD_PROGRESS = text("UPDATE ledgers SET compared_chunks = :chunks WHERE cycle_id = :cycle_id")
_LIST_DIFFERENT = text("SELECT cycle_id FROM ledgers WHERE difference IS NOT NULL ORDER BY cycle_id")
_FIND_PLACE = text("""
    SELECT s.id, s.cycle_id, coalesce(y.status = 'COMPLETED', false) AS is_completed
    FROM submissions s LEFT JOIN cycles y ON y.id = s.cycle_id WHERE s.uuid = :uuid
    -- an evaluator that asks about a gold film gets the answer of an open submission
    UNION ALL SELECT id, NULL, false FROM gold_showings WHERE uuid = :uuid
""")
_IS_COMPLETED = text("SELECT status = 'COMPLETED' FROM cycles WHERE id = :cycle_id")
_LIST_KEYS = text("SELECT key, valid_from, retired_at FROM signing_keys ORDER BY valid_from DESC, key")
_FIND_KEY = text("SELECT key, valid_from, retired_at FROM signing_keys WHERE key = :key")
_RETIRE_KEYS = text("UPDATE signing_keys SET retired_at = now() WHERE retired_at IS NULL AND key <> :key")
_INSERT_KEY = text("INSERT INTO signing_keys (key) VALUES (:key)")


def get_cycle(cycle_id: int, basis: Basis) -> CycleLine:
    """The line of the cycle itself."""
    row = db.session.execute(_GET_CYCLE, {"cycle_id": cycle_id}).mappings().one()
    return CycleLine(
        format=FORMAT,
        **row,
        netuid=basis.netuid,
        metagraph_at=None if basis.metagraph_at is None else write_time(basis.metagraph_at),
        previous_cycle_id=basis.previous_cycle_id,
        previous_root=basis.previous_root,
    )


def list_submissions(cycle_id: int, first_id: int, limit: int) -> list[tuple[int, bytes]]:
    """The submissions that count in a completed cycle, from the given id on: ids and lines."""
    last_id = fetch_value(_FIND_PAGE_END, cycle_id=cycle_id, first_id=first_id, limit=limit)
    if last_id is None:
        return []
    rows = _fetch(_LIST_SUBMISSIONS, cycle_id=cycle_id, first_id=first_id, last_id=last_id)
    return [(id, line.encode()) for id, line in rows]


def list_corrected_after(cycle_id: int, correction_id: int) -> list[int]:
    """The submissions of a cycle that have corrections after the given one."""
    rows = _fetch(_LIST_CORRECTED_AFTER, cycle_id=cycle_id, correction_id=correction_id)
    return [id for (id,) in rows]


def list_late_corrections(cycle_id: int, last_correction_id: int) -> list[LateCorrectionLine]:
    """The late corrections that this cycle is the first to take account of."""
    rows = _fetch(_LIST_LATE_CORRECTIONS, cycle_id=cycle_id, last_correction_id=last_correction_id)
    return [LateCorrectionLine(*(*row[:6], Correction(*row[6:]))) for row in rows]


def list_balances(cycle_id: int, last_correction_id: int) -> list[BalanceLine]:
    """What hotkeys are still to get, or to lose, for late corrections up to the given one."""
    rows = _fetch(_LIST_BALANCES, cycle_id=cycle_id, last_correction_id=last_correction_id)
    return [BalanceLine(*row) for row in rows]


def list_miners(cycle_id: int) -> list[MinerLine]:
    rows = _fetch(_LIST_MINERS, cycle_id=cycle_id)
    return [MinerLine(*(*row[:5], write_score(row[5]), row[6])) for row in rows]


def list_weights(cycle_id: int) -> list[WeightLine]:
    return [
        WeightLine(uid, write_score(weight), units)
        for uid, weight, units in _fetch(_LIST_WEIGHTS, cycle_id=cycle_id)
    ]


def list_neurons() -> list[NeuronLine]:
    """The metagraph as it is now."""
    return [NeuronLine(*row) for row in _fetch(_LIST_NEURONS)]


def find_last() -> tuple[int, str] | None:
    """The cycle and the root of the latest ledger."""
    row = db.session.execute(_FIND_LAST).one_or_none()
    return None if row is None else (row.cycle_id, row.root)


def insert(ledger: Ledger) -> None:
    basis = ledger.basis
    execute(
        _INSERT,
        cycle_id=ledger.cycle_id,
        previous_cycle_id=basis.previous_cycle_id,
        root=ledger.root,
        lines=ledger.lines,
        netuid=basis.netuid,
        metagraph_at=basis.metagraph_at,
        neurons=json.dumps([list(vars(neuron).values()) for neuron in basis.neurons]),
        chunk_roots=b"".join(ledger.chunk_roots),
        first_ids=ledger.first_ids,
    )


def find(cycle_id: int) -> Ledger | None:
    row = db.session.execute(_FIND, {"cycle_id": cycle_id}).one_or_none()
    if row is None:
        return None
    roots = bytes(row.chunk_roots)
    return Ledger(
        cycle_id=row.cycle_id,
        root=row.root,
        lines=row.lines,
        chunk_roots=[roots[start : start + HASH_BYTES] for start in range(0, len(roots), HASH_BYTES)],
        first_ids=row.chunk_first_ids,
        basis=Basis(
            previous_cycle_id=row.previous_cycle_id,
            previous_root=row.previous_root,
            netuid=row.netuid,
            metagraph_at=row.metagraph_at,
            neurons=[NeuronLine(*neuron) for neuron in row.neurons],
        ),
        difference=row.difference,
        compared_chunks=row.compared_chunks,
    )


def find_stored(cycle_id: int) -> tuple[str, datetime | None] | None:
    """The root of a cycle's ledger, and when its file was put into storage."""
    row = db.session.execute(_FIND_STORED, {"cycle_id": cycle_id}).one_or_none()
    return None if row is None else (row.root, row.stored_at)


def list_not_stored() -> list[int]:
    """The cycles whose ledgers are not in storage yet."""
    return list(db.session.scalars(_LIST_NOT_STORED))


def record_stored(cycle_id: int) -> None:
    execute(_RECORD_STORED, cycle_id=cycle_id)


def find_least_compared(older_than_seconds: float) -> int | None:
    """The cycle whose ledger is being compared, or was so the longest time ago, if it is so long ago."""
    return fetch_value(_FIND_LEAST_COMPARED, older_than_seconds=older_than_seconds)


def record_comparison(cycle_id: int, difference: str | None) -> None:
    execute(_RECORD_COMPARISON, cycle_id=cycle_id, difference=difference)


def record_progress(cycle_id: int, chunks: int) -> None:
    """Remember how many chunks of a ledger a comparison has found right so far."""
    execute(_RECORD_PROGRESS, cycle_id=cycle_id, chunks=chunks)


def list_different() -> list[int]:
    """The cycles whose ledgers the database no longer gave when they were last compared."""
    return list(db.session.scalars(_LIST_DIFFERENT))


def find_place(uuid: UUID) -> Place | None:
    return fetch_one(Place, _FIND_PLACE, uuid=uuid)


def is_completed(cycle_id: int) -> bool | None:
    """Whether a cycle is completed; None: there is no such cycle."""
    return fetch_value(_IS_COMPLETED, cycle_id=cycle_id)


def list_keys() -> list[KeyPeriod]:
    return fetch_all(KeyPeriod, _LIST_KEYS)


def find_key(key: str) -> KeyPeriod | None:
    return fetch_one(KeyPeriod, _FIND_KEY, key=key)


def replace_key(key: str) -> None:
    """Make a new key the one that is valid."""
    execute(_RETIRE_KEYS, key=key)
    execute(_INSERT_KEY, key=key)


def _fetch(statement: Any, **binds: Any) -> Sequence[Any]:
    return db.session.execute(statement, binds).all()
