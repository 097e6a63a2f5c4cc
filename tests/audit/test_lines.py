"""The bytes of a ledger from a stranger: packed, damaged, or made to burst."""

import io
import random

import pytest

from app.audit.difference import Difference
from app.audit.lines import BLOCK_BYTES, cut, unpack
from app.audit.memory import Memory
from app.audit.service import verify_ledger
from app.proofs.packing import pack
from tests.audit.books import Books


def packed(content):
    file = io.BytesIO()
    with pack(file) as writer:
        writer.write(content)
    return file.getvalue()


def in_pieces(content, size):
    return (content[place : place + size] for place in range(0, len(content), size))


@pytest.mark.parametrize("size", [1, 3, 1000, 10**6])
def test_packed_and_plain_bytes_come_alike(size):
    content = Books(random.Random(1)).write(20)
    for bytes_ in (content, packed(content)):
        assert b"".join(unpack(in_pieces(bytes_, size))) == content


def test_no_packed_byte_can_be_changed_unless_it_says_the_same(tmp_path):
    memory = Memory(tmp_path / "memory", read_only=True)
    content = Books(random.Random(2)).write(2)
    whole, chance = packed(content), random.Random(2)
    verify_ledger([whole], memory, None)
    for place in range(len(whole)):
        changed = bytearray(whole)
        changed[place] ^= 1 << chance.randrange(8)
        try:
            got = b"".join(unpack([bytes(changed)]))
            verify_ledger([got], memory, None)
        except Difference:
            continue
        assert got == content


@pytest.mark.parametrize(
    ("change", "found"),
    [
        (lambda whole: whole[:-1], "one that was cut"),
        (lambda whole: whole[:10], "one that was cut"),
        (lambda whole: whole + b"x", "more bytes after its end"),
        (lambda whole: whole + whole, "more bytes after its end"),
        # a window of a gigabyte, which would have to be held
        (lambda whole: b"\x28\xb5\x2f\xfd\x00\xa0\x00\x00\x00", "a damaged one"),
    ],
)
def test_a_damaged_file_is_refused(change, found):
    with pytest.raises(Difference, match=found):
        list(unpack(in_pieces(change(packed(b"hello\n" * 1000)), 7)))


def test_a_bomb_is_not_unpacked(tmp_path):
    """Of each byte that bursts into thousands only what a block holds is ever there."""
    bomb = packed(b"\n" * 200_000_000)
    assert len(bomb) < 50_000
    taken = 0
    for piece in unpack([bomb]):
        assert len(piece) <= BLOCK_BYTES
        taken += len(piece)
        if taken > 10 * BLOCK_BYTES:
            break
    with pytest.raises(Difference, match="Line 1, form"):
        verify_ledger([bomb], Memory(tmp_path / "memory"), None)


@pytest.mark.parametrize("size", [1, 7, 10_000])
def test_blocks_are_whole_lines_with_their_numbers(size):
    lines = [b"%d\n" % number * (number % 3 + 1) for number in range(50)]
    content = b"".join(lines)
    blocks = list(cut(in_pieces(content, size), 30))
    assert b"".join(text for _, text in blocks) == content
    assert [number for number, _ in blocks] == [
        1 + sum(text.count(b"\n") for _, text in blocks[:place]) for place in range(len(blocks))
    ]
