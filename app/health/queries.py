"""SQL on the state of the service as a whole; counts of open submissions go through partial indexes."""

from dataclasses import dataclass
from datetime import datetime

from sqlalchemy import Engine, text

from app.assessment.report import StageSeconds
from app.db import fetch_all, fetch_one, fetch_value

_TOTALS = text("""
    SELECT (SELECT id FROM cycles WHERE status = 'ACTIVE') AS active_cycle_id,
           (SELECT count(*) FROM prompts) AS total_prompts,
           (SELECT coalesce(sum(n), 0) FROM prompt_submission_counts)::bigint AS total_submissions,
           (SELECT max(last_started_at) FROM ticks WHERE name <> 'backup') AS scheduler_last_tick_at
""")
_BACKLOG = text("""
    SELECT (SELECT count(*) FROM submissions WHERE status = 'PENDING' AND held_at IS NULL) AS pending,
           (SELECT count(*) FROM submissions WHERE status = 'EVALUATING') AS evaluating,
           (SELECT count(*) FROM submissions
            WHERE status = 'PENDING' AND held_at IS NULL AND not_before > now()) AS backing_off,
           (SELECT extract(epoch FROM now() - not_before)::double precision FROM submissions
            WHERE status = 'PENDING' AND held_at IS NULL AND not_before <= now()
            ORDER BY not_before, id LIMIT 1)
               AS oldest_due_seconds,
           (SELECT count(*) FROM reviews WHERE state = 'OPEN') AS reviews_open,
           (SELECT extract(epoch FROM now() - min(opened_at))::double precision FROM reviews
            WHERE state = 'OPEN') AS oldest_review_seconds,
           (SELECT extract(epoch FROM now() - min(appealed_at))::double precision FROM appeals
            WHERE state = 'OPEN') AS oldest_appeal_seconds,
           (SELECT extract(epoch FROM now() - min(delete_at))::double precision FROM takedowns
            WHERE delete_at <= now() AND object_deleted_at IS NULL) AS oldest_takedown_seconds,
           (SELECT count(*) FROM cycles WHERE status = 'EVALUATING') AS evaluating_cycles,
           (SELECT extract(epoch FROM now() - ends_at)::double precision FROM cycles WHERE status = 'ACTIVE')
               AS active_cycle_overdue_seconds,
           (SELECT coalesce(sum(prompt_tokens + completion_tokens), 0)::bigint FROM judge_usage
            WHERE day = (now() AT TIME ZONE 'UTC')::date) AS judge_tokens_today,
           (SELECT extract(epoch FROM now() - min(due.not_before))::double precision
            FROM webhook_endpoints e CROSS JOIN LATERAL (
                SELECT d.not_before FROM webhook_deliveries d
                WHERE d.endpoint_id = e.id AND d.state = 'PENDING' AND d.not_before <= now()
                  AND NOT EXISTS (
                      SELECT FROM webhook_deliveries earlier
                      WHERE earlier.endpoint_id = d.endpoint_id AND earlier.subject = d.subject
                        AND earlier.state = 'PENDING' AND earlier.id < d.id OFFSET 0)
                ORDER BY d.not_before, d.id LIMIT 1) due
            WHERE e.disabled_at IS NULL AND e.removed_at IS NULL AND e.failures = 0 AND NOT e.is_slow)
               AS webhooks_due_seconds,
           (SELECT count(*) FROM webhook_endpoints WHERE disabled_at IS NOT NULL AND removed_at IS NULL)
               AS webhooks_disabled,
           (SELECT count(*) FROM webhook_endpoints
            WHERE miner_hotkey IS NULL AND removed_at IS NULL AND (failures > 0 OR disabled_at IS NOT NULL))
               AS own_webhooks_failing,
           (SELECT count(*) FROM webhook_endpoints
            WHERE miner_hotkey IS NOT NULL AND removed_at IS NULL AND disabled_at IS NULL AND failures > 0)
               AS miners_webhooks_failing,
           (SELECT extract(epoch FROM now() - metagraph_snapshot_at)::double precision FROM chain_state)
               AS metagraph_age_seconds,
           (SELECT count(*) FROM cycles WHERE status = 'COMPLETED'
              AND id > coalesce((SELECT max(cycle_id) FROM computed_weights), 0)) AS cycles_without_weights,
           (SELECT extract(epoch FROM now() - min(y.completed_at))::double precision FROM cycles y
            WHERE y.status = 'COMPLETED' AND y.id >= (SELECT min(cycle_id) FROM ledgers)
              AND NOT EXISTS (
                  SELECT FROM ledgers l WHERE l.cycle_id = y.id AND l.stored_at IS NOT NULL))
               AS oldest_ledger_seconds,
           (SELECT count(*) FROM ledgers WHERE difference IS NOT NULL) AS ledgers_different,
           (SELECT count(*) FROM pg_stat_activity WHERE datname = current_database()) AS connections
""")
_HAS_SCHEMA = text("SELECT to_regclass('schema_migrations') IS NOT NULL")
_TICKS = text("""
    SELECT name, extract(epoch FROM now() - last_started_at)::double precision AS age_seconds,
           last_error IS NOT NULL AS failed
    FROM ticks ORDER BY name
""")
_SERVER = text("""
    SELECT current_setting('server_version') AS version,
           current_setting('server_version_num')::integer AS version_number,
           current_setting('transaction_read_only')::boolean AS is_read_only,
           (SELECT count(*) FROM pg_stat_activity WHERE backend_type = 'client backend') AS connections,
           current_setting('max_connections')::integer
               - current_setting('superuser_reserved_connections')::integer AS max_connections
""")
_SESSION = text("SELECT pg_backend_pid()")
_REMOTE_SECONDS = text("""
    SELECT extract(epoch FROM now() - max(created_at))::double precision
    FROM (SELECT evaluated_by, created_at FROM evaluations ORDER BY submission_id DESC LIMIT :latest) recent
    WHERE evaluated_by = 'evaluator'
""")
_FIND_UNFINISHED = text("""
    SELECT c.id, extract(epoch FROM now() - c.closed_at)::double precision AS seconds,
           count(*) FILTER (WHERE s.status = 'PENDING') AS pending,
           count(*) FILTER (WHERE s.status = 'EVALUATING') AS evaluating,
           mode() WITHIN GROUP (ORDER BY s.last_fault) AS common_fault
    FROM cycles c
    LEFT JOIN submissions s ON s.cycle_id = c.id AND s.status IN ('PENDING', 'EVALUATING')
    WHERE c.status = 'EVALUATING' GROUP BY c.id ORDER BY c.id LIMIT 1
""")
_CYCLE_COUNTS = text("""
    SELECT lower(c.status) AS cycle, s.status, count(*) AS count
    FROM cycles c JOIN submissions s ON s.cycle_id = c.id
    WHERE c.status IN ('ACTIVE', 'EVALUATING') GROUP BY c.status, s.status
    UNION ALL
    SELECT 'completed', outcome.status, coalesce(sum(outcome.count), 0)::bigint
    FROM miner_scores m, LATERAL (VALUES
        ('SCORED', m.accepted_submissions), ('REJECTED', m.total_submissions - m.accepted_submissions)
    ) outcome (status, count)
    WHERE m.cycle_id = (SELECT id FROM cycles WHERE status = 'COMPLETED' ORDER BY id DESC LIMIT 1)
    GROUP BY outcome.status
""")
# of the :latest submissions that have a report, for each of the :stages
SELECT_STAGES = """
    SELECT stage,
           percentile_cont(0.5) WITHIN GROUP (ORDER BY seconds::double precision) AS median,
           percentile_cont(0.95) WITHIN GROUP (ORDER BY seconds::double precision) AS p95
    FROM (SELECT report -> 'stage_seconds' AS stages FROM verification_reports
          ORDER BY submission_id DESC LIMIT :latest) recent,
         unnest(CAST(:stages AS text[])) AS stage,
         -- reports of version 1 were not checked: they may hold anything
         LATERAL (SELECT stages ->> stage AS seconds
                  WHERE jsonb_typeof(stages -> stage) = 'number') measured
    GROUP BY stage ORDER BY stage
"""
_STAGES = text(SELECT_STAGES)
_BREAKERS = text("""
    SELECT name, consecutive_failures, open_until IS NOT NULL AS is_tripped FROM circuit_breakers
""")
_USAGE = text("""
    SELECT model, sum(calls)::bigint AS calls, sum(prompt_tokens)::bigint AS prompt_tokens,
           sum(completion_tokens)::bigint AS completion_tokens
    FROM judge_usage GROUP BY model ORDER BY model
""")
# what the last finished sweep found, without what it deleted
_STORED = text("""
    SELECT kind.key AS kind,
           (kind.value ->> 'size_bytes')::bigint - (kind.value ->> 'deleted_bytes')::bigint AS size_bytes,
           (kind.value ->> 'deleted_bytes')::bigint AS deleted_bytes
    FROM (SELECT found FROM storage_sweeps WHERE finished_at IS NOT NULL ORDER BY id DESC LIMIT 1) last,
         LATERAL jsonb_each(last.found) kind
    WHERE jsonb_typeof(kind.value) = 'object' ORDER BY kind
""")
_STORES = text("""
    SELECT (SELECT extract(epoch FROM now() - started_at)::double precision FROM storage_sweeps
            WHERE finished_at IS NULL ORDER BY id DESC LIMIT 1) AS sweep_unfinished_seconds,
           (SELECT count(*) FROM multipart_uploads WHERE state = 'OPEN') AS multipart_uploads_open,
           (SELECT count(*) FROM release_films WHERE state = 'PENDING') AS release_films_pending
""")
_RELEASES = text("""
    SELECT lower(state.name) AS state, count(r.id) AS count
    FROM unnest(ARRAY['FILMS', 'PARTS', 'COMPLETE', 'FAILED']) AS state (name)
    LEFT JOIN releases r ON r.state = state.name GROUP BY state.name ORDER BY state
""")


