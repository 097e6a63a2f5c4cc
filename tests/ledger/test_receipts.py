"""Receipts and keys, without a server."""

import json
import stat
from dataclasses import replace
from datetime import UTC, datetime

import pytest

from app.config import ConfigError
from app.proofs import merkle
from app.proofs.keys import create_key, load_key
from app.proofs.lines import EndLine, NeuronLine, encode
from app.proofs.receipts import FORMAT, Receipt, read_receipt
from tests.ledger.examples import SUBMISSION

NOW = datetime(2026, 11, 26, 17, tzinfo=UTC)
ENTRIES = [encode(line) for line in (NeuronLine(1, "5F", True), SUBMISSION, EndLine(3))]


def make_receipt(index: int = 1) -> Receipt:
    leaves = [merkle.leaf_hash(entry) for entry in ENTRIES]
    return Receipt(
        format=FORMAT,
        cycle_id=7,
        root=merkle.root_of(leaves).hex(),
        lines=len(leaves),
        index=index,
        proof=[node.hex() for node in merkle.inclusion_proof(leaves, index)],
        line=ENTRIES[index].decode(),
        key=None,
        signed_at=None,
        signature=None,
    )


@pytest.fixture(scope="module")
def key(tmp_path_factory):
    return create_key(tmp_path_factory.mktemp("keys") / "key.json")


def test_a_receipt_reads_back(key):
    receipt = key.sign(make_receipt(), NOW)
    assert read_receipt(receipt.encode()) == receipt
    assert read_receipt(receipt.encode() + b"\n") == receipt
    assert receipt.read_line() == SUBMISSION
    assert receipt.key == key.address and receipt.signed_at == "2026-11-26T17:00:00.000000Z"


def test_what_is_signed(key):
    """A second implementation goes by docs/ledger.md."""
    receipt = key.sign(make_receipt(), NOW)
    leaf = merkle.leaf_hash(ENTRIES[1]).hex()
    assert receipt.statement().decode().split("\n") == [
        "kibotos.receipt.v1", "7", receipt.root, "3", "1", leaf, "2026-11-26T17:00:00.000000Z",
    ]  # fmt: skip


def test_every_changed_byte_is_found(key):
    text = key.sign(make_receipt(), NOW).encode()
    for place, byte in enumerate(text):
        for other in {byte ^ 1, 0x20} - {byte}:
            with pytest.raises(ValueError):
                read_receipt(text[:place] + bytes([other]) + text[place + 1 :])


def test_every_missing_or_added_byte_is_found(key):
    text = key.sign(make_receipt(), NOW).encode()
    for place in range(len(text)):
        with pytest.raises(ValueError):
            read_receipt(text[:place] + text[place + 1 :])
        with pytest.raises(ValueError):
            read_receipt(text[:place] + b" " + text[place:])


@pytest.mark.parametrize(
    "change",
    [
        {"index": 0},
        {"index": -1},
        {"lines": 4},
        {"lines": 2**64},
        {"cycle_id": 8},
        {"proof": []},
        {"proof": ["00" * 32] * 100},
        {"signed_at": None},
        {"signature": None},
        {"key": None},
        {"key": "5FHneW46xGXgs5mUiveU4sbTyGBzmstUspZC92UhjJM694ty"},
        {"line": ENTRIES[2].decode()},
        {"format": "kibotos.receipt.v2"},
        {"signed_at": "2026-11-27T17:00:00.000000Z"},
    ],
)
def test_another_receipt_with_this_signature(key, change):
    with pytest.raises(ValueError):
        read_receipt(replace(key.sign(make_receipt(), NOW), **change).encode())


def test_an_unsigned_receipt_still_proves_its_line():
    receipt = make_receipt()
    assert read_receipt(receipt.encode()).key is None
    with pytest.raises(ValueError, match="proof"):
        read_receipt(replace(receipt, index=0).encode())


def test_a_key_file(tmp_path):
    path = tmp_path / "key.json"
    key = create_key(path)
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    assert load_key(path).address == key.address
    assert json.loads(path.read_text())["key"] == key.address
    before = path.read_text()
    with pytest.raises(ConfigError, match="is there already"):
        create_key(path)
    assert path.read_text() == before
    with pytest.raises(ConfigError, match="cannot be written"):
        create_key(tmp_path / "nowhere" / "key.json")


@pytest.mark.parametrize(
    "text", ["", "{}", "[]", "\x00", '{"format":"kibotos.key.v1","key":"5F","seed":"00"}']
)
def test_what_is_no_key_file(tmp_path, text):
    path = tmp_path / "key.json"
    path.write_text(text)
    with pytest.raises(ConfigError, match="not a key file"):
        load_key(path)


def test_a_key_file_with_another_address(tmp_path):
    """The two halves of a file that was put together by hand do not fit."""
    first, second = tmp_path / "first", tmp_path / "second"
    create_key(first)
    other = create_key(second)
    first.write_text(json.dumps(json.loads(first.read_text()) | {"key": other.address}))
    with pytest.raises(ConfigError, match="not a key file"):
        load_key(first)


def test_a_key_file_that_is_missing(tmp_path):
    with pytest.raises(ConfigError, match="kibotos keys new"):
        load_key(tmp_path / "key.json")
