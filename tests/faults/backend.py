"""A whole backend on servers of its own, whose parts can be killed one by one; and what it has stored."""

import threading
import time
from contextlib import suppress
from pathlib import Path

import psycopg2
import requests

from app import create_app, db
from app.config import Settings
from app.local.process import free_ports, start_all, stop_all
from app.local.servers import Postgres, Seaweed, Valkey
from tests.faults.proxy import FaultyProxy
from tests.processes import Process, environment
from tests.vlm_server import MODEL, VlmServer

CYCLE_SECONDS = 20
# what a crashed process costs until its supervisor (systemd, a platform) starts it again
RESTART_SECONDS = 1.0


class SlowVlm(VlmServer):
    """A scripted judge that thinks for half a second, and answers by `fault` while that is set."""

    fault = None

    def respond(self, handler, request):
        if self.fault is not None:
            return self.fault(self, handler, request)
        time.sleep(0.5)
        return super().respond(handler, request)


class Backend:
    """PostgreSQL (durable), Valkey, SeaweedFS behind a proxy, a judge, web, two workers and the scheduler.

    Processes of ours that end are started again after a second, as a supervisor does.
    """

    def __init__(self, directory: Path):
        self.directory = directory
        self.postgres = Postgres(directory / "postgres")
        self.valkey = Valkey(directory / "valkey")
        self.seaweed = Seaweed(directory / "seaweed")
        self.vlm = SlowVlm()
        self._closing = threading.Event()

    def __enter__(self):
        start_all([self.postgres, self.valkey, self.seaweed])
        self.storage = FaultyProxy(self.seaweed.port)
        self.storage.__enter__()
        self.vlm.__enter__()
        (port,) = free_ports(1)
        self.url = f"http://127.0.0.1:{port}"
        self.settings = Settings.from_environ(
            {
                "APP_ENV": "development",
                "PAINT_WRITING": "false",
                "DATABASE_URL": self.postgres.url,
                "REDIS_URL": self.valkey.url,
                "S3_ENDPOINT": self.storage.url,
                "S3_PUBLIC_ENDPOINT": self.seaweed.url,
                "AWS_ACCESS_KEY_ID": self.seaweed.access_key,
                "AWS_SECRET_ACCESS_KEY": self.seaweed.password,
                "VLM_API_URL": self.vlm.url,
                "VLM_MODEL": MODEL,
                "CYCLE_DURATION_MINUTES": str(CYCLE_SECONDS / 60),
                "CHECK_INTERVAL_SECONDS": "1",
                "EVALUATION_DEADLINE_MINUTES": "1",
                "MAX_SUBMISSIONS_PER_HOUR": "100000",
                # a chain out of reach is part of the weather
                "NETWORK": "ws://127.0.0.1:1",
            }
        )
        app = create_app(self.settings)
        with app.app_context():
            db.init_schema()
            app.extensions["storage"].ensure_bucket()
            db.db.engine.dispose()
        commands = {
            "web": ["api", "--port", str(port)],
            "worker-1": ["worker"],
            "worker-2": ["worker"],
            "scheduler": ["scheduler"],
        }
        environ = environment(self.settings) | {"TMPDIR": str(self.directory)}
        self.processes = {
            name: Process(command, environ, self.directory / f"{name}.log", self.directory)
            for name, command in commands.items()
        }
        for process in self.processes.values():
            process.start()
        self._supervisor = threading.Thread(target=self._supervise, daemon=True)
        self._supervisor.start()
        return self

    def __exit__(self, *_):
        self._closing.set()
        self._supervisor.join()
        for process in self.processes.values():
            process.clean_up()
        self.vlm.__exit__()
        self.storage.__exit__()
        stop_all([self.seaweed, self.valkey, self.postgres])

    def _supervise(self):
        while not self._closing.wait(RESTART_SECONDS):
            for process in self.processes.values():
                if not process.is_running:
                    process.start()

    def ask(self, statement, *values):
        """Return the rows of `statement`, asked again while PostgreSQL is away."""
        deadline = time.monotonic() + 60
        while True:
            try:
                connection = psycopg2.connect(self.postgres.url, connect_timeout=5)
                try:
                    with connection, connection.cursor() as cursor:
                        cursor.execute(statement, values)
                        return cursor.fetchall()
                finally:
                    connection.close()
            except (psycopg2.OperationalError, psycopg2.InterfaceError):
                if time.monotonic() > deadline:
                    raise
                time.sleep(0.2)

    def is_up(self):
        with suppress(requests.RequestException):
            return requests.get(f"{self.url}/v1/status", timeout=2).ok
        return False

    def unharmed_claim_of(self, name):
        """The submission that the worker `name` is at, or None: one that has not suffered a fault so far."""
        pid = self.processes[name].pid
        found = self.ask(
            "SELECT id FROM submissions WHERE status = 'EVALUATING' AND faults = 0 AND claimed_by LIKE %s",
            f"%-{pid}-%",
        )
        return found[0][0] if found else None

    def count_open(self):
        [[count]] = self.ask("SELECT count(*) FROM submissions WHERE status IN ('PENDING', 'EVALUATING')")
        return count

    def is_evaluated(self, id):
        return bool(self.ask("SELECT 1 FROM evaluations WHERE submission_id = %s", id))

    def count_given_back(self):
        """How many submissions a job last gave back itself: of these nobody was killed."""
        [[count]] = self.ask(
            "SELECT count(*) FROM submissions "
            "WHERE last_fault NOT LIKE '%%expired.' AND last_fault NOT LIKE 'The work horse%%'"
        )
        return count

    def evaluated_since(self, moment):
        return bool(self.ask("SELECT 1 FROM evaluations WHERE created_at > to_timestamp(%s) LIMIT 1", moment))

    def ticked_since(self, moment):
        return bool(
            self.ask(
                "SELECT 1 FROM ticks WHERE name = 'cycles' AND last_finished_at > to_timestamp(%s)", moment
            )
        )

    def describe(self):
        """What is still open, and the end of each process's log."""
        lines = []
        for statement in (
            "SELECT id, status, cycle_id, attempts, faults, last_fault, not_before - now(), lease_expires_at "
            "FROM submissions WHERE status IN ('PENDING', 'EVALUATING')",
            "SELECT id, status, ends_at - now() FROM cycles WHERE status <> 'COMPLETED'",
            "SELECT name, last_started_at - now(), last_finished_at - now(), last_error FROM ticks",
            "SELECT name, trips, open_until - now(), last_error FROM circuit_breakers",
        ):
            lines += [statement, *map(str, self.ask(statement))]
        for name, process in self.processes.items():
            lines += [f"--- {name}", process.log.read_text()[-4000:]]
        return "\n".join(lines)