@dataclass(frozen=True)
class CycleCount:
    """Submissions of a status in the active, the evaluating or the last completed cycle."""

    cycle: str
    status: str
    count: int


@dataclass(frozen=True)
class StageTime:
    stage: str
    median: float
    p95: float


@dataclass(frozen=True)
class Breaker:
    name: str
    consecutive_failures: int
    # nothing is claimed, or one submission as a probe
    is_tripped: bool


@dataclass(frozen=True)
class Usage:
    model: str
    calls: int
    prompt_tokens: int
    completion_tokens: int


@dataclass(frozen=True)
class DatabaseServer:
    version: str
    version_number: int
    # a standby, or what was the primary until another took over
    is_read_only: bool
    connections: int
    # for those who are no superusers
    max_connections: int


@dataclass(frozen=True)
class UnfinishedCycle:
    """A cycle that is over and whose submissions are not all evaluated; `seconds` since it was closed."""

    id: int
    seconds: float
    pending: int
    evaluating: int
    common_fault: str | None


@dataclass(frozen=True)
class Totals:
    active_cycle_id: int | None
    total_prompts: int
    total_submissions: int
    scheduler_last_tick_at: datetime | None


@dataclass(frozen=True)
class Backlog:
    pending: int
    evaluating: int
    # after a transient error
    backing_off: int
    # since the one that waits longest became due; None while none does
    oldest_due_seconds: float | None
    reviews_open: int
    # None while none is open
    oldest_review_seconds: float | None
    # that is not evaluated anew; None: there is none
    oldest_appeal_seconds: float | None
    # whose object is still in storage; None: there is none
    oldest_takedown_seconds: float | None
    evaluating_cycles: int
    active_cycle_overdue_seconds: float | None
    judge_tokens_today: int
    # as oldest_due_seconds, of deliveries to receivers that are well
    webhooks_due_seconds: float | None
    webhooks_disabled: int
    # of the operator's own webhooks, with those that are disabled for it; and of miners' that are enabled
    own_webhooks_failing: int
    miners_webhooks_failing: int
    # None: there is no metagraph
    metagraph_age_seconds: float | None
    # that were completed since the last one with weights
    cycles_without_weights: int
    # since the completion of the first cycle whose ledger is not in storage; None: there is none
    oldest_ledger_seconds: float | None
    ledgers_different: int
    connections: int


