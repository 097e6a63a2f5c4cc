"""SQL on submissions that an operator decides about."""

from dataclasses import dataclass
from uuid import UUID

from sqlalchemy import text

from app.db import db, execute, fetch_all, fetch_one

# after the expiry of an upload address, so that nobody has put the object there again
_MARGIN = "interval '1 minute'"

_FIND = text("""
    SELECT s.id, s.uuid, s.video_key, s.status, t.submission_id IS NOT NULL AS is_taken_down,
           t.object_deleted_at IS NOT NULL AS is_deleted
    FROM submissions s LEFT JOIN takedowns t ON t.submission_id = s.id
    WHERE s.uuid = :uuid FOR UPDATE OF s
""")
_END_CLAIM = text("""
    UPDATE submissions SET claim_token = NULL, claimed_by = NULL, lease_expires_at = NULL
    WHERE id = :submission_id AND claim_token IS NOT NULL
""")
_INSERT_TAKEDOWN = text("INSERT INTO takedowns (submission_id) VALUES (:submission_id)")
_LIST_SAME_FILE = text("""
    SELECT other.uuid FROM submissions s JOIN submissions other ON other.video_hash = s.video_hash
    WHERE s.id = :submission_id AND other.id <> s.id
      AND NOT EXISTS (SELECT FROM takedowns t WHERE t.submission_id = other.id)
    ORDER BY other.id LIMIT :limit
""")
_LIST_DUE = text("""
    SELECT t.submission_id, s.uuid, s.video_key FROM takedowns t JOIN submissions s ON s.id = t.submission_id
    WHERE t.delete_at <= now() ORDER BY t.delete_at LIMIT :limit
""")
_NOTE_DELETED = text(f"""
    UPDATE takedowns t SET object_deleted_at = now(), delete_at = again.moment
    FROM submissions s JOIN uploads u ON u.video_key = s.video_key
    LEFT JOIN LATERAL (SELECT u.expires_at + {_MARGIN}) again (moment) ON again.moment > now()
    WHERE t.submission_id = :submission_id AND s.id = t.submission_id
""")


@dataclass(frozen=True)
class Submission:
    """A submission, locked until the transaction ends. `is_deleted`: its object is gone from storage."""

    id: int
    uuid: UUID
    video_key: str
    status: str
    is_taken_down: bool
    is_deleted: bool


@dataclass(frozen=True)
class Deletion:
    submission_id: int
    uuid: UUID
    video_key: str


def lock_submission(uuid: UUID) -> Submission | None:
    return fetch_one(Submission, _FIND, uuid=uuid)


def end_claim(submission_id: int) -> None:
    """Let the lease on a submission end now, if there is one."""
    execute(_END_CLAIM, submission_id=submission_id)


def insert_takedown(submission_id: int) -> None:
    execute(_INSERT_TAKEDOWN, submission_id=submission_id)


def list_same_file(submission_id: int, limit: int) -> list[UUID]:
    """The other submissions with the same hash assertion that are not taken down."""
    return list(db.session.scalars(_LIST_SAME_FILE, {"submission_id": submission_id, "limit": limit}))


def list_due_deletions(limit: int) -> list[Deletion]:
    return fetch_all(Deletion, _LIST_DUE, limit=limit)


def note_deleted(submission_id: int) -> None:
    """Note that an object was deleted. While its upload address is valid, it is to be deleted once more."""
    execute(_NOTE_DELETED, submission_id=submission_id)
