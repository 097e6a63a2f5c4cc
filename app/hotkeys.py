"""Miners' keys: canonical addresses, and what a signature says. Pure: no Flask, no SQL."""

from bittensor_core import CRYPTO_SR25519, ss58_decode, ss58_encode, verify

SS58_PREFIX = 42
_LENGTHS = {47, 48}


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


def submission_statement(
    miner_hotkey: str, miner_uid: int, prompt_id: str, video_key: str, video_hash: str
) -> bytes:
    """The bytes a miner signs for a submission; `video_hash` is in lower case.

    It names one video key, and a key can be submitted once: a replay gains nothing.
    """
    lines = ("kibotos.submission.v1", miner_hotkey, str(miner_uid), prompt_id, video_key, video_hash)
    return "\n".join(lines).encode()


def appeal_statement(miner_hotkey: str, submission_uuid: str, reason_sha256: str) -> bytes:
    """The bytes a miner signs for an appeal; the hash of its reason is in hexadecimal and lower case.

    It names the submission, which has one appeal: a replay gains nothing.
    """
    return "\n".join(("kibotos.appeal.v1", miner_hotkey, submission_uuid, reason_sha256)).encode()
