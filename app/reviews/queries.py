"""SQL on reviews: submissions that a person should look at."""

from dataclasses import dataclass
from datetime import datetime
from uuid import UUID

from sqlalchemy import text

from app.db import execute, fetch_all

_INSERT = text("""
    INSERT INTO reviews (submission_id, reason) VALUES (:submission_id, :reason)
    ON CONFLICT (submission_id) DO NOTHING
""")
_LIST = text("""
    SELECT s.uuid AS submission_uuid, s.miner_uid, s.status, r.reason, r.opened_at
    FROM reviews r JOIN submissions s ON s.id = r.submission_id
    ORDER BY r.opened_at DESC, r.submission_id DESC LIMIT :limit
""")


@dataclass(frozen=True)
class Review:
    submission_uuid: UUID
    miner_uid: int
    status: str
    reason: str
    opened_at: datetime


def insert(submission_id: int, reason: str) -> None:
    """Put a submission up for review; the first reason stands."""
    execute(_INSERT, submission_id=submission_id, reason=reason)


def list_latest(limit: int) -> list[Review]:
    return fetch_all(Review, _LIST, limit=limit)
