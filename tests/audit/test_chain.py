"""The chain of roots: what a verifier kept fixes all that came before."""

import random

import pytest

from app.audit.chain import TwoLedgers, read_head
from app.audit.difference import Difference
from app.audit.memory import Memory, MemoryInUse, UnusableMemory
from app.audit.service import verify_ledger
from app.proofs.merkle import inclusion_proof, leaf_hash, root_of
from app.proofs.receipts import FORMAT, Receipt
from tests.audit.books import Books, edit


@pytest.fixture
def memory(tmp_path):
    return Memory(tmp_path / "memory")


@pytest.fixture
def ledgers():
    """Cycles 1 to 6."""
    books = Books(random.Random(1))
    return {cycle: books.write(3, late=2) for cycle in range(1, 7)}


def head_of(ledger, cycle):
    """The receipt of the first line of a ledger."""
    lines = ledger.splitlines()
    leaves = [leaf_hash(line) for line in lines]
    receipt = Receipt(
        format=FORMAT,
        cycle_id=cycle,
        root=root_of(leaves).hex(),
        lines=len(lines),
        index=0,
        proof=[node.hex() for node in inclusion_proof(leaves, 0)],
        line=lines[0].decode(),
        key=None,
        signed_at=None,
        signature=None,
    )
    return read_head(receipt.encode(), cycle)


def asker(ledgers):
    asked = []

    def ask(cycle):
        asked.append(cycle)
        return head_of(ledgers[cycle], cycle)

    ask.asked = asked
    return ask


def test_what_lies_between_is_asked_once(memory, ledgers):
    ask = asker(ledgers)
    assert verify_ledger([ledgers[1]], memory, ask).linked.since is None
    verified = verify_ledger([ledgers[5]], memory, ask)
    assert (verified.linked.since, verified.linked.links) == (1, 3)
    assert ask.asked == [1, 5, 4, 3, 2]
    # an earlier cycle, whose root is known by now
    verify_ledger([ledgers[3]], memory, ask)
    assert ask.asked[5:] == [3]


@pytest.mark.parametrize("changed", [1, 2, 4])
def test_a_history_that_was_rewritten(memory, ledgers, changed):
    """Each ledger fits the one before it, but not the one that was seen."""
    verify_ledger([ledgers[changed]], memory, None)
    others, books = {}, Books(random.Random(99))
    for cycle in ledgers:
        others[cycle] = books.write(3)
    with pytest.raises(TwoLedgers, match=f"for cycle {changed}"):
        verify_ledger([others[6]], memory, asker(others))
    # nor does the true one go together with a wrong answer in between
    with pytest.raises(TwoLedgers, match="for cycle 5"):
        verify_ledger([ledgers[6]], memory, asker(ledgers | {5: others[5]}))
    assert verify_ledger([ledgers[6]], memory, asker(ledgers)).linked.since == changed


def test_a_chain_that_leaves_out_what_was_seen(memory, ledgers):
    verify_ledger([ledgers[4]], memory, None)
    skipping = edit(ledgers[6], 1, previous_cycle_id=3, previous_root="ab" * 32)
    with pytest.raises(Difference, match=r"The chain before cycle 6: expected cycle 4 .*, found cycle 3"):
        verify_ledger([skipping], memory, None)
    first = edit(ledgers[6], 1, previous_cycle_id=None, previous_root=None)
    with pytest.raises(Difference, match="found cycle None"):
        verify_ledger([first], memory, None)


def test_another_root_than_the_backend_names(memory, ledgers):
    with pytest.raises(Difference, match="The ledger: expected the root "):
        verify_ledger([ledgers[2]], memory, lambda cycle: head_of(edit(ledgers[2], 1, netuid=6), 2))
    assert verify_ledger([ledgers[2]], memory, asker(ledgers)).linked.since is None


def test_one_verifier_at_a_time(memory, ledgers, tmp_path):
    with memory.transaction(), pytest.raises(MemoryInUse, match="Another verifier uses"):
        Memory(tmp_path / "memory")
    verify_ledger([ledgers[1]], Memory(tmp_path / "memory"), None)


def test_a_memory_in_a_place_that_cannot_be_used(tmp_path):
    (tmp_path / "file").touch()
    with pytest.raises(UnusableMemory, match="cannot be used"):
        Memory(tmp_path / "file" / "memory")
    with pytest.raises(UnusableMemory, match="cannot be used"):
        Memory(tmp_path)


def test_read_only_remembers_nothing(ledgers, tmp_path):
    verify_ledger([ledgers[1]], Memory(tmp_path / "memory", read_only=True), None)
    assert Memory(tmp_path / "memory").find_ledger(1) is None
