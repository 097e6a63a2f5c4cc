"""`kibotos reviews …`: list reviews of submissions, and decide them."""

import getpass
from uuid import UUID

import click

from app.config import Settings
from app.db import command_app
from app.enums import ReviewState, values
from app.reviews import queries, service


@click.group()
def reviews() -> None:
    """List reviews of submissions, and decide them."""


@reviews.command("list")
@click.option("--state", type=click.Choice(values(ReviewState)), default="OPEN", show_default=True)
@click.option("--limit", type=click.IntRange(1, 1000), default=100, show_default=True)
@click.pass_obj
def list_reviews(settings: Settings, state: str, limit: int) -> None:
    """List reviews, the latest first."""
    with command_app(settings).app_context():
        found = queries.list_latest(state, limit)
    for review in found:
        click.echo(f"{review.submission_uuid}  {review.opened_at:%F}  {review.status:<10}  {review.reason}")
    if not found:
        click.echo(f"No review is {state}.")


@reviews.command()
@click.argument("submission", type=click.UUID)
@click.pass_obj
def show(settings: Settings, submission: UUID) -> None:
    """Show the review of a submission."""
    with command_app(settings).app_context():
        _show(service.get_review(submission))


def _show(review: queries.Review) -> None:
    score = "no score yet" if review.final_score is None else f"final score {review.final_score}"
    click.echo(f"submission:  {review.submission_uuid}, uid {review.miner_uid}")
    click.echo(f"result:      {review.status}, {score}" + (", held" if review.is_held else ""))
    click.echo(f"opened:      {review.opened_at:%F %T} UTC: {review.reason}")
    closed = f" by {review.decided_by}: {review.decision_reason}" if review.decided_by else ""
    click.echo(f"state:       {review.state}{closed}")


def _decision(verb: service.Verb, help: str) -> None:
    @reviews.command(verb.replace("_", "-"), help=help)
    @click.argument("submission", type=click.UUID)
    @click.option("--reason", required=True, help="The reason, which the miner can read.")
    @click.option("--by", default=getpass.getuser, help="Who decides.  [default: your user name]")
    @click.pass_obj
    def decide(settings: Settings, submission: UUID, reason: str, by: str) -> None:
        with command_app(settings).app_context():
            _show(service.decide(submission, verb, reason, by))


_decision("accept", "Accept the submission: it gets the score that it would have had.")
_decision("reject", "Reject the submission: its score is 0.")
_decision("judge_again", "Send a submission that has no result to the judge again.")
