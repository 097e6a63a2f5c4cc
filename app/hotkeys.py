"""Miners' keys: canonical addresses, and what a signature says. Pure: no Flask, no SQL."""

import re

from bittensor_core import CRYPTO_SR25519, ss58_decode, ss58_encode, verify

SS58_PREFIX = 42
_LENGTHS = {47, 48}
STATEMENT_1 = "kibotos.submission.v1"
STATEMENT_2 = "kibotos.submission.v2"
LICENCE = r"[A-Za-z0-9][A-Za-z0-9.+-]{0,99}"
CONSENT_VERSION = r"[A-Za-z0-9][A-Za-z0-9._-]{0,49}"
# of a statement that a ledger shows
STATEMENT_HEAD = re.compile(
    rf"{re.escape(STATEMENT_1)}|{re.escape(STATEMENT_2)}\n[A-Za-z0-9.+-]{{0,100}}\n"
    r"(?:\n\n|[0-9a-f]{64}\n[A-Za-z0-9._-]{1,50}\n[0-9]{4}-[0-9]{2}-[0-9]{2})"
)


def is_canonical(address: str) -> bool:
    """Whether `address` is the one spelling of its key that we accept: SS58 with prefix 42.

    The same key under another prefix verifies signatures too; quotas would be dodged with such aliases.
    """
    # decoding takes time with the square of the length
    if len(address) not in _LENGTHS:
        return False
    try:
        return ss58_encode(ss58_decode(address), SS58_PREFIX) == address
    except ValueError:
        return False


def is_signed(message: bytes, signature: bytes, hotkey: str) -> bool:
    """Whether `signature` is sr25519 by `hotkey` over `message`; False too if either is malformed."""
    try:
        return verify(message, signature, hotkey, CRYPTO_SR25519)
    except ValueError:
        return False


def statement_head(
    licence: str | None, consent_hash: str | None, consent_version: str | None, consent_date: str | None
) -> str:
    """How the statement of a submission begins: its version, and in the second one what follows from it.

    That of a submission with neither licence nor consent is of the first version. In the second, what is not
    given is an empty line. The date is written as in 2026-01-15.
    """
    terms = (licence, consent_hash, consent_version, consent_date)
    return "\n".join((STATEMENT_2, *(term or "" for term in terms))) if any(terms) else STATEMENT_1


def submission_statement(
    miner_hotkey: str,
    miner_uid: int,
    prompt_id: str,
    video_key: str,
    video_hash: str,
    head: str = STATEMENT_1,
) -> bytes:
    """The bytes a miner signs for a submission; `video_hash` is in lower case, `head` by `statement_head`.

    It names one video key, and a key can be submitted once: a replay gains nothing.
    """
    return "\n".join((head, miner_hotkey, str(miner_uid), prompt_id, video_key, video_hash)).encode()


def appeal_statement(miner_hotkey: str, submission_uuid: str, reason_sha256: str) -> bytes:
    """The bytes a miner signs for an appeal; the hash of its reason is in hexadecimal and lower case.

    It names the submission, which has one appeal: a replay gains nothing.
    """
    return "\n".join(("kibotos.appeal.v1", miner_hotkey, submission_uuid, reason_sha256)).encode()


def takedown_statement(miner_hotkey: str, submission_uuid: str, reason_sha256: str) -> bytes:
    """The bytes a miner signs to take a video of his down; the hash is as in an appeal's.

    It names the submission, which is taken down once: a replay gains nothing.
    """
    return "\n".join(("kibotos.takedown.v1", miner_hotkey, submission_uuid, reason_sha256)).encode()
