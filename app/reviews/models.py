"""What a review is on the wire."""

from typing import Annotated, Literal
from uuid import UUID

from pydantic import BaseModel, Field

from app.enums import ReviewState, SubmissionStatus
from app.fields import QueryModel, RequestModel, Text, Timestamp


class ReviewQuery(QueryModel):
    limit: Annotated[int, Field(ge=1, le=1000)] = 100
    state: ReviewState = ReviewState.OPEN


class ReviewIn(RequestModel):
    """A decision. `judge_again` is possible only while the submission has no result."""

    decision: Literal["accept", "reject", "judge_again"]
    reason: Annotated[Text, Field(min_length=1, max_length=2000)]
    by: Annotated[Text, Field(min_length=1, max_length=200)]


class ReviewOut(BaseModel):
    """Why a person should look at a submission, and what was decided.

    `status` and `final_score` are the effective result. `is_held`: the submission could not be evaluated, and
    is not tried again before the review is decided.
    """

    submission_uuid: UUID
    miner_uid: int
    status: SubmissionStatus
    final_score: float | None
    is_held: bool
    state: ReviewState
    reason: str
    opened_at: Timestamp
    closed_at: Timestamp | None
    decided_by: str | None
    decision_reason: str | None
