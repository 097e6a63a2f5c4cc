"""The scheduler: a clock that puts periodic jobs into their queues, and workers of its own for them.

rq-scheduler's own loop is not used, since measurements showed how it fails. If Redis is emptied, it loses its
whole schedule for ever. If it dies between two of its commands, it loses an entry. It exits when Redis is out
of reach for 8 s. Without a worker it queues a tick again and again, and all of them run later at once. One
job that it cannot read stops all jobs. Here the schedule is the list in `periodic`, and each poll brings
Redis in line with it.
"""

import math
import time
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime

import structlog
from redis import Redis
from redis.exceptions import RedisError
from rq.exceptions import DuplicateJobError
from rq.job import Job
from rq_scheduler import Scheduler

from app.config import Settings
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

# the jobs: imported here, they need not be imported in each work horse, which takes longer than most jobs
from jobs import tick, webhooks  # noqa: F401
from jobs.processes import Child, supervise
from jobs.worker import work

log = structlog.get_logger(__name__)

POLL_SECONDS = 1
RECONCILE_SECONDS = 5.0
DELIVER_SECONDS = 2.0
TIDY_SECONDS = 60.0
SWEEP_SECONDS = 30.0
# Longest a periodic job may run; the next one waits for it.
TICK_TIMEOUT_SECONDS = 300


@dataclass(frozen=True)
class Periodic:
    """A job that is due every `seconds` in `queue`; `name` is its fixed id in the schedule."""

    name: str
    function: str
    seconds: float
    queue: str = TICKS


def periodic(settings: Settings) -> tuple[Periodic, ...]:
    """All periodic jobs."""
    return (
        Periodic("tick-cycles", TICK_CYCLES, settings.check_interval_seconds),
        Periodic("store-ledgers", STORE_LEDGERS, settings.check_interval_seconds),
        Periodic("reconcile", RECONCILE_EVALUATIONS, RECONCILE_SECONDS),
        Periodic("tend-releases", TEND_RELEASES, RECONCILE_SECONDS),
        Periodic("tidy-webhooks", TIDY_WEBHOOKS, TIDY_SECONDS),
        Periodic("tidy-uploads", TIDY_UPLOADS, TIDY_SECONDS),
        # the nightly sweep is done bit by bit
        Periodic("sweep-storage", SWEEP_STORAGE, SWEEP_SECONDS),
        # no cycle waits for a receiver
        Periodic("deliver-webhooks", DELIVER_WEBHOOKS, DELIVER_SECONDS, WEBHOOKS),
    )


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
        if self.acquire_lock():
            try:
                self.enqueue_jobs()
            finally:
                self.remove_lock()

    def enqueue_jobs(self) -> list[Job]:
        for entry in self._entries.values():
            due = self.connection.zscore(self.scheduled_jobs_key, entry.name)
            # one that is due later than in an interval was registered with a longer one, or by a wrong clock
            if due is None or due > time.time() + entry.seconds:
                self.connection.delete(ListedJob.key_for(entry.name))
                self.schedule(datetime.now(UTC), entry.function, id=entry.name, interval=entry.seconds)
                log.info("schedule_registered", entry=entry.name)
        return super().enqueue_jobs()

    def enqueue_job(self, job: Job) -> None:
        entry = self._entries.get(job.id)
        if entry is None:
            # of an older version
            self.cancel(job)
            return
        slot = time.time() // entry.seconds
        self.connection.zadd(self.scheduled_jobs_key, {entry.name: (slot + 1) * entry.seconds})
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


def clock(settings: Settings) -> None:
    """Queue periodic jobs until killed, through outages of Redis."""
    redis = connect(settings, socket_timeout=5)
    scheduler = HealingScheduler(redis, periodic(settings))
    while True:
        try:
            scheduler.poll()
        except RedisError as error:
            log.warning("redis_away", error=type(error).__name__)
        time.sleep(POLL_SECONDS)


def run(settings: Settings) -> None:
    """Run the clock and the workers of periodic jobs and webhooks until SIGTERM or SIGINT, a process each."""
    supervise([Child(clock, settings), Child(work, settings, TICKS), Child(work, settings, WEBHOOKS)])
