import pytest
from bittensor_core import Keypair, ss58_encode

from app.hotkeys import is_canonical, is_signed, submission_statement

MINER = Keypair.create_from_uri("//miner")


def test_the_canonical_spelling_is_canonical():
    assert is_canonical(MINER.ss58_address)


@pytest.mark.parametrize("prefix", [0, 2, 41, 43, 63, 255])
def test_aliases_of_the_same_key_are_not(prefix):
    alias = ss58_encode(MINER.public_key, prefix)
    assert is_signed(b"statement", MINER.sign(b"statement"), alias)  # why it matters
    assert not is_canonical(alias)


@pytest.mark.parametrize(
    "address",
    [
        "",
        "x",
        MINER.ss58_address[:-1],
        MINER.ss58_address + "1",
        " " + MINER.ss58_address,
        "0x" + "00" * 32,
        "é" * 48,
    ],
)
def test_what_is_no_address_is_not_canonical(address):
    assert not is_canonical(address)


def test_a_signature_holds_for_its_message_and_key_only():
    signature = MINER.sign(b"statement")
    assert is_signed(b"statement", signature, MINER.ss58_address)
    assert not is_signed(b"statement.", signature, MINER.ss58_address)
    assert not is_signed(b"statement", signature, Keypair.create_from_uri("//other").ss58_address)


@pytest.mark.parametrize("length", [0, 63, 65])
def test_a_signature_of_another_length_is_none(length):
    assert not is_signed(b"statement", bytes(length), MINER.ss58_address)


def test_the_statement_is_the_contracts():
    assert submission_statement("5Hot", 7, "manip-001", "uploads/k/v.mp4", "ab" * 32) == (
        b"kibotos.submission.v1\n5Hot\n7\nmanip-001\nuploads/k/v.mp4\n" + b"ab" * 32
    )
