"""`kibotos evaluate`: the evaluation of a local file, for operators and for miners before they upload."""

import json
import tempfile
import uuid
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import click
from rich.console import Console
from rich.markup import escape
from rich.table import Table

from app.clients.backend import Backend
from app.clients.vlm import Vlm
from app.config import ConfigError, Settings
from app.enums import Category, SubmissionStatus, values
from app.evaluation import pipeline, scoring
from app.evaluation.judge import Judge
from app.evaluation.model import Claim
from app.evaluation.probe import probe
from app.evaluation.sandbox import MediaFault


@click.command()
@click.argument("file", type=click.Path(exists=True, dir_okay=False, path_type=Path))
@click.option("--prompt", "prompt_id", help="Id of the prompt the video answers, as the backend lists it.")
@click.option("--api-url", help="Backend to ask for the prompt.  [default: API_URL, http://localhost:8080]")
@click.option(
    "--category",
    type=click.Choice(values(Category)),
    default="manipulation",
    show_default=True,
)
@click.option("--task", help="Without --prompt: the task.")
@click.option("--scenario", help="Without --prompt: what the video shall show.")
@click.option("--json", "as_json", is_flag=True, help="Print the report as JSON.")
@click.pass_context
def evaluate(
    context: click.Context,
    file: Path,
    prompt_id: str | None,
    api_url: str | None,
    category: str,
    task: str | None,
    scenario: str | None,
    as_json: bool,
) -> None:
    """Evaluate one video file as a worker would, and print the report. Nothing is stored.

    Uses the judge of VLM_API_URL; without one all but the relevance is told. Duplicates, which only the
    database knows, are not looked for. Exits with 1 if the video would be rejected.
    """
    settings: Settings = context.obj
    if prompt_id:
        prompt = Backend(api_url or settings.api_url).get(f"/v1/prompts/{prompt_id}")
    elif task and scenario:
        prompt = {"category": category, "task": task, "scenario": scenario, "requirements": {}}
    else:
        raise ConfigError("Say what the video shall show: either --prompt, or --task and --scenario.")
    judge = Judge(Vlm(settings), settings) if settings.has_judge else None
    with tempfile.TemporaryDirectory() as directory:
        outcome = pipeline.evaluate_file(claim_on(file, prompt), file, judge, Path(directory))
    report, is_rejected = outcome.report, False
    if judge or outcome.rejection_reason:
        verdict = scoring.verdict_of(outcome, settings.min_relevance)
        report |= {"verdict": scoring.explain(verdict, *outcome.scores)}
        is_rejected = verdict.status == SubmissionStatus.REJECTED
    if as_json:
        click.echo(json.dumps(report, indent=2))
    else:
        show(report, Console())
    context.exit(1 if is_rejected else 0)


def claim_on(file: Path, prompt: dict[str, Any]) -> Claim:
    """A claim on `file` that says of the video what is true."""
    try:
        found = probe(file)
        truth = (found.duration, found.width, found.height, found.fps)
    except MediaFault:
        truth = (0.0, 1, 1, 0.0)
    duration, width, height, fps = truth
    return Claim(
        id=0,
        submission_uuid=uuid.uuid4(),
        attempt=1,
        claim_token=uuid.uuid4(),
        lease_expires_at=datetime.now(UTC),
        video_key=file.name,
        video_hash="",
        prompt_id=prompt.get("id", ""),
        category=prompt["category"],
        task=prompt["task"],
        scenario=prompt["scenario"],
        requirements=prompt["requirements"],
        duration_sec=duration,
        resolution_width=width,
        resolution_height=height,
        fps=fps,
    )


def show(report: dict[str, Any], console: Console) -> None:
    """Print a verification report as tables."""
    checks = _table("Technical checks", "check", "", "measured", "wanted", "points", "reason")
    for check in report["technical"]["checks"]:
        points = f"{check['weight'] if check['passed'] else 0:g} of {check['weight']:g}"
        mark = "[green]passed[/]" if check["passed"] else "[red]failed[/]"
        checks.add_row(
            check["name"], mark, *map(_plain, (check["value"], check["threshold"], points, check["reason"]))
        )
    console.print(checks)
    if quality := report.get("quality"):
        table = _table("Quality", "measure", "share", "let pass", "deduction")
        for deduction in quality["deductions"]:
            table.add_row(*(_plain(deduction[key]) for key in ("name", "value", "threshold", "points")))
        console.print(table)
    if judge := report.get("judge"):
        table = _table(f"Judge: {escape(judge['model'])}, {judge['prompt_version']}", "question", "score")
        for name in ("action_match", "perspective_correct", "demonstration_quality", "training_utility"):
            table.add_row(name, _plain(judge[name]))
        console.print(table, f"“{escape(judge['reasoning'])}”")
    elif "verdict" not in report:
        console.print(
            "The judge was not asked: VLM_API_URL is not set, so there is no relevance and no final score."
        )
    if verdict := report.get("verdict"):
        table = _table("Final score", "part", "score", "weight", "points")
        for part in verdict["parts"]:
            table.add_row(*(_plain(part[key]) for key in ("name", "score", "weight", "points")))
        table.add_row("final", "", "", _plain(verdict["final_score"]), style="bold")
        console.print(table)
        colour = "red" if verdict["rejection_reason"] else "green"
        console.print(f"[{colour}]{verdict['status']}[/] {escape(verdict['rejection_reason'] or '')}")
    stages = ", ".join(f"{name} {seconds:g} s" for name, seconds in report["stage_seconds"].items())
    console.print(f"[dim]{stages}[/]")


def _table(title: str, *columns: str) -> Table:
    table = Table(title=title, title_justify="left")
    for column in columns:
        table.add_column(column, overflow="fold")
    return table


def _plain(value: Any) -> str:
    """A value for a cell: without markup, floats short."""
    if value is None:
        return ""
    return f"{value:.4g}" if isinstance(value, float) else escape(str(value))
