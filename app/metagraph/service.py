"""When the chain is asked, and what is kept of its answers."""

from datetime import datetime, timedelta

import structlog

from app.clients.chain import Chain, ChainError
from app.config import Settings
from app.db import db
from app.metagraph import queries
from app.metagraph.models import Block, ChainState

log = structlog.get_logger(__name__)

SNAPSHOT_EVERY = timedelta(minutes=10)
RETRY_EVERY = timedelta(minutes=1)


def refresh(settings: Settings, chain: Chain, now: datetime, needs_block: bool) -> Block | None:
    """Ask the chain for what is due and return the block number, or None if there never was one.

    The metagraph is due every 10 minutes where NETUID is set (a minute after a failed try), the block if
    `needs_block`. An unreachable chain is logged, no more. No transaction is open while it is asked.
    """
    state = queries.find_state()
    needs_metagraph = settings.netuid is not None and _is_due(state, settings.netuid, now)
    if needs_metagraph:
        queries.record_try(now)
    db.session.commit()
    if needs_metagraph or needs_block:
        try:
            reading = chain.read(settings.netuid if needs_metagraph else None)
        except ChainError as error:
            log.warning("chain_unavailable", error=str(error))
        else:
            queries.record_block(reading.block_number, now)
            if settings.netuid is not None and reading.neurons is not None:
                queries.replace_neurons(settings.netuid, reading.neurons, now)
                log.info("metagraph_taken", netuid=settings.netuid, neurons=len(reading.neurons))
            db.session.commit()
            return Block(reading.block_number, is_current=True)
    if state is None or state.block_number is None:
        return None
    return Block(state.block_number, is_current=False)


def has_snapshot(netuid: int) -> bool:
    """Whether the metagraph of this subnet has ever been taken."""
    state = queries.find_state()
    return state is not None and state.metagraph_netuid == netuid


def _is_due(state: ChainState | None, netuid: int, now: datetime) -> bool:
    if state is None or state.metagraph_tried_at is None:
        return True
    if state.metagraph_netuid != netuid or state.metagraph_snapshot_at is None:
        return now >= state.metagraph_tried_at + RETRY_EVERY
    return (
        now >= state.metagraph_snapshot_at + SNAPSHOT_EVERY and now >= state.metagraph_tried_at + RETRY_EVERY
    )
