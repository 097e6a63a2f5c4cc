"""SQL on what objects in storage are, and on sweeps."""

import json
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any
from uuid import UUID

from sqlalchemy import text

from app.corrections.queries import JOIN_LAST
from app.db import db, execute, fetch_all, fetch_one
from app.retention.models import Sweep, Tallies

# after the expiry of an upload address, so that nobody puts the object there again
_MARGIN = "interval '1 minute'"
_REJECTED_UNTIL = """
    CASE WHEN :rejected_seconds > 0 THEN
        coalesce(last.decided_at, s.evaluated_at)
            + make_interval(secs => greatest(:rejected_seconds, :appeal_seconds)) END
"""
_QUESTIONS = """
    LEFT JOIN reviews r ON r.submission_id = s.id AND r.state = 'OPEN'
    LEFT JOIN appeals a ON a.submission_id = s.id AND a.decided_at IS NULL
"""
_JUDGE_UPLOADS = text(f"""
    SELECT k.key, own.kind,
        CASE own.kind
            WHEN 'taken_down' THEN coalesce(t.delete_at, t.object_deleted_at)
            WHEN 'rejected' THEN {_REJECTED_UNTIL}
            WHEN 'unsubmitted' THEN greatest(
                u.created_at + make_interval(secs => :unsubmitted_seconds), u.expires_at + {_MARGIN})
            END AS due_at
    FROM unnest(CAST(:keys AS text[])) AS k (key)
    LEFT JOIN submissions s ON s.video_key = k.key
    LEFT JOIN uploads u ON u.video_key = k.key
    LEFT JOIN takedowns t ON t.submission_id = s.id {_QUESTIONS} {JOIN_LAST}
    CROSS JOIN LATERAL (SELECT CASE
        WHEN t.submission_id IS NOT NULL THEN 'taken_down'
        WHEN s.status IN ('PENDING', 'EVALUATING') OR r.submission_id IS NOT NULL
             OR a.submission_id IS NOT NULL THEN 'open'
        WHEN coalesce(last.status, s.status) = 'SCORED' THEN 'accepted'
        WHEN s.id IS NOT NULL THEN 'rejected'
        WHEN EXISTS (SELECT FROM gold_showings g WHERE g.video_key = k.key) THEN 'gold'
        WHEN u.video_key IS NOT NULL THEN 'unsubmitted'
        ELSE 'orphan' END AS kind) own
""")
_LIST_GOLD = text("SELECT object_key FROM gold_copies WHERE object_key = ANY(:keys)")
# one that failed, or was deleted since it was taken down, has no object
_LIST_FILMS = text("""
    SELECT f.source_sha256 || '/' || f.recipe
    FROM unnest(CAST(:hashes AS text[]), CAST(:recipes AS text[])) AS k (source_sha256, recipe)
    JOIN release_films f ON f.source_sha256 = k.source_sha256 AND f.recipe = k.recipe
    WHERE f.state IN ('PENDING', 'DONE')
""")
_LIST_SHEETS = text("SELECT uuid FROM contact_sheets WHERE uuid = ANY(CAST(:uuids AS uuid[]))")
_LOCK_UPLOADS = text("SELECT FROM uploads WHERE video_key = ANY(:keys) ORDER BY video_key FOR UPDATE")
# a statement of its own after the lock, so that it sees what was submitted before
_FORGET_UPLOADS = text("""
    DELETE FROM uploads u WHERE u.video_key = ANY(:keys)
        AND NOT EXISTS (SELECT FROM submissions s WHERE s.video_key = u.video_key)
    RETURNING u.video_key
""")
_LOCK_SUBMISSIONS = text("SELECT FROM submissions WHERE video_key = ANY(:keys) ORDER BY id FOR UPDATE")
_MARK_PRUNED = text(f"""
    UPDATE submissions p SET video_pruned_at = coalesce(p.video_pruned_at, now())
    FROM submissions s {_QUESTIONS} {JOIN_LAST}
    WHERE p.id = s.id AND s.video_key = ANY(:keys) AND s.status IN ('SCORED', 'REJECTED')
      AND coalesce(last.status, s.status) = 'REJECTED' AND r.submission_id IS NULL AND a.submission_id IS NULL
      AND {_REJECTED_UNTIL} <= :moment
    RETURNING s.video_key
""")
_SELECT = "SELECT id, started_at, finished_at, after_key, found, last_error FROM storage_sweeps"
_FIND_LATEST = text(f"{_SELECT} ORDER BY id DESC LIMIT 1")
_LIST_FINISHED = text(f"{_SELECT} WHERE finished_at IS NOT NULL ORDER BY id DESC LIMIT :limit")
_START = text("INSERT INTO storage_sweeps DEFAULT VALUES")
# nights begin at 2:00 UTC
_IS_NIGHT = text("""
    SELECT coalesce(max(started_at) < date_trunc('day', now() AT TIME ZONE 'UTC' - interval '2 hours')
                                      AT TIME ZONE 'UTC' + interval '2 hours', true) AS is_due
    FROM storage_sweeps
""")
_SAVE = text("""
    UPDATE storage_sweeps SET after_key = :after_key, found = CAST(:found AS jsonb), last_error = NULL,
                              finished_at = CASE WHEN :is_finished THEN now() END
    WHERE id = :id
""")
_NOTE_ERROR = text("UPDATE storage_sweeps SET last_error = :error WHERE id = :id")
_FORGET_OLD = text("DELETE FROM storage_sweeps WHERE started_at < now() - interval '400 days'")
_REPORTS = text("""
    SELECT greatest(reltuples, 0)::bigint AS objects,
           pg_total_relation_size('verification_reports')::bigint AS size_bytes
    FROM pg_class WHERE oid = 'verification_reports'::regclass
""")


