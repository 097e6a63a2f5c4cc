"""What a miner needs."""

from urllib.parse import urlsplit

from app.clients.hotkey import Hotkey
from app.clients.retry import RetryableError
from app.clients.wallet import WalletError
from app.config import ConfigError
from app.doctor.backend import BackendChecks, Refused, as_red
from app.doctor.findings import Amber, Check, Checks, Red, Unusable
from app.doctor.reach import reach

AGAIN = "Read what the backend says, or ask its operator."
STORE = "Check your firewall and proxy, or ask the operator which address S3_PUBLIC_ENDPOINT names."
NEEDS = {
    "clock": ("backend",),
    "registration": ("backend", "clock", "key"),
    "quota": ("registration",),
    "uploads": ("quota",),
}


class MinerDoctor(Checks):
    """The checks of a miner, with the hotkey of a wallet or only its address (in development)."""

    remote = ("backend",)
    needs = NEEDS

    def __init__(
        self, api_url: str, wallet: str | None, hotkey_name: str, wallet_path: str | None, address: str | None
    ):
        super().__init__()
        self._backend = BackendChecks(api_url)
        self._wallet = wallet, hotkey_name, wallet_path
        self._address = address
        self._hotkey = Hotkey(address or "")
        self._standing: dict = {}

    def checks(self) -> dict[str, Check]:
        return {
            "backend": self._backend.check,
            "clock": self._backend.clock,
            "key": self.key,
            "registration": self.registration,
            "quota": self.quota,
            "uploads": self.uploads,
            "ffmpeg": self.ffmpeg,
        }

    def key(self) -> str:
        """Whether the hotkey can sign."""
        name, hotkey_name, path = self._wallet
        if name is None:
            if self._address is None:
                raise ConfigError("Name the hotkey: give --wallet-name and --hotkey-name.")
            raise Amber(
                f"{self._address} is an address without a key, so nothing is signed",
                "Give --wallet-name and --hotkey-name. Unsigned requests are accepted in development only.",
            )
        try:
            self._hotkey = Hotkey.from_wallet(name, hotkey_name, path)
        except WalletError as error:
            raise Unusable(str(error), "Check --wallet-name, --hotkey-name and --wallet-path.") from error
        return f"{self._hotkey.address} can sign"

    def registration(self) -> str:
        """Whether the hotkey holds a uid, as the backend sees the metagraph."""
        path = f"/v1/miners/{self._hotkey.address}/standing"
        try:
            self._standing = self._backend.ask("GET", path, sign=self._hotkey.sign_request)
            is_checked = self._backend.ask("GET", "/v1/status")["registration_checked"]
        except (Refused, RetryableError) as error:
            raise _unusable(error) from error
        uid = self._standing["uid"]
        if uid is not None:
            return f"uid {uid}"
        if not is_checked:
            return "none, and this backend does not ask for one"
        raise Red(
            f"{self._hotkey.address} holds no uid in the subnet, as the backend read it from the chain",
            "Register the hotkey: btcli subnet register. If you just did, wait some minutes.",
        )

    def quota(self) -> str:
        """Whether there is room for a submission, and for its upload."""
        said = []
        for what in ("submissions", "uploads"):
            quota = self._standing[what]
            said.append(f"{quota['used']} of {quota['limit']} {what}")
            if (seconds := quota["seconds_until_room"]) is not None:
                raise Amber(f"{said[-1]} of this hour are used", f"There is room for one in {seconds} s.")
        return f"{' and '.join(said)} of this hour are used"

    def uploads(self) -> str:
        """Whether the store takes connections. To learn its address costs one upload of the quota."""
        try:
            wish = {"filename": "doctor.mp4", "size_bytes": 1}
            answer = self._backend.ask("POST", "/v1/upload/presign", wish, self._hotkey.sign_request)
        except (Refused, RetryableError) as error:
            raise as_red(error, AGAIN) from error
        parts = urlsplit(answer["upload_url"])
        store = f"{parts.scheme}://{parts.netloc}"
        reach([store], STORE)
        return f"{store} takes connections"

    def ffmpeg(self) -> str:
        """Whether a video can be checked before it is uploaded."""
        from app.doctor.engine import check_ffmpeg

        return check_ffmpeg()


def _unusable(error: Exception) -> Unusable:
    red = as_red(error, AGAIN)
    return Unusable(red.detail, red.advice)
