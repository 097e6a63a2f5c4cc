"""The lines of a ledger from the database, in their order, and the tree over them in chunks.

The same rows give the same lines at any time. So a file that was lost can be written again, byte by byte, and
the proof of a line needs only the lines of its chunk.
"""

from bisect import bisect_right
from collections.abc import Iterator
from itertools import chain, islice

from app.corrections import queries as corrections
from app.ledger import queries
from app.ledger.models import Basis, Draft, Ledger, Part
from app.proofs.lines import EndLine, Line, encode
from app.proofs.merkle import leaf_hash, root_of

# Lines whose subtree has a stored root; a power of two. With fewer a receipt of a small cycle is cheaper, and
# one of a cycle of a million dearer: it needs the roots of all chunks.
CHUNK = 512
# submissions that are fetched at once when all are
PAGE = 2048

# the id of a submission, or None, and a line
Entry = tuple[int | None, bytes]


class Chunk:
    """Some lines of a ledger in a row, each with the id of its submission, or None."""

    def __init__(self, entries: list[Entry]):
        self.lines = [line for _, line in entries]
        self.leaves = [leaf_hash(line) for line in self.lines]
        self.ids = [id for id, _ in entries]
        first_id = next((id for id in self.ids if id is not None), None)
        self.part = Part(root_of(self.leaves), len(entries), first_id)


def read_chunks(cycle_id: int, basis: Basis) -> Iterator[Chunk]:
    """All lines of a completed cycle's ledger, CHUNK of them at a time."""
    return _cut(_read(cycle_id, basis, 0, 0, PAGE))


def read_chunks_from(ledger: Ledger, number: int) -> Iterator[Chunk]:
    """The chunks of a recorded ledger from one on that begins the ledger or has a submission."""
    first_id = ledger.first_ids[number] if number else 0
    return _cut(_read(ledger.cycle_id, ledger.basis, number * CHUNK, first_id, PAGE))


def read_chunk(ledger: Ledger, number: int) -> Chunk:
    """One chunk of a recorded ledger. It begins the ledger or has a submission."""
    first_id = ledger.first_ids[number] if number else 0
    return _take(_read(ledger.cycle_id, ledger.basis, number * CHUNK, first_id, CHUNK))


def draft(cycle_id: int) -> Draft:
    """The parts of a cycle's ledger that are full of submissions, read before it completes.

    None of its submissions is open, so only corrections can still change them. The first part is not among
    them, for it begins with the line of the cycle.
    """
    drafted = Draft(last_correction_id=corrections.find_last_id() or 0)
    entries = _read_submissions(cycle_id, 0, PAGE)
    for _ in islice(entries, CHUNK - 1):
        pass
    while len(batch := list(islice(entries, CHUNK))) == CHUNK:
        drafted.roots.append(root_of([leaf_hash(line) for _, line in batch]))
        drafted.first_ids.append(batch[0][0])
        drafted.last_id = batch[-1][0]
    return drafted


def finish(cycle_id: int, basis: Basis, drafted: Draft) -> Iterator[Part]:
    """All parts of a completed cycle's ledger. What was corrected since the draft is read again."""
    if not drafted.roots:
        yield from (chunk.part for chunk in read_chunks(cycle_id, basis))
        return
    yield _take(_read(cycle_id, basis, 0, 0, CHUNK)).part
    corrected = queries.list_corrected_after(cycle_id, drafted.last_correction_id)
    stale = {bisect_right(drafted.first_ids, id) - 1 for id in corrected}
    for number, (root, first_id) in enumerate(zip(drafted.roots, drafted.first_ids, strict=True)):
        if number in stale:
            yield _take(_read_submissions(cycle_id, first_id, CHUNK)).part
        else:
            yield Part(root, CHUNK, first_id)
    rest = _read(cycle_id, basis, CHUNK * (len(drafted.roots) + 1), drafted.last_id + 1, PAGE)
    yield from (chunk.part for chunk in _cut(rest))


def _take(entries: Iterator[Entry]) -> Chunk:
    return Chunk(list(islice(entries, CHUNK)))


def _cut(entries: Iterator[Entry]) -> Iterator[Chunk]:
    while (chunk := _take(entries)).lines:
        yield chunk


def _read_submissions(cycle_id: int, first_id: int, page: int) -> Iterator[tuple[int, bytes]]:
    while rows := queries.list_submissions(cycle_id, first_id, page):
        yield from rows
        first_id = rows[-1][0] + 1


def _read(cycle_id: int, basis: Basis, index: int, first_id: int, page: int) -> Iterator[Entry]:
    """The lines from number `index` on, which is the first or that of submission `first_id`."""
    cycle = queries.get_cycle(cycle_id, basis)
    last_correction_id = cycle.last_correction_id or 0
    if index == 0:
        yield None, encode(cycle)
        index = 1
    for entry in _read_submissions(cycle_id, first_id, page):
        yield entry
        index += 1
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
