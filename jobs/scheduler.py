"""The scheduler: a clock that puts periodic jobs into their queues, and workers of its own for them.

rq-scheduler's own loop is not used, since measurements showed how it fails. If Redis is emptied, it loses its
whole schedule for ever. If it dies between two of its commands, it loses an entry. It exits when Redis is out
of reach for 8 s. Without a worker it queues a tick again and again, and all of them run later at once. One
job that it cannot read stops all jobs. Here the schedule is the list in `periodic`, and each poll brings
Redis in line with it.

A job starts a process. So the jobs that come every few seconds are queued only if the database says that
there is something to do.
"""

import math
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from datetime import UTC, datetime

import structlog
from flask import Flask
from redis import Redis
from redis.exceptions import RedisError
from rq.exceptions import DuplicateJobError
from rq.job import Job
from rq_scheduler import Scheduler
from sqlalchemy.exc import SQLAlchemyError

from app import ticks
from app.config import Settings
from app.db import autocommit, command_app
from app.evaluation import reconcile
from app.queue import (
    DELIVER_WEBHOOKS,
    RECONCILE_EVALUATIONS,
    STORE_LEDGERS,
    SWEEP_STORAGE,
    TEND_RELEASES,
    TICK_CYCLES,
    TICKS,
    TIDY_UPLOADS,
    TIDY_WEBHOOKS,
    WEBHOOKS,
    ListedJob,
    connect,
    open_queue,
)
from app.releases import tasks as releases
from app.retention import service as retention
from app.webhooks import queries as deliveries

# the jobs: imported here, they need not be imported in each work horse, which takes longer than most jobs
from jobs import tick, webhooks  # noqa: F401
from jobs.processes import Child, supervise
from jobs.worker import work

log = structlog.get_logger(__name__)

POLL_SECONDS = 1
# A question of the clock waits this long at most, e.g. behind a migration: all other jobs wait for it.
QUESTION_SECONDS = 1.0
RECONCILE_SECONDS = 5.0
DELIVER_SECONDS = 2.0
TIDY_SECONDS = 60.0
SWEEP_SECONDS = 30.0
# What does more than its look at the database tells of runs at least this often.
AT_LEAST_SECONDS = 60.0
# Longest a periodic job may run; the next one waits for it.
TICK_TIMEOUT_SECONDS = 300
UNREGISTERED = -math.inf


@dataclass(frozen=True)
class Periodic:
    """A job that is due every `seconds` in `queue`; `name` is its fixed id in the schedule.

    If it `has_work`, it is queued only when that is true.
    """

    name: str
    function: str
    seconds: float
    queue: str = TICKS
    has_work: Callable[[], bool] | None = None


def periodic(settings: Settings) -> tuple[Periodic, ...]:
    """All periodic jobs."""
    return (
        Periodic("tick-cycles", TICK_CYCLES, settings.check_interval_seconds),
        Periodic("store-ledgers", STORE_LEDGERS, settings.check_interval_seconds),
        Periodic("reconcile", RECONCILE_EVALUATIONS, RECONCILE_SECONDS, has_work=_reconciler_has_work),
        Periodic("tend-releases", TEND_RELEASES, RECONCILE_SECONDS, has_work=_releases_have_work),
        Periodic("tidy-webhooks", TIDY_WEBHOOKS, TIDY_SECONDS),
        Periodic("tidy-uploads", TIDY_UPLOADS, TIDY_SECONDS),
        # the nightly sweep is done bit by bit
        Periodic("sweep-storage", SWEEP_STORAGE, SWEEP_SECONDS, has_work=retention.has_work),
        # no cycle waits for a receiver
        Periodic("deliver-webhooks", DELIVER_WEBHOOKS, DELIVER_SECONDS, WEBHOOKS, deliveries.has_due),
    )


def _reconciler_has_work() -> bool:
    return reconcile.has_work() or not ticks.began_within("reconcile", AT_LEAST_SECONDS)


