"""`kibotos weights recompute`: show and check the weights of a cycle."""

import click

from app.config import Settings
from app.db import command_app
from app.weights import service


@click.command()
@click.argument("cycle", type=click.IntRange(1, 2**63 - 1))
@click.option("--check", is_flag=True, help="Only compare; print no weights.")
@click.pass_obj
def recompute(settings: Settings, cycle: int, check: bool) -> None:
    """Compute the weights of a completed CYCLE again and compare them with the recorded ones.

    Nothing is changed. Exits with 1 if a recorded result differs.
    """
    with command_app(settings).app_context():
        recomputation = service.recompute(cycle)
    if not check:
        for weight in recomputation.weights:
            click.echo(f"{weight.uid:>5}  {weight.weight:.12f}  {weight.weight_u16:>5}")
    for difference in recomputation.differences:
        click.echo(difference, err=True)
    if recomputation.differences:
        raise click.ClickException(f"The recorded results of cycle {cycle} differ from the recomputed ones.")
    click.echo(f"The recorded scores and weights of cycle {cycle} match its evaluations.")
