"""SQL on the state of the service as a whole. None of it reads more than a few rows a prompt."""

from dataclasses import dataclass
from datetime import datetime

from sqlalchemy import text

from app.db import fetch_all, fetch_one

_TOTALS = text("""
    SELECT (SELECT id FROM cycles WHERE status = 'ACTIVE') AS active_cycle_id,
           (SELECT count(*) FROM prompts) AS total_prompts,
           (SELECT coalesce(sum(n), 0) FROM prompt_submission_counts)::bigint AS total_submissions,
           (SELECT max(last_started_at) FROM ticks) AS scheduler_last_tick_at
""")
_BACKLOG = text("""
    SELECT (SELECT count(*) FROM submissions WHERE status = 'PENDING') AS pending,
           (SELECT count(*) FROM submissions WHERE status = 'EVALUATING') AS evaluating,
           (SELECT extract(epoch FROM now() - not_before)::double precision FROM submissions
            WHERE status = 'PENDING' AND not_before <= now() ORDER BY not_before, id LIMIT 1)
               AS oldest_due_seconds,
           (SELECT count(*) FROM cycles WHERE status = 'EVALUATING') AS evaluating_cycles,
           (SELECT extract(epoch FROM now() - ends_at)::double precision FROM cycles WHERE status = 'ACTIVE')
               AS active_cycle_overdue_seconds,
           (SELECT coalesce(sum(prompt_tokens + completion_tokens), 0)::bigint FROM judge_usage
            WHERE day = (now() AT TIME ZONE 'UTC')::date) AS judge_tokens_today,
           (SELECT count(*) FROM pg_stat_activity WHERE datname = current_database()) AS connections
""")
_TICKS = text("""
    SELECT name, extract(epoch FROM now() - last_started_at)::double precision AS age_seconds,
           last_error IS NOT NULL AS failed
    FROM ticks ORDER BY name
""")
_SERVER = text("""
    SELECT current_setting('server_version') AS version,
           current_setting('server_version_num')::integer AS version_number,
           (SELECT count(*) FROM pg_stat_activity WHERE backend_type = 'client backend') AS connections,
           current_setting('max_connections')::integer
               - current_setting('superuser_reserved_connections')::integer AS max_connections
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


@dataclass(frozen=True)
class Server:
    version: str
    version_number: int
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
    # since the one that waits longest became due; None while none does
    oldest_due_seconds: float | None
    evaluating_cycles: int
    active_cycle_overdue_seconds: float | None
    judge_tokens_today: int
    connections: int


@dataclass(frozen=True)
class Tick:
    name: str
    age_seconds: float
    failed: bool


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


def get_server() -> Server:
    server = fetch_one(Server, _SERVER)
    assert server is not None
    return server


def find_unfinished_cycle() -> UnfinishedCycle | None:
    """The oldest cycle that is being evaluated."""
    return fetch_one(UnfinishedCycle, _FIND_UNFINISHED)
