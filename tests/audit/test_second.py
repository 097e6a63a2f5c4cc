"""docs/verify.py, the second implementation: it and the first say the same of random ledgers."""

import random
import runpy
import tempfile
from dataclasses import replace
from pathlib import Path

from hypothesis import given, settings
from hypothesis import strategies as st

from app.audit.difference import Difference
from app.audit.memory import Memory
from app.audit.service import verify_ledger
from app.proofs.lines import decode, encode
from tests.audit.books import Books

PROGRAM = Path(__file__).parents[2] / "docs" / "verify.py"
second = runpy.run_path(str(PROGRAM))["check"]


def ask_first(ledgers):
    """The roots by the first implementation, or None if it says no."""
    with tempfile.TemporaryDirectory() as directory:
        memory = Memory(Path(directory) / "memory")
        try:
            return [verify_ledger([ledger], memory, None).ledger.root for ledger in ledgers]
        except Difference:
            return None


def ask_second(ledgers):
    past, roots = {"chain": None, "left": {}, "paid": {}}, []
    try:
        for ledger in ledgers:
            second(ledger, past)
            roots.append(past["chain"][1])
    except SystemExit as no:
        assert str(no).startswith("Line ")
        return None
    return roots


def test_it_is_short_and_needs_little():
    text = PROGRAM.read_text()
    assert len(text.splitlines()) <= 150
    imported = {line.split()[1] for line in text.splitlines() if line.startswith(("import ", "from "))}
    assert imported == {
        "hashlib",
        "json",
        "re",
        "sys",
        "collections",
        "fractions",
        "pathlib",
        "bittensor_core",
    }


@settings(max_examples=25)
@given(
    seed=st.integers(0, 2**32),
    netuid=st.sampled_from([None, 5]),
    sizes=st.lists(st.integers(0, 6), max_size=4),
)
def test_they_agree_on_honest_ledgers(seed, netuid, sizes):
    books = Books(random.Random(seed), netuid=netuid)
    ledgers = [books.write(size, late=number) for number, size in enumerate(sizes)]
    assert ask_first(ledgers) == ask_second(ledgers) is not None


@settings(max_examples=60)
@given(data=st.data(), seed=st.integers(0, 50))
def test_they_agree_on_ledgers_that_were_tampered_with(data, seed):
    """A field is replaced by that of another line, by a neighbour of its value, or by something odd."""
    books = Books(random.Random(seed), netuid=data.draw(st.sampled_from([None, 5])))
    books.write(3)
    ledger = books.write(3, late=2)
    lines = ledger.splitlines()
    place = data.draw(st.integers(0, len(lines) - 1))
    line = decode(lines[place])
    others = [value for other in map(decode, lines) for value in vars(other).values()]
    name = data.draw(st.sampled_from(sorted(vars(line))))
    value = getattr(line, name)
    odd = [
        None,
        True,
        0,
        -1,
        2**60,
        65536,
        "",
        "0",
        "0.0",
        "-0",
        "-0.0",
        "1e-05",
        "nan",
        "NaN",
        "inf",
        "SCORED",
        "1.0",
    ]
    near = (
        [value + 1, value - 1, not value]
        if isinstance(value, int)
        else [f"{value}0", f"0{value}", f" {value}"]
    )
    changed = dict(vars(line)) | {name: data.draw(st.sampled_from(near + odd + others))}
    lines[place] = encode(type(line)(**changed))
    ledger = b"".join(each + b"\n" for each in lines)
    assert ask_first([ledger]) == ask_second([ledger])


@settings(max_examples=40)
@given(data=st.data(), seed=st.integers(0, 20))
def test_they_agree_on_ledgers_with_other_bytes(data, seed):
    ledger = bytearray(Books(random.Random(seed)).write(2))
    for _ in range(data.draw(st.integers(1, 2))):
        place = data.draw(st.integers(0, len(ledger) - 1))
        kind = data.draw(st.sampled_from(["change", "drop", "double"]))
        if kind == "change":
            ledger[place] = data.draw(st.integers(0, 255))
        elif kind == "drop":
            del ledger[place]
        else:
            ledger.insert(place, ledger[place])
    assert ask_first([bytes(ledger)]) == ask_second([bytes(ledger)])


def test_they_agree_on_lines_that_are_moved_or_left_out():
    books = Books(random.Random(1))
    books.write(4)
    lines = books.write(4, late=3).splitlines(keepends=True)
    for place in range(len(lines)):
        for other in (0, place - 1, place + 1, len(lines) - 1):
            moved = lines[:place] + lines[place + 1 :]
            moved.insert(other, lines[place])
            ledger = b"".join(moved)
            assert ask_first([ledger]) == ask_second([ledger])
        ledger = b"".join(lines[:place] + lines[place + 1 :])
        assert ask_first([ledger]) == ask_second([ledger]) is None


def test_both_refuse_a_statement_that_nobody_signs():
    """The same signature under another head, and heads that are none."""
    ledger = Books(random.Random(3)).write(4)
    lines = ledger.splitlines()
    for head in (
        "kibotos.submission.v3",
        "kibotos.submission.v2",
        "kibotos.submission.v2\nCC0-1.0\nef\n1\n2026-01-15",
    ):
        line = decode(lines[1])
        changed = [lines[0], encode(replace(line, statement=head)), *lines[2:]]
        ledgers = [b"".join(each + b"\n" for each in changed)]
        assert ask_first(ledgers) is None and ask_second(ledgers) is None
