"""SQL on reviews: submissions that a person should look at."""

from dataclasses import dataclass
from datetime import datetime
from typing import Any
from uuid import UUID

from sqlalchemy import text

from app.assessment.report import Report
from app.corrections.queries import JOIN_LAST
from app.db import execute, fetch_all, fetch_one, fetch_value

# the status and score are the effective ones
_SELECT = f"""
    SELECT r.submission_id, s.uuid AS submission_uuid, s.miner_uid, coalesce(last.status, s.status) AS status,
           coalesce(last.final_score, s.final_score) AS final_score, s.held_at IS NOT NULL AS is_held,
           r.state, r.reason, r.opened_at, r.closed_at, r.decided_by, r.decision_reason, s.video_key
    FROM reviews r JOIN submissions s ON s.id = r.submission_id {JOIN_LAST}
"""

_OPEN = text("""
    INSERT INTO reviews AS r (submission_id, reason) VALUES (:submission_id, :reason)
    ON CONFLICT (submission_id) DO UPDATE SET
        state = 'OPEN', reason = excluded.reason, opened_at = now(), waits_since = now(), closed_at = NULL,
        decided_by = NULL, decision_reason = NULL
    WHERE r.state <> 'OPEN'
""")
_CLOSE = text("""
    UPDATE reviews SET state = :state, closed_at = now(), decided_by = :decided_by, decision_reason = :reason
    WHERE submission_id = :submission_id
""")
_NOTE_LET_GO = text("""
    UPDATE reviews SET let_go = true, waits_since = now() WHERE submission_id = :submission_id
""")
_LIST = text(f"""
    {_SELECT} WHERE r.state = :state AND (CAST(:after AS uuid) IS NULL OR (r.opened_at, r.submission_id) < (
        SELECT a.opened_at, a.submission_id FROM reviews a JOIN submissions b ON b.id = a.submission_id
        WHERE b.uuid = CAST(:after AS uuid)))
    ORDER BY r.opened_at DESC, r.submission_id DESC LIMIT :limit
""")
_FIND = text(f"{_SELECT} WHERE s.uuid = :uuid")
# Not those that are being judged again: they are decided by their result. Nor those that were let go once.
_FIND_OVERDUE = text(f"""
    {_SELECT} LEFT JOIN appeals a ON a.submission_id = s.id
    WHERE r.state = 'OPEN' AND r.waits_since < now() - make_interval(secs => :seconds)
      AND CASE WHEN a.state = 'OPEN' THEN false
               WHEN a.state = 'IN_REVIEW' AND a.evaluated_at IS NULL THEN NOT r.let_go
               ELSE s.final_score IS NOT NULL OR s.held_at IS NOT NULL AND NOT r.let_go END
      -- nobody can look any more at what was taken down: if it is rejected, it stays so
      AND (coalesce(last.status, s.status) = 'SCORED'
           OR NOT EXISTS (SELECT FROM takedowns t WHERE t.submission_id = s.id))
    ORDER BY r.waits_since, r.submission_id LIMIT 1
""")
_IS_TAKEN_DOWN = text("""
    SELECT EXISTS (SELECT FROM takedowns t JOIN submissions s ON s.id = t.submission_id WHERE s.uuid = :uuid)
""")
_FIND_FINDINGS = text(f"""
    SELECT e.technical_score, e.relevance_score, e.quality_score, v.report,
           coalesce(last.reason, e.rejection_reason) AS reason, last.reason IS NOT NULL AS is_corrected
    FROM submissions s JOIN evaluations e ON e.submission_id = s.id
    LEFT JOIN verification_reports v ON v.submission_id = s.id {JOIN_LAST}
    WHERE s.id = :submission_id
""")
_FIND_LATE_COPY = text("""
    SELECT status, final_score, reason FROM corrections
    WHERE submission_id = :submission_id AND kind = 'late_copy' ORDER BY id DESC LIMIT 1
""")
_HOLD = text("UPDATE submissions SET held_at = now(), cycle_id = NULL WHERE id = :submission_id")
_LET_GO = text("UPDATE submissions SET held_at = NULL, not_before = now() WHERE id = :submission_id")
_FORGET_JUDGE_CALLS = text("UPDATE submissions SET judge_calls = 0 WHERE id = :submission_id")
_TAKE = text("""
    UPDATE submissions SET status = 'EVALUATING', held_at = NULL, claim_token = gen_random_uuid(),
                           claimed_by = 'review', lease_expires_at = now()
    WHERE id = :submission_id
""")
_REFUSE = text("""
    WITH done AS (
        UPDATE submissions SET status = 'REJECTED', final_score = 0, evaluated_at = now(),
                               claim_token = NULL, claimed_by = NULL, lease_expires_at = NULL
        WHERE id = :submission_id RETURNING id
    ), result AS (
        INSERT INTO evaluations (submission_id, technical_score, relevance_score, quality_score,
                                 rejection_reason, evaluated_by)
        SELECT id, 0, 0, 0, :reason, 'person' FROM done RETURNING submission_id
    )
    INSERT INTO verification_reports (submission_id, report, report_hash)
    SELECT submission_id, report, encode(sha256(convert_to(report::text, 'UTF8')), 'hex')
    FROM result, CAST(:report AS jsonb) AS report
""")


