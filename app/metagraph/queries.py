"""SQL on what the chain last told us."""

from collections.abc import Sequence
from datetime import datetime

from sqlalchemy import text

from app.clients.chain import Neuron
from app.db import execute, fetch_one
from app.metagraph.models import ChainState

_FIND_STATE = text("""
    SELECT block_number, metagraph_netuid, metagraph_snapshot_at, metagraph_tried_at FROM chain_state
""")
_RECORD_TRY = text("""
    INSERT INTO chain_state (metagraph_tried_at) VALUES (:now)
    ON CONFLICT (only_row) DO UPDATE SET metagraph_tried_at = :now
""")
_RECORD_BLOCK = text("""
    INSERT INTO chain_state (block_number, block_seen_at) VALUES (:block_number, :now)
    ON CONFLICT (only_row) DO UPDATE SET block_number = :block_number, block_seen_at = :now
""")
_DELETE_NEURONS = text("DELETE FROM metagraph")
_INSERT_NEURONS = text("""
    INSERT INTO metagraph (uid, hotkey, validator_permit)
    SELECT * FROM unnest(CAST(:uids AS integer[]), CAST(:hotkeys AS text[]), CAST(:permits AS boolean[]))
""")
_RECORD_SNAPSHOT = text("UPDATE chain_state SET metagraph_netuid = :netuid, metagraph_snapshot_at = :now")


def find_state() -> ChainState | None:
    return fetch_one(ChainState, _FIND_STATE)


def record_try(now: datetime) -> None:
    execute(_RECORD_TRY, now=now)


def record_block(block_number: int, now: datetime) -> None:
    execute(_RECORD_BLOCK, block_number=block_number, now=now)


def replace_neurons(netuid: int, neurons: Sequence[Neuron], now: datetime) -> None:
    """Make `neurons` the snapshot of the subnet; the row of record_block() must be there."""
    execute(_DELETE_NEURONS)
    execute(
        _INSERT_NEURONS,
        uids=[neuron.uid for neuron in neurons],
        hotkeys=[neuron.hotkey for neuron in neurons],
        permits=[neuron.validator_permit for neuron in neurons],
    )
    execute(_RECORD_SNAPSHOT, netuid=netuid, now=now)
