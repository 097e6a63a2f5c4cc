"""The rules of cycles: when one closes and the next starts, by the clock or by an operator's command.

Every change is one transaction under one advisory lock.
"""

from datetime import datetime, timedelta

import structlog

from app.config import Settings
from app.cycles import queries
from app.cycles.states import Cycle, Step, next_step
from app.db import db
from app.errors import Conflict

log = structlog.get_logger(__name__)


def advance(settings: Settings, now: datetime) -> None:
    """Do what is due at `now`. The caller holds the lock on cycles and commits.

    Closes the ACTIVE cycle when its time is over and starts the next one. Submissions that wait without a
    cycle join the ACTIVE cycle.
    """
    active = queries.find_active()
    if active is not None and next_step(active, now, deadline(settings)) == Step.CLOSE:
        _close(active, now)
        active = None
    if active is None and settings.auto_start_cycles:
        active = _start(settings, now)
    if active is not None:
        _adopt_waiting(active.id)


def start(settings: Settings) -> Cycle:
    """Start a cycle now and return it; raise Conflict if one is active."""
    queries.lock_cycles()
    active = queries.find_active()
    if active is not None:
        raise Conflict(
            f"Cycle {active.id} is active until {active.ends_at:%Y-%m-%d %H:%M:%S} UTC; close it first."
        )
    cycle = _start(settings, queries.clock())
    _adopt_waiting(cycle.id)
    db.session.commit()
    return cycle


def close(settings: Settings) -> Cycle:
    """Close the ACTIVE cycle before its time and return it; raise Conflict if there is none.

    With automatic start the next cycle starts in the same transaction.
    """
    queries.lock_cycles()
    active = queries.find_active()
    if active is None:
        raise Conflict("No cycle is active; start one first.")
    now = queries.clock()
    _close(active, now)
    if settings.auto_start_cycles:
        _start(settings, now)
    db.session.commit()
    return active


def approve(cycle_id: int, reason: str, by: str) -> None:
    """Let a held cycle complete all the same; raise Conflict if it is not held."""
    if not queries.approve(cycle_id, reason, by):
        raise Conflict(f"Cycle {cycle_id} is not held; kibotos cycles status shows which one is.")
    db.session.commit()
    log.warning("cycle_approved", cycle_id=cycle_id, by=by, reason=reason)


def find_waiting_reason() -> str | None:
    """A sentence that says why a cycle waits for a person, and what to do; None if none does."""
    hold = queries.find_current_hold()
    if hold is None:
        return None
    return (
        f"Cycle {hold.cycle_id} is held: {hold.reason} To complete it all the same: "
        f"kibotos cycles approve {hold.cycle_id}"
    )


def find_due(settings: Settings, now: datetime) -> tuple[Cycle | None, Step]:
    """Return the oldest EVALUATING cycle and what it needs at `now`; WAIT if there is none."""
    cycle = queries.find_oldest_evaluating()
    if cycle is None:
        return None, Step.WAIT
    has_open = queries.has_open_submissions(cycle.id)
    waits = has_open and queries.has_open_submissions(cycle.id, carried_over=False)
    if not waits:
        # nobody knows the footage of an open one yet, so any that was submitted after it may be its copy
        first, last = queries.find_first_awaited(), queries.find_last_submitted(cycle.id)
        waits = first is not None and last is not None and first < last
    return cycle, next_step(cycle, now, deadline(settings), waits=waits, has_open=has_open)


def deadline(settings: Settings) -> timedelta:
    """How long after its close a cycle waits for open evaluations."""
    return timedelta(minutes=settings.evaluation_deadline_minutes)


def _start(settings: Settings, now: datetime) -> Cycle:
    id = queries.insert_cycle(now, now + timedelta(minutes=settings.cycle_duration_minutes))
    log.info("cycle_started", cycle_id=id, minutes=settings.cycle_duration_minutes)
    cycle = queries.find_cycle(id)
    assert cycle is not None
    return cycle


def _close(cycle: Cycle, now: datetime) -> None:
    queries.close_cycle(cycle.id, now)
    log.info("cycle_closed", cycle_id=cycle.id)


def _adopt_waiting(cycle_id: int) -> None:
    # so many may have waited that it takes longer than a statement of a web request may
    queries.lift_statement_timeout()
    if adopted := queries.adopt_waiting(cycle_id):
        log.info("submissions_adopted", cycle_id=cycle_id, submissions=adopted)
