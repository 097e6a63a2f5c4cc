"""Checks of what the service depends on. They end in time, however the dependency fails."""

import time
from collections.abc import Callable
from concurrent.futures import Future
from concurrent.futures import TimeoutError as FutureTimeout
from threading import Lock, Thread

import structlog

log = structlog.get_logger(__name__)

PROBE_SECONDS = 2.0
# An answer is given to all callers for this long, so that many callers do not cause many checks.
FRESH_SECONDS = 1.0


class DependencyProbe:
    """Runs `check` in a thread, never two at once, and tells how it went.

    `check` returns None if all is well, or a few words on what is not; what it raises counts as out of
    reach. A check that hangs keeps its one thread until it ends; until then the verdict is the same.
    """

    def __init__(self, name: str, check: Callable[[], str | None]):
        self._name = name
        self._check = check
        self._lock = Lock()
        self._future: Future[str] | None = None
        self._began = 0.0

    def begin(self) -> None:
        """Start the check unless it is under way or has just been made."""
        with self._lock:
            if self._future and not (self._future.done() and time.monotonic() > self._began + FRESH_SECONDS):
                return
            self._began = time.monotonic()
            self._future = Future()
            # a daemon: a hung check must not hold up the end of the process
            Thread(target=self._run, args=(self._future,), daemon=True, name=f"probe-{self._name}").start()

    def verdict(self) -> str:
        """Begin, and return `ok` or what is wrong, PROBE_SECONDS after the beginning at the latest."""
        self.begin()
        assert self._future is not None
        try:
            return self._future.result(max(0.0, self._began + PROBE_SECONDS - time.monotonic()))
        except FutureTimeout:
            return "no answer"

    def _run(self, future: Future[str]) -> None:
        try:
            future.set_result(self._check() or "ok")
        except Exception as error:
            log.warning("probe_failed", dependency=self._name, error=type(error).__name__)
            future.set_result("out of reach")
