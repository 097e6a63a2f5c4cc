"""The check of ledgers: honest ones are right, and whatever is changed is found."""

import json
import random

import pytest

from app.audit import block
from app.audit.chain import TwoLedgers
from app.audit.difference import Difference
from app.audit.ledger import audit
from app.audit.memory import Memory
from app.audit.service import verify_ledger
from app.proofs.lines import decode, encode
from tests.audit.books import Books, edit, find


@pytest.fixture
def memory(tmp_path):
    return Memory(tmp_path / "memory.sqlite3")


def check(memory, ledger):
    return verify_ledger([ledger], memory, None).ledger


def difference(memory, ledger):
    with pytest.raises(Difference) as found:
        check(memory, ledger)
    return found.value


@pytest.mark.parametrize("seed", range(6))
def test_honest_ledgers_are_right(memory, seed):
    books = Books(random.Random(seed), netuid=None if seed % 3 == 0 else 5)
    for number in range(5):
        ledger = books.write(submissions=random.Random(seed + number).randrange(30), late=number)
        audited = check(memory, ledger)
        assert (audited.root, audited.unchecked) == (books.root, 0)
        assert audited.lines == ledger.count(b"\n")


def test_who_begins_in_the_middle_takes_what_was_before_as_recorded(memory):
    books = Books(random.Random(1))
    books.write(20)
    assert check(memory, books.write(5, late=4)).unchecked == 4
    # a cycle is left out: late corrections of what was before the gap are not checked
    books.write(5, late=2)
    later = books.write(5, late=4)
    assert check(memory, later).unchecked == 4
    assert check(memory, books.write(0, late=0)).unchecked == 0


def test_a_ledger_may_be_checked_again_and_an_earlier_one_later(memory):
    books = Books(random.Random(2))
    first, second, third = books.write(9), books.write(9, late=3), books.write(9, late=5)
    for ledger in (second, third, third, first, second):
        check(memory, ledger)
    fourth = books.write(3, late=6)
    assert check(memory, fourth).unchecked < 6


# field -> what it is changed to; by kind of line
CHANGES = {
    "cycle": {
        "format": "kibotos.ledger.v2",
        "cycle_id": 0,
        "started_at": "2026-11-26T05:00:00Z",
        "closed_at": "2020-01-01T00:00:00.000000Z",
        "completed_at": "2026-01-01T00:00:00.000000Z",
        "block_number": -1,
        "block_number_is_current": None,
        "netuid": 65536,
        "last_correction_id": None,
        "previous_cycle_id": 900,
        "previous_root": "00",
    },
    "submission": {
        "uuid": "00000000-0000-4000-8000-00000000000g",
        "hotkey": "5GrwvaEF5zXb26Fz9rcQpDWS57CtERHpNehXCPcNoHGKutQY",
        "uid": 99,
        "prompt_id": "prompt-99",
        "prompt_weight": "1000.1",
        "video_key": "uploads/another/video.mp4",
        "video_hash": "0" * 64,
        "submitted_at": "2026-11-26 05:00",
        "statement": "kibotos.submission.v2\nCC0-1.0\n\n\n",
        "signature": "00" * 64,
        "technical_score": "1.1",
        "relevance_score": "nan",
        "quality_score": "1",
        "status": "PENDING",
        "final_score": "0.12345",
        "report_hash": "0",
        "effective_status": "scored",
        "effective_score": "0.98765",
    },
    "late_correction": {
        "uuid": "00000000-0000-4000-8000-000000000000",
        "hotkey": "5GrwvaEF5zXb26Fz9rcQpDWS57CtERHpNehXCPcNoHGKutQY",
        "uid": 99,
        "prompt_weight": "7",
        "cycle_id": 2,
        "is_paid": "flip",
    },
    "balance": {
        "hotkey": "5GrwvaEF5zXb26Fz9rcQpDWS57CtERHpNehXCPcNoHGKutQY",
        "carried": "17",
        "settled": "17",
        "left": "17",
    },
    "neuron": {"uid": 77, "hotkey": "5GrwvaEF5zXb26Fz9rcQpDWS57CtERHpNehXCPcNoHGKutQY"},
    "miner": {
        "uid": 77,
        "hotkey": "5GrwvaEF5zXb26Fz9rcQpDWS57CtERHpNehXCPcNoHGKutQY",
        "total_submissions": 1000,
        "accepted_submissions": 1000,
        "adjustment": "0.0",
        "total_score": "12345.0",
        "holds_uid": "flip",
    },
    "weight": {"uid": 88, "weight": "0.123", "weight_u16": 65535},
    "end": {"lines": 3},
}


@pytest.fixture(scope="module")
def history():
    """The ledgers of two cycles, the second with lines of all kinds."""
    books = Books(random.Random(4))
    return books.write(40), books.write(12, late=6)


