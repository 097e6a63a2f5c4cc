"""SQL on cycles."""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime

from sqlalchemy import TextClause, text

from app.cycles.states import Cycle
from app.db import Prepared, execute, fetch_one, fetch_value
from app.locks import CYCLES
from app.metagraph.models import Block

_COLUMNS = """
    id, status, started_at, ends_at, closed_at, completed_at, block_number, block_number_is_current,
    judge_models
"""

_LOCK = text("SELECT pg_advisory_xact_lock(:key)")
_TRY_LOCK = text("SELECT pg_try_advisory_xact_lock(:key)")
_CLOCK = text("SELECT clock_timestamp()")
_FIND = text(f"SELECT {_COLUMNS} FROM cycles WHERE id = :id")
_FIND_ACTIVE = text(f"SELECT {_COLUMNS} FROM cycles WHERE status = 'ACTIVE'")
_FIND_OLDEST_EVALUATING = text(f"""
    SELECT {_COLUMNS} FROM cycles WHERE status = 'EVALUATING' ORDER BY id LIMIT 1
""")
_OVERVIEW = Prepared("""
    SELECT max(id) FILTER (WHERE status = 'ACTIVE') AS active_cycle_id,
           max(started_at) FILTER (WHERE status = 'ACTIVE') AS active_cycle_started_at,
           min(id) FILTER (WHERE status = 'EVALUATING') AS evaluating_cycle_id,
           max(id) FILTER (WHERE status = 'COMPLETED') AS last_completed_cycle_id,
           count(*) AS total_cycles
    FROM cycles
""")
_INSERT = text("""
    INSERT INTO cycles (started_at, ends_at) VALUES (:started_at, :ends_at) RETURNING id
""")
# Waits for submissions being accepted: they hold the row FOR SHARE.
_CLOSE = text("UPDATE cycles SET status = 'EVALUATING', closed_at = :now WHERE id = :id")
_COMPLETE = text("""
    UPDATE cycles SET status = 'COMPLETED', completed_at = :now, block_number = :block_number,
                      block_number_is_current = :block_number_is_current,
                      judge_models = CAST(:judge_models AS text[]), last_correction_id = :last_correction_id
    WHERE id = :id
""")
# Held ones wait for a person, not for a cycle.
_ADOPT = text("UPDATE submissions SET cycle_id = :cycle_id WHERE cycle_id IS NULL AND held_at IS NULL")
_HAS_OPEN = text("""
    SELECT EXISTS (SELECT 1 FROM submissions
                   WHERE cycle_id = :cycle_id AND status IN ('PENDING', 'EVALUATING')
                         AND (:carried_over OR NOT carried_over))
""")


def _first_open(condition: str) -> TextClause:
    """The open row that was submitted first of those that meet `condition`.

    Cycles that are not completed are few, and in each the first is found by the index.
    """
    return text(f"""
        SELECT min(first.id) FROM (
            SELECT (SELECT min(s.id) FROM submissions s
                    WHERE s.cycle_id = c.id AND s.status IN ('PENDING', 'EVALUATING') AND {condition}) AS id
            FROM cycles c WHERE c.status <> 'COMPLETED'
            UNION ALL
            SELECT min(s.id) FROM submissions s
            WHERE s.cycle_id IS NULL AND s.status IN ('PENDING', 'EVALUATING') AND {condition}
        ) first
    """)


# One that a cycle was held up by once, or that may never be evaluated, holds up no other.
_FIND_FIRST_AWAITED = _first_open("s.held_at IS NULL AND NOT s.carried_over AND s.faults < :most_faults")
_FIND_FIRST_OPEN = _first_open(
    "(s.held_at IS NULL OR s.held_at > now() - make_interval(secs => :held_seconds))"
)
_FIND_LAST_SUBMITTED = text("SELECT max(id) FROM submissions WHERE cycle_id = :cycle_id")
_CARRY_OVER = text("""
    UPDATE submissions SET cycle_id = (SELECT id FROM cycles WHERE status = 'ACTIVE'), carried_over = true
    WHERE cycle_id = :cycle_id AND status IN ('PENDING', 'EVALUATING')
""")
_FIND_HOLD = text("""
    SELECT cycle_id, reason, held_at, approved_at FROM cycle_holds WHERE cycle_id = :cycle_id
""")
_FIND_CURRENT_HOLD = text("""
    SELECT h.cycle_id, h.reason, h.held_at, h.approved_at
    FROM cycle_holds h JOIN cycles c ON c.id = h.cycle_id
    WHERE c.status = 'EVALUATING' AND h.approved_at IS NULL ORDER BY h.cycle_id LIMIT 1
""")
_HOLD = text("""
    INSERT INTO cycle_holds AS h (cycle_id, reason) VALUES (:cycle_id, :reason)
    ON CONFLICT (cycle_id) DO UPDATE SET reason = excluded.reason WHERE h.approved_at IS NULL
""")
_DELETE_HOLD = text("DELETE FROM cycle_holds WHERE cycle_id = :cycle_id AND approved_at IS NULL")
_APPROVE = text("""
    UPDATE cycle_holds SET approved_at = now(), approved_by = :by, approve_reason = :reason
    WHERE cycle_id = :cycle_id AND approved_at IS NULL
""")
_NO_TIMEOUT = text("SET LOCAL statement_timeout = 0")


