"""`kibotos doctor`: one screen on the state of an installation."""

import json
from dataclasses import asdict

import click

from app.doctor.checks import Doctor, Finding


@click.command()
@click.option("--json", "as_json", is_flag=True, help="Print JSON.")
@click.pass_context
def doctor(ctx: click.Context, as_json: bool) -> None:
    """Check everything that this installation needs, and say what to do. Exits with 1 if anything is red.

    What to repair first comes first. What relies on something that cannot be used is left out.

    The command puts an object into storage and deletes it, and shows the judge nine pictures.
    """
    from rich.console import Console

    with Console(stderr=True).status("Examining"):
        findings = Doctor(ctx.obj, ctx.meta.get("kibotos.env_fault", "")).examine_all()
    if as_json:
        click.echo(json.dumps([asdict(finding) for finding in findings], indent=2))
    else:
        _show_all(findings)
    ctx.exit(0 if all(finding.ok for finding in findings) else 1)


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
