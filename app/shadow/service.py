"""Judges a cycle anew beside it, by other rules or by another judge, and says what would be different.

Nothing is written. A result that was corrected stays as it was decided. Memory does not grow with the cycle.
"""

import heapq
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from datetime import UTC, datetime
from fractions import Fraction
from itertools import islice
from pathlib import Path
from uuid import UUID

import structlog

from app.assessment import formula, pipeline
from app.assessment.model import Claim
from app.assessment.report import Report
from app.enums import SubmissionStatus
from app.errors import Conflict, NotFound, TransientError
from app.shadow import queries
from app.shadow.queries import StoredResult

log = structlog.get_logger(__name__)

# so many of the largest differences are named
NAMED = 20

# The verdict of a result anew, or None if it cannot be told.
JudgeAnew = Callable[[StoredResult], formula.Verdict | None]


@dataclass
class Miner:
    """A miner's part of the cycle as it is and as it would be: accepted submissions, total, share of all."""

    miner_uid: int
    miner_hotkey: str
    submissions: int = 0
    accepted_before: int = 0
    accepted_after: int = 0
    total_before: float = 0.0
    total_after: float = 0.0
    share_before: float = 0.0
    share_after: float = 0.0


@dataclass(frozen=True)
class Change:
    """A result that would be another."""

    submission_uuid: UUID
    miner_uid: int
    status_before: str
    status_after: str
    score_before: float
    score_after: float
    reason: str | None

    @property
    def difference(self) -> float:
        return abs(self.score_after - self.score_before)


@dataclass
class Comparison:
    """What would be different. `untold` are results that could not be judged anew; they stay as they are."""

    cycle_id: int
    results: int = 0
    changed: int = 0
    newly_rejected: int = 0
    newly_accepted: int = 0
    corrected: int = 0
    untold: int = 0
    miners: list[Miner] = field(default_factory=list)
    largest_changes: list[Change] = field(default_factory=list)


def count(cycle_id: int, evaluator: str | None) -> int:
    """How many results there are to compare. Raises NotFound or Conflict if there is nothing to compare."""
    found = queries.count_results(cycle_id, evaluator)
    if found is None:
        raise NotFound(f"There is no cycle {cycle_id}; kibotos cycles status names the latest.")
    if not found.results:
        of = f" of {evaluator}" if evaluator else ""
        raise Conflict(f"Cycle {cycle_id} has no results{of} yet.")
    return found.results


def compare(
    cycle_id: int, evaluator: str | None, judge_anew: JudgeAnew, limit: int | None, done: Callable[[], None]
) -> Comparison:
    """Judge the first `limit` results of a cycle anew and compare; `done` is called after each."""
    comparison = Comparison(cycle_id)
    miners: dict[tuple[int, str], Miner] = {}
    before: dict[tuple[int, str], Fraction] = {}
    after: dict[tuple[int, str], Fraction] = {}

    def changes() -> Iterator[Change]:
        for result in islice(queries.iterate_results(cycle_id, evaluator), limit):
            verdict = None if result.is_corrected else judge_anew(result)
            comparison.results += 1
            comparison.corrected += result.is_corrected
            comparison.untold += not result.is_corrected and verdict is None
            old = formula.Verdict(SubmissionStatus(result.status), None, result.final_score)
            new = verdict or old
            key = result.miner_uid, result.miner_hotkey
            miner = miners.setdefault(key, Miner(*key))
            miner.submissions += 1
            miner.accepted_before += old.status == SubmissionStatus.SCORED
            miner.accepted_after += new.status == SubmissionStatus.SCORED
            before[key] = before.get(key, Fraction(0)) + _points(old, result)
            after[key] = after.get(key, Fraction(0)) + _points(new, result)
            done()
            if (old.status, old.final_score) != (new.status, new.final_score):
                comparison.changed += 1
                comparison.newly_rejected += _lost(old, new)
                comparison.newly_accepted += _lost(new, old)
                yield Change(
                    result.submission_uuid,
                    result.miner_uid,
                    old.status,
                    new.status,
                    old.final_score,
                    new.final_score,
                    new.rejection_reason,
                )

    comparison.largest_changes = heapq.nlargest(NAMED, changes(), key=lambda change: change.difference)
    sums = sum(before.values()), sum(after.values())
    for key, miner in miners.items():
        miner.total_before, miner.total_after = float(before[key]), float(after[key])
        miner.share_before = float(before[key] / sums[0]) if sums[0] else 0.0
        miner.share_after = float(after[key] / sums[1]) if sums[1] else 0.0
    comparison.miners = sorted(miners.values(), key=lambda each: (-each.total_after, each.miner_uid))
    return comparison


