"""The worker: an RQ worker of one queue, whose work horses have an app context and die with it.

It survives outages of Redis and PostgreSQL. At SIGTERM it takes no further job and lets the current one
finish. If that job is not done after GRACE_SECONDS, it is killed and its claim released, well within the 30 s
that platforms allow. The claim of a killed work horse is released at once.
"""

import fcntl
import gc
import os
import shutil
import signal
import socket
import tempfile
import time
import uuid
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from datetime import timedelta
from pathlib import Path
from typing import Any

import rq
import structlog
from flask import Flask
from redis import Redis
from redis.client import Pipeline
from redis.exceptions import RedisError
from rq import worker_registration
from rq.exceptions import StopRequested
from rq.job import Job
from rq.serializers import JSONSerializer
from rq.utils import now
from sqlalchemy.exc import SQLAlchemyError

from app import create_app
from app.config import Settings
from app.db import db
from app.errors import Deferred, TransientError
from app.evaluation import service
from app.queue import EVALUATIONS, RELEASES, ListedJob, connect
from app.video import control, painting
from jobs.processes import Child, die_with_parent, supervise

log = structlog.get_logger(__name__)

GRACE_SECONDS = 18
SCRATCH = "kibotos-work-"


class Worker(rq.Worker):
    """Works on `queue` until SIGTERM. `work` also returns when Redis is lost: make another worker then."""

    max_connection_wait_time = 5.0

    def __init__(self, app: Flask, queue: str, redis: Redis, scratch: Path):
        name = f"{socket.gethostname()}-{os.getpid()}-{uuid.uuid4().hex[:8]}"
        super().__init__(
            [queue],
            name,
            connection=redis,
            job_class=ListedJob,
            serializer=JSONSerializer,
            worker_ttl=30,
            maintenance_interval=60,
            job_monitoring_interval=5,
            log_job_description=False,
        )
        self._app = app
        self._scratch = scratch
        self._horse_exit: int | None = None

    @property
    def stopping(self) -> bool:
        return self._shutdown_requested_date is not None

    # in the work horse

    def setup_work_horse_signals(self) -> None:
        """Leave stopping to the worker: a platform may signal every process at once, and an ffmpeg that
        ends on it would look like a video that cannot be decoded. Programs inherit what is blocked here.
        """
        signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGINT, signal.SIGTERM})

    def main_work_horse(self, job: Job, queue: rq.Queue) -> None:
        assert self.pid is not None
        die_with_parent(self.pid)
        # temporary files, whoever makes them, are where the worker clears up after a kill
        tempfile.tempdir = str(self._scratch)
        with self._app.app_context():
            db.engine.dispose(close=False)
            super().main_work_horse(job, queue)

    # in the worker

    def wait_for_horse(self) -> tuple[int | None, int | None, Any]:
        """Wait for the end before the exit status is taken: what RQ's alarm interrupts then loses nothing."""
        with suppress(ChildProcessError):
            os.waitid(os.P_PID, self.horse_pid, os.WEXITED | os.WNOWAIT)
        pid, self._horse_exit, usage = super().wait_for_horse()
        return pid, self._horse_exit, usage

    def monitor_work_horse(self, job: Job, queue: rq.Queue) -> None:
        try:
            super().monitor_work_horse(job, queue)
        finally:
            # None: nobody knows how it ended. A horse that ended well left no claim.
            if self._horse_exit != 0:
                self._release()
            _clear(self._scratch)

    def _release(self) -> None:
        # not before it is needed: its models take 14 MB and a third of a second
        from app.releases import building

        fault: TransientError = TransientError(f"The work horse ended with {self._horse_exit}.")
        if self.stopping:
            fault = Deferred("The worker was asked to stop.", retry_after=0)
        try:
            with self._app.app_context():
                service.release_all(self.name, fault)
                building.return_all(self.name, fault.reason, is_innocent=self.stopping)
        except SQLAlchemyError as error:
            log.warning("claims_not_given_back", error=type(error).__name__)

    def maintain_heartbeats(self, job: Job) -> None:
        """Called every few seconds while a horse runs, which an outage of Redis must not change."""
        asked = self._shutdown_requested_date
        if asked is not None and now() - asked > timedelta(seconds=GRACE_SECONDS):
            self.kill_horse()
        with suppress(RedisError):
            super().maintain_heartbeats(job)

    def set_current_job_working_time(
        self, current_job_working_time: float, pipeline: Pipeline | None = None
    ) -> None:
        with suppress(RedisError):
            super().set_current_job_working_time(current_job_working_time, pipeline)

    def set_shutdown_requested_date(self) -> None:
        with suppress(RedisError):
            super().set_shutdown_requested_date()

    def heartbeat(self, timeout: int | None = None, pipeline: Pipeline | None = None) -> None:
        """Also register again: Redis may have been emptied."""
        with suppress(RedisError):
            worker_registration.register(self, pipeline)
            super().heartbeat(timeout, pipeline)


