"""SQL on claims and results."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from datetime import datetime
from functools import cache
from typing import Any
from uuid import UUID

from sqlalchemy import text

from app.assessment.model import Claim
from app.assessment.report import Report
from app.db import Prepared, db, execute, fetch_all, fetch_one, fetch_value

# A row waits while an earlier row with the same hash is open: of equal videos the first submitted is the
# original, whichever worker is faster. OFFSET 0 keeps this a look-up for each row taken. As a join, planned
# with the statistics of an emptier table, it read all pending rows.
_DUE = """
    s.status = 'PENDING' AND s.held_at IS NULL AND s.not_before <= now()
    AND NOT EXISTS (
        SELECT 1 FROM submissions earlier
        WHERE earlier.video_hash = s.video_hash AND earlier.id < s.id
          AND earlier.status IN ('PENDING', 'EVALUATING') AND earlier.held_at IS NULL AND NOT earlier.demoted
        OFFSET 0)
"""
_CLAIM_COLUMNS = """
    s.id, s.uuid AS submission_uuid, s.attempts - coalesce(a.attempts_before, 0) AS attempt, s.claim_token,
    s.lease_expires_at, s.video_key, s.video_hash, s.prompt_id, p.category, p.task, p.scenario,
    s.requirements, s.duration_sec, s.resolution_width, s.resolution_height, s.fps,
    coalesce(a.frame_seed, s.frame_seed) AS frame_seed, a.submission_id IS NOT NULL AS is_appeal
"""
_CLAIM_TABLES = """
    JOIN prompts p ON p.id = s.prompt_id
    LEFT JOIN appeals a ON a.submission_id = s.id AND a.state = 'OPEN'
"""
# what a lease may be on: a submission or a showing of a gold film; no two have the same id
_CLAIMED = ("submissions", "gold_showings")
_FREE = "claim_token = NULL, claimed_by = NULL, lease_expires_at = NULL"


def _back_off(faults: str) -> str:
    """SQL: 30 s after the first fault, doubled by each further one up to 30 min, plus or minus a quarter."""
    return f"make_interval(secs => least(1800, 30 * 2 ^ least({faults}, 10)) * (0.75 + 0.5 * random()))"


# A submission with a result keeps it, and its status, while it is evaluated once more for an appeal.
_APPEALED = """
    appeals a JOIN submissions s ON s.id = a.submission_id
    WHERE a.state = 'OPEN' AND s.claim_token IS NULL AND s.not_before <= now()
"""
# neither a breaker nor a block of this remote evaluator is in the way
_PERMITTED = """
    SELECT (:probing OR NOT EXISTS (
            SELECT FROM circuit_breakers WHERE open_until IS NOT NULL AND name = ANY(:needs)))
        AND NOT EXISTS (SELECT FROM evaluator_blocks WHERE evaluator = :evaluator AND allowed_at IS NULL)
"""
# A gold film is no submission, but waits its turn among them. A remote evaluator never gets a film again.
# OFFSET 0: see above.
_GOLD_DUE = "s.status = 'PENDING' AND s.not_before <= now() AND s.attempts < 10"
_GOLD_NEW = """
    NOT EXISTS (SELECT FROM gold_showings other WHERE other.film_id = s.film_id AND other.id <> s.id
                AND :claimed_by = ANY(other.seen_by) OFFSET 0)
"""
_LEASE = """
    attempts = attempts + 1, claim_token = gen_random_uuid(),
    claimed_by = :claimed_by, lease_expires_at = now() + make_interval(secs => :lease_seconds)
"""
# Each part locks up to `limit` rows, though the first of all of them are taken.
_FIRST_DUE = """
    ORDER BY s.not_before, s.id LIMIT :limit FOR UPDATE OF s SKIP LOCKED