@pytest.mark.parametrize(
    ("kind", "field"), [(kind, field) for kind, fields in CHANGES.items() for field in fields]
)
def test_a_changed_field_is_found_where_it_is(memory, history, kind, field):
    """Though root and chain are made to fit: the one who publishes it is the one who lies."""
    first, second = history
    check(memory, first)
    number, line = find(second, kind)
    value = CHANGES[kind][field]
    if value == "flip":
        value = not getattr(line, field)
    assert value != getattr(line, field)
    found = difference(memory, edit(second, number, **{field: value}))
    assert "expected" in str(found) and "found" in str(found)
    if kind in {"late_correction", "end"}:
        assert found.line == number
    # nothing of it was remembered, and the true one is still right
    assert check(memory, second)


def test_a_valid_signature_over_another_score_does_not_help(memory, history):
    """Each change that keeps the line sound by itself changes a sum."""
    number, _ = find(history[0], "submission")
    changed = edit(history[0], number, prompt_weight="3.5")
    found = difference(memory, changed)
    assert found.field in {"total_score", "weight"} and found.line > number


@pytest.mark.parametrize(
    ("name", "change"),
    [
        ("a space", lambda line: line.replace(b'":', b'": ', 1)),
        ("another order", lambda line: encode_pairs(reversed(json.loads(line).items()))),
        ("a key twice", lambda line: line[:-1] + b',"uid":1}'),
        ("the same key twice, alike", lambda line: b'{"kind":"submission",' + line[1:]),
        ("a further field", lambda line: line[:-1] + b',"more":1}'),
        ("a missing field", lambda line: encode_pairs([*json.loads(line).items()][:-1])),
        ("NaN", lambda line: line.replace(b'"uid":', b'"uid":NaN,"u":', 1)),
        ("a float", lambda line: line.replace(b'"uid":', b'"uid":1.0,"u":', 1)),
        ("NaN for a number", lambda line: b'{"kind":"weight","uid":NaN,"weight":"0.5","weight_u16":1}'),
        ("a float for a number", lambda line: b'{"kind":"weight","uid":1.0,"weight":"0.5","weight_u16":1}'),
        ("a number of many digits", lambda line: b'{"kind":"end","lines":%s}' % (b"9" * 5000)),
        ("an end in the middle", lambda line: b'{"kind":"end","lines":%s}' % (b"9" * 400)),
        ("true for a number", lambda line: b'{"kind":"end","lines":true}'),
        ("escaped letters", lambda line: line.replace(b"submission", b"\\u0073ubmission", 1)),
        ("half a surrogate", lambda line: line.replace(b'"uuid":"', b'"uuid":"\\ud800', 1)),
        ("no UTF-8", lambda line: line.replace(b'"uuid":"', b'"uuid":"\xff', 1)),
        ("a byte order mark", lambda line: b"\xef\xbb\xbf" + line),
        ("a carriage return", lambda line: line + b"\r"),
        ("an array", lambda line: b"[" + line + b"]"),
        ("no line", lambda line: b""),
        ("deep", lambda line: b"[" * 100_000),
        ("deep further in", lambda line: line.replace(b'"corrections":[', b'"corrections":' + b"[" * 9999)),
        ("a kind that is none", lambda line: line.replace(b'"submission"', b'"submissions"', 1)),
        ("a kind that is no text", lambda line: line.replace(b'"submission"', b"[]", 1)),
        ("a score with more digits", lambda line: rewrite(line, technical_score="01.0")),
        ("a score with an exponent", lambda line: rewrite(line, technical_score="1e0")),
        ("a score of minus zero", lambda line: rewrite(line, technical_score="-0.0")),
        ("a weight with zeros", lambda line: rewrite(line, prompt_weight="1.50")),
        ("a weight with an exponent", lambda line: rewrite(line, prompt_weight="1e3")),
        ("a weight of many digits", lambda line: rewrite(line, prompt_weight="0." + "1" * 1001)),
        ("a signature in capitals", lambda line: rewrite(line, signature=decode(line).signature.upper())),
        ("no signature", lambda line: rewrite(line, signature=None)),
    ],
)  # fmt: skip
def test_a_line_in_another_form_is_refused(memory, history, name, change):
    lines = history[0].split(b"\n")
    before, lines[3] = lines[3], change(lines[3])
    assert lines[3] != before
    found = difference(memory, b"\n".join(lines))
    assert found.line == 4
    assert len(str(found)) < 1500


def encode_pairs(pairs):
    return json.dumps(dict(pairs), ensure_ascii=False, separators=(",", ":")).encode()


def rewrite(line, **changes):
    return encode(type(decode(line))(**vars(decode(line)) | changes))


def test_no_byte_can_be_changed(memory):
    """Every byte of a small ledger, by a bit or to something else."""
    ledger = Books(random.Random(5)).write(3)
    check(memory, ledger)
    chance = random.Random(5)
    for place in range(0, len(ledger), 3):
        changed = bytearray(ledger)
        changed[place] ^= chance.randrange(1, 256)
        with pytest.raises((Difference, TwoLedgers)):
            check(memory, bytes(changed))


