"""The decision of a validator at each poll: set the published weights, wait, or refuse them."""

import re
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

from pydantic import ValidationError

from app.clients.chain import Chain, ChainError, OutcomeUnknown
from app.clients.http import exchange, find_redirect, read_bounded
from app.clients.retry import RetryableError
from app.validator.memory import Attempt, Memory, MemoryFile
from app.validator.published import Published, find_fault, find_unknown_uids, list_replaced_uids

# weights, units and hotkeys of 65,536 uids
MAX_ANSWER_BYTES = 8 * 1024 * 1024


class WrongWallet(Exception):
    """The wallet can never set weights on this subnet; the message is a sentence about why."""


@dataclass(frozen=True)
class Poll:
    """What a poll decided, and why. `settled`: the published weights are set on the chain."""

    name: str
    detail: str
    settled: bool = False
    cycle_id: int | None = None


def _utc_now() -> datetime:
    return datetime.now(UTC)


@dataclass
class WeightSetter:
    """Sets the weights that a backend publishes, once for each cycle: the body of `kibotos validate`.

    `wallet` is the SDK's; `directory` is where it remembers what it has set.
    """

    backend_url: str
    chain: Chain
    netuid: int
    wallet: Any
    directory: Path
    max_age: timedelta
    dry_run: bool = False
    # for the whole answer, however slowly it comes
    backend_seconds: float = 30.0
    clock: Callable[[], datetime] = _utc_now
    _file: MemoryFile = field(init=False)

    def __post_init__(self) -> None:
        network = re.sub(r"\W+", "-", self.chain.network)
        file = self.directory / f"{network}-{self.netuid}-{self.hotkey}.json"
        self._file = MemoryFile(file, read_only=self.dry_run)

    @property
    def hotkey(self) -> str:
        return self.wallet.hotkey.ss58_address

    def step(self) -> Poll:
        """Poll once, act, and return the decision. Raises WrongWallet if polling again would not help."""
        deadline = time.monotonic() + self.backend_seconds
        try:
            with exchange("GET", f"{self.backend_url}/v1/weights/latest", deadline) as answer:
                content = read_bounded(answer, MAX_ANSWER_BYTES, deadline)
        except RetryableError as error:
            return Poll("backend_unavailable", f"The backend gave no answer: {error}.")
        if where := find_redirect(answer):
            return Poll(
                "refused",
                f"The backend redirects to {where}, and redirects are not followed. "
                "If you trust that address, name it by --backend-url.",
            )
        if answer.status_code == 404:
            return Poll("no_weights_yet", "The backend has not computed any weights yet.")
        if answer.status_code != 200:
            return Poll("backend_unavailable", f"The backend answered with status {answer.status_code}.")
        try:
            published = Published.model_validate_json(content)
        except ValidationError as error:
            first = error.errors()[0]
            return Poll("refused", f"The answer is malformed at {first['loc']}: {first['msg']}.")
        decision = self._decide(published)
        return Poll(decision.name, decision.detail, decision.settled, published.cycle_id)

    def _decide(self, published: Published) -> Poll:
        memory = self._file.memory
        if published.created_at == memory.created_at:
            return Poll("already_set", "The weights of this cycle are set.", settled=True)
        if fault := find_fault(published, self.clock(), self.max_age):
            return Poll("refused", fault)
        if memory.created_at and published.created_at < memory.created_at:
            return Poll("refused", f"Weights of {memory.created_at} were set before; these are older.")
        try:
            reading = self.chain.read(self.netuid)
        except ChainError as error:
            return Poll("chain_unavailable", str(error))
        neurons = {neuron.uid: neuron for neuron in reading.neurons or ()}
        me = next((neuron for neuron in neurons.values() if neuron.hotkey == self.hotkey), None)
        if me is None:
            raise WrongWallet(f"The hotkey {self.hotkey} is not registered on subnet {self.netuid}.")
        if fault := find_unknown_uids(published, neurons):
            return Poll("refused", fault)
        attempt = memory.attempt
        if attempt and attempt.created_at == published.created_at and me.last_update > attempt.last_update:
            self._file.save(Memory(created_at=published.created_at))
            return Poll("set", f"The submission had arrived at block {me.last_update}.", settled=True)
        if not me.validator_permit:
            return Poll("no_permit", f"The hotkey {self.hotkey} holds no validator permit at the moment.")
        replaced = list_replaced_uids(published, {uid: neuron.hotkey for uid, neuron in neurons.items()})
        weights = {uid: weight for uid, weight in published.weights.items() if uid not in replaced}
        if not weights:
            return Poll("refused", f"Other hotkeys now hold all weighted uids: {replaced[:20]}.")
        what = f"{weights}" if self.dry_run else f"the weights of {len(weights)} uids"
        if replaced:
            what += f", without uids that other hotkeys now hold: {replaced[:20]}"
        if self.dry_run:
            return Poll("dry_run", f"Would set {what}.")
        return self._send(published.created_at, weights, me.last_update, what)

    def _send(self, created_at: datetime, weights: dict[int, float], last_update: int, what: str) -> Poll:
        before = self._file.memory
        # remembered before anything is sent, so that a crash in the middle is an unknown outcome, too
        attempt = Attempt(created_at=created_at, last_update=last_update)
        self._file.save(Memory(created_at=before.created_at, attempt=attempt))
        try:
            self.chain.set_weights(self.netuid, weights, self.wallet)
        except OutcomeUnknown as error:
            return Poll("outcome_unknown", str(error))
        except ChainError as error:
            # otherwise weights of an earlier attempt or of another tool would pass for these
            self._file.save(before)
            return Poll("not_set", str(error))
        self._file.save(Memory(created_at=created_at))
        return Poll("set", f"Set {what}.", settled=True)
