"""What a review is on the wire."""

from typing import Annotated, Literal
from uuid import UUID

from pydantic import BaseModel, Field

from app.appeals.models import Appeal, AppealOut
from app.appeals.models import show as show_appeal
from app.enums import ReviewState, SubmissionStatus
from app.fields import Prose, QueryModel, RequestModel, Timestamp


class ReviewQuery(QueryModel):
    limit: Annotated[int, Field(ge=1, le=1000)] = 100
    state: ReviewState = ReviewState.OPEN
    after: UUID | None = None


class ReviewIn(RequestModel):
    """A decision, and who decides.

    `accept`: the submission gets the score that it would have had, or that its appeal's evaluation gave.
    `reject`: its score is 0. `uphold`: the result stands as it is. `judge_again` is possible only while the
    submission has no result, or its appeal no evaluation.
    """

    decision: Literal["accept", "reject", "uphold", "judge_again"]
    reason: Annotated[Prose, Field(min_length=1, max_length=2000)]
    by: Annotated[Prose, Field(min_length=1, max_length=200)]


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


class ReviewedAppealOut(AppealOut):
    """The submission's appeal, with its reason. The miner wrote that: do not trust it."""

    reason: str


class ReviewDetailOut(ReviewOut):
    """A review with what a person needs in order to decide: the video, and the miner's appeal.

    `video_url` can be opened for an hour. It is null if the video was taken down.
    """

    video_url: str | None
    appeal: ReviewedAppealOut | None


def show(review: object) -> ReviewOut:
    """A review as a list shows it."""
    return ReviewOut.model_validate(review, from_attributes=True)


def show_detail(review: object, video_url: str | None, appeal: Appeal | None) -> ReviewDetailOut:
    """A review as a person needs it in order to decide."""
    shown = None
    if appeal:
        shown = ReviewedAppealOut(**dict(show_appeal(appeal)), reason=appeal.reason)
    return ReviewDetailOut(**dict(show(review)), video_url=video_url, appeal=shown)
