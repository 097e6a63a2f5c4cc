"""Scores and weights, inside and on the wire."""

from dataclasses import dataclass
from datetime import datetime
from decimal import Decimal
from typing import Annotated

from pydantic import BaseModel, Field

from app.enums import CycleStatus
from app.fields import Id, Timestamp


@dataclass(frozen=True)
class MinerScore:
    """What a miner, that is a uid with the hotkey that submitted, got in a cycle.

    `avg_score` is the plain mean over accepted submissions, `total_score` their sum times the prompts'
    weights.
    """

    miner_uid: int
    miner_hotkey: str
    total_submissions: int
    accepted_submissions: int
    avg_score: float
    total_score: float
    scores_by_category: dict[str, float]


@dataclass(frozen=True)
class SettledScore(MinerScore):
    """A score with the `adjustment` that its total contains: what corrections of earlier cycles changed."""

    adjustment: Decimal


@dataclass(frozen=True)
class RecordedScore(SettledScore):
    holds_uid: bool


@dataclass(frozen=True)
class Balance:
    """The points that corrections of completed cycles still owe a hotkey, or that it owes (then negative).

    `registered_uid` is the one that it holds in the metagraph, `last_uid` the one of the submission corrected
    last.
    """

    hotkey: str
    points: Decimal
    registered_uid: int | None
    last_uid: int


@dataclass(frozen=True)
class Holder:
    """A uid and the hotkey that held it when the cycle completed."""

    uid: int
    hotkey: str


@dataclass(frozen=True)
class ScoredCycle:
    """A cycle whose scores are asked for; `judge_models` is empty until it is completed."""

    id: int
    status: CycleStatus
    started_at: datetime
    completed_at: datetime | None
    judge_models: list[str]
    last_correction_id: int | None


@dataclass(frozen=True)
class WeightedCycle:
    id: int
    block_number: int | None
    block_number_is_current: bool | None
    judge_models: list[str]
    completed_at: datetime


@dataclass(frozen=True)
class Result:
    """A scored or rejected submission's result, as its evaluation and as its own row have it."""

    id: int
    status: str
    final_score: float
    technical_score: float | None
    relevance_score: float | None
    quality_score: float | None
    rejection_reason: str | None


JudgeModels = Annotated[
    list[str],
    Field(description="models whose word this rests on; `offline-judge` does not understand pictures"),
]


@dataclass(frozen=True)
class MinerScoreOut(MinerScore):
    """A miner's score; `holds_uid`: it counts for the weights. Null until the cycle is completed.

    `adjustment` is what corrections of results of earlier cycles added to the total, or took from it.
    """

    holds_uid: bool | None = None
    adjustment: float = 0.0


class ScoresOut(BaseModel):
    """A cycle's scores, best first: final once it is COMPLETED, until then as they stand."""

    cycle_id: Id
    status: CycleStatus
    started_at: Timestamp
    completed_at: Timestamp | None
    n_submissions: Id
    judge_models: JudgeModels
    miner_scores: list[MinerScoreOut]


class WeightsU16(BaseModel):
    uids: list[int]
    weights: list[int]


class WeightsOut(BaseModel):
    """A completed cycle's weights: shares of 1 by uid, and the same in units of 1/65535.

    `hotkeys` names the hotkey a uid is paid for: if the chain has another by now, it is not to be paid.
    """

    cycle_id: Id
    block_number: Id | None
    block_number_is_current: bool | None
    judge_models: JudgeModels
    created_at: Timestamp
    weights: dict[str, float]
    weights_u16: WeightsU16
    hotkeys: dict[str, str]
