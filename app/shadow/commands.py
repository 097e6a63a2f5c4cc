"""`kibotos shadow`: what a cycle would be by other rules or by another judge."""

import json
import tempfile
from dataclasses import asdict, replace
from pathlib import Path

import click
from rich.console import Console
from rich.progress import Progress
from rich.table import Table

from app.assessment.judge import Judge
from app.clients.storage import Storage
from app.clients.vlm import Vlm
from app.config import ConfigError, Settings
from app.db import command_app
from app.shadow import service
from app.shadow.rules import read_rules
from app.video import painting

# a large video takes so long to download
URL_SECONDS = 3600


@click.command()
@click.option("--cycle", "cycle_id", type=click.IntRange(min=1), required=True, help="Number of the cycle.")
@click.option(
    "--rules",
    type=click.Path(exists=True, dir_okay=False, path_type=Path),
    help="JSON file with other weights and limits; the judge is not asked.",
)
@click.option("--model", help="Name of another judge at VLM_API_URL; the stored videos are judged again.")
@click.option("--evaluator", help="Compare only what this remote evaluator delivered.")
@click.option("--limit", type=click.IntRange(min=1), help="Compare only so many submissions, the first ones.")
@click.option("--json", "as_json", is_flag=True, help="Print JSON.")
@click.pass_obj
def shadow(
    settings: Settings,
    cycle_id: int,
    rules: Path | None,
    model: str | None,
    evaluator: str | None,
    limit: int | None,
    as_json: bool,
) -> None:
    """Judge a cycle anew, by other rules or by another judge, and show what would be different.

    Nothing is written, and no weight changes. A result that was corrected stays as it was decided.
    """
    if (rules is None) == (model is None):
        raise ConfigError("Give either --rules or --model.")
    if evaluator:
        evaluator = f"token {evaluator.removeprefix('token ')}"
    if model and not settings.has_judge:
        raise ConfigError("VLM_API_URL is not set: set it to the server of the model.")
    tried = read_rules(rules) if rules else None
    with command_app(settings).app_context(), tempfile.TemporaryDirectory() as directory:
        if tried:
            relevance = settings.min_relevance if tried.min_relevance is None else tried.min_relevance
            judge_anew = service.by_rules(tried.rules, relevance)
        else:
            asked = replace(settings, vlm_model=model or "").require_judge()
            storage, vlm = Storage(settings), Vlm(asked)
            judge_anew = service.by_judge(
                lambda key: storage.presign_get(key, URL_SECONDS, public=False),
                lambda: Judge(vlm, asked),
                painting.painter(settings),
                settings.min_relevance,
                Path(directory),
            )
        total = service.count(cycle_id, evaluator)
        with Progress(console=Console(stderr=True)) as progress:
            task = progress.add_task("Judging", total=min(total, limit or total))
            comparison = service.compare(
                cycle_id, evaluator, judge_anew, limit, lambda: progress.advance(task)
            )
    if as_json:
        click.echo(json.dumps(asdict(comparison), indent=2, default=str))
    else:
        _show(comparison)


def _show(comparison: service.Comparison) -> None:
    console = Console()
    table = Table(title=f"Cycle {comparison.cycle_id}, as it is and as it would be")
    for heading in ("uid", "submissions", "accepted", "total", "share"):
        table.add_column(heading, justify="right")
    for each in comparison.miners:
        table.add_row(
            str(each.miner_uid),
            str(each.submissions),
            f"{each.accepted_before} → {each.accepted_after}",
            f"{each.total_before:.4f} → {each.total_after:.4f}",
            f"{each.share_before:.2%} → {each.share_after:.2%}",
        )
    console.print(table)
    for change in comparison.largest_changes:
        reason = f"  {change.reason[:120]}" if change.reason else ""
        click.echo(
            f"{change.submission_uuid}  uid {change.miner_uid}  {change.status_before} "
            f"{change.score_before:.4f} → {change.status_after} {change.score_after:.4f}{reason}"
        )
    click.echo(
        f"{comparison.changed} of {comparison.results} results would change: {comparison.newly_rejected} "
        f"newly rejected, {comparison.newly_accepted} newly accepted. {comparison.corrected} were corrected "
        f"and stay. {comparison.untold} could not be judged anew and stay."
    )
