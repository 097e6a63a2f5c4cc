"""Verifies btauth/1, the signed HTTP requests of the bittensor SDK (`bittensor.http_auth`).

It is written anew on bittensor_core, since the SDK itself would cost each web process 45 MB. It is pure: the
caller remembers the nonces.
"""

import hashlib
from dataclasses import dataclass

from werkzeug.datastructures import Headers

from app.hotkeys import is_canonical, is_signed

MAX_AGE_SECONDS = 10
MAX_AHEAD_SECONDS = 2


class NotAuthenticated(Exception):
    """The request is not authenticated; the message says what to do."""


@dataclass(frozen=True)
class Caller:
    hotkey: str
    nonce: int


def verify(headers: Headers, body: bytes, *, method: str, target: str, now_ns: int) -> Caller:
    """Return the hotkey that signed the request. Raise NotAuthenticated if the signature is wrong or old.

    `target` is path and query as they were sent. We have no hotkey. So a request that is bound to a receiver
    is meant for somebody else, who might have passed it on to us.
    """
    if headers.get("X-Bittensor-Version") != "1":
        raise NotAuthenticated("Sign the request with btauth/1 headers (bittensor.http_auth.sign).")
    hotkey = headers.get("X-Bittensor-Hotkey", "")
    if not is_canonical(hotkey):
        raise NotAuthenticated("X-Bittensor-Hotkey must be an SS58 address with prefix 42.")
    if headers.get("X-Bittensor-Crypto", "sr25519") != "sr25519":
        raise NotAuthenticated("X-Bittensor-Crypto must be sr25519; so are all hotkeys here.")
    nonce = _decimal(headers.get("X-Bittensor-Nonce", ""))
    if "X-Bittensor-Receiver" in headers:
        raise NotAuthenticated("Sign the request without a receiver; this backend has no hotkey.")
    age = (now_ns - nonce) / 1e9
    if not -MAX_AHEAD_SECONDS <= age <= MAX_AGE_SECONDS:
        raise NotAuthenticated(
            f"The nonce is {abs(age):.0f} s {'old' if age > 0 else 'ahead'}; "
            "sign each request just before you send it, and check your clock."
        )
    payload = "\n".join(
        (
            "btauth/1",
            "sr25519",
            method.upper(),
            target,
            hashlib.sha256(body).hexdigest(),
            str(nonce),
            hotkey,
            "-",
        )
    )
    if not is_signed(payload.encode(), _hex(headers.get("X-Bittensor-Signature", "")), hotkey):
        raise NotAuthenticated(
            "X-Bittensor-Signature is wrong: sign the method, the path with its query and the "
            "body exactly as they are sent."
        )
    return Caller(hotkey, nonce)


def _decimal(text: str) -> int:
    if not (text.isascii() and text.isdigit() and len(text) <= 20):
        raise NotAuthenticated("X-Bittensor-Nonce must be a time in nanoseconds, in decimal digits.")
    return int(text)


def _hex(text: str) -> bytes:
    try:
        return bytes.fromhex(text.removeprefix("0x"))
    except ValueError:
        raise NotAuthenticated("X-Bittensor-Signature must be hexadecimal.") from None
