"""A miner's hotkey: what it signs."""

import time
from hashlib import sha256

from bittensor_core import CRYPTO_SR25519, Keypair

from app.clients.wallet import WalletError, open_hotkey
from app.hotkeys import STATEMENT_1, appeal_statement, submission_statement, takedown_statement


class Hotkey:
    """The hotkey of a bittensor wallet, or only its address: then nothing is signed (development)."""

    def __init__(self, address: str, keypair: Keypair | None = None):
        self.address = address
        self._keypair = keypair

    @classmethod
    def from_wallet(cls, name: str, hotkey_name: str, path: str | None) -> "Hotkey":
        """Read the hotkey file of a wallet, and no other of its files. Raises WalletError."""
        keypair = open_hotkey(name, hotkey_name, path)
        if keypair.crypto_type != CRYPTO_SR25519:
            raise WalletError(
                f"The hotkey {hotkey_name} of the wallet {name} is not of the kind sr25519, and only such "
                "signatures are accepted. Make one by btcli wallet new-hotkey."
            )
        return cls(keypair.ss58_address, keypair)

    def sign_request(self, method: str, target: str, body: bytes) -> dict[str, str]:
        """The btauth/1 headers of a request, or none without a key.

        What is signed is the version, the kind of key, the method, the path with its query, the body's hash,
        the time in nanoseconds, the hotkey, and for whom it is: anybody.
        """
        if self._keypair is None:
            return {}
        nonce = str(time.time_ns())
        hashed = sha256(body).hexdigest()
        signed = "\n".join(["btauth/1", "sr25519", method, target, hashed, nonce, self.address, "-"])
        return {
            "X-Bittensor-Version": "1",
            "X-Bittensor-Hotkey": self.address,
            "X-Bittensor-Nonce": nonce,
            "X-Bittensor-Signature": "0x" + self._keypair.sign(signed.encode()).hex(),
        }

    def sign_submission(
        self, uid: int, prompt_id: str, video_key: str, video_hash: str, head: str = STATEMENT_1
    ) -> str:
        """The signature of a submission's statement in hex, or "" without a key; `head` is how it begins."""
        if self._keypair is None:
            return ""
        statement = submission_statement(self.address, uid, prompt_id, video_key, video_hash, head)
        return self._keypair.sign(statement).hex()

    def sign_appeal(self, submission_uuid: str, reason: str) -> str:
        """The signature of an appeal's statement in hex, or "" without a key."""
        if self._keypair is None:
            return ""
        hashed = sha256(reason.encode()).hexdigest()
        return self._keypair.sign(appeal_statement(self.address, submission_uuid, hashed)).hex()

    def sign_takedown(self, submission_uuid: str, reason: str) -> str:
        """The signature of a takedown's statement in hex, or "" without a key."""
        if self._keypair is None:
            return ""
        hashed = sha256(reason.encode()).hexdigest()
        return self._keypair.sign(takedown_statement(self.address, submission_uuid, hashed)).hex()
