"""SQL on submissions that an operator decides about."""

import json
from dataclasses import dataclass
from typing import Any
from uuid import UUID

from sqlalchemy import text

from app.db import execute, fetch_all, fetch_one, fetch_value
from app.moderation.models import Order, Takedown

# after the expiry of an upload address, so that nobody has put the object there again
_MARGIN = "interval '1 minute'"

_FIND = text("""
    SELECT s.id, s.uuid, s.video_key, s.status, t.submission_id IS NOT NULL AS is_taken_down
    FROM submissions s LEFT JOIN takedowns t ON t.submission_id = s.id
    WHERE s.uuid = :uuid FOR UPDATE OF s
""")
_END_CLAIM = text("""
    UPDATE submissions SET claim_token = NULL, claimed_by = NULL, lease_expires_at = NULL
    WHERE id = :submission_id AND claim_token IS NOT NULL
""")
_INSERT_TAKEDOWN = text("""
    INSERT INTO takedowns (submission_id, delete_at, by_miner, taken_down_by, reason, evidence, signature,
                           recognise_at)
    SELECT :submission_id, now() + make_interval(secs => :delay_seconds), :by_miner, :by, :reason,
           CAST(:evidence AS jsonb), encode(:signature, 'hex'),
           CASE WHEN :delay_seconds > 0
                AND NOT EXISTS (SELECT FROM fingerprints WHERE submission_id = :submission_id) THEN now() END
""")
# who is killed at it, or comes upon a fault of ours, tries again a quarter of a day later
_CLAIM_UNKNOWN = text("""
    WITH claimed AS (
        UPDATE takedowns SET recognise_at = now() + interval '6 hours'
        WHERE submission_id = (
            SELECT submission_id FROM takedowns WHERE recognise_at <= now() AND object_deleted_at IS NULL
            ORDER BY recognise_at LIMIT 1 FOR UPDATE SKIP LOCKED)
        RETURNING submission_id
    )
    SELECT s.id AS submission_id, s.video_key, s.requirements, p.category, p.task, p.scenario
    FROM claimed JOIN submissions s ON s.id = claimed.submission_id JOIN prompts p ON p.id = s.prompt_id
""")
_NOTE_RECOGNISED = text("UPDATE takedowns SET recognise_at = NULL WHERE submission_id = :submission_id")
# an evaluator that asks about a gold film gets the answer of another miner's submission
_FIND_OWNER = text("""
    SELECT miner_hotkey FROM submissions WHERE uuid = :uuid
    UNION ALL SELECT miner_hotkey FROM gold_showings WHERE uuid = :uuid
""")
_GET_TAKEDOWN = text("""
    SELECT s.uuid AS submission_uuid, t.taken_down_at, t.taken_down_by AS by, t.by_miner, t.reason,
           t.object_deleted_at IS NOT NULL AS is_deleted,
           ARRAY(SELECT other.uuid FROM submissions other
                 WHERE other.video_hash = s.video_hash AND other.id <> s.id
                   AND NOT EXISTS (SELECT FROM takedowns o WHERE o.submission_id = other.id)
                 ORDER BY other.id LIMIT :limit) AS same_file
    FROM takedowns t JOIN submissions s ON s.id = t.submission_id WHERE s.uuid = :uuid
""")
_LIST_DUE = text("""
    SELECT t.submission_id, s.uuid, s.video_key FROM takedowns t JOIN submissions s ON s.id = t.submission_id
    -- by lot: one that storage refuses to delete must not keep others back
    WHERE t.delete_at <= now() ORDER BY random() LIMIT :limit
""")
_NOTE_DELETED = text(f"""
    UPDATE takedowns t SET object_deleted_at = now(), delete_at = again.moment, recognise_at = NULL
    FROM submissions s JOIN uploads u ON u.video_key = s.video_key
    LEFT JOIN LATERAL (SELECT u.expires_at + {_MARGIN}) again (moment) ON again.moment > now()
    WHERE t.submission_id = :submission_id AND s.id = t.submission_id
""")


@dataclass(frozen=True)
class Submission:
    """A submission, locked until the transaction ends."""

    id: int
    uuid: UUID
    video_key: str
    status: str
    is_taken_down: bool


@dataclass(frozen=True)
class Deletion:
    submission_id: int
    uuid: UUID
    video_key: str


@dataclass(frozen=True)
class Unknown:
    """A submission that was taken down before anybody had looked at its video."""

    submission_id: int
    video_key: str
    requirements: dict[str, Any]
    category: str
    task: str
    scenario: str


def lock_submission(uuid: UUID) -> Submission | None:
    return fetch_one(Submission, _FIND, uuid=uuid)


def end_claim(submission_id: int) -> None:
    """Let the lease on a submission end now, if there is one."""
    execute(_END_CLAIM, submission_id=submission_id)


def insert_takedown(submission_id: int, order: Order, delay_seconds: float) -> None:
    """Note that a video was taken down. Its object is to be deleted after so many seconds."""
    values = vars(order) | {"evidence": json.dumps(order.evidence)}
    execute(_INSERT_TAKEDOWN, submission_id=submission_id, delay_seconds=delay_seconds, **values)


def claim_unknown() -> Unknown | None:
    """Take the video whose footage is to be remembered next; nobody else does for some hours."""
    return fetch_one(Unknown, _CLAIM_UNKNOWN)


def note_recognised(submission_id: int) -> None:
    execute(_NOTE_RECOGNISED, submission_id=submission_id)


def find_owner(uuid: UUID) -> str | None:
    """The hotkey that submitted a video."""
    return fetch_value(_FIND_OWNER, uuid=uuid)


def find_takedown(uuid: UUID, limit: int) -> Takedown | None:
    """The takedown of a submission, with at most `limit` others of the same hash that are not taken down."""
    return fetch_one(Takedown, _GET_TAKEDOWN, uuid=uuid, limit=limit)


def list_due_deletions(limit: int) -> list[Deletion]:
    return fetch_all(Deletion, _LIST_DUE, limit=limit)


def note_deleted(submission_id: int) -> None:
    """Note that an object was deleted. While its upload address is valid, it is to be deleted once more."""
    execute(_NOTE_DELETED, submission_id=submission_id)
