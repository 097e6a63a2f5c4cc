"""The backend's signing key: an sr25519 key in a file that only its owner can read."""

import json
import os
import secrets
from dataclasses import dataclass, replace
from datetime import datetime
from pathlib import Path

from bittensor_core import CRYPTO_SR25519, Keypair

from app.config import ConfigError
from app.proofs.lines import write_time
from app.proofs.receipts import Receipt

FORMAT = "kibotos.key.v1"


@dataclass(frozen=True)
class SigningKey:
    """`address` is the SS58 address of the public half."""

    _pair: Keypair

    @property
    def address(self) -> str:
        return self._pair.ss58_address

    def sign_bytes(self, message: bytes) -> str:
        """Return the signature over `message`, in hexadecimal."""
        return bytes(self._pair.sign(message)).hex()

    def sign(self, receipt: Receipt, moment: datetime) -> Receipt:
        """Return the receipt with this key's signature over it, made at `moment`."""
        named = replace(receipt, key=self.address, signed_at=write_time(moment))
        return replace(named, signature=self.sign_bytes(named.statement()))


def create_key(path: Path) -> SigningKey:
    """Write a new key to a new file. Raise ConfigError if there is such a file, or it cannot be written."""
    seed = secrets.token_bytes(32)
    key = _from_seed(seed)
    text = json.dumps({"format": FORMAT, "key": key.address, "seed": seed.hex()}) + "\n"
    try:
        # O_EXCL: an older key is never overwritten
        descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
        with os.fdopen(descriptor, "w") as file:
            file.write(text)
    except FileExistsError:
        raise ConfigError(
            f"{path} is there already; a key is never overwritten: name another file."
        ) from None
    except OSError as error:
        raise ConfigError(f"{path} cannot be written ({error.strerror}).") from error
    return key


def load_key(path: Path) -> SigningKey:
    """Return the key of a file that create_key() wrote; raise ConfigError if it is none."""
    try:
        text = path.read_text()
    except OSError as error:
        raise ConfigError(
            f"{path} cannot be read ({error.strerror}); make a key with `kibotos keys new {path}`."
        ) from error
    except UnicodeDecodeError:
        text = ""
    try:
        stored = json.loads(text)
        key = _from_seed(bytes.fromhex(stored["seed"]))
        if stored["format"] == FORMAT and stored["key"] == key.address:
            return key
    except (ValueError, KeyError, TypeError):
        pass
    raise ConfigError(f"{path} is not a key file of `kibotos keys new`: make one, or name another file.")


def _from_seed(seed: bytes) -> SigningKey:
    return SigningKey(Keypair.create_from_seed(seed, crypto_type=CRYPTO_SR25519))
