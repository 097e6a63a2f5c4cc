"""`kibotos gold …`: add, list and retire gold films."""

import getpass
from pathlib import Path
from uuid import UUID

import click

from app.config import Settings
from app.db import command_app
from app.gold import queries, service
from app.gold.models import HumanScores

SCORE = click.FloatRange(0, 1)


@click.group()
def gold() -> None:
    """Add, list and retire gold films: videos with people's scores, by which the judge is checked."""


@gold.command()
@click.argument("file", type=click.Path(exists=True, dir_okay=False, path_type=Path))
@click.option("--prompt", "prompt_id", required=True, help="Id of the prompt that the film was scored for.")
@click.option("--action-match", type=SCORE, required=True, help="People's score, from 0 to 1.")
@click.option("--perspective", type=SCORE, required=True, help="People's score, from 0 to 1.")
@click.option("--demonstration", type=SCORE, required=True, help="People's score, from 0 to 1.")
@click.option("--training", type=SCORE, required=True, help="People's score, from 0 to 1.")
@click.option(
    "--accept/--reject", "accepted", default=None, help="People's verdict.  [default: by the gates]"
)
@click.option("--by", default=getpass.getuser, help="Who scored it.  [default: your user name]")
@click.option("--copies", type=click.IntRange(1, 200), default=10, show_default=True)
@click.pass_obj
def add(
    settings: Settings,
    file: Path,
    prompt_id: str,
    action_match: float,
    perspective: float,
    demonstration: float,
    training: float,
    accepted: bool | None,
    by: str,
    copies: int,
) -> None:
    """Add a film, with the judge's four scores as people gave them.

    A remote evaluator gets each copy only once, so more copies last longer. Add the same file with the same
    scores again for more of them.
    """
    from app.clients.storage import Storage
    from app.gold import films

    scores = HumanScores(action_match, perspective, demonstration, training)
    with command_app(settings).app_context():
        films.add(file, prompt_id, scores, accepted, by, copies, settings, Storage(settings), tell=click.echo)


@gold.command("list")
@click.option("--all", "everything", is_flag=True, help="List retired films, too.")
@click.pass_obj
def list_films(settings: Settings, everything: bool) -> None:
    """List the films with people's relevance score and verdict."""
    with command_app(settings).app_context():
        films = queries.list_films(retired=everything)
    for film in films:
        verdict = "accept" if film.accepted else "reject"
        retired = f"  retired {film.retired_at:%F}" if film.retired_at else ""
        click.echo(
            f"{film.uuid}  {film.prompt_id}  {film.relevance_score:.2f} {verdict}, by {film.scored_by}  "
            f"{film.copies_left} of {film.copies} copies left  {film.answers} answers{retired}"
        )
    if not films:
        click.echo("There are no gold films; kibotos gold add adds one.")


@gold.command()
@click.argument("film", type=click.UUID)
@click.pass_obj
def retire(settings: Settings, film: UUID) -> None:
    """Show a film no more, and count its answers no more."""
    with command_app(settings).app_context():
        service.retire(film)
    click.echo("Retired.")
