"""The Bittensor chain.

The SDK is imported only here and only when the chain is asked: it costs a third of a second and 56 MB that
the web process is spared. Each call opens a connection of its own and closes it: the SDK's connections
survive no fork.
"""

import asyncio
from collections.abc import Coroutine, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, TypeVar

from bittensor_core import Keypair

# Finality takes half a minute; giving up early would not call the submission back.
SUBMIT_TIMEOUT_SECONDS = 300
# for a connection that is given up to be closed
CLOSE_SECONDS = 2

Result = TypeVar("Result")


class ChainError(Exception):
    """The chain is out of reach, or it refused. The message is a sentence that says why."""


class OutcomeUnknown(ChainError):
    """Weights were sent, but it is not known whether they arrived. Look on the chain before sending again."""


@dataclass(frozen=True)
class Neuron:
    uid: int
    hotkey: str
    validator_permit: bool
    # block at which it last set weights
    last_update: int
    # what is staked on it, in the subnet's own units
    stake: float = 0.0


@dataclass(frozen=True)
class Reading:
    """The block number, and the subnet's neurons if they were asked for."""

    block_number: int
    neurons: Sequence[Neuron] | None


@dataclass(frozen=True)
class Extrinsic:
    """Where the chain has what was submitted: block and index as `123-4`, and the hash of the block."""

    id: str | None
    block_hash: str | None


class Chain:
    """The chain at `network`: a name like `finney`, or a ws:// or wss:// address. Keeps nothing open."""

    def __init__(self, network: str, read_timeout_seconds: float = 8):
        self.network = network
        self._read_timeout_seconds = read_timeout_seconds

    def addresses(self) -> list[str]:
        """The ws:// and wss:// addresses at which the SDK looks for the chain. Empty for an unknown name."""
        from bittensor.settings import default_fallback_endpoints, resolve_endpoint

        try:
            _, primary = resolve_endpoint(self.network)
        except ValueError:
            return []
        return [primary, *default_fallback_endpoints(self.network)]

    def read(self, netuid: int | None = None) -> Reading:
        """Read the current block and, with `netuid`, the subnet's neurons; give up when the time is over.

        Raises ChainError if the chain is out of reach or has no such subnet, or none with neurons.
        """
        import bittensor

        async def ask() -> Reading:
            async with bittensor.Subtensor(self.network) as client:
                block_number = await client.block()
                if netuid is None:
                    return Reading(block_number, None)
                # what neurons have committed to is read by two more requests, and nobody asks for it
                metagraph = await client.subnets.metagraph(netuid, commitments=False)
                if metagraph is None:
                    raise ChainError(f"There is no subnet {netuid} on {self.network}.")
                neurons = [_neuron(neuron) for neuron in metagraph]
                if not neurons:
                    # it would take every miner's weight away
                    raise ChainError(f"{self.network} lists no neuron of subnet {netuid}.")
                return Reading(block_number, neurons)

        return self._answer(ask())

    def read_rate_limit(self, netuid: int) -> int:
        """Read how many blocks must lie between two settings of weights. Raises ChainError like read()."""
        import bittensor

        async def ask() -> int:
            async with bittensor.Subtensor(self.network) as client:
                item = ("SubtensorModule", "WeightsSetRateLimit")
                return int(await client.query(item, [netuid]) or 0)

        return self._answer(ask())

    def _answer(self, question: Coroutine[Any, Any, Result]) -> Result:
        import bittensor

        try:
            return _run(question, self._read_timeout_seconds)
        except TimeoutError:
            raise ChainError(
                f"{self.network} did not answer within {self._read_timeout_seconds:g} s."
            ) from None
        except (bittensor.BittensorError, OSError, ValueError) as error:
            raise ChainError(f"{self.network} is out of reach: {error}") from error

    def set_weights(self, netuid: int, weights: Mapping[int, float], hotkey: Keypair) -> Extrinsic:
        """Set {uid: weight} on the subnet, signed by `hotkey`, and wait until it is final.

        Return where it is. The weights are relative to each other. Raises ChainError if nothing was set (not
        registered, too soon after the last time, …) and OutcomeUnknown if it may have been.
        """
        import bittensor

        async def submit() -> Any:
            async with bittensor.Subtensor(self.network) as client:
                return await client.execute(bittensor.SetWeights(netuid=netuid, weights=weights), hotkey)

        try:
            result = _run(submit(), SUBMIT_TIMEOUT_SECONDS)
        except bittensor.ChainError as error:
            raise _refusal(error) from error
        except (bittensor.BittensorError, TimeoutError, OSError, ValueError) as error:
            raise OutcomeUnknown(f"The submission failed on the way: {error}") from error
        if not result.success:
            raise _refusal(result.error)
        return Extrinsic(result.extrinsic_id, result.block_hash)


def _run(coroutine: Coroutine[Any, Any, Result], seconds: float) -> Result:
    """Run `coroutine` on an event loop of its own and return its result; raise TimeoutError after `seconds`.

    Not by asyncio.run() and wait_for(), which wait for what they have cancelled, however long it takes: a
    session of the SDK that is cancelled while it opens goes on for ever. Such a one is left behind.
    """
    loop = asyncio.new_event_loop()
    task = loop.create_task(coroutine)
    try:
        loop.run_until_complete(asyncio.wait({task}, timeout=seconds))
        if not task.done():
            raise TimeoutError
        return task.result()
    finally:
        # first the task itself, which closes its connection; then whatever has not heeded that
        _cancel(loop, {task})
        _cancel(loop, asyncio.all_tasks(loop))
        loop.close()


def _cancel(loop: asyncio.AbstractEventLoop, tasks: set[asyncio.Task]) -> None:
    pending = {task for task in tasks if not task.done()}
    for task in pending:
        task.cancel()
    if pending:
        done, _ = loop.run_until_complete(asyncio.wait(pending, timeout=CLOSE_SECONDS))
        for task in done:
            # looked at, lest it be logged as never retrieved
            task.cancelled() or task.exception()


def _refusal(error: Any) -> ChainError:
    import bittensor

    if error.code == bittensor.ErrorCode.UNKNOWN:
        return OutcomeUnknown(f"The submission failed on the way: {error}")
    return ChainError(f"The chain refused the weights: {error}")


def _neuron(neuron: Any) -> Neuron:
    stake = neuron.total_stake.rao / 1e9
    return Neuron(neuron.uid, neuron.hotkey, neuron.validator_permit, neuron.last_update, stake)
