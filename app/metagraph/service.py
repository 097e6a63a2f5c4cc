"""When the chain is asked, and what is kept of its answers."""

from datetime import datetime, timedelta

import structlog

from app.clients.chain import Chain, ChainError, Reading
from app.config import Settings
from app.db import db
from app.metagraph import queries
from app.metagraph.models import Block, ChainState

log = structlog.get_logger(__name__)

SNAPSHOT_EVERY = timedelta(minutes=10)
RETRY_EVERY = timedelta(minutes=1)


def refresh(settings: Settings, chain: Chain, now: datetime, needs_block: bool) -> Block | None:
    """Ask the chain for what is due and return the block number, or None if there never was one.

    `needs_block`: a cycle is about to complete, so the block is due. If NETUID is set, the metagraph is due
    every 10 minutes, a minute after a failed attempt, or at once with `needs_block`. An unreachable chain is
    only logged. No transaction is open while the chain is asked.
    """
    state = queries.find_state()
    needs_metagraph = settings.netuid is not None and _is_due(state, settings.netuid, now, needs_block)
    if needs_metagraph:
        queries.record_try(now)
    db.session.commit()
    reading = _read(chain, settings.netuid) if needs_metagraph else None
    # without any snapshot no cycle completes, so that no block is needed either
    can_complete = settings.netuid is None or _taken_at(state, settings.netuid) is not None
    if reading is None and needs_block and can_complete:
        reading = _read(chain, None)
    if reading is None:
        if state is None or state.block_number is None:
            return None
        return Block(state.block_number, is_current=False)
    queries.record_block(reading.block_number, now)
    if settings.netuid is not None and reading.neurons is not None:
        queries.replace_neurons(settings.netuid, reading.neurons, now)
        log.info("metagraph_taken", netuid=settings.netuid, neurons=len(reading.neurons))
    db.session.commit()
    return Block(reading.block_number, is_current=True)


def _read(chain: Chain, netuid: int | None) -> Reading | None:
    try:
        return chain.read(netuid)
    except ChainError as error:
        log.warning("chain_unavailable", error=str(error))
        return None


def find_snapshot_time(netuid: int) -> datetime | None:
    """When the metagraph of this subnet was last read, or None if it never was."""
    return _taken_at(queries.find_state(), netuid)


def _taken_at(state: ChainState | None, netuid: int) -> datetime | None:
    return state.metagraph_snapshot_at if state and state.metagraph_netuid == netuid else None


def _is_due(state: ChainState | None, netuid: int, now: datetime, is_urgent: bool) -> bool:
    if state is None or state.metagraph_tried_at is None:
        return True
    taken_at = _taken_at(state, netuid)
    is_old = taken_at is None or now >= taken_at + SNAPSHOT_EVERY
    return is_old and (is_urgent or now >= state.metagraph_tried_at + RETRY_EVERY)
