"""`kibotos doctor`: one screen on the state of an installation."""

import json
from collections.abc import Mapping
from dataclasses import asdict
from typing import Any

import click

from app.config import ConfigError, Settings
from app.doctor.findings import Checks, Finding

# The options of each role. A role imports only what it needs.
OPTIONS = {
    "server": (),
    "miner": ("api_url", "wallet_name", "hotkey_name", "wallet_path", "hotkey"),
    "validator": (
        "api_url",
        "mirror_url",
        "netuid",
        "network",
        "wallet_name",
        "hotkey_name",
        "wallet_path",
    ),
    "evaluator": ("api_url",),
}


@click.command()
@click.option(
    "--role", type=click.Choice(list(OPTIONS)), default="server", show_default=True, help="What runs here."
)
@click.option("--api-url", "--backend-url", help="The backend.  [default: API_URL, http://localhost:8080]")
@click.option("--mirror-url", help="Where a validator reads weights while the backend is away.")
@click.option("--netuid", type=click.IntRange(0, 65535), help="A validator's subnet.  [default: NETUID]")
@click.option("--network", help="A validator's network.  [default: NETWORK, or finney]")
@click.option("--wallet-name", help="Wallet of a miner or validator.  [default, of a validator: default]")
@click.option("--hotkey-name", help="Its hotkey.  [default: default]")
@click.option("--wallet-path", help="Directory of the wallets.  [default: ~/.bittensor/wallets]")
@click.option("--hotkey", help="Address of a miner's hotkey, if there is no wallet (in development).")
@click.option("--json", "as_json", is_flag=True, help="Print JSON.")
@click.pass_context
def doctor(ctx: click.Context, role: str, as_json: bool, **options: Any) -> None:
    """Check everything that this installation needs, and say what to do. Exits with 1 if anything is red.

    What to repair first comes first. What relies on something that cannot be used is left out.

    For a server and an evaluator the command shows the judge nine pictures. For a server it puts an object
    into storage and deletes it; for a miner it asks for one upload, which counts in the quota.
    """
    from rich.console import Console

    given = {name for name, value in options.items() if value is not None}
    if unknown := sorted(given - {*OPTIONS[role]}):
        raise click.UsageError(f"--{unknown[0].replace('_', '-')} is no option for --role {role}.")
    ctx.meta["kibotos.extra"] = role
    checks = _checks(role, ctx.obj, options, ctx.meta.get("kibotos.env_fault", ""))
    with Console(stderr=True).status("Examining"):
        findings = checks.examine_all()
    if as_json:
        click.echo(json.dumps([asdict(finding) for finding in findings], indent=2))
    else:
        _show_all(findings)
    ctx.exit(0 if all(finding.ok for finding in findings) else 1)


def _checks(role: str, settings: Settings, options: Mapping[str, Any], fault: str) -> Checks:
    """The checks of a role; `fault` says why .env could not be read, or is ""."""
    if role == "server":
        from app.doctor.checks import Doctor

        return Doctor(settings, fault)
    if fault:
        raise ConfigError(fault)
    url = options["api_url"] or settings.api_url
    hotkey_name, path = options["hotkey_name"] or "default", options["wallet_path"]
    if role == "miner":
        from app.doctor.miner import MinerDoctor

        return MinerDoctor(url, options["wallet_name"], hotkey_name, path, options["hotkey"])
    if role == "evaluator":
        from app.doctor.evaluator import EvaluatorDoctor

        return EvaluatorDoctor(settings, url)
    from app.doctor.validator import ValidatorDoctor

    netuid = settings.netuid if options["netuid"] is None else options["netuid"]
    if netuid is None:
        raise click.UsageError("Name the subnet by --netuid or NETUID.")
    network, wallet = options["network"] or settings.network, options["wallet_name"] or "default"
    return ValidatorDoctor(url, options["mirror_url"], network, netuid, wallet, hotkey_name, path)


def _show_all(findings: list[Finding]) -> None:
    if cause := next((finding for finding in findings if not finding.ok), None):
        click.echo(f"Begin with the {cause.check}: {cause.detail}\n-> {cause.advice}\n")
    for finding in findings:
        _show(finding)


def _show(finding: Finding) -> None:
    if not finding.ok:
        mark = click.style("RED ", fg="red", bold=True) if finding.advice else "--  "
    else:
        mark = click.style("warn", fg="yellow") if finding.advice else click.style("ok  ", fg="green")
    click.echo(f"{mark} {finding.check:<12} {finding.detail}")
    if finding.advice:
        click.echo(f"     {'':<12} -> {finding.advice}")
