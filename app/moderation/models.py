"""What an operator decides about a submission, on the wire."""

from dataclasses import dataclass, field
from datetime import datetime
from typing import Annotated, Any, Literal
from uuid import UUID

from pydantic import BaseModel, Field, ValidationInfo, field_validator

from app.corrections.models import CorrectionOut
from app.enums import SubmissionStatus
from app.fields import JsonObject, Prose, RequestModel, Timestamp, at_most_kib
from app.submissions.models import HotkeyAddress, Signature

Evidence = Annotated[JsonObject, at_most_kib(16)]


class _DecisionIn(RequestModel):
    """Who decides, and why. Everybody can read all of it: name no person who is filmed."""

    reason: Annotated[Prose, Field(min_length=1, max_length=1900)]
    by: Annotated[Prose, Field(min_length=1, max_length=200)]
    evidence: Evidence = Field(default_factory=dict)


class CorrectionIn(_DecisionIn):
    """A new result: SCORED with a `final_score`, which is rounded to 4 places, or REJECTED."""

    status: Literal["SCORED", "REJECTED"]
    final_score: Annotated[float, Field(ge=0, le=1)] | None = Field(default=None, validate_default=True)

    @field_validator("final_score")
    @classmethod
    def _fit(cls, score: float | None, info: ValidationInfo) -> float | None:
        if info.data.get("status") == "SCORED" and score is None:
            raise ValueError("must be given for SCORED")
        if info.data.get("status") == "REJECTED" and score:
            raise ValueError("must be left out for REJECTED")
        return score


class TakedownIn(_DecisionIn):
    pass


class NewTakedown(RequestModel):
    """Why a miner takes a video of his own down, and his hotkey's signature.

    The signature is an sr25519 signature of four lines, joined by newlines: `kibotos.takedown.v1`,
    miner_hotkey, submission_uuid, and the SHA-256 of the reason in UTF-8, in hexadecimal and lower case. In
    development it may be left out. Everybody can read the reason: name no person who is filmed.
    """

    miner_hotkey: HotkeyAddress
    reason: Annotated[Prose, Field(min_length=1, max_length=1000)]
    signature: Signature = ""


@dataclass(frozen=True)
class Order:
    """An order to take a video down. `by` is the hotkey of its miner, or the name of an admin."""

    reason: str
    by: str
    by_miner: bool = False
    evidence: dict[str, Any] = field(default_factory=dict)
    signature: bytes | None = None


class CorrectedOut(BaseModel):
    """The effective result of a submission, and all corrections that led to it."""

    submission_uuid: UUID
    status: SubmissionStatus
    final_score: float
    corrections: list[CorrectionOut]


@dataclass(frozen=True)
class Takedown:
    """A video that was taken down. `is_deleted`: its object is gone from storage.

    `by` and `by_miner` are as in an Order. `same_file`: other submissions of the same file.
    """

    submission_uuid: UUID
    taken_down_at: datetime
    by: str
    by_miner: bool
    reason: str
    is_deleted: bool
    same_file: list[UUID]


class OwnTakedownOut(BaseModel):
    """The video can be seen no more. `is_deleted`: its object is gone from storage, too.

    It is deleted within the hours that the operator has set, a day if he has set nothing. The result stands.
    """

    submission_uuid: UUID
    taken_down_at: Timestamp
    is_deleted: bool


class TakedownOut(CorrectedOut):
    """`is_deleted`: the object is gone from storage; else it will be, within RAW_DELETE_HOURS.

    `status` and `final_score` are the effective result, which a takedown leaves as it is.
    `same_file` are other submissions with the same hash assertion. Their objects may show the same: take them
    down as well.
    """

    is_deleted: bool
    same_file: list[UUID]
