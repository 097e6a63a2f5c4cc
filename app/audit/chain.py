"""The chain of roots: each ledger names the one before it, so a root that was kept fixes all before it."""

from collections.abc import Callable
from dataclasses import dataclass

from app.audit.difference import Difference
from app.audit.memory import Kept, Memory
from app.proofs.lines import CycleLine
from app.proofs.receipts import Receipt, read_receipt

# a year of cycles of an hour
MAX_LINKS = 10_000

# reads the receipt of a ledger's first line
ReadHead = Callable[[int], Receipt]


class TwoLedgers(Exception):
    """A backend has given two ledgers for one cycle; the message is a sentence."""

    def __init__(self, cycle: int, kept: str, found: str, where: str = "now"):
        super().__init__(
            f"There are two different ledgers for cycle {cycle}. The one that was seen before has the root "
            f"{kept}, the one {where} has {found}. The backend has changed what it had published: ask its "
            "operator why."
        )


@dataclass(frozen=True)
class Linked:
    """How a ledger is linked to the one that was kept before it: `since` its cycle, over `links` others."""

    since: int | None
    links: int


def read_head(text: bytes, cycle: int) -> Receipt:
    """Return the receipt of the first line of a cycle's ledger. Raises ValueError with a sentence."""
    receipt = read_receipt(text)
    if receipt.index != 0 or receipt.cycle_id != cycle or not isinstance(receipt.read_line(), CycleLine):
        raise ValueError(f"It is not the receipt of the first line of the ledger of cycle {cycle}.")
    return receipt


def link(memory: Memory, kept: Kept, ask: ReadHead | None) -> Linked:
    """Check that a ledger stands in the chain of those that were kept, and keep it.

    `ask` reads what lies between. Without it only direct neighbours are compared. Raises TwoLedgers, or
    Difference if the chain is broken.
    """
    known = memory.find_ledger(kept.cycle)
    if known and known.root != kept.root:
        raise TwoLedgers(kept.cycle, known.root, kept.root)
    before, after = memory.find_ledger_before(kept.cycle), memory.find_ledger_after(kept.cycle)
    linked = Linked(None, 0)
    if before:
        linked = _walk(memory, kept, before, ask)
    if after:
        _walk(memory, after, kept, ask)
    memory.keep_ledger(kept)
    return linked


def _walk(memory: Memory, later: Kept, earlier: Kept, ask: ReadHead | None) -> Linked:
    """Follow the roots from the later ledger back to the earlier one."""
    cycle, root = later.previous_cycle, later.previous_root
    links = 0
    while cycle is not None and cycle > earlier.cycle:
        if ask is None:
            return Linked(None, 0)
        if links == MAX_LINKS:
            expected = f"at most {MAX_LINKS} ledgers since cycle {earlier.cycle}, the last that was verified"
            raise Difference(None, "the chain of roots", expected, "more")
        head = ask(cycle)
        if head.root != root:
            raise TwoLedgers(cycle, str(root), head.root)
        line = head.read_line()
        assert isinstance(line, CycleLine)
        link = Kept(
            cycle, head.root, line.previous_cycle_id, line.previous_root, False, head.encode().decode()
        )
        memory.keep_ledger(link)
        cycle, root = line.previous_cycle_id, line.previous_root
        links += 1
    if cycle != earlier.cycle:
        expected = f"cycle {earlier.cycle} with root {earlier.root}, which was kept"
        raise Difference(None, f"the chain before cycle {later.cycle}", expected, f"cycle {cycle}")
    if root != earlier.root:
        raise TwoLedgers(earlier.cycle, earlier.root, str(root), f"that cycle {later.cycle} builds on")
    return Linked(earlier.cycle, links)