def _lost(old: formula.Verdict, new: formula.Verdict) -> bool:
    """Whether what was accepted would be rejected."""
    return old.status == SubmissionStatus.SCORED and new.status == SubmissionStatus.REJECTED


def _points(verdict: formula.Verdict, result: StoredResult) -> Fraction:
    return Fraction(round(verdict.final_score * 10_000), 10_000) * Fraction(str(result.prompt_weight))


def by_rules(rules: formula.Rules, min_relevance: float) -> JudgeAnew:
    """Judge by other numbers, from what the report keeps. The judge is not asked.

    A result cannot be told where the video would no longer be rejected for known footage, but the judge never
    saw it.
    """

    def judge_anew(result: StoredResult) -> formula.Verdict | None:
        report = Report.read(result.report or {})
        technical, relevance, action_match = result.technical_score, result.relevance_score, None
        if report.technical:
            passed = {check.name: check.passed for check in report.technical.checks}
            technical = formula.technical_score(passed, rules)
        if answer := report.judge:
            action_match = answer.action_match
            if not answer.addresses_judge:
                scores = (answer.action_match, answer.perspective_correct)
                relevance = formula.relevance_score(
                    *scores, answer.demonstration_quality, answer.training_utility, rules
                )
        reason = _find_fault(result)
        if report.duplicates:
            if formula.is_duplicate(report.duplicates, rules):
                reason = reason or "Too much of the video is known."
            elif formula.is_duplicate(report.duplicates):
                if answer is None:
                    return None
                reason = None
        return formula.verdict(
            technical,
            relevance,
            result.quality_score,
            min_relevance=min_relevance,
            action_match=action_match,
            rejection_reason=reason,
            reasoning=report.judge.reasoning if report.judge else "",
            rules=rules,
        )

    return judge_anew


def _find_fault(result: StoredResult) -> str | None:
    """The reason of a rejection that no gate was the cause of, or None."""
    reason = result.rejection_reason
    return None if reason is None or reason.startswith(formula.NOT_SHOWN) else reason


def by_judge(
    open_url: Callable[[str], str],
    make_judge: Callable[[], pipeline.Assessor],
    paint: pipeline.Paint | None,
    min_relevance: float,
    workdir: Path,
) -> JudgeAnew:
    """Judge by another judge, which sees the same stills of the stored video.

    All else stays as it was found. What was rejected without a judge stays rejected.
    """

    def judge_anew(result: StoredResult) -> formula.Verdict | None:
        report = Report.read(result.report or {})
        was_judged = result.judge_model is not None or result.relevance_score > 0
        if not was_judged:
            return formula.Verdict(
                SubmissionStatus(result.status), result.rejection_reason, result.final_score
            )
        claim = _claim(result)
        try:
            outcome = pipeline.evaluate(
                claim,
                lambda: open_url(result.video_key),
                make_judge(),
                workdir,
                lambda: None,
                paint=paint,
            )
        except TransientError as error:
            log.warning("not_judged", submission=str(result.submission_uuid), reason=error.reason)
            return None
        known = report.duplicates and formula.is_duplicate(report.duplicates)
        return formula.verdict(
            result.technical_score,
            outcome.relevance_score,
            result.quality_score,
            min_relevance=min_relevance,
            action_match=outcome.action_match,
            rejection_reason=result.rejection_reason if known else outcome.rejection_reason,
            reasoning=outcome.reasoning,
        )

    return judge_anew


def _claim(result: StoredResult) -> Claim:
    """What an evaluation needs; no lease is behind it."""
    return Claim(
        id=result.id,
        submission_uuid=result.submission_uuid,
        attempt=1,
        claim_token=result.submission_uuid,
        lease_expires_at=datetime.max.replace(tzinfo=UTC),
        video_key=result.video_key,
        video_hash=result.video_hash,
        prompt_id=result.prompt_id,
        category=result.category,
        task=result.task,
        scenario=result.scenario,
        requirements=result.requirements,
        duration_sec=result.duration_sec,
        resolution_width=result.resolution_width,
        resolution_height=result.resolution_height,
        fps=result.fps,
        frame_seed=result.frame_seed,
    )
