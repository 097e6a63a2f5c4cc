"""`kibotos cycles …`: show, start and close cycles."""

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
    since = overview.active_cycle_started_at
    click.echo(
        f"active:          {overview.active_cycle_id or 'none'}"
        + (f", since {since:%F %T} UTC" if since else "")
    )
    click.echo(f"evaluating:      {overview.evaluating_cycle_id or 'none'}")
    click.echo(f"last completed:  {overview.last_completed_cycle_id or 'none'}")
    click.echo(f"in all:          {overview.total_cycles}")


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
