"""What is remembered of the chain."""

from dataclasses import dataclass
from datetime import datetime


@dataclass(frozen=True)
class ChainState:
    """The last block seen, the subnet of the metagraph, and when it was last read and last tried."""

    block_number: int | None
    metagraph_netuid: int | None
    metagraph_snapshot_at: datetime | None
    metagraph_tried_at: datetime | None


@dataclass(frozen=True)
class Block:
    """The chain's block number; `is_current` is false for the last known one of an unreachable chain."""

    number: int
    is_current: bool
