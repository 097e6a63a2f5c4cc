"""The tick that drives cycles, and the completion of a cycle with its scores and weights.

It stands above cycles, weights and metagraph, which do not import each other. Each step is one transaction
under the lock on cycles, so late, doubled or simultaneous ticks change no more than one tick.
"""

from datetime import datetime

import structlog

from app.clients.chain import Chain
from app.config import Settings
from app.cycles import queries
from app.cycles import service as cycles
from app.cycles.states import Step
from app.db import db
from app.duplicates import queries as duplicates
from app.gold import service as gold
from app.ledger import service as ledger
from app.ledger.contents import draft
from app.metagraph import service as metagraph
from app.metagraph.models import Block
from app.webhooks import service as webhooks
from app.webhooks.events import CycleCompleted, WeightsPublished
from app.weights import service as weights

log = structlog.get_logger(__name__)

# beyond every submission
NO_ID = 2**63 - 1


def tick(settings: Settings, chain: Chain, now: datetime | None = None) -> None:
    """Do what is due at `now` (by default the database's time), and leave if another tick is doing it.

    This advances the ACTIVE cycle, takes a metagraph snapshot, and completes the EVALUATING cycles whose work
    is done or overdue, the oldest first, each in a transaction of its own. If no cycle was ready at first,
    one that becomes ready meanwhile waits for the next tick, since this tick has not asked for the block.
    """
    if not queries.try_lock_cycles():
        db.session.rollback()
        return
    moment = now or queries.clock()
    cycles.advance(settings, moment)
    _, step = cycles.find_due(settings, moment)
    open_since = queries.find_first_open(held_seconds=settings.review_deadline_days * 86_400)
    duplicates.delete_full(before=open_since or NO_ID)
    db.session.commit()

    block = metagraph.refresh(settings, chain, moment, needs_block=step != Step.WAIT)
    while step != Step.WAIT and _complete_oldest(settings, block, now):
        pass


def _complete_oldest(settings: Settings, block: Block | None, now: datetime | None) -> bool:
    """Complete the oldest EVALUATING cycle, or first carry over its open submissions.

    Returns whether there may be more to do: False if no cycle is ready or another tick is doing it.
    """
    locked = queries.try_lock_cycles()
    moment = now or queries.clock()
    cycle, step = cycles.find_due(settings, moment) if locked else (None, Step.WAIT)
    if cycle is None or step == Step.WAIT:
        db.session.rollback()
        return False
    taken_at = None
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
    if _is_held(cycle.id, settings):
        return False
    drafted = draft(cycle.id)
    # From here to the commit corrections wait. So what takes long in a large cycle comes before.
    recorded = weights.record(cycle.id, check_registration=settings.netuid is not None)
    queries.complete_cycle(cycle.id, moment, block, recorded.judge_models, recorded.last_correction_id)
    ledger.record(cycle.id, settings.netuid, taken_at, drafted)
    block_number = block.number if block else None
    webhooks.record_cycle(cycle.id, CycleCompleted(block_number=block_number))
    if recorded.uids:
        webhooks.record_cycle(cycle.id, WeightsPublished(block_number=block_number))
    db.session.commit()
    log.info("cycle_completed", cycle_id=cycle.id, miners=recorded.miners, weights=recorded.uids)
    return True


def _is_held(cycle_id: int, settings: Settings) -> bool:
    """Whether the cycle waits since its judge is in doubt, and no person has approved it. Commits if so."""
    known = queries.find_hold(cycle_id)
    if known is not None and known.approved_at is not None:
        return False
    doubt = gold.find_doubt(cycle_id, settings)
    if doubt is None:
        queries.delete_hold(cycle_id)
        return False
    queries.hold(cycle_id, doubt)
    db.session.commit()
    if known is None:
        log.warning("cycle_held", cycle_id=cycle_id, reason=doubt)
    return True
