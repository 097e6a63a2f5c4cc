"""How a miner stands, on the wire."""

from typing import Annotated
from uuid import UUID

from pydantic import BaseModel, Field

from app.enums import SubmissionStatus
from app.fields import Id, QueryModel, Timestamp


class SubmissionsQuery(QueryModel):
    """Which of a miner's submissions are listed: at most `limit` of those from before a moment."""

    limit: Annotated[int, Field(ge=1, le=200)] = 50
    before: Timestamp | None = None


class OwnSubmissionOut(BaseModel):
    """A submission with its effective result."""

    submission_uuid: UUID
    prompt_id: str
    miner_uid: int
    cycle_id: Id | None
    submitted_at: Timestamp
    status: SubmissionStatus
    final_score: float | None
    rejection_reason: str | None
    is_corrected: bool


class QuotaOut(BaseModel):
    """`used` of `limit` in the last hour. `seconds_until_room` is null if there is room."""

    limit: int
    used: int
    seconds_until_room: int | None


class CycleStandingOut(BaseModel):
    """The active cycle so far. `open` submissions have no result yet.

    `share` is the weight of the miner if the cycle were completed now with the results that there are. It may
    be some seconds old.
    """

    cycle_id: Id
    submissions: int
    open: int
    accepted: int
    total_score: float
    share: float


class StandingOut(BaseModel):
    """How a miner stands. `uid` is the one that it holds in the metagraph, null if it holds none.

    `open_multiparts` are uploads in parts that are neither complete nor aborted. `cycle` is null while none
    is active.
    """

    miner_hotkey: str
    uid: int | None
    submissions: QuotaOut
    uploads: QuotaOut
    open_multiparts: int
    max_open_multiparts: int
    cycle: CycleStandingOut | None
