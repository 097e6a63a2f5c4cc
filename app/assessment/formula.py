"""The formulas and gates of a score: pure rules. No other module has them.

All scores lie in [0, 1].
"""

import math
from collections.abc import Mapping
from dataclasses import dataclass, field

from app.assessment.model import Outcome
from app.assessment.report import DuplicatesPart, Points, VerdictPart
from app.enums import SubmissionStatus

# name of a technical check -> its share; a video that fails one of REJECTING is rejected
TECHNICAL_WEIGHTS = {
    "readable": 1.0,
    "valid_format": 1.0,
    "valid_codec": 1.0,
    "resolution": 1.0,
    "fps": 0.5,
    "duration": 1.0,
    "file_size": 0.5,
}
REJECTING = frozenset({"readable", "valid_format", "valid_codec", "duration"})

# the judge's score -> its share of the relevance
RELEVANCE_WEIGHTS = {
    "action_match": 0.4,
    "perspective_correct": 0.2,
    "demonstration_quality": 0.2,
    "training_utility": 0.2,
}
FINAL_WEIGHTS = {"technical": 0.2, "relevance": 0.5, "quality": 0.3}

MIN_ACTION_MATCH = 0.3
# share of a video that may be known before it is rejected
MAX_MATCHED = 0.8
# how the reason begins where a gate rejects
NOT_SHOWN = "The video does not show the requested task"
FILM_THE_TASK = "Film the task as the prompt describes it, from its start to its end."
# a reason is no longer, as the database has it
MOST_LETTERS = 2000


@dataclass(frozen=True)
class Rules:
    """The numbers of the formulas and gates, apart from MIN_RELEVANCE, which operators set."""

    technical_weights: Mapping[str, float] = field(default_factory=lambda: TECHNICAL_WEIGHTS)
    relevance_weights: Mapping[str, float] = field(default_factory=lambda: RELEVANCE_WEIGHTS)
    final_weights: Mapping[str, float] = field(default_factory=lambda: FINAL_WEIGHTS)
    min_action_match: float = MIN_ACTION_MATCH
    max_matched: float = MAX_MATCHED


# what holds; `kibotos shadow` tries others
RULES = Rules()


@dataclass(frozen=True)
class Verdict:
    """What a submission gets: `status` SCORED or REJECTED, the reason of a rejection, the final score."""

    status: SubmissionStatus
    rejection_reason: str | None
    final_score: float


def technical_score(passed: Mapping[str, bool], rules: Rules = RULES) -> float:
    """Return the weighted share of the passed checks; a check that is not in `passed` has failed."""
    weights = rules.technical_weights
    points = sum(weight for name, weight in weights.items() if passed.get(name, False))
    return points / sum(weights.values())


def relevance_score(
    action_match: float,
    perspective_correct: float,
    demonstration_quality: float,
    training_utility: float,
    rules: Rules = RULES,
) -> float:
    """Return the weighted sum of the judge's four scores."""
    weights = rules.relevance_weights
    return (
        weights["action_match"] * action_match
        + weights["perspective_correct"] * perspective_correct
        + weights["demonstration_quality"] * demonstration_quality
        + weights["training_utility"] * training_utility
    )


def final_score(technical: float, relevance: float, quality: float, rules: Rules = RULES) -> float:
    """Return the score of a submission that passes every gate, rounded to 4 places."""
    weights = rules.final_weights
    return round(
        weights["technical"] * technical + weights["relevance"] * relevance + weights["quality"] * quality, 4
    )


def verdict(
    technical: float,
    relevance: float,
    quality: float,
    *,
    min_relevance: float,
    action_match: float | None = None,
    rejection_reason: str | None = None,
    reasoning: str = "",
    rules: Rules = RULES,
) -> Verdict:
    """Apply the gates, then the formula.

    `rejection_reason` is a fault that was found before (technical, duplicate); it comes first. If
    `action_match` is None, it is not known, and only the relevance has a gate. `reasoning` is the judge's. A
    miner whose video does not show the task can read it.
    """
    missed = []
    # rounded: in binary 0.4 * 0.35 + 0.2 * 0.1 + 0.2 * 0.7 is a hair under 0.3, which passes
    if round(relevance, 9) < min_relevance:
        missed.append(_missed("relevance", relevance, min_relevance))
    if action_match is not None and action_match < rules.min_action_match:
        missed.append(_missed("action_match", action_match, rules.min_action_match))
    if rejection_reason is None and missed:
        rejection_reason = _not_shown(reasoning, missed)
    if rejection_reason is not None:
        return Verdict(SubmissionStatus.REJECTED, rejection_reason[:MOST_LETTERS], 0.0)
    return Verdict(SubmissionStatus.SCORED, None, final_score(technical, relevance, quality, rules))


def _missed(name: str, score: float, least: float) -> str:
    # rounded down: no score that misses its gate reads as if it reached it
    return f"{name} is {math.floor(score * 100) / 100:.2f} (at least {least:.2g} is needed)"


def _not_shown(reasoning: str, missed: list[str]) -> str:
    """Say why, by how much, and what to do. A long reasoning is cut, the rest is not."""
    rest = f" Its {' and its '.join(missed)}. {FILM_THE_TASK}"
    because = f": {reasoning.strip()}" if reasoning.strip() else ""
    begun = f"{NOT_SHOWN}{because}"[: MOST_LETTERS - len(rest) - 1]
    return begun + ("" if begun.endswith((".", "!", "?")) else ".") + rest


def is_duplicate(found: DuplicatesPart, rules: Rules = RULES) -> bool:
    """Whether a video is rejected for what was found of its footage or its file."""
    return bool(
        found.same_file
        or found.one_recording_with
        or found.taken_down
        or (found.matched_share is not None and found.matched_share > rules.max_matched)
    )


def verdict_of(outcome: Outcome, min_relevance: float) -> Verdict:
    """Apply gates and formula to what an evaluation found."""
    return verdict(
        outcome.technical_score,
        outcome.relevance_score,
        outcome.quality_score,
        min_relevance=min_relevance,
        action_match=outcome.action_match,
        rejection_reason=outcome.rejection_reason,
        reasoning=outcome.reasoning,
    )


def explain(verdict: Verdict, technical: float, relevance: float, quality: float) -> VerdictPart:
    """Return how the final score adds up, for the report."""
    scores = {"technical": technical, "relevance": relevance, "quality": quality}
    return VerdictPart(
        status=verdict.status,
        rejection_reason=verdict.rejection_reason,
        final_score=verdict.final_score,
        parts=[
            Points(name=name, score=scores[name], weight=weight, points=round(weight * scores[name], 6))
            for name, weight in FINAL_WEIGHTS.items()
        ],
    )