@dataclass(frozen=True)
class Stored:
    """What is in storage of a class of objects, and what the last sweep deleted of it."""

    kind: str
    size_bytes: int
    deleted_bytes: int


@dataclass(frozen=True)
class Stores:
    # since the sweep began that is under way; None: none is
    sweep_unfinished_seconds: float | None
    multipart_uploads_open: int
    # of releases
    release_films_pending: int


@dataclass(frozen=True)
class ReleaseCount:
    state: str
    count: int


@dataclass(frozen=True)
class Tick:
    name: str
    age_seconds: float
    failed: bool


def has_schema(engine: Engine) -> bool:
    """Whether the database of `engine`, asked by a connection apart from the session's, has our tables."""
    with engine.connect() as connection:
        return bool(connection.execute(_HAS_SCHEMA).scalar())


def get_totals() -> Totals:
    totals = fetch_one(Totals, _TOTALS)
    assert totals is not None
    return totals


def get_backlog() -> Backlog:
    backlog = fetch_one(Backlog, _BACKLOG)
    assert backlog is not None
    return backlog


def list_ticks() -> list[Tick]:
    return fetch_all(Tick, _TICKS)


def get_server() -> DatabaseServer:
    server = fetch_one(DatabaseServer, _SERVER)
    assert server is not None
    return server


