"""How long /health takes while 250 slow clients are connected: our worker, and gunicorn's own threads.

`python -m bench.slow_clients`; starts PostgreSQL and Valkey of its own.
"""

import itertools
import shutil
import socket
import tempfile
import time
from contextlib import ExitStack, suppress
from pathlib import Path
from statistics import quantiles

from sqlalchemy import text

from app import create_app, db, logs
from app.config import Settings
from app.local.process import start_all, stop_all
from app.local.servers import Postgres, Valkey
from bench.server import serve
from tests.slow_clients import connect, connect_all, dawdle

SECONDS = 5
PROMPTS = text(
    "INSERT INTO prompts (id, category, task, scenario)"
    " SELECT 'p-' || i, 'household', 'wash', repeat('x', 2000) FROM generate_series(1, 2000) i"
)


def ask(port: int, slow: list[tuple[str, socket.socket]]) -> str:
    """Ask /health on a new connection each time, while each client in turn sends or reads a little."""
    latencies, turns = [], itertools.cycle(slow or [("idle", None)])
    end = time.perf_counter() + SECONDS
    while time.perf_counter() < end:
        kind, client = next(turns)
        with suppress(OSError):
            dawdle(kind, client)
        began = time.perf_counter()
        try:
            with connect(f"http://127.0.0.1:{port}", timeout=10) as asker:
                asker.sendall(b"GET /health HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n")
                assert asker.recv(4096).startswith(b"HTTP/1.1 200")
        except TimeoutError:
            return "no answer within 10 s"
        latencies.append(time.perf_counter() - began)
    percentiles = [1000 * seconds for seconds in quantiles(latencies, n=100)]
    return f"p50 {percentiles[49]:.1f} ms, p99 {percentiles[98]:.1f} ms"


def main() -> None:
    directory = Path(tempfile.mkdtemp(prefix="kibotos-bench-"))
    directory.chmod(0o711)
    services = [Postgres(directory / "postgres"), Valkey(directory / "valkey")]
    start_all(services)
    try:
        environ = {"APP_ENV": "development", "LOG_FORMAT": "json"}
        for service in services:
            environ |= service.environ
        logs.configure("ERROR", "console")
        with create_app(Settings.from_environ(environ)).app_context():
            db.init_schema()
            db.db.session.execute(PROMPTS)
            db.db.session.commit()
        for name, arguments in {"ours": (), "gthread": ("-k", "gthread")}.items():
            with serve("wsgi:app", environ, directory / "log", *arguments) as server, ExitStack() as stack:
                print(f"{name}, alone: {ask(server.port, [])}", flush=True)
                slow = connect_all(f"http://127.0.0.1:{server.port}", stack)
                memory = " + ".join(f"{each:.0f}" for each in server.megabytes())
                print(f"{name}, {len(slow)} slow clients: {ask(server.port, slow)}, {memory} MB", flush=True)
    finally:
        stop_all(services)
        shutil.rmtree(directory)


if __name__ == "__main__":
    main()
