"""What an installation costs that nobody uses: processor seconds an hour and wake-ups a second, by process.

Starts PostgreSQL (durable), Valkey and SeaweedFS, and the processes of the Procfile. Other work on the
machine changes these figures little.
"""

import argparse
import os
import shutil
import subprocess
import sys
import tempfile
import time
from pathlib import Path

from app import create_app, db, logs
from app.clients.storage import Storage
from app.config import Settings
from app.local.process import free_ports, start_all, stop_all
from app.local.servers import Postgres, Seaweed, Valkey
from bench.server import ROOT

COMMANDS = {
    "web": ("-m", "gunicorn", "wsgi:app"),
    "worker": ("-m", "cli", "worker"),
    "scheduler": ("-m", "cli", "scheduler"),
    "releases": ("-m", "cli", "worker", "--queue", "releases"),
}
# until what is done once is over
SETTLE_SECONDS = 30


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--minutes", type=float, default=5, help="of watching")
    options = parser.parse_args()
    logs.configure("ERROR", "console")
    directory = Path(tempfile.mkdtemp(prefix="kibotos-bench-"))
    directory.chmod(0o711)
    postgres, valkey = Postgres(directory / "postgres"), Valkey(directory / "valkey")
    services = [postgres, valkey, Seaweed(directory / "seaweed")]
    start_all(services)
    started: dict[str, subprocess.Popen] = {}
    try:
        (port,) = free_ports(1)
        environ = {"ADMIN_TOKEN": "admin-of-the-benchmark-" * 2, "PORT": str(port)}
        environ |= {"EVALUATOR_TOKEN": "evaluator-of-the-benchmark-" * 2}
        for service in services:
            environ |= service.environ
        settings = Settings.from_environ(environ)
        with create_app(settings).app_context():
            db.init_schema()
        Storage(settings).ensure_bucket()
        with (directory / "log").open("w") as output:
            for name, command in COMMANDS.items():
                started[name] = subprocess.Popen(
                    [sys.executable, *command],
                    env=os.environ | environ,
                    cwd=ROOT,
                    stdout=output,
                    stderr=subprocess.STDOUT,
                )
            pids = {name: process.pid for name, process in started.items()}
            pids |= {server.name: server.pid for server in (postgres, valkey) if server.pid}
            watch(pids, options.minutes)
    finally:
        for process in started.values():
            process.terminate()
        for process in started.values():
            process.wait(60)
        stop_all(services)
        shutil.rmtree(directory)


def watch(pids: dict[str, int], minutes: float) -> None:
    time.sleep(SETTLE_SECONDS)
    before = {name: _used(pid) for name, pid in pids.items()}
    time.sleep(minutes * 60)
    print("| process and its children | processor seconds an hour | wake-ups a second |\n|---|---|---|")
    for name, pid in pids.items():
        seconds, wakes = (after - then for after, then in zip(_used(pid), before[name], strict=True))
        print(f"| {name} | {seconds * 60 / minutes:.1f} | {wakes / minutes / 60:.1f} |", flush=True)


def _used(pid: int) -> tuple[float, int]:
    """Processor seconds and voluntary context switches of a process and its children, ended ones too."""
    process = Path(f"/proc/{pid}")
    fields = (process / "stat").read_text().rpartition(")")[2].split()
    # user and system time of its own, and of the children that it has waited for
    seconds = sum(int(ticks) for ticks in fields[13 - 2 : 17 - 2]) / os.sysconf("SC_CLK_TCK")
    wakes = 0
    for task in (process / "task").iterdir():
        status = (task / "status").read_text()
        wakes += int(status.split("\nvoluntary_ctxt_switches:")[1].split()[0])
        for child in (task / "children").read_text().split():
            of_child = _used(int(child))
            seconds, wakes = seconds + of_child[0], wakes + of_child[1]
    return seconds, wakes


if __name__ == "__main__":
    main()
