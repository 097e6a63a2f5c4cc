"""What a review is on the wire."""

from typing import Annotated
from uuid import UUID

from pydantic import BaseModel, Field

from app.fields import QueryModel, Timestamp


class ReviewQuery(QueryModel):
    limit: Annotated[int, Field(ge=1, le=1000)] = 100


class ReviewOut(BaseModel):
    """Why a person should look at a submission."""

    submission_uuid: UUID
    miner_uid: int
    status: str
    reason: str
    opened_at: Timestamp
