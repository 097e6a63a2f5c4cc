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
    """A miner's scores in a cycle. A miner is a uid together with the hotkey that submitted.

    `avg_score` is the plain mean of the final scores of accepted submissions. `total_score` is the sum of
    these scores, each times its prompt's weight.
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
    """A score with the `adjustment` in its total: the change by corrections of earlier cycles."""

    adjustment: Decimal


@dataclass(frozen=True)
class RecordedScore(SettledScore):
    holds_uid: bool


@dataclass(frozen=True)
class Balance:
    """Points that a hotkey is still to get for corrections of completed cycles. Negative: it is to lose them.

    `registered_uid` is the uid that it holds in the metagraph. `last_uid` is the uid of the submission that
    was corrected last.
    """

    hotkey: str
    points: Decimal
    registered_uid: int | None
    last_uid: int


@dataclass(frozen=True)
class Holder:
    """A uid and the hotkey that holds it, or held it when a cycle completed."""

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
    # null: it was completed before ledgers were written
    ledger_root: str | None
    ledger_lines: int | None


@dataclass(frozen=True)
class Result:
    """The result of a submission, as stored in its evaluation and in its own row."""

    id: int
    status: str
    final_score: float
    technical_score: float | None
    relevance_score: float | None
    quality_score: float | None
    rejection_reason: str | None


JudgeModels = Annotated[
    list[str],
    Field(description="the models that judged; `offline-judge` does not understand pictures"),
]


@dataclass(frozen=True)
class MinerScoreOut(MinerScore):
    """A miner's score.

    `holds_uid`: the hotkey held its uid when the cycle completed, so the score counts for the weights. It is
    null until then. `adjustment` is what corrections of earlier cycles added to the total, or took from it.
    """

    holds_uid: bool | None = None
    adjustment: float = 0.0


class ScoresOut(BaseModel):
    """A cycle's scores, the best first. They are final once the cycle is COMPLETED."""

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
    """The weights of a completed cycle: by uid, as shares of 1 and in units of 1/65535.

    `hotkeys` names, for each uid, the hotkey that earned its weight. If another hotkey holds the uid now,
    do not pay the uid. `ledger_root` and `ledger_lines` are the Merkle root and the size of the ledger that
    the weights follow from; `ledger_url` is its path at this host. All three are null for cycles that were
    completed before ledgers were written.
    """

    cycle_id: Id
    block_number: Id | None
    block_number_is_current: bool | None
    judge_models: JudgeModels
    created_at: Timestamp
    weights: dict[str, float]
    weights_u16: WeightsU16
    hotkeys: dict[str, str]
    ledger_root: str | None
    ledger_lines: Id | None
    ledger_url: str | None
