"""Redis queues: their names, and how work is put into them.

A queued evaluation is a hint that some submission is due. It does not name the submission: the job takes the
oldest due one from the database. So a lost or doubled entry changes nothing. The queue never needs more
entries than the workers can take before the next reconciliation. Jobs are named by dotted path, since the app
never imports what runs in workers.

Anybody who can write to Redis can queue any job. So all code reads a job as a `ListedJob`, which cannot run
foreign code.
"""

import time
import uuid
import zlib
from base64 import b64decode
from collections.abc import Iterable
from contextlib import suppress
from dataclasses import dataclass
from datetime import datetime
from typing import Any

import structlog
from redis import Redis, RedisError
from redis.exceptions import ConnectionError as RedisConnectionError
from redis.exceptions import TimeoutError as RedisTimeoutError
from rq import Queue, Worker
from rq.exceptions import InvalidJobOperation, NoSuchJobError, StopRequested
from rq.job import Job
from rq.serializers import JSONSerializer
from rq.timeouts import BaseTimeoutException

from app.config import ConfigError, Settings

log = structlog.get_logger(__name__)

EVALUATIONS = "evaluations"
TICKS = "ticks"
WEBHOOKS = "webhooks"
RELEASES = "releases"
QUEUES = (EVALUATIONS, TICKS, WEBHOOKS, RELEASES)

EVALUATE_NEXT = "jobs.evaluate.evaluate_next"
TICK_CYCLES = "jobs.tick.tick_cycles"
STORE_LEDGERS = "jobs.tick.store_ledgers"
RECONCILE_EVALUATIONS = "jobs.tick.reconcile_evaluations"
TIDY_WEBHOOKS = "jobs.tick.tidy_webhooks"
TIDY_UPLOADS = "jobs.tick.tidy_uploads"
SWEEP_STORAGE = "jobs.tick.sweep_storage"
DELIVER_WEBHOOKS = "jobs.webhooks.deliver_due"
TEND_RELEASES = "jobs.tick.tend_releases"
BUILD_RELEASES = "jobs.releases.build_next"
# Every function a job may name. None of them takes an argument.
JOBS = frozenset(
    {
        EVALUATE_NEXT,
        TICK_CYCLES,
        RECONCILE_EVALUATIONS,
        STORE_LEDGERS,
        SWEEP_STORAGE,
        TIDY_WEBHOOKS,
        TIDY_UPLOADS,
        DELIVER_WEBHOOKS,
        TEND_RELEASES,
        BUILD_RELEASES,
    }
)

# The most entries in the evaluations queue. It is refilled every few seconds, so this is enough for 200
# evaluations a second. A backlog of a million rows costs Redis no more than one of a thousand.
MAX_QUEUED = 1000
# Who has just accepted a submission queues no further entry where so many wait: workers have enough until the
# queue is refilled, and an entry costs four times as much as this look. Nor is it looked again at once.
ENOUGH_QUEUED = 50
LOOK_AGAIN_SECONDS = 0.2
# A film of minutes may take hours. What hangs loses its lease only if its process is killed.
RELEASE_TIMEOUT_SECONDS = 6 * 3600
# of what a job said when it failed
MAX_ERROR_BYTES = 200_000


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


@dataclass(frozen=True)
class QueueState:
    """How many jobs of a queue wait, run, and failed in the last day."""

    name: str
    queued: int
    started: int
    failed: int


@dataclass(frozen=True)
class WorkerState:
    """A worker process: what it does, and how many jobs it did since it started."""

    name: str
    state: str
    queues: list[str]
    last_heartbeat: datetime | None
    successful_jobs: int
    failed_jobs: int


@dataclass(frozen=True)
class FailedJob:
    """A job that ended with an exception, or whose worker was lost; `error` is its last line."""

    id: str
    queue: str
    function: str
    failed_at: datetime | None
    error: str


class JobRefused(Exception):
    """A job in Redis is not one of ours. The message says why."""


class ListedJob(Job):
    """A job of RQ that must be JSON and name one of JOBS, with nothing added to it.

    Plain RQ unpickles what it finds, calls any function by its dotted path, imports the callbacks of a job
    and sends its webhooks. Here a job that asks for such a thing is logged and deleted. So is a job that
    cannot be read, since it is damaged or was pickled by an older release. RQ then treats it as a job that
    does not exist. The reconciler queues a new job for the submission.
    """

    def __init__(self, id: str | None = None, connection: Redis | None = None, serializer: Any = None):
        super().__init__(id, connection, JSONSerializer)

    def refresh(self) -> None:
        try:
            super().refresh()
        except (NoSuchJobError, RedisConnectionError, RedisTimeoutError, StopRequested, BaseTimeoutException):
            # the last two come from signals: a worker is to stop, or its time is over
            raise
        except Exception as error:
            # a damaged hash can make RQ raise anything
            reason = (
                str(error) if isinstance(error, JobRefused) else f"cannot be read: {type(error).__name__}"
            )
            log.warning("job_refused", job_id=self.id, reason=reason[:200])
            self.connection.delete(self.key)
            raise NoSuchJobError(f"The job {self.id} was refused.") from error

    def restore(self, raw_data: Any) -> None:
        super().restore(raw_data)
        if self.func_name not in JOBS:
            raise JobRefused(f"names the function {self.func_name!r}")
        if self.instance is not None or self.args or self.kwargs:
            raise JobRefused("has arguments")
        if self._success_callback_name or self._failure_callback_name or self._stopped_callback_name:
            raise JobRefused("has a callback")
        if self.webhooks:
            raise JobRefused("has a webhook")


