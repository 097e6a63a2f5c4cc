"""The canonical form of lines, scores and amounts."""

import json
from contextlib import suppress
from datetime import UTC, datetime
from decimal import Decimal

import pytest
from hypothesis import given
from hypothesis import strategies as st

from app.proofs.lines import (
    KINDS,
    BalanceLine,
    CycleLine,
    EndLine,
    NeuronLine,
    decode,
    encode,
    read_amount,
    read_score,
    read_time,
    write_amount,
    write_score,
    write_time,
)
from tests.ledger.examples import SUBMISSION, lines


@given(lines)
def test_a_line_reads_back_as_itself(line):
    text = encode(line)
    assert decode(text) == line
    assert b"\n" not in text
    # the rule of docs/ledger.md, which a second implementation goes by
    assert json.dumps(json.loads(text), ensure_ascii=False, separators=(",", ":")).encode() == text


@given(lines, st.data())
def test_no_other_bytes_are_a_line_of_the_same_content(line, data):
    text = encode(line)
    place = data.draw(st.integers(0, len(text) - 1))
    other = bytes([data.draw(st.integers(0, 255).filter(lambda byte: byte != text[place]))])
    damaged = text[:place] + other + text[place + 1 :]
    with suppress(ValueError):
        assert decode(damaged) != line


def test_the_form_of_a_line():
    assert encode(NeuronLine(3, "5F", False)) == (
        b'{"kind":"neuron","uid":3,"hotkey":"5F","validator_permit":false}'
    )
    assert encode(BalanceLine('5\u00e9"\\\n\x01\x7f\U0001f600', "0", "1.5", "-2")).decode() == (
        '{"kind":"balance","hotkey":"5\u00e9\\"\\\\\\n\\u0001\x7f\U0001f600","carried":"0","settled":"1.5","left":"-2"}'
    )


def test_the_order_of_kinds():
    assert list(KINDS) == [
        "cycle", "submission", "late_correction", "balance", "neuron", "miner", "weight", "end",
    ]  # fmt: skip
    assert next(iter(KINDS.values())) is CycleLine


@pytest.mark.parametrize(
    "text",
    [
        b"",
        b"[]",
        b"{}",
        b"null",
        b'{"kind":"end"}',
        b'{"kind":"end","lines":"3"}',
        b'{"kind":"end","lines":true}',
        b'{"kind":"end","lines":3.0}',
        b'{"kind":"end","lines":null}',
        b'{"kind":"end","lines":NaN}',
        b'{"kind":"end","lines":03}',
        b'{"kind":"end", "lines":3}',
        b'{"kind":"end","lines":3}\n',
        b'\xef\xbb\xbf{"kind":"end","lines":3}',
        b'{"kind":"end","lines":2,"lines":3}',
        b'{"lines":3,"kind":"end"}',
        b'{"kind":"end","lines":3,"more":1}',
        b'{"kind":["end"],"lines":3}',
        b'{"kind":"last","lines":3}',
        '{"kind":"end","lines":3}'.encode("utf-16"),
        b'{"kind":"end","lines":' + b"9" * 5000 + b"}",
        b'{"kind":' + b"[" * 100_000,
        b'{"kind":"balance","hotkey":"\\ud800","carried":"0","settled":"0","left":"0"}',
        b'{"kind":"balance","hotkey":"\\u0041","carried":"0","settled":"0","left":"0"}',
        encode(SUBMISSION).replace(b'"corrections":[{"id"', b'"corrections":[{"number"'),
        encode(SUBMISSION).replace(b'"corrections":[{', b'"corrections":[1,{'),
        encode(SUBMISSION).replace(b'"corrections":[', b'"corrections":{"a":[').replace(b"]", b"]}"),
    ],
)
def test_what_is_no_line(text):
    with pytest.raises(ValueError):
        decode(text)


def test_the_last_line():
    assert decode(b'{"kind":"end","lines":3}') == EndLine(3)


@given(st.floats(0, 1))
def test_scores(score):
    assert read_score(write_score(score)) == score


@pytest.mark.parametrize(
    "text", ["1", "0.50", "1e-5", "0,5", "nan", "inf", "-inf", "", " 0.5", "1_0.0", "\u0661.0"]
)
def test_what_is_no_score(text):
    with pytest.raises(ValueError):
        read_score(text)


@given(st.decimals(allow_nan=False, allow_infinity=False, places=18, min_value=-(10**12), max_value=10**12))
def test_amounts(amount):
    text = write_amount(amount)
    assert read_amount(text) == amount
    assert "e" not in text.lower()


@given(st.datetimes(timezones=st.just(UTC), min_value=datetime(1000, 1, 1)))
def test_times(moment):
    assert read_time(write_time(moment)) == moment


@pytest.mark.parametrize(
    "text", ["", "2026-11-26T17:00:00Z", "2026-11-26T17:00:00.0Z", "2026-11-26T17:00:00.000000+00:00"]
)
def test_what_is_no_time(text):
    with pytest.raises(ValueError):
        read_time(text)


@pytest.mark.parametrize(
    "amount, text",
    [("0", "0"), ("-0.0", "0"), ("1E+3", "1000"), ("100", "100"), ("1.500", "1.5"), ("-1E-7", "-0.0000001")],
)
def test_how_amounts_are_written(amount, text):
    assert write_amount(Decimal(amount)) == text


@pytest.mark.parametrize(
    "text", ["1.0", "1.50", "-0", "+1", ".5", "5.", "01", "1e3", "1e999999999", "NaN", "", "1\n", "\u0661"]
)
def test_what_is_no_amount(text):
    with pytest.raises(ValueError):
        read_amount(text)
