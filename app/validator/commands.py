"""`kibotos validate`: set the weights that a backend publishes."""

from datetime import timedelta
from pathlib import Path

import click

from app.config import MAX_AGE_MINUTES, Settings


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
    default=MAX_AGE_MINUTES,
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
    "--log-file",
    type=click.Path(dir_okay=False, path_type=Path),
    help="File to which each attempt to set weights is appended, as lines of JSON.  [default: none]",
)
@click.option("--metrics-port", type=click.IntRange(1, 65535), help="Serve /metrics there.  [default: no]")
@click.option("--metrics-host", default="127.0.0.1", show_default=True, help="Address for --metrics-port.")
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
    log_file: Path | None,
    metrics_port: int | None,
    metrics_host: str,
    once: bool,
    dry_run: bool,
) -> None:
    """Set the latest weights of a backend on the chain, once for each cycle. Log each decision in a line."""
    netuid = settings.netuid if netuid is None else netuid
    if netuid is None:
        raise click.UsageError("Name the subnet by --netuid or NETUID.")
    from app import logs
    from app.audit.memory import UnusableMemory as UnusableLedgers
    from app.clients.chain import Chain
    from app.clients.wallet import WalletError, open_hotkey
    from app.validator.loop import poll_for_good, poll_once
    from app.validator.memory import UnusableMemory
    from app.validator.metrics import Metrics, Unserved
    from app.validator.record import RecordFile, UnusableRecord
    from app.validator.weight_setter import WeightSetter, WrongWallet

    logs.configure(settings.log_level, settings.log_format)
    try:
        setter = WeightSetter(
            backend_url=(backend_url or settings.api_url).rstrip("/"),
            mirror_url=mirror_url,
            verify=verify,
            chain=Chain(network or settings.network),
            netuid=netuid,
            hotkey=open_hotkey(wallet_name, hotkey_name, wallet_path),
            directory=state_dir,
            max_age=timedelta(minutes=max_age),
            dry_run=dry_run,
            record=RecordFile(log_file) if log_file else None,
        )
        metrics = Metrics()
        if metrics_port is not None:
            metrics.serve(metrics_host, metrics_port)
        if not once:
            poll_for_good(setter, metrics, poll_interval)
        decision = poll_once(setter, metrics)
    except (UnusableLedgers, UnusableMemory, UnusableRecord, Unserved, WalletError, WrongWallet) as error:
        raise click.ClickException(str(error)) from error
    raise SystemExit(0 if decision.settled or decision.name == "dry_run" else 1)
