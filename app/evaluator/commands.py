"""`kibotos evaluator` pulls work over HTTP; `kibotos evaluate` evaluates a local file."""

import signal
import tempfile
from pathlib import Path

import click
import structlog
from rich.console import Console

from app.assessment import formula, pipeline
from app.assessment.display import show
from app.assessment.judge import Judge
from app.assessment.model import Brief, Claim
from app.clients.backend import Backend
from app.clients.vlm import Vlm
from app.config import ConfigError, Settings
from app.enums import Category, SubmissionStatus, values
from app.evaluator.judge_calls import RemoteCounter
from app.evaluator.runner import EvaluatorRunner
from app.video import control

log = structlog.get_logger(__name__)


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
        brief = Brief(prompt["category"], prompt["task"], prompt["scenario"], prompt["requirements"])
        outcome = pipeline.evaluate_file(file, brief, judge, Path(directory))
    report, is_rejected = outcome.report, False
    if judge or outcome.rejection_reason:
        verdict = formula.verdict_of(outcome, settings.min_relevance)
        report.verdict = formula.explain(verdict, *outcome.scores)
        is_rejected = verdict.status == SubmissionStatus.REJECTED
    if as_json:
        click.echo(report.model_dump_json(indent=2, exclude_unset=True))
    else:
        show(report, Console())
    context.exit(1 if is_rejected else 0)


@click.command()
@click.option("--api-url", help="The backend.  [default: API_URL, http://localhost:8080]")
@click.option("--poll-interval", type=click.FloatRange(0.1, 3600), default=10, show_default=True)
@click.option("--batch-size", type=click.IntRange(1, 100), default=5, show_default=True)
@click.pass_obj
def evaluator(settings: Settings, api_url: str | None, poll_interval: float, batch_size: int) -> None:
    """Evaluate submissions pulled over HTTP: needs EVALUATOR_TOKEN and VLM_API_URL, and no database.

    Looks for work every --poll-interval seconds and keeps --batch-size submissions under way at once. On
    SIGTERM or Ctrl-C it finishes what it has begun.
    """
    from app import logs

    if not settings.has_judge:
        raise ConfigError("VLM_API_URL is not set: an evaluator needs a vision language model to ask.")
    settings.require_judge()
    if not settings.development and not settings.evaluator_token:
        raise ConfigError("EVALUATOR_TOKEN is not set; it must be the same as the backend's.")
    logs.configure(settings.log_level, settings.log_format)
    with tempfile.TemporaryDirectory() as directory:
        control.check_tools(Path(directory))
    token = settings.evaluator_token[0] if settings.evaluator_token else None
    backend = Backend(api_url or settings.api_url, token)
    # shared, for what it learns of its server
    vlm = Vlm(settings)

    def judge_for(claim: Claim) -> Judge:
        return Judge(vlm, settings, counter=RemoteCounter(backend, claim))

    runner = EvaluatorRunner(backend, judge_for, batch_size)

    def stop(number: int, _frame: object) -> None:
        runner.stop()
        # who asks twice means it
        signal.signal(number, signal.SIG_DFL)

    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, stop)
    log.info("evaluator_started", api_url=backend.url, judge=settings.vlm_model, batch_size=batch_size)
    runner.run(poll_interval)
    log.info("evaluator_stopped")