@dataclass(frozen=True)
class Review:
    """A question to a person; `is_held`: the submission has no result and is not claimed meanwhile."""

    submission_id: int
    submission_uuid: UUID
    miner_uid: int
    status: str
    final_score: float | None
    is_held: bool
    state: str
    reason: str
    opened_at: datetime
    closed_at: datetime | None
    decided_by: str | None
    decision_reason: str | None
    video_key: str


@dataclass(frozen=True)
class StoredFindings:
    """What the evaluation of a submission found, its quality after duplicates; and why it is rejected now."""

    technical_score: float
    relevance_score: float
    quality_score: float
    report: dict[str, Any] | None
    reason: str | None
    is_corrected: bool


@dataclass(frozen=True)
class LateCopy:
    """What the last comparison with an earlier video made of a result."""

    status: str
    final_score: float
    reason: str


def open_review(submission_id: int, reason: str) -> None:
    """Open a review, also of a submission that had one before. If one is open, its reason stays."""
    execute(_OPEN, submission_id=submission_id, reason=reason)


def close(submission_id: int, state: str, decided_by: str, reason: str) -> None:
    execute(_CLOSE, submission_id=submission_id, state=state, decided_by=decided_by, reason=reason)


def note_let_go(submission_id: int) -> None:
    """Note that it was let go without a person; the time that a person has begins anew."""
    execute(_NOTE_LET_GO, submission_id=submission_id)


def list_latest(state: str, limit: int, after: UUID | None = None) -> list[Review]:
    """Reviews of one state, the latest first: those after the review of the submission `after`."""
    return fetch_all(Review, _LIST, state=state, limit=limit, after=after)


def find(uuid: UUID) -> Review | None:
    return fetch_one(Review, _FIND, uuid=uuid)


def is_taken_down(uuid: UUID) -> bool:
    return fetch_value(_IS_TAKEN_DOWN, uuid=uuid)


def find_overdue(seconds: float) -> Review | None:
    """The open review that has waited longest, if it has waited `seconds` and can be decided."""
    return fetch_one(Review, _FIND_OVERDUE, seconds=seconds)


def find_findings(submission_id: int) -> StoredFindings | None:
    return fetch_one(StoredFindings, _FIND_FINDINGS, submission_id=submission_id)


def find_late_copy(submission_id: int) -> LateCopy | None:
    return fetch_one(LateCopy, _FIND_LATE_COPY, submission_id=submission_id)


def hold(submission_id: int) -> None:
    """Take a PENDING submission out of the queue and out of its cycle."""
    execute(_HOLD, submission_id=submission_id)


def let_go(submission_id: int) -> None:
    """Let a held submission be claimed again, now; it joins the ACTIVE cycle."""
    execute(_LET_GO, submission_id=submission_id)


def forget_judge_calls(submission_id: int) -> None:
    """Let a submission cost as many requests to the judge once more."""
    execute(_FORGET_JUDGE_CALLS, submission_id=submission_id)


def refuse(submission_id: int, reason: str, report: Report) -> None:
    """Reject a held submission that has no evaluation."""
    execute(_TAKE, submission_id=submission_id)
    execute(_REFUSE, submission_id=submission_id, reason=reason, report=report.dump_json())
