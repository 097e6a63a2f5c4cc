"""`kibotos receipt verify`, which needs neither a backend nor a network."""

import json
from dataclasses import replace
from datetime import UTC, datetime

import pytest

from app.hotkeys import submission_statement
from app.proofs import merkle
from app.proofs.keys import create_key
from app.proofs.lines import EndLine, encode
from app.proofs.receipts import FORMAT, Receipt
from tests.factories import miner
from tests.ledger.examples import SUBMISSION

NOW = datetime(2026, 11, 26, 17, tzinfo=UTC)


def make_receipt(signer=None):
    """A receipt of a submission that its miner has signed."""
    hotkey = miner().ss58_address
    line = replace(SUBMISSION, hotkey=hotkey)
    statement = submission_statement(hotkey, line.uid, line.prompt_id, line.video_key, line.video_hash)
    line = replace(line, signature=bytes((signer or miner()).sign(statement)).hex())
    entries = [encode(line), encode(EndLine(2))]
    leaves = [merkle.leaf_hash(entry) for entry in entries]
    proof = [node.hex() for node in merkle.inclusion_proof(leaves, 0)]
    root = merkle.root_of(leaves).hex()
    return Receipt(FORMAT, 7, root, 2, 0, proof, entries[0].decode(), None, None, None)


@pytest.fixture
def key(tmp_path):
    return create_key(tmp_path / "key.json")


@pytest.fixture
def verify(run_kibotos, tmp_path):
    """Runs the command on a receipt, or on bytes."""

    def verify(receipt, *options):
        content = receipt if isinstance(receipt, bytes) else receipt.encode()
        (tmp_path / "receipt.json").write_bytes(content)
        return run_kibotos("receipt", "verify", "receipt.json", *options)

    return verify


def keys_answer(tmp_path, key, valid_from, retired_at):
    answer = {"keys": [{"key": key, "valid_from": valid_from, "retired_at": retired_at}]}
    (tmp_path / "keys.json").write_text(json.dumps(answer))
    return "--keys", "keys.json"


def test_a_genuine_receipt(verify, key):
    receipt = key.sign(make_receipt(), NOW)
    shown = verify(receipt)
    assert shown.exit_code == 0, shown.stderr
    assert f"{SUBMISSION.uuid} of {miner().ss58_address}, uid 3" in shown.output
    assert "SCORED, 0.81, times 1.5" in shown.output and "cycle 7" in shown.output.replace(":       ", " ")
    assert key.address in shown.output and receipt.root in shown.output
    assert verify(receipt, "--key", key.address, "--root", receipt.root.upper()).exit_code == 0


@pytest.mark.parametrize(
    "valid_from, retired_at, is_valid",
    [
        ("2026-11-26T16:00:00Z", None, True),
        ("2026-11-26T16:00:00.123456Z", "2026-11-26T18:00:00Z", True),
        ("2026-11-26T16:00:00Z", "2026-11-26T16:30:00Z", False),
        ("2026-11-26T17:30:00Z", None, False),
    ],
)
def test_the_time_of_a_key(verify, key, tmp_path, valid_from, retired_at, is_valid):
    receipt = key.sign(make_receipt(), NOW)
    result = verify(receipt, *keys_answer(tmp_path, key.address, valid_from, retired_at))
    assert result.exit_code == int(not is_valid)
    assert is_valid or "was not valid when it signed" in result.stderr
    other = keys_answer(tmp_path, miner().ss58_address, valid_from, None)
    assert verify(receipt, *other).exit_code == 1


@pytest.mark.parametrize("answer", [b"", b"[]", b'{"keys":[{}]}', b'{"keys":3}', b"\xff"])
def test_a_file_that_has_no_keys(verify, key, tmp_path, answer):
    (tmp_path / "keys.json").write_bytes(answer)
    result = verify(key.sign(make_receipt(), NOW), "--keys", "keys.json")
    assert result.exit_code == 1 and "not an answer of /v1/keys" in result.stderr


def test_what_is_not_genuine(verify, key):
    genuine = key.sign(make_receipt(), NOW)
    wrong = {
        "proof": replace(genuine, index=1),
        "its key": replace(genuine, cycle_id=8),
        "signature of the miner": key.sign(make_receipt(signer=miner("other")), NOW),
        "canonical form": json.dumps(json.loads(genuine.encode()), indent=2).encode(),
        "is unsigned": make_receipt(),
        "JSON object": b"\x00" * 100,
        "too large": b" " * (11 * 1024 * 1024),
    }
    for said, receipt in wrong.items():
        result = verify(receipt)
        assert result.exit_code == 1 and said in result.stderr.replace("Its", "its"), said
        assert "not a genuine receipt" in result.stderr
    assert "Its key is" in verify(genuine, "--key", miner().ss58_address).stderr
    assert "Its root is" in verify(genuine, "--root", "0" * 64).stderr


def test_a_receipt_does_not_write_to_the_terminal(verify):
    line = replace(SUBMISSION, signature=None, uuid="\x1b]0;title\x07")
    entry = encode(line)
    root = merkle.leaf_hash(entry).hex()
    receipt = Receipt(FORMAT, 7, root, 1, 0, [], entry.decode(), None, None, None)
    shown = verify(receipt, "--root", root)
    assert shown.exit_code == 0 and "?]0;title? of" in shown.output and "\x1b" not in shown.output


def test_an_unsigned_receipt_with_a_known_root(verify):
    receipt = make_receipt()
    assert verify(receipt, "--root", receipt.root).exit_code == 0
    assert verify(receipt, "--key", miner().ss58_address).exit_code == 1
