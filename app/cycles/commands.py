"""`kibotos cycles …`: show, start and close cycles."""

import getpass

import click

from app.config import Settings
from app.cycles import queries, service
from app.db import command_app


@click.group()
def cycles() -> None:
    """Show, start and close cycles."""


@cycles.command()
@click.pass_obj
def status(settings: Settings) -> None:
    """Show the active cycle, the oldest one that is being evaluated and the last completed one."""
    with command_app(settings).app_context():
        overview = queries.get_overview()
        waiting_because = service.find_waiting_reason()
    since = overview.active_cycle_started_at
    click.echo(
        f"active:          {overview.active_cycle_id or 'none'}"
        + (f", since {since:%F %T} UTC" if since else "")
    )
    click.echo(f"evaluating:      {overview.evaluating_cycle_id or 'none'}")
    click.echo(f"last completed:  {overview.last_completed_cycle_id or 'none'}")
    click.echo(f"in all:          {overview.total_cycles}")
    if waiting_because:
        click.echo(f"waiting because: {waiting_because}")


@cycles.command()
@click.argument("cycle", type=click.IntRange(min=1))
@click.option("--reason", required=True, help="Why it may complete all the same.")
@click.option("--by", default=getpass.getuser, help="Who decides.  [default: your user name]")
@click.pass_obj
def approve(settings: Settings, cycle: int, reason: str, by: str) -> None:
    """Let a cycle complete that is held since its judge is in doubt."""
    with command_app(settings).app_context():
        service.approve(cycle, reason, by)
    click.echo(f"Cycle {cycle} completes at the next tick.")


@cycles.command()
@click.pass_obj
def start(settings: Settings) -> None:
    """Start a cycle of the configured length now."""
    with command_app(settings).app_context():
        cycle = service.start(settings)
    click.echo(f"Cycle {cycle.id} is active until {cycle.ends_at:%F %T} UTC.")


@cycles.command()
@click.pass_obj
def close(settings: Settings) -> None:
    """Close the active cycle before its end. With AUTO_START_CYCLES the next one starts."""
    with command_app(settings).app_context():
        cycle = service.close(settings)
    click.echo(f"Cycle {cycle.id} is closed; it completes when its submissions are evaluated.")
