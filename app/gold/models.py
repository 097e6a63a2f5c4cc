"""Gold films, as the database has them and as the API shows what they say of judges."""

from dataclasses import dataclass
from datetime import date, datetime
from typing import Annotated
from uuid import UUID

from pydantic import BaseModel, Field

from app.fields import Timestamp
from app.gold.agreement import Agreement, Tally


@dataclass(frozen=True)
class HumanScores:
    """The judge's four scores, by people."""

    action_match: float
    perspective_correct: float
    demonstration_quality: float
    training_utility: float


@dataclass(frozen=True)
class Copy:
    """A copy of a gold film in storage, with what a submission of it declares."""

    object_key: str
    content_type: str
    video_hash: str
    duration_sec: float
    resolution_width: int
    resolution_height: int
    fps: float


@dataclass(frozen=True)
class PlannedCopy:
    """The copy that is shown next."""

    id: int
    object_key: str
    content_type: str


@dataclass(frozen=True)
class Companion:
    """A recent submission, from which a showing borrows what evaluators and the pages show."""

    miner_uid: int
    miner_hotkey: str
    video_key: str
    camera_type: str
    actor_type: str
    licence: str | None
    consent_hash: str | None
    consent_version: str | None
    consent_date: date | None


@dataclass(frozen=True)
class LastShowing:
    id: int
    draw: float


@dataclass(frozen=True)
class Film:
    """A gold film: `copies_left` are those that no remote evaluator has seen."""

    uuid: UUID
    prompt_id: str
    accepted: bool
    relevance_score: float
    scored_by: str
    added_at: datetime
    retired_at: datetime | None
    copies: int
    copies_left: int
    answers: int


@dataclass(frozen=True)
class Group:
    """Answers to gold films of one category, judge, prompt version and evaluator."""

    category: str
    judge_model: str
    prompt_version: str
    evaluator: str
    tally: Tally


@dataclass(frozen=True)
class EvaluatorAnswers:
    """The latest answers of a remote evaluator; `differs_since` is the first that differs much."""

    evaluator: str
    tally: Tally
    differs_since: datetime | None


@dataclass(frozen=True)
class Block:
    """A remote evaluator that gets no submissions. What it delivered since `doubted_since` is in doubt."""

    evaluator: str
    reason: str
    doubted_since: datetime
    blocked_at: datetime


@dataclass(frozen=True)
class Finding:
    """How the answers of one kind agree with people's: `by` is what they have in common, `name` its value."""

    by: str
    name: str
    tally: Tally
    agreement: Agreement
    doubtful: bool


class AgreementOut(BaseModel):
    """How the answers of a group agree with people. A null kappa or interval is not defined.

    `doubtful`: there are enough answers, and even the upper end of the interval is below GOLD_MIN_KAPPA.
    """

    by: Annotated[str, Field(description="all, category, judge_model, prompt_version or evaluator")]
    name: str
    answers: int
    kappa: float | None
    kappa_low: float | None
    kappa_high: float | None
    acceptable: Annotated[int, Field(description="answers to films that people accept")]
    wrongly_rejected: int
    unacceptable: int
    wrongly_accepted: int
    doubtful: bool


class BlockOut(BaseModel):
    """An evaluator that gets no submissions until a person has looked."""

    evaluator: str
    reason: str
    doubted_since: Timestamp
    blocked_at: Timestamp


class JudgeOut(BaseModel):
    """What the gold films of the last days say of the judge and of the evaluators."""

    days: int
    min_kappa: float
    least_answers: int
    films: Annotated[int, Field(description="gold films that are not retired")]
    copies_left: Annotated[int, Field(description="copies of them that no remote evaluator has seen")]
    agreement: list[AgreementOut]
    blocked_evaluators: list[BlockOut]


def show_finding(finding: Finding) -> AgreementOut:
    tally, measured = finding.tally, finding.agreement
    return AgreementOut(
        by=finding.by,
        name=finding.name,
        answers=tally.answers,
        kappa=measured.kappa,
        kappa_low=measured.low,
        kappa_high=measured.high,
        acceptable=tally.acceptable,
        wrongly_rejected=tally.wrongly_rejected,
        unacceptable=tally.unacceptable,
        wrongly_accepted=tally.wrongly_accepted,
        doubtful=finding.doubtful,
    )
