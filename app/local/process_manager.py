"""honcho's manager of processes, whose processes end with it however it ends."""

import signal
import threading
from collections.abc import Callable
from functools import partial

import honcho.manager
from honcho.process import Popen, Process

from app.local.process import end_with_parent

# A worker that is asked to stop finishes its job or releases it, which takes up to 28 s. honcho kills after
# five.
honcho.manager.KILL_WAIT = 30


class _Process(Process):
    """A process, run and listened to by a child of the manager's: each of them ends with its parent."""

    def run(self, events=None, ignore_signals=False):
        end_with_parent(signal.SIGKILL)
        self._child_ctor = partial(Popen, preexec_fn=partial(end_with_parent, signal.SIGTERM))
        super().run(events, ignore_signals)


class ProcessManager(honcho.manager.Manager):
    def __init__(self, printer):
        super().__init__(printer)
        self._process_ctor = _Process

    @property
    def was_asked_to_stop(self) -> bool:
        """Whether `loop` ended by SIGINT or SIGTERM, and not since a process did."""
        return self.returncode in {known["rc"] for known in honcho.manager.SIGNALS.values()}

    def loop_with(self, companion: Callable[[], None]) -> None:
        """`loop`, and `companion` in a thread beside it."""
        self._companion = companion
        self.loop()

    def _start(self):
        super()._start()
        # after the forks, which a thread that holds a lock would harm
        threading.Thread(target=self._companion, daemon=True).start()
