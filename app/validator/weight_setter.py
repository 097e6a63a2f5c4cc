"""The decision of a validator at each poll: set the published weights, wait, or refuse them."""

import re
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

from bittensor_core import Keypair

from app.audit.chain import TwoLedgers
from app.audit.difference import Difference
from app.audit.memory import Memory, MemoryInUse
from app.audit.remote import Remote
from app.clients.chain import Chain, ChainError, Extrinsic, OutcomeUnknown
from app.clients.published import (
    Malformed,
    Published,
    Units,
    find_fault,
    find_unknown_uids,
    list_replaced_uids,
    read_keys,
    read_weights,
)
from app.clients.sites import LeadsElsewhere, NoAnswer, NotThere, Site
from app.validator.memory import Attempt, MemoryFile
from app.validator.record import Entry, Record


class WrongWallet(Exception):
    """The wallet can never set weights on this subnet; the message is a sentence about why."""


@dataclass(frozen=True)
class Poll:
    """What a poll decided, and why. `settled`: the published weights are set on the chain.

    `site` is where the weights came from: `backend` or `mirror`.
    """

    name: str
    detail: str
    settled: bool = False
    cycle_id: int | None = None
    site: str | None = None


def _utc_now() -> datetime:
    return datetime.now(UTC)


@dataclass
class WeightSetter:
    """Sets the weights that a backend publishes, once for each cycle: the body of `kibotos validate`.

    `directory` is where it remembers what it has set.
    """

    backend_url: str
    chain: Chain
    netuid: int
    hotkey: Keypair
    directory: Path
    max_age: timedelta
    dry_run: bool = False
    # for the whole answer, however slowly it comes
    backend_seconds: float = 30.0
    # read while the backend gives no answer
    mirror_url: str | None = None
    # set nothing that does not follow from its ledger
    verify: bool = False
    # told of each attempt to set weights, and of its outcome
    record: Record | None = None
    clock: Callable[[], datetime] = _utc_now
    _file: MemoryFile = field(init=False)
    _backend: Site = field(init=False)
    _mirror: Site | None = field(init=False, default=None)
    _ledgers: Memory | None = field(init=False, default=None)
    # what was verified last, by time and root, and the decision if it was found wrong
    _verified: tuple[datetime, str] | None = field(init=False, default=None)
    _verdict: Poll | None = field(init=False, default=None)

    def __post_init__(self) -> None:
        network = re.sub(r"\W+", "-", self.chain.network)
        file = self.directory / f"{network}-{self.netuid}-{self.address}.json"
        self._file = MemoryFile(file, read_only=self.dry_run)
        self._backend = Site.backend(self.backend_url, self.backend_seconds)
        if self.mirror_url:
            self._mirror = Site.mirror(self.mirror_url, self.backend_seconds)
        if self.verify:
            self._ledgers = Memory(file.with_suffix(".ledgers.sqlite3"), read_only=self.dry_run)

    @property
    def address(self) -> str:
        """The hotkey's."""
        return self.hotkey.ss58_address

    def step(self) -> Poll:
        """Poll once, act, and return the decision. Raises WrongWallet if polling again would not help."""
        keys = self._file.memory.keys
        site, why = self._backend, ""
        try:
            published = read_weights(site, None, keys)
        except NotThere:
            return Poll("no_weights_yet", "The backend has not computed any weights yet.")
        except (LeadsElsewhere, Malformed) as error:
            return Poll("refused", str(error), site=site.name)
        except NoAnswer as error:
            if self._mirror is None:
                return Poll("backend_unavailable", str(error))
            site, why = self._mirror, f"{error} The mirror was read instead. "
            try:
                published = read_weights(site, None, keys)
            except (NoAnswer, NotThere) as no_mirror:
                return Poll("backend_unavailable", f"{error} {no_mirror}")
            except (LeadsElsewhere, Malformed) as fault:
                return Poll("refused", why + str(fault), site=site.name)
            why += f"Its weights were computed {self.clock() - published.created_at} ago. "
        decision = self._decide(published, site)
        return replace(decision, detail=why + decision.detail, cycle_id=published.cycle_id, site=site.name)

    def _decide(self, published: Published, site: Site) -> Poll:
        if site is self._backend and self._mirror:
            self._learn_keys(published)
        memory = self._file.memory
        if published.created_at == memory.created_at:
            return Poll("already_set", "The weights of this cycle are set.", settled=True)
        if fault := find_fault(published, self.clock(), self.max_age):
            return Poll("refused", fault)
        if memory.created_at and published.created_at < memory.created_at:
            return Poll("refused", f"Weights of {memory.created_at} were set before; these are older.")
        if self._ledgers and (unverified := self._verify(self._ledgers, published, site)):
            return unverified
        try:
            reading = self.chain.read(self.netuid)
        except ChainError as error:
            return Poll("chain_unavailable", str(error))
        neurons = {neuron.uid: neuron for neuron in reading.neurons or ()}
        me = next((neuron for neuron in neurons.values() if neuron.hotkey == self.address), None)
        if me is None:
            raise WrongWallet(f"The hotkey {self.address} is not registered on subnet {self.netuid}.")
        if fault := find_unknown_uids(published, neurons):
            return Poll("refused", fault)
        attempt = memory.attempt
        if attempt and attempt.created_at == published.created_at and me.last_update > attempt.last_update:
            return self._settle(published, f"The submission had arrived at block {me.last_update}.")
        if not me.validator_permit:
            return Poll("no_permit", f"The hotkey {self.address} holds no validator permit at the moment.")
        replaced = list_replaced_uids(published, {uid: neuron.hotkey for uid, neuron in neurons.items()})
        weights = {uid: weight for uid, weight in published.weights.items() if uid not in replaced}
        if not weights:
            return Poll("refused", f"Other hotkeys now hold all weighted uids: {replaced[:20]}.")
        what = f"{weights}" if self.dry_run else f"the weights of {len(weights)} uids"
        if replaced:
            what += f", without uids that other hotkeys now hold: {replaced[:20]}"
        if self.dry_run:
            return Poll("dry_run", f"Would set {what}.")
        return self._send(published, weights, me.last_update, what)

    def _learn_keys(self, published: Published) -> None:
        """Remember the backend's keys, once for each cycle: what they signed may come from the mirror."""
        if published.created_at == self._file.memory.created_at and self._file.memory.keys:
            return
        # without an answer those from before stay
        with suppress(NoAnswer):
            keys = read_keys(self._backend)
            if keys and list(keys) != self._file.memory.keys:
                self._remember(keys=list(keys))

    def _verify(self, ledgers: Memory, published: Published, site: Site) -> Poll | None:
        """Check the ledger that the weights follow from; return why they are not set, or None.

        An answer that was checked is not checked again at the next poll.
        """
        if published.ledger_root is None:
            return Poll(
                "refused", f"Cycle {published.cycle_id} has no ledger, so its weights cannot be verified."
            )
        what = published.created_at, published.model_dump_json()
        if what != self._verified:
            other = self._mirror if site is self._backend else None
            remote = Remote(site, other, tuple(self._file.memory.keys))
            try:
                remote.check_weights(published, remote.verify(ledgers, published.cycle_id).ledger)
                self._verdict = None
            except (NoAnswer, NotThere, MemoryInUse) as error:
                return Poll("ledger_unavailable", f"The ledger cannot be checked now. {error}")
            except (Difference, LeadsElsewhere, Malformed, TwoLedgers) as error:
                self._verdict = Poll("refused", f"The weights are not those of their ledger. {error}")
            self._verified = what
        return self._verdict

    def _send(self, published: Published, weights: dict[int, float], last_update: int, what: str) -> Poll:
        before = self._file.memory
        # remembered before anything is sent, so that a crash in the middle is an unknown outcome, too
        attempt = Attempt(created_at=published.created_at, last_update=last_update)
        self._remember(attempt=attempt)
        self._tell(published, "sending", f"About to set {what}.", published.weights_u16.only(weights))
        try:
            extrinsic = self.chain.set_weights(self.netuid, weights, self.hotkey)
        except OutcomeUnknown as error:
            self._tell(published, "outcome_unknown", str(error))
            return Poll("outcome_unknown", str(error))
        except ChainError as error:
            # otherwise weights of an earlier attempt or of another tool would pass for these
            self._file.save(before)
            self._tell(published, "not_set", str(error))
            return Poll("not_set", str(error))
        return self._settle(published, f"Set {what}.", extrinsic)

    def _settle(self, published: Published, detail: str, extrinsic: Extrinsic | None = None) -> Poll:
        # told before it is remembered: so it is told, whenever the process is killed
        self._tell(published, "set", detail, extrinsic=extrinsic)
        self._remember(created_at=published.created_at, attempt=None)
        return Poll("set", detail, settled=True)

    def _tell(
        self,
        published: Published,
        event: str,
        detail: str,
        weights: Units | None = None,
        extrinsic: Extrinsic | None = None,
    ) -> None:
        if self.record:
            ids = self.netuid, self.address, published.cycle_id, published.created_at
            self.record(Entry(*ids, event, detail, weights, extrinsic))

    def _remember(self, **changes: Any) -> None:
        self._file.save(self._file.memory.model_copy(update=changes))