# a submission with so many faults may never be evaluated
FAULTS_AWAITED = 3


@dataclass(frozen=True)
class Overview:
    active_cycle_id: int | None
    active_cycle_started_at: datetime | None
    evaluating_cycle_id: int | None
    last_completed_cycle_id: int | None
    total_cycles: int


@dataclass(frozen=True)
class Hold:
    """Why a cycle does not complete; a person may have approved it meanwhile."""

    cycle_id: int
    reason: str
    held_at: datetime
    approved_at: datetime | None


def lock_cycles() -> None:
    """Wait until no other transaction changes cycles, and keep it so until this one ends."""
    execute(_LOCK, key=CYCLES)


def try_lock_cycles() -> bool:
    """Like lock_cycles(), but return False at once if another transaction changes cycles."""
    return fetch_value(_TRY_LOCK, key=CYCLES)


def lift_statement_timeout() -> None:
    """Let this transaction's statements take as long as they need."""
    execute(_NO_TIMEOUT)


def clock() -> datetime:
    """The database's time: the one clock of all processes."""
    return fetch_value(_CLOCK)


def find_cycle(id: int) -> Cycle | None:
    return fetch_one(Cycle, _FIND, id=id)


def find_active() -> Cycle | None:
    return fetch_one(Cycle, _FIND_ACTIVE)


def find_oldest_evaluating() -> Cycle | None:
    return fetch_one(Cycle, _FIND_OLDEST_EVALUATING)


def get_overview() -> Overview:
    overview = fetch_one(Overview, _OVERVIEW)
    assert overview is not None
    return overview


def insert_cycle(started_at: datetime, ends_at: datetime) -> int:
    """Start a cycle and return its id."""
    return fetch_value(_INSERT, started_at=started_at, ends_at=ends_at)


def close_cycle(id: int, now: datetime) -> None:
    execute(_CLOSE, id=id, now=now)


def complete_cycle(
    id: int,
    now: datetime,
    block: Block | None,
    judge_models: Sequence[str],
    last_correction_id: int | None,
) -> None:
    """Complete a cycle whose weights take account of the corrections up to the given one."""
    execute(
        _COMPLETE,
        id=id,
        now=now,
        block_number=block.number if block else None,
        block_number_is_current=block.is_current if block else None,
        judge_models=list(judge_models),
        last_correction_id=last_correction_id,
    )


def adopt_waiting(cycle_id: int) -> int:
    """Put the submissions without a cycle into this one and return how many there were."""
    return execute(_ADOPT, cycle_id=cycle_id)


def has_open_submissions(cycle_id: int, carried_over: bool = True) -> bool:
    """Whether any is open; without `carried_over` only of those that were in no cycle before."""
    return fetch_value(_HAS_OPEN, cycle_id=cycle_id, carried_over=carried_over)


def find_first_awaited() -> int | None:
    """The id of the submission that was submitted first of those that cycles wait for, whichever theirs."""
    return fetch_value(_FIND_FIRST_AWAITED, most_faults=FAULTS_AWAITED)


def find_first_open(held_seconds: float) -> int | None:
    """The id of the open submission, of whichever cycle, that was submitted first.

    One that has been held for longer than `held_seconds` does not count.
    """
    return fetch_value(_FIND_FIRST_OPEN, held_seconds=held_seconds)


def find_last_submitted(cycle_id: int) -> int | None:
    """The id of the cycle's submission that was submitted last."""
    return fetch_value(_FIND_LAST_SUBMITTED, cycle_id=cycle_id)


def carry_over(cycle_id: int) -> int:
    """Move the open submissions to the ACTIVE cycle, or to none if there is none; return how many."""
    return execute(_CARRY_OVER, cycle_id=cycle_id)


def find_hold(cycle_id: int) -> Hold | None:
    return fetch_one(Hold, _FIND_HOLD, cycle_id=cycle_id)


def find_current_hold() -> Hold | None:
    """The hold of the oldest cycle that waits for a person's approval."""
    return fetch_one(Hold, _FIND_CURRENT_HOLD)


def hold(cycle_id: int, reason: str) -> None:
    """Hold a cycle, or bring the reason up to date, unless a person has approved it."""
    execute(_HOLD, cycle_id=cycle_id, reason=reason)


def delete_hold(cycle_id: int) -> None:
    """Forget a hold that nobody has approved."""
    execute(_DELETE_HOLD, cycle_id=cycle_id)


def approve(cycle_id: int, reason: str, by: str) -> bool:
    """False if the cycle is not held."""
    return bool(execute(_APPROVE, cycle_id=cycle_id, reason=reason, by=by))
