"""Texts that the backend signs, so that they can be kept where others may write: the files of the mirror."""

from collections.abc import Collection

from pydantic import BaseModel, ConfigDict, ValidationError

from app.hotkeys import is_signed
from app.proofs.keys import SigningKey


class Forged(Exception):
    """A sealed text that is damaged or of another signer; the message is a sentence about it."""


class Sealed(BaseModel):
    """`payload` as the backend wrote it, and the signature by its `key` over its statement."""

    model_config = ConfigDict(strict=True, extra="forbid")

    payload: str
    key: str
    signature: str


def seal(purpose: str, payload: str, key: SigningKey) -> bytes:
    """Return `payload`, signed by the backend's key for this purpose and no other."""
    signature = key.sign_bytes(_statement(purpose, payload))
    return Sealed(payload=payload, key=key.address, signature=signature).model_dump_json().encode()


def unseal(purpose: str, content: bytes, trusted: Collection[str]) -> str:
    """Return the payload that one of the `trusted` keys signed for this purpose. Raises Forged."""
    try:
        sealed = Sealed.model_validate_json(content)
        signature = bytes.fromhex(sealed.signature)
    except (ValidationError, ValueError) as error:
        raise Forged("It is no signed file of a backend.") from error
    if not trusted:
        raise Forged("Which keys are the backend's is not known yet: the backend itself must answer once.")
    if sealed.key not in trusted:
        raise Forged(f"It is signed by {sealed.key[:48]!r}, which is none of the backend's keys.")
    if not is_signed(_statement(purpose, sealed.payload), signature, sealed.key):
        raise Forged("Its signature is wrong: it was changed after the backend wrote it.")
    return sealed.payload


def _statement(purpose: str, payload: str) -> bytes:
    return f"kibotos.{purpose}.v1\n{payload}".encode()