"""
_CLAIM = f"""
    WITH permitted (yes) AS ({_PERMITTED}), appealed AS (
        SELECT s.id, s.not_before, 1 AS turn FROM {_APPEALED} AND NOT :probing AND (SELECT yes FROM permitted)
        {_FIRST_DUE}
    ), due AS (
        SELECT s.id, s.not_before, 2 AS turn FROM submissions s WHERE {_DUE} AND (SELECT yes FROM permitted)
        {_FIRST_DUE}
    ), gold_due AS (
        SELECT s.id, s.not_before, 2 AS turn FROM gold_showings s
        WHERE {_GOLD_DUE} AND {_GOLD_NEW} AND (SELECT yes FROM permitted)
        {_FIRST_DUE}
    ), first AS (
        SELECT id FROM (
            SELECT * FROM appealed UNION ALL SELECT * FROM due UNION ALL SELECT * FROM gold_due) each
        ORDER BY turn, not_before, id LIMIT :limit
    ), claimed AS (
        UPDATE submissions s SET {_LEASE},
            status = CASE status WHEN 'PENDING' THEN 'EVALUATING' ELSE status END
        FROM first WHERE s.id = first.id RETURNING s.*
    ), gold_claimed AS (
        UPDATE gold_showings s SET status = 'EVALUATING', {_LEASE},
            seen_by = CASE WHEN :is_remote THEN seen_by || CAST(:claimed_by AS text) ELSE seen_by END
        FROM first WHERE s.id = first.id RETURNING s.*
    )
    SELECT {_CLAIM_COLUMNS} FROM claimed s {_CLAIM_TABLES}
    UNION ALL
    SELECT {_CLAIM_COLUMNS} FROM gold_claimed s {_CLAIM_TABLES}
    ORDER BY is_appeal DESC, id
"""
_COUNT_DUE = text(f"""
    SELECT count(*) FROM (
        (SELECT 1 FROM {_APPEALED} LIMIT :at_most)
        UNION ALL (SELECT 1 FROM submissions s WHERE {_DUE} LIMIT :at_most)
        -- a job looks at these first
        UNION ALL (SELECT 1 FROM takedowns
                   WHERE recognise_at <= now() AND object_deleted_at IS NULL LIMIT :at_most)
        UNION ALL SELECT 1 FROM gold_showings s WHERE {_GOLD_DUE} LIMIT :at_most) due
""")
# with gold films: an evaluator that counts must not find one too many in its hands
_COUNT_OPEN = """
    SELECT (SELECT count(*) FROM (
                SELECT 1 FROM submissions WHERE status = 'PENDING' AND held_at IS NULL
                UNION ALL SELECT 1 FROM gold_showings WHERE status = 'PENDING' LIMIT :limit) p
           ) AS pending,
           (SELECT count(*) FROM (
                SELECT 1 FROM submissions WHERE status = 'EVALUATING'
                UNION ALL SELECT 1 FROM gold_showings WHERE status = 'EVALUATING' LIMIT :limit) e
           ) AS evaluating
"""
_EXTEND = text("""
    UPDATE submissions SET lease_expires_at = now() + make_interval(secs => :lease_seconds)
    WHERE id = :id AND claim_token = :claim_token AND lease_expires_at > now()
""")
_RELEASE = text(f"""
    UPDATE submissions SET
        status = CASE status WHEN 'EVALUATING' THEN 'PENDING' ELSE status END, {_FREE},
        faults = faults + CAST(:is_fault AS integer),
        unexplained_faults = unexplained_faults + CAST(:is_unexplained AS integer),
        suspect_attempts = suspect_attempts + CAST(:is_suspect AS integer),
        changes = changes + CAST(:is_change AS integer),
        demoted = demoted OR changes + CAST(:is_change AS integer) >= :most_changes,
        last_fault = CASE WHEN :is_fault THEN :reason ELSE last_fault END,
        not_before = now() + greatest(
            make_interval(secs => :at_least),
            CASE WHEN :is_fault THEN {_back_off("faults")} ELSE interval '0' END)
    WHERE id = :id AND claim_token = :claim_token
    RETURNING id, not_before, miner_hotkey, suspect_attempts, unexplained_faults, last_fault,
              CAST(:is_suspect AS boolean) AS is_suspect, status <> 'PENDING' AS is_appeal
""")
# The machine of the claimant: without the suffix that names one process of a worker (jobs/worker.py).
_MACHINE = "regexp_replace(coalesce(s.claimed_by, ''), '-[0-9]+-[0-9a-f]{8}$', '')"
# After the first expiry the row need not wait and keeps its place before later rows: its worker is gone and
# another takes over. From the second expiry on the row backs off.
_HAS_EXPIRED = text("""
    SELECT EXISTS (SELECT FROM submissions WHERE status = 'EVALUATING' AND lease_expires_at <= now())
        OR EXISTS (SELECT FROM appeals a JOIN submissions s ON s.id = a.submission_id
                   WHERE a.state = 'OPEN' AND s.lease_expires_at <= now())
        OR EXISTS (SELECT FROM gold_showings WHERE status = 'EVALUATING' AND lease_expires_at <= now())
