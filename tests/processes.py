"""The real processes of the backend, started as the Procfile starts them."""

import os
import signal
import subprocess
import sys
import time
from contextlib import suppress
from dataclasses import fields
from pathlib import Path

ROOT = Path(__file__).parent.parent


def environment(settings, **changes):
    """The environment that makes `Settings.from_environ` give `settings`, with `changes`."""
    environ = {k: v for k, v in os.environ.items() if k in {"PATH", "HOME", "LANG", "TMPDIR"}}
    for setting in fields(settings):
        value = changes.get(setting.name, getattr(settings, setting.name))
        if value != setting.default:
            environ[setting.name.upper()] = ",".join(value) if isinstance(value, tuple) else str(value)
    return environ | {"PYTHONPATH": str(ROOT), "PYTHONUNBUFFERED": "1"}


class Process:
    """`kibotos <arguments>` in a process group of its own, its output in the file `log`."""

    def __init__(self, arguments, environ, log, cwd, program=(sys.executable, "-m", "cli")):
        self.arguments = arguments
        self._program = program
        self._environ = environ
        self._cwd = cwd
        self.log = log
        self._process = None

    @property
    def pid(self):
        return self._process.pid

    @property
    def is_running(self):
        return self._process is not None and self._process.poll() is None

    @property
    def returncode(self):
        """None while it runs."""
        return self._process.poll()

    def start(self):
        with self.log.open("ab") as log:
            self._process = subprocess.Popen(
                [*self._program, *self.arguments],
                env=self._environ,
                cwd=self._cwd,
                stdout=log,
                stderr=subprocess.STDOUT,
                start_new_session=True,
            )
        return self

    def kill(self):
        """Kill the process alone, as `kill -9` does: what becomes of its children is its own affair."""
        self._process.kill()
        self._process.wait()

    def stop(self, seconds=40):
        """Send SIGTERM and return how many seconds the process took to end."""
        began = time.monotonic()
        self._process.send_signal(signal.SIGTERM)
        self._process.wait(seconds)
        return time.monotonic() - began

    def clean_up(self):
        """Kill what is left of the process and its children, and wait for their end.

        One that is still dying could take a job of the next test.
        """
        if self._process is not None:
            children = self.children()
            with suppress(ProcessLookupError):
                os.killpg(self._process.pid, signal.SIGKILL)
            self._process.wait()
            eventually(lambda: not any(command(child) for child in children))

    def children(self):
        """The ids of all living descendants."""
        return descendants(self.pid)


def descendants(pid):
    """The ids of all living descendants of `pid`."""
    parents = {}
    for entry in Path("/proc").iterdir():
        with suppress(OSError, ValueError):
            stat = (entry / "stat").read_text().rpartition(")")[2].split()
            if stat[0] != "Z":
                parents[int(entry.name)] = int(stat[1])
    found, wanted = [], {pid}
    while wanted:
        wanted = {child for child, parent in parents.items() if parent in wanted}
        found += sorted(wanted)
    return found


def cpu_seconds(pid):
    """Processor time that `pid` and its descendants have used, living or ended."""
    ticks = 0
    for each in [pid, *descendants(pid)]:
        with suppress(OSError):
            fields = Path(f"/proc/{each}/stat").read_text().rpartition(")")[2].split()
            # its own, and that of the children it has waited for
            ticks += sum(map(int, fields[11:15]))
    return ticks / os.sysconf("SC_CLK_TCK")


def command(pid):
    """The command line of `pid`, or "" if it is gone."""
    with suppress(OSError):
        return Path(f"/proc/{pid}/cmdline").read_bytes().replace(b"\0", b" ").decode()
    return ""


def eventually(condition, seconds=60.0, poll=0.1):
    """Return what `condition` gives as soon as that is true; fail after `seconds`."""
    deadline = time.monotonic() + seconds
    while not (value := condition()):
        assert time.monotonic() < deadline, f"not within {seconds} s"
        time.sleep(poll)
    return value
