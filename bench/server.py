"""gunicorn under load: started like the Procfile does, on a free port."""

import os
import subprocess
import sys
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from urllib.error import HTTPError
from urllib.request import urlopen

from app.local.process import free_ports

ROOT = Path(__file__).parent.parent
TICKS_PER_SECOND = os.sysconf("SC_CLK_TCK")


@dataclass
class Server:
    port: int
    pid: int

    def cpu_seconds(self) -> float:
        """Processor time that the server's processes have used so far."""
        return sum(
            sum(int(ticks) for ticks in fields[11:13]) / TICKS_PER_SECOND
            for fields in _processes()
            if fields[1] == str(self.pid)
        )

    def megabytes(self) -> list[float]:
        """Memory of each of the server's processes: what is its own, and its share of what several have."""
        found = []
        for children in Path(f"/proc/{self.pid}/task").glob("*/children"):
            for pid in children.read_text().split():
                rollup = Path(f"/proc/{pid}/smaps_rollup").read_text()
                found.append(int(rollup.split("Pss:")[1].split()[0]) / 1024)
        return found


def _processes() -> Iterator[list[str]]:
    for stat in Path("/proc").glob("[0-9]*/stat"):
        try:
            # the name in parentheses may hold spaces
            yield stat.read_text().rpartition(")")[2].split()
        except OSError:
            continue


@contextmanager
def serve(application: str, environ: Mapping[str, str], log: Path, *arguments: str) -> Iterator[Server]:
    """Run `application` under gunicorn with the project's configuration until the block ends.

    `arguments` override the configuration.
    """
    (port,) = free_ports(1)
    with log.open("ab") as output:
        process = subprocess.Popen(
            [sys.executable, "-m", "gunicorn", "-c", "gunicorn.conf.py", *arguments, application],
            env={**os.environ, **environ, "PORT": str(port), "PYTHONPATH": str(ROOT)},
            cwd=ROOT,
            stdout=output,
            stderr=subprocess.STDOUT,
        )
    try:
        _wait(port, process, log)
        yield Server(port, process.pid)
    finally:
        process.terminate()
        process.wait(60)


def _wait(port: int, process: subprocess.Popen, log: Path) -> None:
    deadline = time.monotonic() + 120
    while time.monotonic() < deadline and process.poll() is None:
        try:
            urlopen(f"http://127.0.0.1:{port}/health").close()
            return
        except HTTPError:
            return
        except OSError:
            time.sleep(0.1)
    raise RuntimeError(f"gunicorn did not start: {log.read_text()[-2000:]}")
