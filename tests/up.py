"""`kibotos up`, started as `bin/up` does and seen from outside."""

import os
import signal
import subprocess
import sys

from dotenv import dotenv_values

from app.local.process import free_ports
from tests.processes import ROOT, descendants, eventually


class Up:
    """`kibotos up` in a directory and on a port of its own."""

    def __init__(self, data):
        self.data = data
        self.port = free_ports(1)[0]
        self.url = f"http://127.0.0.1:{self.port}"
        self.log = data.with_suffix(".log")
        self.process = None

    def start(self, *arguments, **environ):
        self.log.touch()
        with self.log.open("wb") as log:
            self.process = subprocess.Popen(
                [sys.executable, "-m", "cli", "up", "--data", self.data, *arguments],
                env=os.environ
                | {"PORT": str(self.port), "COLUMNS": "200", "PAINT_WRITING": "false"}
                | environ,
                cwd=ROOT,
                stdout=log,
                stderr=subprocess.STDOUT,
                start_new_session=True,
            )
        return self

    def ready(self):
        """Wait until it says it is."""
        eventually(lambda: " s] Ready" in self.output or self.process.poll() is not None, 240)
        assert self.process.poll() is None, self.output

    @property
    def output(self):
        return self.log.read_text()

    def stop(self, number=signal.SIGTERM):
        """Signal it as a terminal or a platform would; return its exit status."""
        self.process.send_signal(number)
        return self.process.wait(120)

    def family(self):
        """The ids of all its processes."""
        return descendants(self.process.pid)

    def environ(self):
        return dotenv_values(self.data / "env")
