"""`kibotos reviews …`: list reviews of submissions, and decide them."""

import getpass
from collections.abc import Callable
from uuid import UUID

import click

from app.appeals import queries as appeals
from app.clients.storage import Storage
from app.config import Settings
from app.db import command_app
from app.enums import ReviewState, values
from app.errors import Unavailable
from app.fields import check_prose
from app.reviews import queries, service
from app.terminal import printable


def prose(most: int) -> Callable[[click.Context, click.Parameter, str], str]:
    """A callback of options: refuse what the API would refuse of a text of at most `most` characters."""

    def check(_context: click.Context, _parameter: click.Parameter, value: str) -> str:
        try:
            check_prose(value)
        except ValueError as error:
            raise click.BadParameter(f"It {error}.") from error
        if len(value) > most:
            raise click.BadParameter(f"It has {len(value)} characters; at most {most} are possible.")
        return value

    return check


reason_option = click.option(
    "--reason", callback=prose(1900), required=True, help="The reason, which the miner can read."
)
by_option = click.option(
    "--by", callback=prose(200), default=getpass.getuser, help="Who decides.  [default: your user name]"
)


@click.group()
def reviews() -> None:
    """List reviews of submissions, and decide them."""


@reviews.command("list")
@click.option("--state", type=click.Choice(values(ReviewState)), default="OPEN", show_default=True)
@click.option("--limit", type=click.IntRange(1, 1000), default=100, show_default=True)
@click.option("--after", type=click.UUID, help="The submission of the last review of the page before.")
@click.pass_obj
def list_reviews(settings: Settings, state: str, limit: int, after: UUID | None) -> None:
    """List reviews, the latest first."""
    with command_app(settings).app_context():
        found = queries.list_latest(state, limit, after)
    for review in found:
        reason = printable(review.reason)
        click.echo(f"{review.submission_uuid}  {review.opened_at:%F}  {review.status:<10}  {reason}")
    if not found:
        click.echo(f"No review is {state}.")


@reviews.command()
@click.argument("submission", type=click.UUID)
@click.pass_obj
def show(settings: Settings, submission: UUID) -> None:
    """Show the review of a submission, with an address where you can watch the video for an hour."""
    with command_app(settings).app_context():
        review = service.get_review(submission)
        _show(review)
        _show_appeal(submission)
        is_gone = queries.is_taken_down(submission)
    click.echo(f"video:       {'taken down' if is_gone else _video_url(settings, review.video_key)}")


def _video_url(settings: Settings, video_key: str) -> str:
    try:
        return Storage(settings).presign_get(video_key, service.VIDEO_SECONDS)
    except Unavailable:
        return f"{video_key} (set the S3_ and AWS_ settings here as well to get an address)"


def _show(review: queries.Review) -> None:
    score = "no score yet" if review.final_score is None else f"final score {review.final_score}"
    click.echo(f"submission:  {review.submission_uuid}, uid {review.miner_uid}")
    click.echo(f"result:      {review.status}, {score}" + (", held" if review.is_held else ""))
    click.echo(f"opened:      {review.opened_at:%F %T} UTC: {printable(review.reason)}")
    closed = f" by {review.decided_by}: {review.decision_reason}" if review.decided_by else ""
    click.echo(f"state:       {review.state}{printable(closed)}")


def _show_appeal(submission: UUID) -> None:
    appeal = appeals.find(submission)
    if appeal is None:
        return
    click.echo(f"appeal:      {appeal.state}, against {appeal.against_status} {appeal.against_score}")
    if appeal.new_result:
        why = printable(f": {appeal.rejection_reason}" if appeal.rejection_reason else "")
        click.echo(f"evaluation:  {appeal.status} {appeal.final_score} by {appeal.judge_model}{why}")
    # quoted line by line: the miner wrote it, and it must not look like a line of ours
    for line in printable(appeal.reason).split("\n"):
        click.echo(f"  the miner: {line}")


def _decision(verb: service.Verb, help: str) -> None:
    @reviews.command(verb.replace("_", "-"), help=help)
    @click.argument("submission", type=click.UUID)
    @reason_option
    @by_option
    @click.pass_obj
    def decide(settings: Settings, submission: UUID, reason: str, by: str) -> None:
        with command_app(settings).app_context():
            _show(service.decide(submission, verb, reason, by))


_decision("accept", "Accept the submission: it gets the score that it would have had, or its appeal's.")
_decision("reject", "Reject the submission: its score is 0.")
_decision("uphold", "Let the result of a submission stand as it is.")
_decision("judge_again", "Send what could not be evaluated to the judge again.")
