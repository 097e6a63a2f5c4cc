"""Redis queues: their names, and how work is put into them.

A queued evaluation is a hint that something is due, not which: the job takes the oldest due submission
from the database. So an entry that is lost or doubled changes nothing, and the queue never needs to hold
more entries than the workers can take before the next reconciliation. Jobs are named by dotted path,
since the app never imports what runs in workers.
"""

import uuid
from typing import Any

from redis import Redis, RedisError
from rq import Queue

from app.config import ConfigError, Settings

EVALUATIONS = "evaluations"
TICKS = "ticks"

# Entries the evaluations queue holds at the most. Refilled every few seconds, that keeps 200 evaluations a
# second going, and a backlog of a million rows costs Redis no more than one of a thousand.
MAX_QUEUED = 1000


def connect(settings: Settings, **options: Any) -> Redis:
    """Return a client of settings.redis_url, with further `options` of redis-py; it connects when it is used.

    Raises ConfigError for an address with a parameter that redis-py does not know.
    """
    if settings.redis_url.startswith("rediss:") and not settings.redis_tls_verify:
        options["ssl_cert_reqs"] = "none"
    try:
        redis = Redis.from_url(settings.redis_url, socket_connect_timeout=2, **options)
        # without connecting; redis-py would come upon what is wrong in the first command
        redis.connection_pool.connection_class(**redis.connection_pool.connection_kwargs)
    except (ValueError, TypeError, RedisError) as error:
        raise ConfigError(f"REDIS_URL cannot be used: {error}.") from error
    return redis


def enqueue_evaluations(redis: Redis, count: int, timeout: int) -> int:
    """Queue `count` evaluation jobs, fewer where the queue is full, and return how many.

    `timeout` is the longest a job may run, in seconds. Raises RedisError if Redis is out of reach.
    """
    queue = Queue(EVALUATIONS, connection=redis)
    count = min(count, MAX_QUEUED - queue.count)
    if count <= 0:
        return 0
    queue.enqueue_many(
        [
            Queue.prepare_data(
                "jobs.evaluate.evaluate_next",
                job_id=f"evaluate-{uuid.uuid4().hex}",
                timeout=timeout,
                result_ttl=0,
                failure_ttl=86_400,
            )
            for _ in range(count)
        ]
    )
    return count


def count_queued(redis: Redis) -> int:
    """How many evaluation jobs wait for a worker. Raises RedisError if Redis is out of reach."""
    return Queue(EVALUATIONS, connection=redis).count


def count_workers(redis: Redis) -> int:
    """How many evaluation workers have sent a sign of life in the last minutes. Raises RedisError."""
    keys = list(redis.smembers(f"rq:workers:{EVALUATIONS}"))
    return redis.exists(*keys) if keys else 0
