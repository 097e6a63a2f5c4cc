"""`kibotos submissions …`: correct a result, and take a video down."""

import json
from typing import Any
from uuid import UUID

import click
from pydantic import TypeAdapter, ValidationError

from app.clients.storage import Storage
from app.config import Settings
from app.db import command_app
from app.enums import SubmissionStatus
from app.moderation import service
from app.moderation.models import Evidence, Order
from app.reviews.commands import by_option, reason_option


def _read_evidence(_context: click.Context, _parameter: click.Parameter, value: str | None) -> dict[str, Any]:
    if value is None:
        return {}
    try:
        return TypeAdapter(Evidence).validate_python(json.loads(value), strict=True)
    except ValidationError as error:
        raise click.BadParameter(f"{error.errors()[0]['msg']}.") from error
    except (ValueError, RecursionError) as error:
        raise click.BadParameter('It is not JSON; give an object such as {"ticket": "T-17"}.') from error


def _check_score(_context: click.Context, _parameter: click.Parameter, value: float | None) -> float | None:
    # click's own range lets NaN pass
    if value is not None and not 0 <= value <= 1:
        raise click.BadParameter("It must be a number from 0 to 1.")
    return value


submission_argument = click.argument("submission", type=click.UUID)
evidence_option = click.option(
    "--evidence", callback=_read_evidence, help="A JSON object, which everybody can read."
)


@click.group()
def submissions() -> None:
    """Correct the result of a submission, or take its video down."""


@submissions.command()
@submission_argument
@click.option("--score", type=float, callback=_check_score, help="Accept it with this final score.")
@click.option("--reject", is_flag=True, help="Reject it: its score is 0.")
@reason_option
@by_option
@evidence_option
@click.pass_obj
def correct(
    settings: Settings,
    submission: UUID,
    score: float | None,
    reject: bool,
    reason: str,
    by: str,
    evidence: dict[str, Any],
) -> None:
    """Correct the result of a submission.

    The evaluation stays as it is: the correction is appended, and counts. If the cycle is completed, the
    difference counts in the cycle that completes next.
    """
    if (score is None) != reject:
        raise click.UsageError("Give either --score or --reject.")
    status = SubmissionStatus.REJECTED if score is None else SubmissionStatus.SCORED
    with command_app(settings).app_context():
        service.correct(submission, status, score or 0.0, reason, by, evidence)
    click.echo(f"{submission}: {status}" + ("" if score is None else f", final score {round(score, 4):g}"))


@submissions.command()
@submission_argument
@reason_option
@by_option
@evidence_option
@click.option("--yes", is_flag=True, help="Do not ask.")
@click.pass_obj
def takedown(
    settings: Settings, submission: UUID, reason: str, by: str, evidence: dict[str, Any], yes: bool
) -> None:
    """Take a video down, for example because a person in it asks for that.

    Nobody sees it from now on, and the object in storage is deleted within RAW_DELETE_HOURS. This cannot be
    undone. Hash, statement, scores, report and fingerprint stay. To take the points back, correct it as well.
    Everybody can read the reason: name no person in it.
    """
    if not yes:
        click.confirm(f"Delete the video of {submission} for good?", abort=True)
    with command_app(settings).app_context():
        taken = service.take_down(
            submission, Order(reason, by, evidence=evidence), settings, Storage(settings)
        )
    gone = "is deleted" if taken.is_deleted else f"will be deleted within {settings.raw_delete_hours:g} hours"
    click.echo(f"{submission}: taken down; the object {gone}.")
    for other in taken.same_file:
        click.echo(f"The same file may be that of {other}: take it down as well.")
