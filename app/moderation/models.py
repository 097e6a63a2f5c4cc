"""What an operator decides about a submission, on the wire."""

from dataclasses import dataclass
from typing import Annotated, Literal
from uuid import UUID

from pydantic import BaseModel, Field, ValidationInfo, field_validator

from app.corrections.models import CorrectionOut
from app.enums import SubmissionStatus
from app.fields import JsonObject, Prose, RequestModel, at_most_kib

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


class CorrectedOut(BaseModel):
    """The effective result of a submission, and all corrections that led to it."""

    submission_uuid: UUID
    status: SubmissionStatus
    final_score: float
    corrections: list[CorrectionOut]


@dataclass(frozen=True)
class Takedown:
    """`is_deleted`: its object is gone from storage. `same_file`: other submissions of the same file."""

    submission_uuid: UUID
    is_deleted: bool
    same_file: list[UUID]


class TakedownOut(CorrectedOut):
    """`is_deleted`: the object is gone from storage; until then it is tried again every minute.

    `same_file` are other submissions with the same hash assertion. Their objects may show the same: take them
    down as well.
    """

    is_deleted: bool
    same_file: list[UUID]
