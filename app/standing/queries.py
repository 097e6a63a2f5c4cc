"""SQL on one miner: what it submitted, and how it stands."""

from dataclasses import dataclass
from datetime import datetime
from uuid import UUID

from sqlalchemy import text

from app.corrections.queries import JOIN_LAST
from app.db import fetch_all, fetch_one

_FIND_MINER = text(f"""
    SELECT
        (SELECT uid FROM metagraph WHERE hotkey = :hotkey) AS registered_uid,
        (SELECT count(*) FROM submissions
         WHERE miner_hotkey = :hotkey AND submitted_at > now() - interval '1 hour') AS submitted_last_hour,
        (SELECT count(*) FROM uploads
         WHERE miner_hotkey = :hotkey AND created_at > now() - interval '1 hour') AS uploads_last_hour,
        own.cycle_id AS active_cycle_id, own.submissions AS active_submissions, own.open AS active_open,
        own.accepted AS active_accepted, own.total AS active_total
    FROM (
        SELECT c.id AS cycle_id, count(s.id) AS submissions,
               count(s.id) FILTER (WHERE s.status IN ('PENDING', 'EVALUATING')) AS open,
               count(s.id) FILTER (WHERE coalesce(s.effective, s.status) = 'SCORED') AS accepted,
               coalesce(sum(s.points), 0)::float8 AS total
        FROM (SELECT) one LEFT JOIN cycles c ON c.status = 'ACTIVE' LEFT JOIN LATERAL (
            SELECT s.id, s.status, last.status AS effective,
                   coalesce(last.final_score, s.final_score) * s.prompt_weight AS points
            FROM submissions s {JOIN_LAST}
            -- carried over ones were submitted before the cycle began
            WHERE s.miner_hotkey = :hotkey AND s.cycle_id = c.id
                  AND s.submitted_at > c.started_at - interval '2 days') s ON true
        GROUP BY c.id) own
""")
_LIST_MINER_SUBMISSIONS = text(f"""
    SELECT s.uuid, s.prompt_id, p.scenario, s.miner_uid, s.cycle_id, s.submitted_at,
           coalesce(last.status, s.status) AS status,
           coalesce(last.final_score, s.final_score) AS final_score, last.status IS NOT NULL AS is_corrected,
           CASE coalesce(last.status, s.status)
               WHEN 'REJECTED' THEN coalesce(last.reason, e.rejection_reason) END AS rejection_reason
    FROM submissions s JOIN prompts p ON p.id = s.prompt_id
    LEFT JOIN evaluations e ON e.submission_id = s.id {JOIN_LAST}
    WHERE s.miner_hotkey = :hotkey
          AND (CAST(:before AS timestamptz) IS NULL OR s.submitted_at < :before)
    ORDER BY s.submitted_at DESC LIMIT :limit
""")


@dataclass(frozen=True)
class Miner:
    """A hotkey now: its uid, what it did in the last hour, and its standing in the active cycle."""

    registered_uid: int | None
    submitted_last_hour: int
    uploads_last_hour: int
    active_cycle_id: int | None
    active_submissions: int
    active_open: int
    active_accepted: int
    active_total: float


@dataclass(frozen=True)
class MinerSubmission:
    uuid: UUID
    prompt_id: str
    scenario: str
    miner_uid: int
    cycle_id: int | None
    submitted_at: datetime
    status: str
    final_score: float | None
    is_corrected: bool
    rejection_reason: str | None


def get_miner(hotkey: str) -> Miner:
    miner = fetch_one(Miner, _FIND_MINER, hotkey=hotkey)
    assert miner is not None
    return miner


def list_miner_submissions(hotkey: str, before: datetime | None, limit: int) -> list[MinerSubmission]:
    """The miner's submissions from before a moment (None: now), the newest first."""
    return fetch_all(MinerSubmission, _LIST_MINER_SUBMISSIONS, hotkey=hotkey, before=before, limit=limit)
