"""SQL on corrections."""

import json
from collections.abc import Sequence
from uuid import UUID

from sqlalchemy import text

from app.corrections.models import Correction, Decision, Effective
from app.db import execute, fetch_all, fetch_one, fetch_value
from app.locks import CORRECTIONS

# After submissions AS s: the last correction of each.
JOIN_LAST = """
    LEFT JOIN LATERAL (
        SELECT c.kind, c.status, c.final_score, c.reason, c.decided_by, c.decided_at FROM corrections c
        WHERE c.submission_id = s.id ORDER BY c.id DESC LIMIT 1) last ON true
"""

_LOCK = text("SELECT pg_advisory_xact_lock(:key)")
_FIND_LAST_ID = text("SELECT max(id) FROM corrections")
_FIND_EFFECTIVE = text(f"""
    SELECT coalesce(last.status, s.status) AS status,
           coalesce(last.final_score, s.final_score) AS final_score, last.kind, last.decided_by
    FROM submissions s {JOIN_LAST} WHERE s.id = :submission_id AND s.status IN ('SCORED', 'REJECTED')
""")
_INSERT = text(f"""
    INSERT INTO corrections (submission_id, kind, status, final_score, points_change, accepted_change, reason,
                             decided_by, evidence, cycle_id, is_late)
    SELECT s.id, :kind, :status, :final_score,
           round(CAST(:final_score AS double precision) * 10000)::integer
               - round(coalesce(last.final_score, s.final_score) * 10000)::integer,
           (:status = 'SCORED')::integer - (coalesce(last.status, s.status) = 'SCORED')::integer,
           :reason, :decided_by, CAST(:evidence AS jsonb), s.cycle_id, coalesce(y.status = 'COMPLETED', false)
    FROM submissions s LEFT JOIN cycles y ON y.id = s.cycle_id {JOIN_LAST}
    WHERE s.id = :submission_id
""")
_LIST = text("""
    SELECT c.id, c.kind, c.status, c.final_score, c.reason, c.decided_by, c.decided_at, c.evidence, c.is_late
    FROM corrections c JOIN submissions s ON s.id = c.submission_id WHERE s.uuid = :uuid ORDER BY c.id
""")


def lock() -> None:
    """Until this transaction ends, no other transaction inserts corrections or completes a cycle.

    Take this lock after all others, so that its holder waits for nobody.
    """
    execute(_LOCK, key=CORRECTIONS)


def find_last_id() -> int | None:
    return fetch_value(_FIND_LAST_ID)


def find_effective(submission_id: int) -> Effective | None:
    """The effective result of a submission, or None if it has not been evaluated."""
    return fetch_one(Effective, _FIND_EFFECTIVE, submission_id=submission_id)


def insert(submission_id: int, decision: Decision) -> None:
    """Insert a correction of an evaluated submission; under the lock."""
    values = vars(decision) | {"evidence": json.dumps(decision.evidence)}
    execute(_INSERT, submission_id=submission_id, **values)


def list_corrections(uuid: UUID) -> Sequence[Correction]:
    """The corrections of a submission's result, in the order in which they were decided."""
    return fetch_all(Correction, _LIST, uuid=uuid)
