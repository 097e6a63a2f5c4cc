"""SQL on appeals."""

from uuid import UUID

from sqlalchemy import text

from app.appeals.models import Admission, Appeal, Statistics
from app.corrections.queries import JOIN_LAST
from app.db import execute, fetch_one
from app.enums import AppealState
from app.locks import MINER_APPEALS

_LOCK_MINER = text(f"SELECT pg_advisory_xact_lock(hashtextextended(:miner_hotkey, {MINER_APPEALS}))")
_LOCK_SUBMISSION = text("SELECT FROM submissions WHERE uuid = :uuid FOR UPDATE")
# A later decision may be appealed against as well, so the time counts from the effective result.
_FIND_ADMISSION = text(f"""
    SELECT s.id AS submission_id, s.miner_hotkey, coalesce(last.status, e.status) AS status,
           coalesce(last.final_score, e.final_score) AS final_score,
           extract(epoch FROM coalesce(last.decided_at, e.evaluated_at) + make_interval(secs => :seconds)
                              - now())::float8 AS seconds_left,
           EXISTS (SELECT FROM takedowns t WHERE t.submission_id = s.id) AS is_taken_down,
           s.video_pruned_at IS NOT NULL AS is_pruned,
           EXISTS (SELECT FROM reviews r
                   WHERE r.submission_id = s.id AND r.state = 'OPEN') AS has_open_review,
           (SELECT extract(epoch FROM appealed_at + interval '1 day' - now())::float8 FROM appeals
            WHERE miner_hotkey = s.miner_hotkey AND appealed_at > now() - interval '1 day'
            ORDER BY appealed_at DESC OFFSET :quota - 1 LIMIT 1) AS quota_wait_seconds
    FROM submissions s
    LEFT JOIN submissions e ON e.id = s.id AND e.status IN ('SCORED', 'REJECTED') {JOIN_LAST}
    WHERE s.uuid = :uuid
    -- an evaluator that asks about a gold film gets the answer of an open submission
    UNION ALL SELECT id, miner_hotkey, NULL, NULL, NULL, false, false, false, NULL
    FROM gold_showings WHERE uuid = :uuid
""")
# The submission begins anew: what the first evaluation cost counts against its limits no longer.
_INSERT = text("""
    WITH appealed AS (
        UPDATE submissions SET not_before = now(), faults = 0, unexplained_faults = 0, suspect_attempts = 0,
                               judge_calls = 0, lost_by = '{}', last_fault = NULL
        WHERE id = :submission_id RETURNING id, attempts
    )
    INSERT INTO appeals (submission_id, miner_hotkey, reason, signature, against_status, against_score,
                         attempts_before)
    SELECT id, :miner_hotkey, :reason, encode(:signature, 'hex'), :against_status, :against_score, attempts
    FROM appealed
""")
_SELECT = """
    SELECT a.submission_id, s.uuid AS submission_uuid, a.miner_hotkey, a.reason, a.signature, a.appealed_at,
           a.state, a.against_status, a.against_score, a.status, a.final_score, a.technical_score,
           a.relevance_score, a.quality_score, a.rejection_reason, a.evaluated_by, a.judge_model,
           a.evaluated_at, a.report, a.decided_at, a.decided_by, a.decision_reason
    FROM appeals a JOIN submissions s ON s.id = a.submission_id
"""
_FIND = text(f"{_SELECT} WHERE s.uuid = :uuid")
_FIND_UNDECIDED = text(f"{_SELECT} WHERE a.submission_id = :submission_id AND a.decided_at IS NULL")
_SET_STATE = text("UPDATE appeals SET state = :state WHERE submission_id = :submission_id")
_EVALUATE_AGAIN = text("""
    WITH again AS (
        UPDATE appeals SET state = 'OPEN' WHERE submission_id = :submission_id RETURNING submission_id
    )
    UPDATE submissions s SET not_before = now(), suspect_attempts = 0, unexplained_faults = 0
    FROM again WHERE s.id = again.submission_id
""")
_DECIDE = text("""
    UPDATE appeals SET state = :state, decided_at = now(), decided_by = :decided_by, decision_reason = :reason
    WHERE submission_id = :submission_id
""")
_COUNT = text("""
    SELECT count(*) FILTER (WHERE state = 'OPEN') AS open,
           count(*) FILTER (WHERE state = 'IN_REVIEW') AS in_review,
           count(*) FILTER (WHERE state = 'UPHELD') AS upheld,
           count(*) FILTER (WHERE state = 'OVERTURNED') AS overturned,
           count(*) FILTER (WHERE state = 'CLOSED') AS closed,
           count(*) FILTER (WHERE state IN ('UPHELD', 'OVERTURNED') AND is_recent) AS decided_in_30_days,
           count(*) FILTER (WHERE state = 'OVERTURNED' AND is_recent) AS overturned_in_30_days
    FROM (SELECT state, decided_at > now() - interval '30 days' AS is_recent FROM appeals) each
""")


def lock_miner(miner_hotkey: str) -> None:
    """Make other appeals of this miner wait here until the transaction ends."""
    execute(_LOCK_MINER, miner_hotkey=miner_hotkey)


def lock_submission(uuid: UUID) -> None:
    """Lock the submission's row, which comes before the lock of corrections for all who take both."""
    execute(_LOCK_SUBMISSION, uuid=uuid)


def find_admission(uuid: UUID, seconds: float, quota: int) -> Admission | None:
    """What is known about a submission: a result can be appealed against for `seconds`, `quota` a day."""
    return fetch_one(Admission, _FIND_ADMISSION, uuid=uuid, seconds=seconds, quota=quota)


def insert(admission: Admission, reason: str, signature: bytes | None) -> None:
    execute(
        _INSERT,
        submission_id=admission.submission_id,
        miner_hotkey=admission.miner_hotkey,
        reason=reason,
        signature=signature,
        against_status=admission.status,
        against_score=admission.final_score,
    )


def find(uuid: UUID) -> Appeal | None:
    """The appeal against the result of a submission."""
    return fetch_one(Appeal, _FIND, uuid=uuid)


def find_undecided(submission_id: int) -> Appeal | None:
    """The appeal against the result of a submission, if it is OPEN or IN_REVIEW."""
    return fetch_one(Appeal, _FIND_UNDECIDED, submission_id=submission_id)


def set_in_review(submission_id: int) -> None:
    execute(_SET_STATE, submission_id=submission_id, state=AppealState.IN_REVIEW)


def evaluate_again(submission_id: int) -> None:
    """Let the submission of an appeal that is IN_REVIEW be evaluated anew, now."""
    execute(_EVALUATE_AGAIN, submission_id=submission_id)


def decide(submission_id: int, state: AppealState, decided_by: str, reason: str) -> None:
    execute(_DECIDE, submission_id=submission_id, state=state, decided_by=decided_by, reason=reason)


def count() -> Statistics:
    statistics = fetch_one(Statistics, _COUNT)
    assert statistics is not None
    return statistics