def open_queue(name: str, redis: Redis) -> Queue:
    """The queue `name`, whose jobs are ListedJobs."""
    return Queue(name, connection=redis, job_class=ListedJob, serializer=JSONSerializer)


def enqueue_evaluations(redis: Redis, count: int, timeout: int, at_most: int = MAX_QUEUED) -> int:
    """Queue `count` evaluation jobs, fewer where the queue would hold more than `at_most`. Return how many.

    `timeout` is the longest a job may run, in seconds. Raises RedisError if Redis is out of reach.
    """
    return _enqueue(redis, EVALUATIONS, EVALUATE_NEXT, "evaluate", count, timeout, at_most)


class Hints:
    """Queues an evaluation for each submission that was accepted, unless enough wait. Threads share it."""

    def __init__(self, redis: Redis, timeout: int):
        self._redis = redis
        self._timeout = timeout
        self._enough_until = 0.0

    def give(self) -> None:
        """Queue one evaluation, which may run for `timeout` seconds. Raises RedisError."""
        if time.monotonic() < self._enough_until:
            return
        if not enqueue_evaluations(self._redis, 1, self._timeout, ENOUGH_QUEUED):
            self._enough_until = time.monotonic() + LOOK_AGAIN_SECONDS


def enqueue_releases(redis: Redis, count: int) -> int:
    """Queue `count` jobs that build releases, in the same way."""
    return _enqueue(redis, RELEASES, BUILD_RELEASES, "release", count, RELEASE_TIMEOUT_SECONDS, MAX_QUEUED)


def _enqueue(
    redis: Redis, name: str, function: str, prefix: str, count: int, timeout: int, at_most: int
) -> int:
    queue = open_queue(name, redis)
    count = min(count, at_most - queue.count)
    if count <= 0:
        return 0
    queue.enqueue_many(
        [
            Queue.prepare_data(
                function,
                job_id=f"{prefix}-{uuid.uuid4().hex}",
                timeout=timeout,
                result_ttl=0,
                failure_ttl=86_400,
            )
            for _ in range(count)
        ]
    )
    return count


def count_queued(redis: Redis, queue: str = EVALUATIONS) -> int:
    """How many jobs of a queue wait for a worker. Raises RedisError if Redis is out of reach."""
    return open_queue(queue, redis).count


def count_workers(redis: Redis, queue: str = EVALUATIONS) -> int:
    """How many workers of a queue have sent a sign of life in the last minutes. Raises RedisError."""
    keys = list(redis.smembers(f"rq:workers:{queue}"))
    return redis.exists(*keys) if keys else 0


def list_queues(redis: Redis) -> list[QueueState]:
    """The state of each queue. Raises RedisError if Redis is out of reach."""
    queues = [open_queue(name, redis) for name in QUEUES]
    return [
        QueueState(
            queue.name,
            queue.count,
            queue.started_job_registry.get_job_count(cleanup=False),
            queue.failed_job_registry.get_job_count(cleanup=False),
        )
        for queue in queues
    ]


def list_failed(redis: Redis, limit: int) -> list[FailedJob]:
    """The jobs of each queue that failed last, at most `limit` of each. Raises RedisError."""
    failed = []
    for name in QUEUES:
        for id in open_queue(name, redis).failed_job_registry.get_job_ids(0, limit - 1, desc=True):
            with suppress(NoSuchJobError):
                job = ListedJob.fetch(id, redis)
                failed.append(FailedJob(id, name, job.func_name or "", job.ended_at, _last_words(redis, id)))
    return failed


def _last_words(redis: Redis, job_id: str) -> str:
    """The last line of the exception that a job ended with, or "". RQ would unpack it to any size."""
    results: Any = redis.xrevrange(f"rq:results:{job_id}", count=1)
    for _, result in results:
        with suppress(KeyError, ValueError, zlib.error):
            packed = b64decode(result[b"exc_string"])
            told = zlib.decompressobj().decompress(packed, MAX_ERROR_BYTES).decode(errors="replace")
            return told.strip().rpartition("\n")[2][:500]
    return ""


def requeue_failed(redis: Redis, queue: str, job_ids: Iterable[str]) -> int:
    """Queue failed jobs of `queue` once more and return how many there were. Raises RedisError."""
    registry, count = open_queue(queue, redis).failed_job_registry, 0
    for id in job_ids:
        with suppress(NoSuchJobError, InvalidJobOperation):
            registry.requeue(ListedJob.fetch(id, redis))
            count += 1
    return count


def forget_failed(redis: Redis, queue: str, job_ids: Iterable[str]) -> int:
    """Delete failed jobs of `queue` and return how many there were. Raises RedisError."""
    registry, count = open_queue(queue, redis).failed_job_registry, 0
    for id in job_ids:
        count += registry.remove(id)
        with suppress(NoSuchJobError):
            ListedJob.fetch(id, redis).delete()
    return count


def list_workers(redis: Redis) -> list[WorkerState]:
    """The worker processes that gave a sign of life lately. Raises RedisError if Redis is out of reach."""
    workers = Worker.all(redis, job_class=ListedJob, serializer=JSONSerializer)
    return [
        WorkerState(
            worker.name,
            worker.state,
            worker.queue_names(),
            worker.last_heartbeat,
            worker.successful_job_count,
            worker.failed_job_count,
        )
        for worker in sorted(workers, key=lambda worker: worker.name)
    ]
