"""`kibotos evaluator` evaluates submissions over HTTP; `kibotos evaluate` evaluates a local file."""

import os
import signal
import tempfile
from pathlib import Path

import click

from app.config import ConfigError, Settings
from app.enums import Category, SubmissionStatus, values


@click.command()
@click.argument("file", type=click.Path(exists=True, dir_okay=False, path_type=Path))
@click.option(
    "--prompt", "prompt_id", help="Id of the prompt that the video shows; it is read from the backend."
)
@click.option("--api-url", help="The backend that has the prompt.  [default: API_URL, http://localhost:8080]")
@click.option(
    "--category",
    type=click.Choice(values(Category)),
    default="manipulation",
    show_default=True,
)
@click.option("--task", help="Without --prompt: the task.")
@click.option("--scenario", help="Without --prompt: what the video should show.")
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
    """Evaluate one video file as a worker does, and print the report. Nothing is stored.

    The judge is at VLM_API_URL. Without it the report has no relevance and no final score. The command does
    not look for duplicates, since only the database knows them. Exits with 1 if the video would be rejected.
    """
    from rich.console import Console

    from app.assessment import formula, pipeline
    from app.assessment.display import show
    from app.assessment.judge import Judge
    from app.assessment.model import Brief
    from app.clients.backend import Backend
    from app.clients.vlm import Vlm
    from app.video import painting

    settings: Settings = context.obj
    if prompt_id:
        prompt = Backend(api_url or settings.api_url).get(f"/v1/prompts/{prompt_id}")
    elif task and scenario:
        prompt = {"category": category, "task": task, "scenario": scenario, "requirements": {}}
    else:
        raise ConfigError("Say what the video should show: give either --prompt, or --task and --scenario.")
    judge = Judge(Vlm(settings), settings) if settings.has_judge else None
    with tempfile.TemporaryDirectory() as directory:
        brief = Brief(prompt["category"], prompt["task"], prompt["scenario"], prompt["requirements"])
        outcome = pipeline.evaluate_file(file, brief, judge, Path(directory), painting.painter(settings))
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
    """Evaluate submissions from a backend, over HTTP.

    Set EVALUATOR_TOKEN and VLM_API_URL. No database is needed. The evaluator asks for work every
    --poll-interval seconds and evaluates --batch-size submissions at once: it decodes one on each processor
    while others are at the judge. At SIGTERM or Ctrl-C it finishes the evaluations that it has begun, and
    ends.
    """
    import structlog

    from app import logs
    from app.assessment.judge import Judge
    from app.assessment.model import Claim
    from app.clients.backend import Backend
    from app.clients.vlm import Vlm
    from app.evaluator.judge_calls import RemoteCounter
    from app.evaluator.runner import EvaluatorRunner
    from app.video import control, painting

    if not settings.has_judge:
        raise ConfigError("VLM_API_URL is not set: set it to the server of a vision language model.")
    settings.require_judge()
    if not settings.development and not settings.evaluator_token:
        raise ConfigError(
            "EVALUATOR_TOKEN is not set: set it to the token that you got from the operator of the backend."
        )
    logs.configure(settings.log_level, settings.log_format)
    log = structlog.get_logger(__name__)
    with tempfile.TemporaryDirectory() as directory:
        control.check_tools(Path(directory))
    if settings.paint_writing:
        painting.check()
    token = settings.evaluator_token[0] if settings.evaluator_token else None
    backend = Backend(api_url or settings.api_url, token)
    # each shared, for what it learns of its server
    ways = {is_appeal: settings.for_judging(is_appeal) for is_appeal in (False, True)}
    vlms = {is_appeal: Vlm(way) for is_appeal, way in ways.items()}

    def judge_for(claim: Claim) -> Judge:
        vlm, way = vlms[claim.is_appeal], ways[claim.is_appeal]
        return Judge(vlm, way, counter=RemoteCounter(backend, claim))

    # those that this process may use
    processors = len(os.sched_getaffinity(0))
    runner = EvaluatorRunner(backend, judge_for, painting.painter(settings), batch_size, processors)

    def stop(number: int, _frame: object) -> None:
        runner.stop()
        # who asks twice means it
        signal.signal(number, signal.SIG_DFL)

    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, stop)
    log.info(
        "evaluator_started",
        api_url=backend.url,
        judge=settings.vlm_model,
        batch_size=batch_size,
        processors=processors,
    )
    runner.run(poll_interval)
    log.info("evaluator_stopped")
