"""The rules of cycles: the tick that drives them, and what an operator can do by hand.

Every change is made under one advisory lock, in one transaction a step: ticks that are late, doubled or
run at the same time change nothing that one tick would not.
"""

from datetime import datetime, timedelta

import structlog

from app.clients.chain import Chain
from app.config import Settings
from app.cycles import queries
from app.cycles.states import Cycle, Step, next_step
from app.db import db
from app.errors import Conflict
from app.metagraph import service as metagraph
from app.metagraph.models import Block
from app.weights import service as weights

log = structlog.get_logger(__name__)


def tick(settings: Settings, chain: Chain, now: datetime | None = None) -> None:
    """Do what is due at `now` (by default the database's time), and leave if another tick is at it.

    Closes the ACTIVE cycle when its time is up and starts the next in the same transaction, gives
    submissions that wait without a cycle to the ACTIVE one, takes a metagraph snapshot, and completes the
    EVALUATING cycles whose work is done or overdue, oldest first, each in a transaction of its own.
    """
    if not queries.try_lock_cycles():
        db.session.rollback()
        return
    moment = now or queries.clock()
    active = queries.find_active()
    if active is not None and next_step(active, True, moment, _deadline(settings)) == Step.CLOSE:
        _close(active, moment)
        active = None
    if active is None and settings.auto_start_cycles:
        active = _start(settings, moment)
    if active is not None:
        _adopt_waiting(active.id)
    _, step = _oldest_evaluating(settings, moment)
    db.session.commit()

    block = metagraph.refresh(settings, chain, moment, needs_block=step != Step.WAIT)
    while _complete_oldest(settings, block, now):
        pass


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


def _deadline(settings: Settings) -> timedelta:
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


def _oldest_evaluating(settings: Settings, now: datetime) -> tuple[Cycle | None, Step]:
    cycle = queries.find_oldest_evaluating()
    if cycle is None:
        return None, Step.WAIT
    return cycle, next_step(cycle, queries.has_open_submissions(cycle.id), now, _deadline(settings))


def _complete_oldest(settings: Settings, block: Block | None, now: datetime | None) -> bool:
    """Complete the oldest EVALUATING cycle, or first carry over what is open of it.

    Returns whether there may be more to do: False if none is ready or another tick is at it.
    """
    locked = queries.try_lock_cycles()
    moment = now or queries.clock()
    cycle, step = _oldest_evaluating(settings, moment) if locked else (None, Step.WAIT)
    if cycle is None or step == Step.WAIT:
        db.session.rollback()
        return False
    if settings.netuid is not None:
        taken_at = metagraph.find_snapshot_time(settings.netuid)
        if taken_at is None:
            db.session.rollback()
            log.warning("cycle_waits_for_metagraph", cycle_id=cycle.id, netuid=settings.netuid)
            return False
        if moment > taken_at + 2 * metagraph.SNAPSHOT_EVERY:
            log.warning("metagraph_is_old", cycle_id=cycle.id, taken_at=taken_at.isoformat())
    # a very large cycle takes longer than a statement of a web request may
    queries.lift_statement_timeout()
    if step == Step.CARRY_OVER:
        carried = queries.carry_over(cycle.id)
        # at once, for these rows take no result while they are locked
        db.session.commit()
        log.info("carried_over", cycle_id=cycle.id, submissions=carried)
        return True
    miners, uids = weights.record(cycle.id, check_registration=settings.netuid is not None)
    queries.complete_cycle(cycle.id, moment, block, weights.list_judge_models(cycle))
    db.session.commit()
    log.info("cycle_completed", cycle_id=cycle.id, miners=miners, weights=uids)
    return True
