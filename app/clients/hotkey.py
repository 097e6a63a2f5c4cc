"""A miner's hotkey: what it signs. The coldkey is never asked for."""

from hashlib import sha256
from typing import Any

from bittensor_core import CRYPTO_SR25519

from app.clients.chain import WalletError, open_wallet
from app.hotkeys import STATEMENT_1, appeal_statement, submission_statement, takedown_statement


class Hotkey:
    """The hotkey of a bittensor wallet, or only its address: then nothing is signed (development)."""

    def __init__(self, address: str, keypair: Any = None):
        self.address = address
        self._keypair = keypair

    @classmethod
    def from_wallet(cls, name: str, hotkey_name: str, path: str | None) -> "Hotkey":
        """Read the hotkey file of a wallet, and no other of its files. Raises WalletError."""
        keypair = open_wallet(name, hotkey_name, path).hotkey
        if keypair.crypto_type != CRYPTO_SR25519:
            raise WalletError(
                f"The hotkey {hotkey_name} of the wallet {name} is not of the kind sr25519, and only such "
                "signatures are accepted. Make one by btcli wallet new-hotkey."
            )
        return cls(keypair.ss58_address, keypair)

    def sign_request(self, method: str, target: str, body: bytes) -> dict[str, str]:
        """The btauth/1 headers of a request, or none without a key."""
        if self._keypair is None:
            return {}
        from bittensor import http_auth

        return http_auth.sign(self._keypair, method=method, path=target, body=body)

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
