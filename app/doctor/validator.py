"""What a validator needs."""

from datetime import UTC, datetime, timedelta

from app.clients.chain import Chain, ChainError, Neuron
from app.clients.published import Malformed, Published, find_fault, read_keys, read_weights
from app.clients.sites import LeadsElsewhere, NoAnswer, NotThere, Site
from app.clients.wallet import WalletError, open_hotkey
from app.config import MAX_AGE_MINUTES
from app.doctor.backend import ANSWER_SECONDS, BackendChecks
from app.doctor.findings import Amber, Check, Checks, Red, Unusable
from app.doctor.reach import reach

ASK = "Ask the operator of the backend."
SECONDS_A_BLOCK = 12
NEEDS = {
    "clock": ("backend",),
    "weights": ("backend",),
    "mirror": ("backend",),
    "registration": ("chain", "key"),
    "permit": ("registration",),
    "rate limit": ("registration",),
}


class ValidatorDoctor(Checks):
    """The checks of a validator."""

    remote = ("backend", "chain", "mirror")
    needs = NEEDS

    def __init__(
        self,
        backend_url: str,
        mirror_url: str | None,
        network: str,
        netuid: int,
        wallet: str,
        hotkey_name: str,
        wallet_path: str | None,
    ):
        super().__init__()
        self._backend = BackendChecks(backend_url, "--backend-url")
        self._mirror_url = mirror_url
        self._chain = Chain(network, read_timeout_seconds=ANSWER_SECONDS)
        self._netuid = netuid
        self._wallet = wallet, hotkey_name, wallet_path
        self._address = ""
        self._block = 0
        self._neurons: dict[str, Neuron] = {}

    def _needs(self, name: str) -> tuple[str, ...]:
        return () if name == "mirror" and not self._mirror_url else super()._needs(name)

    def checks(self) -> dict[str, Check]:
        return {
            "backend": self._backend.check,
            "clock": self._backend.clock,
            "weights": self.weights,
            "mirror": self.mirror,
            "key": self.key,
            "chain": self.chain,
            "registration": self.registration,
            "permit": self.permit,
            "rate limit": self.rate_limit,
        }

    def weights(self) -> str:
        """Whether the backend publishes weights that would be set."""
        try:
            return self._judge(read_weights(Site.backend(self._backend.url, ANSWER_SECONDS), None, ()))
        except NotThere:
            raise Amber("the backend has not computed any yet", "Wait for the end of its cycle.") from None
        except (LeadsElsewhere, Malformed, NoAnswer) as error:
            raise Red(str(error), ASK) from error

    def _judge(self, published: Published) -> str:
        if fault := find_fault(published, datetime.now(UTC), timedelta(minutes=MAX_AGE_MINUTES)):
            raise Red(fault, ASK)
        return f"those of cycle {published.cycle_id}, of {published.created_at:%F %T} UTC"

    def mirror(self) -> str:
        """Whether weights can be read while the backend is away."""
        if not self._mirror_url:
            return "none is named"
        reach([self._mirror_url], "Check --mirror-url.")
        mirror = Site.mirror(self._mirror_url, ANSWER_SECONDS)
        try:
            keys = read_keys(Site.backend(self._backend.url, ANSWER_SECONDS))
            return self._judge(read_weights(mirror, None, keys))
        except NotThere:
            raise Amber("it has no weights yet", f"Check --mirror-url. {ASK}") from None
        except (LeadsElsewhere, Malformed, NoAnswer) as error:
            raise Red(str(error), f"Check --mirror-url. {ASK}") from error

    def key(self) -> str:
        """Whether the hotkey can sign, without a password: a service cannot be asked for one."""
        name, hotkey_name, path = self._wallet
        try:
            self._address = open_hotkey(name, hotkey_name, path).ss58_address
        except WalletError as error:
            raise Unusable(str(error), "Check --wallet-name, --hotkey-name and --wallet-path.") from error
        return f"{self._address} can sign"

    def chain(self) -> str:
        advice = "Check --network and --netuid, or NETWORK and NETUID."
        reach(self._chain.addresses(), advice)
        try:
            reading = self._chain.read(self._netuid)
        except ChainError as error:
            raise Unusable(str(error), advice) from error
        self._block = reading.block_number
        self._neurons = {neuron.hotkey: neuron for neuron in reading.neurons or ()}
        return (
            f"{self._chain.network} at block {self._block}, {len(self._neurons)} neurons in subnet "
            f"{self._netuid}"
        )

    def registration(self) -> str:
        neuron = self._neurons.get(self._address)
        if neuron is None:
            raise Unusable(
                f"{self._address} is not registered on subnet {self._netuid}",
                "Register the hotkey: btcli subnet register.",
            )
        return f"uid {neuron.uid}"

    def permit(self) -> str:
        """Whether the hotkey may set weights."""
        neuron = self._neurons[self._address]
        stake = f"stake {neuron.stake:,.0f}"
        if not neuron.validator_permit:
            raise Red(
                f"uid {neuron.uid} holds no validator permit, {stake}",
                "Permits go to the hotkeys with the most stake, anew with each epoch: add stake.",
            )
        return f"uid {neuron.uid} may set weights, {stake}"

    def rate_limit(self) -> str:
        """Whether the chain would take weights now."""
        try:
            limit = self._chain.read_rate_limit(self._netuid)
        except ChainError as error:
            raise Red(str(error), "Check --network.") from error
        last = self._neurons[self._address].last_update
        since = self._block - last
        said = f"weights were last set {since} blocks ago, and the limit is {limit}" if last else "none yet"
        if last and since < limit:
            minutes = (limit - since) * SECONDS_A_BLOCK / 60
            raise Amber(said, f"They can be set again in {minutes:.0f} min; the validator waits for that.")
        return said
