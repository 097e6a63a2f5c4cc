"""Brings the queue in line with the database: expired leases are released, and due submissions get jobs."""

import structlog
from redis import Redis

from app.config import Settings
from app.db import db
from app.enums import EvaluatedBy
from app.evaluation import breaker, queries, service
from app.gold import queries as gold
from app.queue import MAX_QUEUED, count_queued, enqueue_evaluations

log = structlog.get_logger(__name__)

BATCH = 500


def has_work() -> bool:
    """Whether a lease has ended, or something is due that may need a job."""
    return queries.has_expired() or queries.count_due(1) > 0


def return_expired_claims() -> int:
    """Make every submission whose lease has ended claimable again, in batches; return how many."""
    total = gold.return_expired()
    while True:
        returned = queries.return_expired(BATCH)
        service.hold_spent(returned)
        db.session.commit()
        total += len(returned)
        if len(returned) < BATCH:
            break
    if total:
        log.warning("leases_expired", submissions=total)
    return total


def dispatch(redis: Redis, settings: Settings) -> int:
    """Queue a job for each due submission that has none, until the queue is full; return how many.

    Nothing is queued while the workers have no permits. Raises RedisError if Redis is out of reach.
    """
    due = 0
    if settings.has_judge:
        due = breaker.permits(queries.count_due(MAX_QUEUED), EvaluatedBy.WORKER)
    db.session.rollback()
    return enqueue_evaluations(redis, due - count_queued(redis), settings.job_timeout_seconds)