""")
_RETURN_EXPIRED = text(f"""
    WITH expired AS (
        SELECT s.id, s.lost_by, {_MACHINE} AS machine FROM submissions s
        WHERE s.id IN (SELECT id FROM submissions WHERE status = 'EVALUATING' AND lease_expires_at <= now()
                       UNION ALL SELECT submission_id FROM appeals WHERE state = 'OPEN')
          AND s.lease_expires_at <= now()
        ORDER BY s.lease_expires_at LIMIT :limit FOR UPDATE SKIP LOCKED
    ), lost AS (
        SELECT id, machine, array_remove(lost_by, machine) AS by_others,
               cardinality(array_remove(lost_by, machine)) > 0
                   AND count(*) OVER (PARTITION BY machine) = 1 AS is_suspect
        FROM expired
    )
    UPDATE submissions s SET
        status = CASE s.status WHEN 'EVALUATING' THEN 'PENDING' ELSE s.status END, {_FREE},
        faults = faults + 1, unexplained_faults = unexplained_faults + 1,
        suspect_attempts = suspect_attempts + CAST(lost.is_suspect AS integer),
        lost_by = lost.by_others || lost.machine,
        last_fault = 'The lease of ' || coalesce(claimed_by, 'an evaluator') || ' expired.',
        not_before = CASE WHEN faults = 0 THEN not_before ELSE now() + {_back_off("faults - 1")} END
    FROM lost WHERE s.id = lost.id
    RETURNING s.id, s.not_before, s.miner_hotkey, s.suspect_attempts, s.unexplained_faults, s.last_fault,
              lost.is_suspect, s.status <> 'PENDING' AS is_appeal
""")
_NOTE_LOSS = text(f"""
    WITH lost AS (
        SELECT s.id, {_MACHINE} AS machine, array_remove(s.lost_by, {_MACHINE}) AS by_others
        FROM submissions s WHERE s.id = :id AND s.claim_token = :claim_token
    )
    UPDATE submissions s SET lost_by = lost.by_others || lost.machine
    FROM lost WHERE s.id = lost.id RETURNING cardinality(lost.by_others) > 0
""")
_COUNT_SUSPECT = text("""
    INSERT INTO suspect_attempts AS a (miner_hotkey, day, n)
    VALUES (:miner_hotkey, (now() AT TIME ZONE 'UTC')::date, 1)
    ON CONFLICT (miner_hotkey, day) DO UPDATE SET n = a.n + 1 RETURNING n
""")
# what else there may be to do about a result; often nothing
_WHAT_FOLLOWS = """
    EXISTS (SELECT FROM circuit_breakers) AS has_breakers,
    EXISTS (SELECT FROM webhook_endpoints WHERE disabled_at IS NULL AND removed_at IS NULL) AS has_listeners
"""
_RECORD = Prepared(f"""
    WITH done AS (
        UPDATE submissions SET status = :status, {_FREE}, final_score = :final_score, evaluated_at = now()
        WHERE id = :id AND claim_token = :claim_token AND lease_expires_at > now()
        RETURNING id
    ), result AS (
        INSERT INTO evaluations (submission_id, technical_score, relevance_score, quality_score,
                                 rejection_reason, evaluated_by, judge_model, prompt_version, evaluator)
        SELECT id, :technical_score, :relevance_score, :quality_score,
               :rejection_reason, :evaluated_by, :judge_model, :prompt_version, :evaluator FROM done
        RETURNING submission_id
    ), reported AS (
        INSERT INTO verification_reports (submission_id, report, report_hash)
        SELECT submission_id, report, encode(sha256(convert_to(report::text, 'UTF8')), 'hex')
        FROM result, CAST(:report AS jsonb) AS report
        RETURNING submission_id
    )
    SELECT {_WHAT_FOLLOWS} FROM reported
