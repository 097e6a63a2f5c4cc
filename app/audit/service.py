"""The whole check of a ledger: that it follows from itself, has the right root, and is in the chain."""

from collections.abc import Iterable
from dataclasses import dataclass

from app.audit.chain import Linked, ReadHead, link
from app.audit.difference import Difference
from app.audit.ledger import Audited, audit
from app.audit.lines import unpack
from app.audit.memory import Kept, Memory


@dataclass(frozen=True)
class Verified:
    """A ledger that was found right, and how it is linked to those that were verified before.

    Of `drawn` single submissions the backend was asked; of `compared` it says the same.
    """

    ledger: Audited
    linked: Linked
    drawn: int = 0
    compared: int = 0


def verify_ledger(
    chunks: Iterable[bytes], memory: Memory, ask: ReadHead | None, wanted: frozenset[int] = frozenset()
) -> Verified:
    """Check the bytes of a ledger, packed or not, and remember it. Nothing is remembered of a wrong one.

    `ask` reads what the backend says of the first lines of ledgers; None if it is not to be asked. `wanted`
    are numbers of lines to return as samples. Raises Difference, TwoLedgers, or what `ask` raises.
    """
    with memory.transaction():
        ledger = audit(unpack(chunks), memory, wanted=wanted)
        cycle = ledger.cycle
        head = ask(cycle.cycle_id) if ask else None
        kept = Kept(
            cycle=cycle.cycle_id,
            root=ledger.root,
            previous_cycle=cycle.previous_cycle_id,
            previous_root=cycle.previous_root,
            is_verified=True,
            head=head.encode().decode() if head else None,
        )
        # before the root is compared with the backend's word: two ledgers are the graver news
        linked = link(memory, kept, ask)
        if head and (head.root, head.lines) != (ledger.root, ledger.lines):
            expected = f"the root {head.root} over {head.lines} lines, as the backend says"
            raise Difference(None, "the ledger", expected, f"{ledger.root} over {ledger.lines} lines")
        return Verified(ledger, linked)