@dataclass(frozen=True)
class Known:
    key: str
    kind: str
    due_at: datetime | None


@dataclass(frozen=True)
class Reports:
    """The reports in the database: about how many, and how large with their indexes."""

    objects: int
    size_bytes: int


@dataclass(frozen=True)
class _Night:
    is_due: bool


def judge_uploads(keys: Sequence[str], **seconds: float) -> list[Known]:
    """What the objects under uploads/ are, and when they are to be deleted.

    `seconds` are how long what was not submitted and what was rejected is kept, and how long one can appeal.
    """
    return fetch_all(Known, _JUDGE_UPLOADS, keys=list(keys), **seconds)


def list_gold(keys: Sequence[str]) -> set[str]:
    return set(db.session.scalars(_LIST_GOLD, {"keys": list(keys)}))


def list_sheets(uuids: Sequence[UUID]) -> set[UUID]:
    return set(db.session.scalars(_LIST_SHEETS, {"uuids": [str(uuid) for uuid in uuids]}))


def list_films(names: Sequence[tuple[str, str]]) -> set[str]:
    """Of films, named by the hash of their source and their recipe, those of releases, as `hash/recipe`."""
    hashes, recipes = [list(each) for each in zip(*names, strict=True)] or ([], [])
    return set(db.session.scalars(_LIST_FILMS, {"hashes": hashes, "recipes": recipes}))


def forget_uploads(keys: Sequence[str]) -> set[str]:
    """Forget uploads that are not submitted; return their keys. Who submits one just now comes first."""
    binds = {"keys": list(keys)}
    db.session.execute(_LOCK_UPLOADS, binds)
    return set(db.session.scalars(_FORGET_UPLOADS, binds))


def lock_submissions(keys: Sequence[str]) -> None:
    db.session.execute(_LOCK_SUBMISSIONS, {"keys": list(keys)})


def mark_pruned(keys: Sequence[str], moment: datetime, **seconds: float) -> set[str]:
    """Note of rejected submissions that their videos are gone; return the keys of those that still may go.

    The caller holds their rows and the lock of corrections.
    """
    return set(db.session.scalars(_MARK_PRUNED, {"keys": list(keys), "moment": moment, **seconds}))


def find_latest() -> Sweep | None:
    return fetch_one(Sweep, _FIND_LATEST)


def list_finished(limit: int) -> list[Sweep]:
    """The sweeps that are finished, the latest first."""
    return fetch_all(Sweep, _LIST_FINISHED, limit=limit)


def is_due() -> bool:
    """Whether no sweep has begun since two in the night, in UTC."""
    night = fetch_one(_Night, _IS_NIGHT)
    assert night is not None
    return night.is_due


def start() -> None:
    execute(_FORGET_OLD)
    execute(_START)


def save(id: int, after_key: str, tallies: Tallies, *, is_finished: bool) -> None:
    binds: dict[str, Any] = {"id": id, "after_key": after_key, "is_finished": is_finished}
    execute(_SAVE, found=json.dumps(tallies.to_json()), **binds)


def note_error(id: int, error: str) -> None:
    execute(_NOTE_ERROR, id=id, error=error[:1000])


def measure_reports() -> Reports:
    reports = fetch_one(Reports, _REPORTS)
    assert reports is not None
    return reports