def _releases_have_work() -> bool:
    return releases.has_due() or not ticks.began_within("releases", AT_LEAST_SECONDS)


class HealingScheduler(Scheduler):
    """An rq-scheduler whose schedule survives a flushed, restarted or damaged Redis.

    A due entry is first moved by its interval and then queued, as a new job named after its time slot. So a
    slot runs at most once and the entry stays, even if a process dies in between, and with any number of
    schedulers. An entry that cannot be read counts as a job that does not exist (see ListedJob): rq-scheduler
    drops it when it is due, and the next poll registers it again.
    """

    def __init__(self, redis: Redis, entries: Sequence[Periodic]):
        super().__init__(queue_name=TICKS, connection=redis, interval=POLL_SECONDS, job_class=ListedJob)
        self._entries = {entry.name: entry for entry in entries}

    def poll(self) -> None:
        """Queue what is due, unless another scheduler is at it. Raises RedisError."""
        if min(self._list_due().values()) <= time.time() and self.acquire_lock():
            try:
                self.enqueue_jobs()
            finally:
                self.remove_lock()

    def enqueue_jobs(self) -> list[Job]:
        for name, due_at in self._list_due().items():
            if due_at == UNREGISTERED:
                entry = self._entries[name]
                self.connection.delete(ListedJob.key_for(name))
                self.schedule(datetime.now(UTC), entry.function, id=name, interval=entry.seconds)
                log.info("schedule_registered", entry=name)
        return super().enqueue_jobs()

    def _list_due(self) -> dict[str, float]:
        """When each entry is due, or UNREGISTERED."""
        scores = dict(self.connection.zrange(self.scheduled_jobs_key, 0, -1, withscores=True))
        due, now = {}, time.time()
        for entry in self._entries.values():
            due[entry.name] = scores.get(entry.name.encode(), UNREGISTERED)
            # it was registered with a longer interval, or by a wrong clock
            if due[entry.name] > now + entry.seconds:
                due[entry.name] = UNREGISTERED
        return due

    def enqueue_job(self, job: Job) -> None:
        entry = self._entries.get(job.id)
        if entry is None:
            # of an older version
            self.cancel(job)
            return
        slot = time.time() // entry.seconds
        self.connection.zadd(self.scheduled_jobs_key, {entry.name: (slot + 1) * entry.seconds})
        if not _is_needed(entry):
            return
        life = math.ceil(entry.seconds)
        try:
            open_queue(entry.queue, self.connection).enqueue_call(
                entry.function,
                job_id=f"{entry.name}-{slot:.0f}",
                unique=True,
                timeout=TICK_TIMEOUT_SECONDS,
                ttl=life,
                result_ttl=life,
                failure_ttl=life,
            )
        except DuplicateJobError:
            log.info("slot_queued_already", entry=entry.name)


def _is_needed(entry: Periodic) -> bool:
    if entry.has_work is None:
        return True
    try:
        with autocommit():
            return entry.has_work()
    except SQLAlchemyError:
        # the job finds out what is wrong, and tells it
        return True


def clock_app(settings: Settings) -> Flask:
    """The application in which the clock asks if a job has work; an answer takes QUESTION_SECONDS at most."""
    patience = min(QUESTION_SECONDS, settings.database_statement_timeout_seconds)
    return command_app(replace(settings, database_statement_timeout_seconds=patience))


def clock(settings: Settings) -> None:
    """Queue periodic jobs until killed, through outages of Redis and PostgreSQL."""
    redis = connect(settings, socket_timeout=5)
    scheduler = HealingScheduler(redis, periodic(settings))
    with clock_app(settings).app_context():
        while True:
            try:
                scheduler.poll()
            except RedisError as error:
                log.warning("redis_away", error=type(error).__name__)
            time.sleep(POLL_SECONDS)


def run(settings: Settings) -> None:
    """Run the clock and the workers of periodic jobs and webhooks until SIGTERM or SIGINT, a process each."""
    supervise([Child(clock, settings), Child(work, settings, TICKS), Child(work, settings, WEBHOOKS)])