def test_lines_that_are_missing_doubled_swapped_or_added(memory, history):
    lines = history[0].splitlines(keepends=True)
    for place in range(len(lines)):
        without = b"".join(lines[:place] + lines[place + 1 :])
        twice = b"".join(lines[: place + 1] + lines[place:])
        for changed in (without, twice, b"".join(lines[:place]), b"".join(lines[:place])[:-1]):
            difference(memory, changed)
    difference(memory, history[0] + lines[-1])
    difference(memory, history[0] + b"\n")
    difference(memory, history[0][:-1])
    difference(memory, b"")
    difference(memory, b"\n")
    # the order of submissions only the root tells
    lines[2], lines[3] = lines[3], lines[2]
    assert check(memory, b"".join(lines))
    with pytest.raises(TwoLedgers, match="two different ledgers for cycle 1"):
        check(memory, history[0])


def fits(ledger):
    """The ledger with its last line made to fit."""
    return edit(ledger, ledger.count(b"\n"), lines=ledger.count(b"\n"))


def test_a_submission_that_is_paid_twice_in_a_cycle(memory, history):
    lines = history[0].splitlines(keepends=True)
    paid = encode(find(history[0], "submission", 1)[1])
    doubled = fits(b"".join([*lines[:4], lines[2], *lines[4:]]))
    found = difference(memory, doubled)
    assert (found.line, found.field) == (5, "uuid")
    assert "the ledger of cycle 1 has paid already" in str(found)
    # under another name: its video betrays it
    other = rewrite(paid, uuid="00000000-0000-4000-8000-000000000000") + b"\n"
    found = difference(memory, fits(b"".join([*lines[:4], other, *lines[4:]])))
    assert (found.line, found.field) == (5, "video_key")


@pytest.mark.parametrize("changes", [{}, {"uuid": "00000000-0000-4000-8000-000000000000"}])
def test_a_submission_that_is_paid_in_two_cycles(memory, history, changes):
    first, second = history
    check(memory, first)
    lines, paid = second.splitlines(keepends=True), find(first, "submission", 5)[1]
    line = rewrite(encode(paid), **changes) + b"\n"
    found = difference(memory, fits(b"".join([lines[0], line, *lines[1:]])))
    assert found.line == 2
    assert found.field == ("video_key" if changes else "uuid")
    assert "the ledger of cycle 1 has paid already" in str(found)
    # also by one who begins with the later cycle, once he sees the earlier
    assert check(memory, second)


def test_points_out_of_a_correction_of_nothing(memory):
    """A late correction adds the points of a submission that no ledger has paid, or adds them twice."""
    books = Books(random.Random(7), netuid=None)
    check(memory, books.write(20))
    second = books.write(3, late=1)
    number, late = find(second, "late_correction")
    invented = edit(second, number, uuid="00000000-0000-4000-8000-000000000000")
    assert difference(memory, invented).field == "uuid"
    check(memory, second)
    third = books.write(3, late=3)
    number, _ = find(third, "late_correction")
    again = edit(third, number, correction=late.correction, uuid=late.uuid)
    assert difference(memory, again).line == number


def test_a_balance_is_carried_from_ledger_to_ledger(memory):
    books = Books(random.Random(11), netuid=5)
    check(memory, books.write(30))
    while not books.left:
        check(memory, books.write(2, late=8))
    open_ = dict(books.left)
    following = books.write(0)
    number = next(
        n for n, line in enumerate(map(decode, following.splitlines()), 1) if line.kind == "balance"
    )
    line = decode(following.splitlines()[number - 1])
    dropped = following.splitlines(keepends=True)
    del dropped[number - 1]
    assert difference(memory, fits(b"".join(dropped))).field == "balance"
    found = difference(memory, edit(following, number, carried="0", settled="0", left="0"))
    assert (found.field, found.expected) == ("carried", open_[line.hotkey])


def test_large_ledgers_are_checked_by_several_processes(tmp_path):
    """The same first difference, whatever is checked first."""
    memory = Memory(tmp_path / "memory", read_only=True)

    def check(ledger):
        chunks = [ledger[place : place + 1000] for place in range(0, len(ledger), 1000)]
        with memory.transaction():
            return audit(chunks, memory, block_bytes=4096)

    books = Books(random.Random(8))
    ledger = books.write(60)
    audited = check(ledger)
    assert (audited.submissions, audited.root) == (60, books.root)
    number, _ = find(ledger, "submission", 30)
    changed = edit(ledger, number, final_score="0.98765", effective_score="0.98765")
    changed = edit(changed, number + 20, quality_score="2.0")
    with pytest.raises(Difference) as raised:
        check(changed)
    found = raised.value
    assert (found.line, found.field, found.found) == (number, "final_score", "0.98765")


def test_a_line_of_any_length_costs_no_memory(memory):
    """Gigabytes without an end of a line, or in one line, are refused after a few megabytes."""
    taken = []

    def endless(first):
        yield first
        while True:
            taken.append(1)
            yield b" " * 65536

    for first in (b"", Books(random.Random(9)).write(2), b'{"kind":"cycle"}\n'):
        with pytest.raises(Difference):
            verify_ledger(endless(first), memory, None)
    assert len(taken) < 200
    long = (
        Books(random.Random(9))
        .write(2)
        .replace(b'"video_hash"', b" " * (block.MAX_LINE_BYTES + 1) + b'"video_hash"')
    )
    assert difference(memory, long).field == "length"