def _clear(directory: Path) -> None:
    for path in directory.iterdir():
        if path.is_dir() and not path.is_symlink():
            shutil.rmtree(path, ignore_errors=True)
        else:
            path.unlink(missing_ok=True)


@contextmanager
def scratch_directory(base: Path) -> Iterator[Path]:
    """A directory of this worker in `base`, for temporary files. Those of killed workers are removed.

    A worker that lives holds a lock on its own. Process ids tell nothing: in every container they begin at 1.
    """
    for left in base.glob(f"{SCRATCH}*"):
        with suppress(OSError):
            lock = _lock(left)
            shutil.rmtree(left, ignore_errors=True)
            os.close(lock)
    while True:
        scratch = Path(tempfile.mkdtemp(prefix=SCRATCH, dir=base))
        try:
            lock = _lock(scratch)
            break
        except (BlockingIOError, FileNotFoundError):
            # another worker that starts took it for one that was left
            continue
    try:
        yield scratch
    finally:
        shutil.rmtree(scratch, ignore_errors=True)
        os.close(lock)


def _lock(directory: Path) -> int:
    """Lock a directory until the descriptor that is returned is closed, or all who inherited it have ended.

    Raises BlockingIOError if another has the lock, FileNotFoundError if the directory is gone.
    """
    descriptor = os.open(directory, os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW)
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        directory.stat()
    except OSError:
        os.close(descriptor)
        raise
    return descriptor


def keep_shared() -> None:
    """Make this process small, and hide what is there from the garbage collector.

    Work horses share it with this process as long as neither writes to it, and the collector writes.
    """
    gc.collect()
    gc.freeze()
    painting.give_back_memory()


def work(settings: Settings, queue: str) -> None:
    """Work on `queue` in this process until SIGTERM or SIGINT."""
    app = create_app(settings)
    keep_shared()
    # a stop may be requested between two workers
    with scratch_directory(Path(tempfile.gettempdir())) as scratch, suppress(StopRequested):
        while not _work_once(app, settings, queue, scratch):
            time.sleep(1)


def _work_once(app: Flask, settings: Settings, queue: str, scratch: Path) -> bool:
    """Be one RQ worker for as long as Redis is there; True if it was asked to stop."""
    worker = None
    try:
        worker = Worker(app, queue, connect(settings), scratch)
        log.info("worker_started", queue=queue, name=worker.name)
        worker.work(logging_level="WARNING")
    except RedisError as error:
        log.warning("redis_away", error=type(error).__name__)
    return worker is not None and worker.stopping


def run(settings: Settings, count: int = 1, queue: str = EVALUATIONS) -> None:
    """Run `count` workers of `queue`, evaluations or releases, until SIGTERM or SIGINT, a process each.

    Raises TransientError at once where ffmpeg does not do what they ask of it, or another tool is missing.
    """
    with tempfile.TemporaryDirectory() as directory:
        control.check_tools(Path(directory))
    if queue == RELEASES:
        from app.releases import building

        building.check_tools()
    else:
        if settings.paint_writing:
            painting.check()
        if not settings.has_judge:
            log.warning("no_judge", consequence="submissions wait until VLM_API_URL is set")
    if count == 1:
        work(settings, queue)
    else:
        supervise([Child(work, settings, queue) for _ in range(count)])
