"""Child processes that are kept running and end with their starter."""

import ctypes
import multiprocessing
import os
import signal
import threading
from collections.abc import Callable, Sequence
from typing import Any

import structlog

log = structlog.get_logger(__name__)

STOP_SECONDS = 28
_PR_SET_PDEATHSIG = 1
_libc = ctypes.CDLL(None)
_fork = multiprocessing.get_context("fork")


def die_with_parent(parent_pid: int) -> None:
    """Have the kernel kill this process when its parent `parent_pid` ends, however that happens."""
    _libc.prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)
    if os.getppid() != parent_pid:
        os._exit(1)


class Child:
    """A forked process that runs `target(*args)`; `keep_running` starts it, and again when it has ended."""

    def __init__(self, target: Callable[..., None], *args: Any):
        self._target = target
        self._args = args
        self._process: multiprocessing.process.BaseProcess | None = None

    def _main(self, parent_pid: int) -> None:
        for number in (signal.SIGTERM, signal.SIGINT):
            signal.signal(number, signal.SIG_DFL)
        die_with_parent(parent_pid)
        self._target(*self._args)

    def keep_running(self) -> None:
        """Start the process if it is not running."""
        if self._process is not None:
            if self._process.is_alive():
                return
            log.warning("child_ended", pid=self._process.pid, exitcode=self._process.exitcode)
        self._process = _fork.Process(target=self._main, args=(os.getpid(),))
        self._process.start()

    def stop(self) -> None:
        """Ask the process to end."""
        if self._process is not None:
            self._process.terminate()

    def join(self) -> None:
        """Wait for the process to end after `stop`; kill it when that takes too long."""
        if self._process is not None:
            self._process.join(STOP_SECONDS)
            self._process.kill()


def supervise(children: Sequence[Child]) -> None:
    """Keep `children` running until SIGTERM or SIGINT, then stop them all and wait for their end."""
    stopping = threading.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, lambda *_: stopping.set())
    while not stopping.is_set():
        for child in children:
            child.keep_running()
        stopping.wait(1)
    for child in children:
        child.stop()
    for child in children:
        child.join()
