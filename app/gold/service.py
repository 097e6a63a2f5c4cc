"""The rules of gold films: how they are added, when they are shown, and what an answer to one does.

To a remote evaluator a showing must look like a submission. So it has an id among theirs, a fresh object in
storage, a miner of the time, and bytes that this evaluator has not had. Nothing that counts submissions reads
showings.
"""

import hashlib
import math
import tempfile
from collections import defaultdict
from collections.abc import Callable, Iterator
from dataclasses import asdict
from pathlib import Path, PurePosixPath
from uuid import UUID, uuid4

import structlog

from app.assessment import formula, pipeline
from app.assessment.model import Brief, Claim, Outcome
from app.clients.storage import Storage
from app.config import Settings
from app.db import db
from app.enums import SubmissionStatus
from app.errors import Conflict, NotFound, Unavailable
from app.gold import agreement, queries
from app.gold.agreement import NOTHING, Tally
from app.gold.models import (
    BlockOut,
    Copy,
    EvaluatorAnswers,
    Finding,
    HumanScores,
    JudgeOut,
    show_finding,
)
from app.prompts import service as prompts
from app.video import remux
from app.video.ffmpeg import MediaFault
from app.video.probe import Probe, probe

log = structlog.get_logger(__name__)

PREFIX = "gold/"
# answers that are older say nothing of the judge of today
DAYS = 30
# of an evaluator so many times GOLD_LEAST_ANSWERS of its latest answers count, so that a change shows soon
WINDOWS = 2
# Each copy is a frame shorter than the one before. No more of a film than this may be missing.
MOST_CUT = 0.1


def add(
    file: Path,
    prompt_id: str,
    scores: HumanScores,
    accepted: bool | None,
    scored_by: str,
    copies: int,
    settings: Settings,
    storage: Storage,
    tell: Callable[[str], None] = lambda line: None,
) -> None:
    """Add a film with people's scores, or more copies of one that is there.

    `accepted` is None where people's scores decide by the gates. Raises NotFound for an unknown prompt, and
    Conflict for a film that cannot be used: the evaluation would reject it without a judge, it is too short
    for so many copies, or it is there with other scores.
    """
    prompt = prompts.get_prompt(prompt_id)
    relevance = formula.relevance_score(**asdict(scores))
    if accepted is None:
        verdict = formula.verdict(
            1, relevance, 1, min_relevance=settings.min_relevance, action_match=scores.action_match
        )
        accepted = verdict.status == SubmissionStatus.SCORED
    with file.open("rb") as opened:
        video_hash = hashlib.file_digest(opened, "sha256").hexdigest()
    known = _list_known_copies(prompt_id, video_hash, scores)
    if uuid := queries.find_submitted(video_hash):
        tell(f"Warning: it was submitted as {uuid}, so whoever evaluated that can recognise it.")
    db.session.rollback()

    made = []
    brief = Brief(prompt.category, prompt.task, prompt.scenario, prompt.requirements)
    try:
        times = _check_room(file, copies, known)
        with tempfile.TemporaryDirectory() as directory:
            reason = pipeline.evaluate_file(file, brief, None, Path(directory)).rejection_reason
            if reason:
                raise Conflict(f"The evaluation would reject this film without asking a judge: {reason}")
            for path, copy in _make_copies(file, times, copies, known, Path(directory)):
                storage.put_file(copy.object_key, path, copy.content_type)
                made.append(copy)
                tell(f"Copy {len(made)} of {copies} is stored.")
    except MediaFault as fault:
        raise Conflict(f"The film cannot be used: {fault}") from fault

    queries.lock()
    known = _list_known_copies(prompt_id, video_hash, scores)
    film_id = queries.find_film_id(prompt_id, video_hash)
    if film_id is None:
        film_id = queries.insert_film(prompt_id, video_hash, scores, relevance, accepted, scored_by)
    for copy in made:
        if copy.video_hash not in known:
            queries.insert_copy(film_id, copy)
    db.session.commit()


def _list_known_copies(prompt_id: str, video_hash: str, scores: HumanScores) -> set[str]:
    """The hashes of the copies of a film that is there; raise Conflict if it is there with other scores."""
    film_id = queries.find_film_id(prompt_id, video_hash)
    if film_id is None:
        return set()
    if queries.get_scores(film_id) != scores:
        raise Conflict(
            "This film is there for this prompt with other scores; retire it first: kibotos gold retire."
        )
    return queries.list_copy_hashes(film_id)


def _check_room(file: Path, wanted: int, known: set[str]) -> tuple[float, ...]:
    """Return the times of the frames if so many more copies can be made of the film, or raise Conflict."""
    if file.suffix.lower() not in remux.MUXERS:
        raise Conflict(f"The name of the file must end in one of {', '.join(remux.MUXERS)}.")
    times = probe(file).times
    room = max(0, int(len(times) * MOST_CUT) - len(known))
    if wanted > room:
        raise Conflict(
            f"A film of {len(times)} frames has room for {room} more copies, not for {wanted}; "
            "give a smaller --copies, or take a longer film."
        )
    return times


def _make_copies(
    file: Path, times: tuple[float, ...], wanted: int, known: set[str], directory: Path
) -> Iterator[tuple[Path, Copy]]:
    """Make copies with bytes that are not `known`. Each file is gone when the next is made."""
    suffix = file.suffix.lower()
    made: set[str] = set()
    for cut in range(1, int(len(times) * MOST_CUT) + 1):
        place = directory / str(cut)
        place.mkdir()
        path = place / f"copy{suffix}"
        remux.shorten(file, path, times[-cut] - times[0])
        with path.open("rb") as opened:
            video_hash = hashlib.file_digest(opened, "sha256").hexdigest()
        if video_hash not in known | made:
            made.add(video_hash)
            yield path, _describe(probe(path), video_hash, remux.MUXERS[suffix][1])
        path.unlink()
        if len(made) == wanted:
            return
    raise Conflict(f"Only {len(made)} different copies of this film can be made; give a smaller --copies.")


def _describe(probed: Probe, video_hash: str, content_type: str) -> Copy:
    """What is known of a copy; it declares what a miner's program declares."""
    return Copy(
        object_key=f"{PREFIX}{uuid4()}",
        content_type=content_type,
        video_hash=video_hash,
        duration_sec=round(probed.duration, 3),
        resolution_width=probed.width,
        resolution_height=probed.height,
        fps=round(probed.fps, 3),
    )


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
