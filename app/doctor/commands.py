"""`kibotos doctor`: one screen on the state of an installation."""

import json
from dataclasses import asdict

import click

from app.db import command_app
from app.doctor.checks import Doctor, Finding


@click.command()
@click.option("--json", "as_json", is_flag=True, help="Print JSON.")
@click.pass_context
def doctor(ctx: click.Context, as_json: bool) -> None:
    """Check everything that this installation needs, and say what to do. Exits with 1 if anything is red.

    The command puts an object into storage and deletes it, and shows the judge nine pictures.
    """
    examiner = Doctor(ctx.obj)
    findings: list[Finding] = []
    with command_app(ctx.obj).app_context():
        for name, check in examiner.checks().items():
            finding = examiner.examine(name, check)
            findings.append(finding)
            if not as_json:
                _show(finding)
    if as_json:
        click.echo(json.dumps([asdict(finding) for finding in findings], indent=2))
    ctx.exit(0 if all(finding.ok for finding in findings) else 1)


def _show(finding: Finding) -> None:
    if not finding.ok:
        mark = click.style("RED ", fg="red", bold=True)
    else:
        mark = click.style("warn", fg="yellow") if finding.advice else click.style("ok  ", fg="green")
    click.echo(f"{mark} {finding.check:<12} {finding.detail}")
    if finding.advice:
        click.echo(f"     {'':<12} -> {finding.advice}")