""")
_RECORD_APPEALED = text(f"""
    WITH done AS (
        UPDATE submissions SET {_FREE}
        WHERE id = :id AND claim_token = :claim_token AND lease_expires_at > now() RETURNING id
    ), appealed AS (
        UPDATE appeals a SET
            status = :status, final_score = :final_score, technical_score = :technical_score,
            relevance_score = :relevance_score, quality_score = :quality_score,
            rejection_reason = :rejection_reason, evaluated_by = :evaluated_by, judge_model = :judge_model,
            prompt_version = :prompt_version, report = CAST(:report AS jsonb), evaluated_at = now()
        FROM done WHERE a.submission_id = done.id RETURNING a.submission_id
    )
    SELECT {_WHAT_FOLLOWS} FROM appealed
""")
_FIND_CLAIM = Prepared(
    " UNION ALL ".join(
        f"""
        SELECT {_CLAIM_COLUMNS} FROM {table} s {_CLAIM_TABLES}
        WHERE s.id = :id AND s.claim_token IS NOT NULL AND s.lease_expires_at > now()
        """
        for table in _CLAIMED
    )
)
_LIST_CLAIMS = text(f"""
    SELECT {_CLAIM_COLUMNS} FROM submissions s {_CLAIM_TABLES}
    WHERE s.id IN (SELECT id FROM submissions WHERE status = 'EVALUATING'
                   UNION ALL SELECT submission_id FROM appeals WHERE state = 'OPEN')
      AND s.claimed_by = :claimed_by
    UNION ALL
    SELECT {_CLAIM_COLUMNS} FROM gold_showings s {_CLAIM_TABLES}
    WHERE s.status = 'EVALUATING' AND s.claimed_by = :claimed_by
""")
_FIND_STATUS = text("""
    SELECT status FROM submissions WHERE id = :id UNION ALL SELECT status FROM gold_showings WHERE id = :id
""")
_FIND_REPORT = text("""
    SELECT r.report::text AS report, r.report_hash IS NOT NULL AS is_hashed FROM submissions s
    LEFT JOIN verification_reports r ON r.submission_id = s.id WHERE s.uuid = :uuid
    UNION ALL SELECT report::text, true FROM gold_showings WHERE uuid = :uuid
""")


@cache
def _limited(statement: str, limit: int | None) -> Prepared:
    """`statement` with this limit in its text: without it one plan would have to be good for all rows."""
    return Prepared(statement.replace(":limit", "ALL" if limit is None else str(int(limit))))


_STREAM_DELIVERED = text("""
    SELECT s.uuid AS submission_uuid, s.cycle_id, s.miner_uid, s.status, s.final_score, s.evaluated_at
    FROM evaluations e JOIN submissions s ON s.id = e.submission_id
    WHERE e.evaluator = :evaluator AND e.created_at >= :since ORDER BY e.created_at
