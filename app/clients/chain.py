"""The Bittensor chain.

The SDK is imported only here and only when the chain is asked: it costs a third of a second and 56 MB that
the web process is spared. Each call opens a connection of its own and closes it: the SDK's connections
survive no fork.
"""

import asyncio
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

READ_TIMEOUT_SECONDS = 8


class ChainError(Exception):
    """The chain could not be asked or refused; the message is a sentence about why."""


@dataclass(frozen=True)
class Neuron:
    uid: int
    hotkey: str
    validator_permit: bool
    # block at which it last set weights
    last_update: int


@dataclass(frozen=True)
class Reading:
    """The block number, and the subnet's neurons if they were asked for."""

    block_number: int
    neurons: Sequence[Neuron] | None


class Chain:
    """The chain at `network`: a name like `finney`, or a ws:// or wss:// address. Keeps nothing open."""

    def __init__(self, network: str):
        self.network = network

    def read(self, netuid: int | None = None) -> Reading:
        """Read the current block and, with `netuid`, the subnet's neurons; give up after 8 seconds.

        Raises ChainError if the chain is out of reach or has no such subnet.
        """
        import bittensor

        async def ask() -> Reading:
            async with bittensor.Subtensor(self.network) as client:
                block_number = await client.block()
                if netuid is None:
                    return Reading(block_number, None)
                metagraph = await client.subnets.metagraph(netuid)
                if metagraph is None:
                    raise ChainError(f"There is no subnet {netuid} on {self.network}.")
                return Reading(block_number, [_neuron(neuron) for neuron in metagraph])

        try:
            return asyncio.run(asyncio.wait_for(ask(), READ_TIMEOUT_SECONDS))
        except TimeoutError:
            raise ChainError(f"{self.network} did not answer within {READ_TIMEOUT_SECONDS} s.") from None
        except (bittensor.BittensorError, OSError, ValueError) as error:
            raise ChainError(f"{self.network} is out of reach: {error}") from error


def _neuron(neuron: Any) -> Neuron:
    return Neuron(neuron.uid, neuron.hotkey, neuron.validator_permit, neuron.last_update)
