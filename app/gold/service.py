"""The rules of gold films: when they are shown, and what an answer to one does.

To a remote evaluator a showing must look like a submission. So it has an id among theirs, a fresh object in
storage, a miner of the time, and bytes that this evaluator has not had. Nothing that counts submissions reads
showings.
"""

import math
from collections import defaultdict
from dataclasses import asdict
from pathlib import PurePosixPath
from uuid import UUID, uuid4

import structlog

from app.assessment import formula
from app.assessment.model import Claim, Outcome
from app.clients.storage import Storage
from app.config import Settings
from app.db import db
from app.errors import NotFound, Unavailable
from app.gold import agreement, queries
from app.gold.agreement import NOTHING, Tally
from app.gold.models import (
    BlockOut,
    EvaluatorAnswers,
    Finding,
    JudgeOut,
    show_finding,
)
from app.video import remux

log = structlog.get_logger(__name__)

# answers that are older say nothing of the judge of today
DAYS = 30
# of an evaluator so many times GOLD_LEAST_ANSWERS of its latest answers count, so that a change shows soon
WINDOWS = 2


def retire(uuid: UUID) -> None:
    """Show a film no more, and count its answers no more. Raises NotFound if it is not in use.

    Whoever has claimed a showing of it keeps the lease and gets the usual answers.
    """
    if not queries.retire(uuid):
        raise NotFound("There is no such gold film in use; kibotos gold list names them.")
    queries.discard_unclaimed(everything=False)
    db.session.commit()


def plan(settings: Settings, storage: Storage) -> None:
    """Put a film into the queue if so many submissions have come since the last that it is time.

    How many follows from a random number of the last showing, so nobody can tell which place is next. The
    object is copied now, since storage tells its age.
    """
    queries.discard_unclaimed(everything=settings.gold_rate == 0)
    db.session.commit()
    if settings.gold_rate == 0:
        return
    last = queries.find_last()
    wait = _wait(last.draw if last else 0.0, settings.gold_rate)
    came = queries.count_submitted_after(last.id if last else 0, at_most=wait)
    copy = queries.pick_copy() if came >= wait else None
    companion = queries.find_companion() if copy else None
    # storage takes its time, and no connection is held meanwhile
    db.session.rollback()
    if copy is None or companion is None:
        return
    suffix = next(suffix for suffix, (_, type) in remux.MUXERS.items() if type == copy.content_type)
    name = f"{PurePosixPath(companion.video_key).stem}{suffix}"
    video_key = f"uploads/{uuid4()}/{name}"
    try:
        storage.copy(copy.object_key, video_key, copy.content_type)
    except Unavailable as error:
        log.warning("gold_film_not_planned", reason=error.detail)
        return
    if queries.insert_showing(copy.id, video_key, companion):
        db.session.commit()
        # not which one: logs go further than this table
        log.info("gold_film_planned")
    db.session.rollback()


def _wait(draw: float, rate: float) -> int:
    """How many submissions come between two showings: `rate` for each on average, as by lot for each."""
    return max(1, math.ceil(-math.log(1 - draw) / rate))


def record(
    claim: Claim, outcome: Outcome, evaluator: str | None, settings: Settings
) -> formula.Verdict | None:
    """Record an answer and return its verdict; None, with nothing written, if no showing is under `claim`.

    The caller commits.
    """
    verdict = formula.verdict_of(outcome, settings.min_relevance)
    report = outcome.report.model_copy(update={"verdict": formula.explain(verdict, *outcome.scores)})
    values = {
        "status": verdict.status,
        "final_score": verdict.final_score,
        "rejection_reason": verdict.rejection_reason,
        "technical_score": outcome.technical_score,
        "relevance_score": outcome.relevance_score,
        "quality_score": outcome.quality_score,
        "judge_model": outcome.judge_model,
        "prompt_version": outcome.prompt_version,
        "evaluator": evaluator,
    }
    return verdict if queries.record(claim, values, report.dump_json()) else None


def list_findings(settings: Settings) -> list[Finding]:
    """How the answers of the last DAYS days agree with people: all, by category, judge, and so on."""
    tallies: dict[tuple[str, str], Tally] = defaultdict(lambda: NOTHING)
    for group in queries.list_groups(DAYS):
        tallies["all", "all"] += group.tally
        for by in ("category", "judge_model", "prompt_version", "evaluator"):
            tallies[by, getattr(group, by)] += group.tally
    return [_find(by, name, tally, settings) for (by, name), tally in tallies.items()]


def _find(by: str, name: str, tally: Tally, settings: Settings) -> Finding:
    measured = agreement.measure(tally)
    doubtful = agreement.is_doubtful(
        measured, tally.answers, settings.gold_min_kappa, settings.gold_least_answers
    )
    return Finding(by, name, tally, measured, doubtful)


def find_doubt(cycle_id: int, settings: Settings) -> str | None:
    """A sentence that says why the judge of a cycle is in doubt, or None."""
    tallies: dict[tuple[str, str], Tally] = defaultdict(lambda: NOTHING)
    for group in queries.list_groups(DAYS):
        tallies[group.judge_model, group.prompt_version] += group.tally
    for (model, version), tally in tallies.items():
        found = _find("judge_model", model, tally, settings)
        if found.doubtful and queries.has_judged(cycle_id, model, version):
            return (
                f"The judge {model} with prompt version {version} does not agree with people: "
                f"{agreement.describe(tally, found.agreement)} to gold films, below "
                f"{settings.gold_min_kappa:g}."
            )
    return None


def list_doubtful_evaluators(settings: Settings) -> list[tuple[EvaluatorAnswers, str]]:
    """The remote evaluators whose latest answers differ too much from people's, with the reason."""
    found = []
    for each in queries.list_evaluators(DAYS, WINDOWS * settings.gold_least_answers):
        finding = _find("evaluator", each.evaluator, each.tally, settings)
        if finding.doubtful:
            described = agreement.describe(each.tally, finding.agreement)
            found.append(
                (each, f"Its answers to gold films: {described}, below {settings.gold_min_kappa:g}.")
            )
    return found


def describe_judge(settings: Settings) -> JudgeOut:
    """Say how the answers to gold films agree with people, and which evaluators are blocked for theirs."""
    return JudgeOut(
        days=DAYS,
        min_kappa=settings.gold_min_kappa,
        least_answers=settings.gold_least_answers,
        films=queries.count_films(),
        copies_left=queries.count_copies_left(),
        agreement=[show_finding(each) for each in list_findings(settings)],
        blocked_evaluators=[BlockOut(**asdict(block)) for block in queries.list_blocks()],
    )
