"""What is read of a backend, or of its mirror, to check a cycle."""

import tempfile
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from functools import partial
from typing import BinaryIO

from app.audit.block import Sample
from app.audit.chain import TwoLedgers, read_head
from app.audit.difference import Difference
from app.audit.ledger import Audited
from app.audit.memory import Memory
from app.audit.samples import check_sample, choose, draw
from app.audit.service import Verified, verify_ledger
from app.clients.http import CHUNK_BYTES
from app.clients.published import Malformed, Published, read_weights
from app.clients.sites import LeadsElsewhere, NoAnswer, NotAsPublished, NotThere, Site
from app.proofs.lines import write_time
from app.proofs.receipts import Receipt

MAX_HEAD_BYTES = 64 * 1024
# Of a packed ledger. A submission takes some 230 bytes, and each correction at most 9 KiB.
MAX_LEDGER_BYTES = 4 * 1024**3
MAX_BYTES_PER_LINE = 4096
SPARE_BYTES = 16 * 1024**2
LEDGER_SECONDS = 3600.0


@dataclass(frozen=True)
class Remote:
    """Where the ledgers of a backend are read: at `site`. If `other` is given too, it must say the same.

    `keys` are those of the backend. Once it has any, receipts must be signed by one of them. Without any,
    nothing at a mirror is believed.
    """

    site: Site
    other: Site | None = None
    keys: tuple[str, ...] = ()

    def verify(self, memory: Memory, cycle: int) -> Verified:
        """Download the ledger of a cycle and check it.

        Raises NoAnswer, NotThere, NotAsPublished, LeadsElsewhere, Malformed, Difference or TwoLedgers.
        """
        head = self.read_head(self.site, cycle)
        self._compare(head)
        most = min(head.lines * MAX_BYTES_PER_LINE + SPARE_BYTES, MAX_LEDGER_BYTES)
        with tempfile.TemporaryFile() as file:
            path = self.site.paths.ledger.format(cycle)
            self.site.download(path, file, most, LEDGER_SECONDS)
            file.seek(0)
            ask = partial(self.read_head, self.site)
            # a mirror has ledgers alone
            wanted = frozenset() if self.site.is_mirror else draw(head.lines)
            verified = verify_ledger(read_chunks(file), memory, ask, wanted)
        if verified.ledger.cycle.cycle_id != cycle:
            raise Difference(1, "cycle_id", cycle, verified.ledger.cycle.cycle_id)
        samples = choose(verified.ledger.samples)
        return replace(verified, drawn=len(samples), compared=self._compare_samples(samples, head))

    def check_weights(self, published: Published, ledger: Audited) -> None:
        """Check that weights are those of their ledger, and that the other site has no others.

        Raises Difference.
        """
        check_published(published, ledger)
        if self.other is None:
            return
        try:
            theirs = read_weights(self.other, published.cycle_id, self.keys)
        except (LeadsElsewhere, Malformed, NoAnswer, NotThere):
            # as in _compare()
            return
        check_published(theirs, ledger, f"as it stands at the {self.other.name}")

    def _compare_samples(self, samples: Sequence[Sample], head: Receipt) -> int:
        """Compare what the backend says of single submissions with its ledger; return of how many."""
        for compared, sample in enumerate(samples):
            try:
                check_sample(self.site, sample, head)
            except NotAsPublished:
                raise
            except NoAnswer:
                # the ledger is right; for one answer that is late the weights are not held up
                return compared
        return len(samples)

    def read_head(self, site: Site, cycle: int) -> Receipt:
        """Return the receipt of the first line of a cycle's ledger."""
        content = site.read(site.paths.head.format(cycle), MAX_HEAD_BYTES)
        try:
            receipt = read_head(content, cycle)
        except ValueError as error:
            raise Malformed(f"{site.called} gives no sound receipt for cycle {cycle}. {error}") from error
        if (site.is_mirror or self.keys) and receipt.key not in self.keys:
            raise Malformed(
                f"{site.called} gives a receipt for cycle {cycle} that none of the backend's keys has signed."
            )
        return receipt

    def _compare(self, head: Receipt) -> None:
        """Compare with what the other site says, if it says anything that counts."""
        if self.other is None:
            return
        try:
            theirs = self.read_head(self.other, head.cycle_id)
        except (LeadsElsewhere, Malformed, NoAnswer, NotThere):
            # whoever owns the mirror must not stop those who read the backend
            return
        if theirs.root != head.root:
            raise TwoLedgers(head.cycle_id, theirs.root, head.root, f"at the {self.site.name}")


def read_chunks(file: BinaryIO) -> Iterator[bytes]:
    while chunk := file.read(CHUNK_BYTES):
        yield chunk


def check_published(published: Published, ledger: Audited, where: str = "as it is published") -> None:
    """Check that the published weights are those of the ledger. Raises Difference."""
    cycle = ledger.cycle
    units = {weight.uid: weight.weight_u16 for weight in ledger.weights if weight.weight_u16}
    given = published.weights_u16
    pairs: list[tuple[str, object, object]] = [
        ("cycle_id", cycle.cycle_id, published.cycle_id),
        ("created_at", cycle.completed_at, write_time(published.created_at)),
        ("block_number", cycle.block_number, published.block_number),
        ("ledger_root", ledger.root, published.ledger_root),
        ("ledger_lines", ledger.lines, published.ledger_lines),
        ("weights_u16.uids", [*units], given.uids),
        ("weights_u16.weights", [*units.values()], given.weights),
    ]
    weights = {weight.uid: weight.weight for weight in ledger.weights}
    for uid in sorted(weights.keys() | published.weights.keys()):
        pairs.append((f"the weight of uid {uid}", weights.get(uid), published.weights.get(uid)))
    for uid in sorted(ledger.hotkeys.keys() | published.hotkeys.keys()):
        pairs.append((f"the hotkey of uid {uid}", ledger.hotkeys.get(uid), published.hotkeys.get(uid)))
    for name, expected, found in pairs:
        if expected != found:
            raise Difference(None, f"{name}, {where}", expected, found)