""").execution_options(yield_per=1000)


@dataclass(frozen=True)
class Delivered:
    """A result that a remote evaluator delivered, as it was at first."""

    submission_uuid: UUID
    cycle_id: int | None
    miner_uid: int
    status: str
    final_score: float
    evaluated_at: datetime


@dataclass(frozen=True)
class OpenCounts:
    pending: int
    evaluating: int


@dataclass(frozen=True)
class Recorded:
    """A result was written. `has_breakers`: there may be one to close. `has_listeners`: to webhooks."""

    has_breakers: bool
    has_listeners: bool


@dataclass(frozen=True)
class Released:
    """A row that may be claimed again. `is_suspect`: its video alone may be the cause.

    `unexplained_faults` are all those that no dependency caused. `is_appeal`: it has a result, and is to be
    evaluated once more.
    """

    id: int
    not_before: datetime
    miner_hotkey: str
    suspect_attempts: int
    unexplained_faults: int
    last_fault: str | None
    is_suspect: bool
    is_appeal: bool


@dataclass(frozen=True)
class StoredReport:
    """The text of a report; None: not evaluated yet. `is_hashed`: a ledger names the hash of this text."""

    report: str | None
    is_hashed: bool


def claim_due(
    limit: int,
    claimed_by: str,
    lease_seconds: float,
    needs: Sequence[str],
    *,
    is_remote: bool,
    evaluator: str | None = None,
    probing: bool = False,
) -> list[Claim]:
    """Claim the oldest due rows, those with an appeal first. No two callers ever get the same one.

    Nothing is claimed while a circuit breaker among `needs` is tripped, unless `probing`, nor for a blocked
    `evaluator`. Appeals have a budget, so they cannot keep the others waiting. They are no probes, since they
    may have another judge.
    """
    return fetch_all(
        Claim,
        _limited(_CLAIM, limit),
        claimed_by=claimed_by,
        lease_seconds=lease_seconds,
        needs=list(needs),
        is_remote=is_remote,
        evaluator=evaluator,
        probing=probing,
    )


def count_due(at_most: int) -> int:
    return fetch_value(_COUNT_DUE, at_most=at_most)


def count_open(at_most: int | None) -> OpenCounts:
    """Count rows by open status, each up to `at_most` (None: all of them)."""
    counts = fetch_one(OpenCounts, _limited(_COUNT_OPEN, at_most))
    assert counts is not None
    return counts


def extend_lease(claim: Claim, lease_seconds: float) -> bool:
    """False if the lease has ended."""
    return bool(execute(_EXTEND, id=claim.id, claim_token=claim.claim_token, lease_seconds=lease_seconds))


def release(
    claim: Claim,
    reason: str,
    at_least: float,
    *,
    is_fault: bool,
    is_unexplained: bool,
    is_suspect: bool,
    is_change: bool,
    most_changes: int,
) -> Released | None:
    """Return the row to PENDING, due in `at_least` seconds or later; None if the lease has ended.

    After `most_changes` attempts in which its object changed it is demoted.
    """
    return fetch_one(
        Released,
        _RELEASE,
        id=claim.id,
        claim_token=claim.claim_token,
        reason=reason,
        at_least=at_least,
        is_fault=is_fault,
        is_unexplained=is_unexplained,
        is_suspect=is_suspect,
        is_change=is_change,
        most_changes=most_changes,
    )


def has_expired() -> bool:
    """Whether the lease of a submission, an appeal or a gold film has ended."""
    return fetch_value(_HAS_EXPIRED)


def return_expired(limit: int) -> list[Released]:
    """Return up to `limit` rows whose lease has ended to PENDING.

    An expiry makes the video suspect only if another machine lost the same row before. It does not if the
    machine lost several rows at once: nobody can tell which of them is the cause, if any.
    """
    return fetch_all(Released, _RETURN_EXPIRED, limit=limit)


def note_loss(claim: Claim) -> bool:
    """Note that the claimant was killed; True if another machine lost the same row before."""
    return bool(fetch_value(_NOTE_LOSS, id=claim.id, claim_token=claim.claim_token))


def count_suspect(miner_hotkey: str) -> int:
    """Count an attempt that this miner's video alone may have made fail; return the count of today."""
    return fetch_value(_COUNT_SUSPECT, miner_hotkey=miner_hotkey)


def record(claim: Claim, values: dict[str, Any], report: Report) -> Recorded | None:
    """Write status, evaluation and report; None, having written nothing, if the lease has ended."""
    return fetch_one(Recorded, _RECORD, **_binds(claim, values, report))


def record_appealed(claim: Claim, values: dict[str, Any], report: Report) -> Recorded | None:
    """Write the evaluation for an appeal; None, having written nothing, if the lease has ended."""
    return fetch_one(Recorded, _RECORD_APPEALED, **_binds(claim, values, report))


def _binds(claim: Claim, values: dict[str, Any], report: Report) -> dict[str, Any]:
    return {"id": claim.id, "claim_token": claim.claim_token, "report": report.dump_json(), **values}


def find_claim(submission_id: int) -> Claim | None:
    """The live claim on a submission, by any holder."""
    return fetch_one(Claim, _FIND_CLAIM, id=submission_id)


def list_claims(claimed_by: str) -> list[Claim]:
    """Every claim that `claimed_by` holds, expired or not."""
    return fetch_all(Claim, _LIST_CLAIMS, claimed_by=claimed_by)


def find_status(submission_id: int) -> str | None:
    return fetch_value(_FIND_STATUS, id=submission_id)


def find_report(uuid: UUID) -> StoredReport | None:
    return fetch_one(StoredReport, _FIND_REPORT, uuid=uuid)


def stream_delivered(evaluator: str, since: datetime) -> Iterator[Delivered]:
    """What an evaluator has delivered since then, fetched in batches."""
    for row in db.session.execute(_STREAM_DELIVERED, {"evaluator": evaluator, "since": since}).mappings():
        yield Delivered(**row)
