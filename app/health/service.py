"""What is known of the service as a whole."""

from dataclasses import dataclass
from datetime import datetime

from flask import Flask
from redis import Redis, RedisError
from sqlalchemy import Engine

from app.config import Settings
from app.cycles.service import find_waiting_reason
from app.db import db
from app.evaluation import queries as evaluation
from app.evaluation.service import find_obstacle
from app.health import queries
from app.health.probes import DependencyProbe
from app.queue import count_queued, count_workers
from app.version import VERSION

# Enough to see how work goes; exact numbers are in /metrics.
COUNT_AT_MOST = 10_000


@dataclass(frozen=True)
class Status:
    status: str
    version: str
    active_cycle_id: int | None
    total_prompts: int
    total_submissions: int
    pending: int
    evaluating: int
    queue_depth: int | None
    workers: int | None
    scheduler_last_tick_at: datetime | None
    waiting_because: str | None
    judge_model: str | None
    registration_checked: bool


def get_status(settings: Settings, redis: Redis) -> Status:
    """Return the state of the service. Values that only Redis knows are None while it is out of reach."""
    totals = queries.get_totals()
    work = evaluation.count_open(COUNT_AT_MOST)
    obstacle = find_waiting(settings)
    queue_depth, workers = ask_redis(redis)
    return Status(
        status="degraded" if obstacle or queue_depth is None else "ok",
        version=VERSION,
        active_cycle_id=totals.active_cycle_id,
        total_prompts=totals.total_prompts,
        total_submissions=totals.total_submissions,
        pending=work.pending,
        evaluating=work.evaluating,
        queue_depth=queue_depth,
        workers=workers,
        scheduler_last_tick_at=totals.scheduler_last_tick_at,
        waiting_because=obstacle,
        judge_model=settings.vlm_model if settings.vlm_api_url else None,
        registration_checked=settings.netuid is not None,
    )


def find_waiting(settings: Settings) -> str | None:
    """Sentences that say why evaluations or a cycle wait; None if nothing does."""
    return " ".join(filter(None, (find_obstacle(settings), find_waiting_reason()))) or None


def ask_redis(redis: Redis) -> tuple[int | None, int | None]:
    """Return how many jobs wait and how many workers are alive; both None while Redis is out of reach."""
    try:
        return count_queued(redis), count_workers(redis)
    except RedisError:
        return None, None


def check_database(engine: Engine) -> str | None:
    """What is wrong with the database, if anything; raises if it is out of reach."""
    return None if queries.has_schema(engine) else "no schema"


def build_probes(app: Flask) -> dict[str, DependencyProbe]:
    """Return a probe of each dependency of `app`, by name."""
    with app.app_context():
        engine = db.engine
    redis, storage = app.extensions["redis"], app.extensions["storage"]
    checks = {
        "database": lambda: check_database(engine),
        "redis": lambda: redis.ping() and None,
        "storage": storage.check,
    }
    return {name: DependencyProbe(name, check) for name, check in checks.items()}


def check_readiness(probes: dict[str, DependencyProbe]) -> dict[str, str]:
    """Run all probes at once and return their verdicts: `ok` or a few words, by dependency."""
    for probe in probes.values():
        probe.begin()
    return {name: probe.verdict() for name, probe in probes.items()}
