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
           (SELECT coalesce(sum(prompt_tokens + completion_tokens), 0)::bigint FROM judge_answers
            WHERE created_at >= date_trunc('day', now())) AS judge_tokens_today,
           (SELECT count(*) FROM pg_stat_activity WHERE datname = current_database()) AS connections
""")
_TICKS = text("""
    SELECT name, extract(epoch FROM now() - last_started_at)::double precision AS age_seconds,
           last_error IS NOT NULL AS failed
    FROM ticks ORDER BY name
""")


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