def has_own_sessions(engine: Engine) -> bool:
    """Whether each connection of `engine` is a session of its own at the server; a pooler may mix them up."""
    with engine.connect() as connection, engine.connect() as other:
        for each in (connection, other):
            each.execution_options(isolation_level="AUTOCOMMIT")
        own = connection.execute(_SESSION).scalar()
        others = {other.execute(_SESSION).scalar() for _ in range(3)}
        return own not in others and len(others) == 1 and own == connection.execute(_SESSION).scalar()


def find_unfinished_cycle() -> UnfinishedCycle | None:
    """The oldest cycle that is being evaluated."""
    return fetch_one(UnfinishedCycle, _FIND_UNFINISHED)


def list_cycle_counts() -> list[CycleCount]:
    return fetch_all(CycleCount, _CYCLE_COUNTS)


def list_stage_times(latest: int) -> list[StageTime]:
    """Seconds of each stage of an evaluation, over the `latest` submissions that have a report."""
    return fetch_all(StageTime, _STAGES, latest=latest, stages=list(StageSeconds.model_fields))


def list_stored() -> list[Stored]:
    """What the last finished sweep of storage left there."""
    return fetch_all(Stored, _STORED)


def get_stores() -> Stores:
    stores = fetch_one(Stores, _STORES)
    assert stores is not None
    return stores


def count_releases() -> list[ReleaseCount]:
    return fetch_all(ReleaseCount, _RELEASES)


def list_breakers() -> list[Breaker]:
    """The breakers of what has failed since its last success."""
    return fetch_all(Breaker, _BREAKERS)


def list_usage() -> list[Usage]:
    """What each judge has used, ever."""
    return fetch_all(Usage, _USAGE)


def find_remote_seconds(latest: int) -> float | None:
    """How long ago a remote evaluator last reported, if one made any of the `latest` results."""
    return fetch_value(_REMOTE_SECONDS, latest=latest)
