"""`kibotos evaluators …`: list remote evaluators, allow one again, and list what it delivered."""

import getpass
from datetime import datetime

import click

from app.config import Settings
from app.db import command_app
from app.evaluation import evaluators as service
from app.evaluation import queries
from app.gold import agreement
from app.gold import queries as gold
from app.gold import service as judging
from app.web.auth import token_name


@click.group()
def evaluators() -> None:
    """List remote evaluators and how they agree with people; allow one that was blocked."""


def _name(given: str) -> str:
    """The name of a token, with the word or without."""
    return f"token {given.removeprefix('token ')}"


@evaluators.command("list")
@click.pass_obj
def list_evaluators(settings: Settings) -> None:
    """List the tokens of EVALUATOR_TOKEN, and evaluators that answered to gold films."""
    with command_app(settings).app_context():
        findings = {each.name: each for each in judging.list_findings(settings) if each.by == "evaluator"}
        blocks = {block.evaluator: block for block in gold.list_blocks()}
    places = {token_name(token): place for place, token in enumerate(settings.evaluator_token, 1)}
    for name in dict.fromkeys([*places, *findings, *blocks]):
        place = f"no. {places[name]} of EVALUATOR_TOKEN" if name in places else "not in EVALUATOR_TOKEN"
        finding = findings.get(name)
        answers = agreement.describe(finding.tally, finding.agreement) if finding else "no answers yet"
        click.echo(f"{name}  {'a worker of ours' if name == 'worker' else place}: {answers}")
        if block := blocks.get(name):
            click.echo(f"  blocked since {block.blocked_at:%F %T} UTC: {block.reason}")
    if not (places or findings or blocks):
        click.echo("There are no remote evaluators.")


@evaluators.command()
@click.argument("name")
@click.option("--reason", required=True, help="What you found.")
@click.option("--by", default=getpass.getuser, help="Who decides.  [default: your user name]")
@click.pass_obj
def allow(settings: Settings, name: str, reason: str, by: str) -> None:
    """Give a blocked evaluator submissions again. Only its answers from now on count."""
    with command_app(settings).app_context():
        service.allow(_name(name), reason, by)
    click.echo(f"{_name(name)} gets submissions again.")


@evaluators.command()
@click.argument("name")
@click.option("--since", type=click.DateTime(), help="UTC.  [default: since when its answers are in doubt]")
@click.pass_obj
def results(settings: Settings, name: str, since: datetime | None) -> None:
    """List the results that an evaluator delivered since its answers are in doubt."""
    evaluator = _name(name)
    with command_app(settings).app_context():
        block = gold.find_last_block(evaluator)
        begin = since or (block.doubted_since if block else None)
        if begin is None:
            raise click.ClickException(f"{evaluator} was never blocked; say --since when.")
        listed = 0
        for each in queries.stream_delivered(evaluator, begin):
            listed += 1
            click.echo(
                f"{each.submission_uuid}  {each.evaluated_at:%F %T}  cycle {each.cycle_id or '-'}  "
                f"uid {each.miner_uid}  {each.status} {each.final_score:.4f}"
            )
    click.echo(f"{listed} results.", err=True)
