"""The lines of a ledger from the database, in their order, and the tree over them in chunks.

The same rows give the same lines at any time. So a file that was lost can be written again, byte by byte, and
the proof of a line needs only the lines of its chunk.
"""

from collections.abc import Iterator
from itertools import chain, islice

from app.ledger import queries
from app.ledger.models import Basis, Ledger
from app.proofs.lines import EndLine, Line, encode
from app.proofs.merkle import leaf_hash, root_of

# Lines whose subtree has a stored root; a power of two. With fewer a receipt of a small cycle is cheaper, and
# one of a cycle of a million dearer: it needs the roots of all chunks.
CHUNK = 512
# submissions that are fetched at once when all are
PAGE = 2048


class Chunk:
    """Some lines of a ledger in a row. `first_id`: the first submission among them, None if there is none."""

    def __init__(self, entries: list[tuple[int | None, bytes]]):
        self.lines = [line for _, line in entries]
        self.leaves = [leaf_hash(line) for line in self.lines]
        self.root = root_of(self.leaves)
        self.ids = [id for id, _ in entries]
        self.first_id = next((id for id in self.ids if id is not None), None)


def read_chunks(cycle_id: int, basis: Basis) -> Iterator[Chunk]:
    """All lines of a completed cycle's ledger, CHUNK of them at a time."""
    entries = _read(cycle_id, basis, 0, 0, PAGE)
    while batch := list(islice(entries, CHUNK)):
        yield Chunk(batch)


def read_chunk(ledger: Ledger, number: int) -> Chunk:
    """One chunk of a recorded ledger. It begins the ledger or has a submission."""
    first_id = ledger.first_ids[number] if number else 0
    return Chunk(list(islice(_read(ledger.cycle_id, ledger.basis, number * CHUNK, first_id, CHUNK), CHUNK)))


def _read(
    cycle_id: int, basis: Basis, index: int, first_id: int, page: int
) -> Iterator[tuple[int | None, bytes]]:
    """The lines from number `index` on, which is the first or that of submission `first_id`."""
    cycle = queries.get_cycle(cycle_id, basis)
    last_correction_id = cycle.last_correction_id or 0
    if index == 0:
        yield None, encode(cycle)
        index = 1
    while rows := queries.list_submissions(cycle_id, first_id, page):
        yield from rows
        index += len(rows)
        first_id = rows[-1][0] + 1
    others: Iterator[Line] = chain(
        queries.list_late_corrections(cycle_id, last_correction_id),
        queries.list_balances(cycle_id, last_correction_id),
        basis.neurons,
        queries.list_miners(cycle_id),
        queries.list_weights(cycle_id),
    )
    for line in others:
        yield None, encode(line)
        index += 1
    yield None, encode(EndLine(index + 1))
