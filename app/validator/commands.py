"""`kibotos validate`: set the weights that a backend publishes."""

import time
from datetime import timedelta
from pathlib import Path

import click
import structlog

from app import logs
from app.audit.memory import UnusableMemory as UnusableLedgers
from app.clients.chain import Chain, WalletError, open_wallet
from app.config import Settings
from app.validator.memory import UnusableMemory
from app.validator.weight_setter import Poll, WeightSetter, WrongWallet

log = structlog.get_logger(__name__)


@click.command()
@click.option("--backend-url", help="The backend.  [default: API_URL, http://localhost:8080]")
@click.option("--mirror-url", help="Where weights are read while the backend is away.  [default: none]")
@click.option("--verify", is_flag=True, help="Check the ledger, and set only weights that follow from it.")
@click.option("--netuid", type=click.IntRange(0, 65535), help="Subnet id.  [default: NETUID]")
@click.option("--network", help="Network name or ws:// address.  [default: NETWORK, or finney]")
@click.option("--wallet-name", default="default", show_default=True)
@click.option("--hotkey-name", default="default", show_default=True)
@click.option("--wallet-path", help="Directory of the wallets.  [default: ~/.bittensor/wallets]")
@click.option(
    "--poll-interval", type=click.FloatRange(1), default=60, show_default=True, help="Seconds between polls."
)
@click.option(
    "--max-age",
    type=click.FloatRange(1),
    default=360,
    show_default=True,
    help="Minutes after which weights are too old.",
)
@click.option(
    "--state-dir",
    type=click.Path(file_okay=False, path_type=Path),
    default=Path.home() / ".kibotos" / "validator",
    help="Directory to remember what was set.  [default: ~/.kibotos/validator]",
)
@click.option(
    "--once",
    is_flag=True,
    help="Poll once. Exit with 0 if the latest weights are set on the chain, else with 1.",
)
@click.option("--dry-run", is_flag=True, help="Decide, but set nothing.")
@click.pass_obj
def validate(
    settings: Settings,
    backend_url: str | None,
    mirror_url: str | None,
    verify: bool,
    netuid: int | None,
    network: str | None,
    wallet_name: str,
    hotkey_name: str,
    wallet_path: str | None,
    poll_interval: float,
    max_age: float,
    state_dir: Path,
    once: bool,
    dry_run: bool,
) -> None:
    """Set the latest weights of a backend on the chain, once for each cycle. Log each decision in a line."""
    netuid = settings.netuid if netuid is None else netuid
    if netuid is None:
        raise click.UsageError("Name the subnet by --netuid or NETUID.")
    logs.configure(settings.log_level, settings.log_format)
    try:
        setter = WeightSetter(
            backend_url=(backend_url or settings.api_url).rstrip("/"),
            mirror_url=mirror_url,
            verify=verify,
            chain=Chain(network or settings.network),
            netuid=netuid,
            wallet=open_wallet(wallet_name, hotkey_name, wallet_path),
            directory=state_dir,
            max_age=timedelta(minutes=max_age),
            dry_run=dry_run,
        )
        while True:
            decision = poll(setter)
            tell = log.info if decision.settled else log.warning
            tell(decision.name, cycle_id=decision.cycle_id, site=decision.site, detail=decision.detail)
            if once:
                raise SystemExit(0 if decision.settled or decision.name == "dry_run" else 1)
            time.sleep(poll_interval)
    except (UnusableLedgers, UnusableMemory, WalletError, WrongWallet) as error:
        raise click.ClickException(str(error)) from error


def poll(setter: WeightSetter) -> Poll:
    """Poll once. An unexpected error, such as a full disk or a changed chain, does not stop the polling."""
    try:
        return setter.step()
    except WrongWallet:
        raise
    except Exception as error:
        log.exception("unexpected_error")
        return Poll("failed", f"{type(error).__name__}: {error}")
