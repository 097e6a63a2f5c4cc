#!/usr/bin/env python3
"""Measure what webhooks cost: where nobody wants an event, and with many deliveries that wait.

Starts PostgreSQL (durable) of its own in a directory that it removes, and a receiver in this process.
"""

import argparse
import shutil
import sys
import tempfile
import threading
import time
from collections.abc import Callable
from contextlib import closing
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from statistics import median
from typing import Any

ROOT = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(ROOT))

import psycopg2
from sqlalchemy import text

from app import create_app, db, logs
from app.clients.strangers import Strangers
from app.config import Settings
from app.enums import SubmissionStatus
from app.local.servers import Postgres
from app.webhooks import delivery, service
from app.webhooks.events import Evaluated
from bench import data

OTHERS = 1000
FACTS = Evaluated(status=SubmissionStatus.SCORED, final_score=0.5)
_OTHERS = """
    INSERT INTO webhook_endpoints (miner_hotkey, url, events, secret)
    SELECT '5' || rpad(md5('other' || i / 3), 47, 'x'), 'http://127.0.0.1:9/', ARRAY['submission.evaluated'],
           decode(repeat('00', 32), 'hex')
    FROM generate_series(1, %s) i
"""
_WAITING = """
    INSERT INTO webhook_deliveries (endpoint_id, event, subject, data)
    SELECT %s, 'submission.evaluated', 'submission ' || gen_random_uuid(),
           jsonb_build_object('submission_uuid', gen_random_uuid(), 'status', 'SCORED', 'final_score', 0.5)
    FROM generate_series(1, %s)
"""


class Receiver(BaseHTTPRequestHandler):
    def do_POST(self) -> None:
        self.rfile.read(int(self.headers["Content-Length"]))
        self.send_response(204)
        self.end_headers()

    def log_message(self, format: str, *args: Any) -> None:
        pass


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--waiting", type=int, default=1_000_000)
    options = parser.parse_args()
    logs.configure("ERROR", "console")
    directory = Path(tempfile.mkdtemp(prefix="kibotos-bench-"))
    # PostgreSQL may have to run as another user
    directory.chmod(0o711)
    postgres = Postgres(directory / "postgres")
    postgres.start()
    server = ThreadingHTTPServer(("127.0.0.1", 0), Receiver)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    environ = {"APP_ENV": "development", "DATABASE_URL": postgres.url, "WEBHOOK_ALLOW_PRIVATE": "true"}
    app = create_app(Settings.from_environ(environ))
    try:
        with app.app_context():
            db.init_schema()
            with closing(psycopg2.connect(postgres.url)) as connection:
                connection.autocommit = True
                measure(connection.cursor(), app.extensions["settings"], server.server_port, options.waiting)
    finally:
        server.shutdown()
        postgres.stop()
        shutil.rmtree(postgres.data.parent, ignore_errors=True)
        shutil.rmtree(directory, ignore_errors=True)


def measure(cursor: Any, settings: Settings, port: int, waiting: int) -> None:
    data.insert_prompts(cursor)
    data.insert_submissions(cursor, 1, 1, data.insert_cycle(cursor, "ACTIVE"))
    print("| what | median |\n|---|---|")

    def show(what: str, do: Callable[[], Any], times: int = 200, after: Callable[[], Any] = int) -> None:
        print(f"| {what} | {milliseconds(do, times, after):.2f} ms |", flush=True)

    def give_back() -> None:
        cursor.execute("""
            UPDATE webhook_deliveries SET claim_token = NULL, lease_expires_at = NULL, not_before = now()
            WHERE claim_token IS NOT NULL
        """)

    def record() -> None:
        service.record_submission(1, FACTS)
        db.db.session.commit()

    def nothing() -> None:
        db.db.session.execute(text("SELECT 1"))
        db.db.session.commit()

    show("a transaction of SELECT 1", nothing)
    show("a transaction of one event, no webhook", record)
    cursor.execute(_OTHERS, (OTHERS,))
    show(f"the same, {OTHERS} webhooks of others", record)
    strangers = Strangers(True)
    endpoint, _ = service.register(None, f"http://127.0.0.1:{port}/", None, settings, strangers)
    show("the same, one that wants it", record)
    cursor.execute(_WAITING, (endpoint.id, waiting))
    for when in ("no statistics", "with statistics"):
        show(f"claim of 4 among {waiting:,}, {when}", lambda: delivery.write_and_claim([], 4), 20, give_back)
        cursor.execute("VACUUM ANALYZE webhook_deliveries, webhook_endpoints")
    cursor.execute("DELETE FROM webhook_endpoints WHERE miner_hotkey IS NOT NULL")
    began, used = time.monotonic(), time.process_time()
    delivery.deliver_due(strangers, 10.0)
    took, used = time.monotonic() - began, time.process_time() - used
    cursor.execute("SELECT count(*) FROM webhook_attempts WHERE status = 204")
    sent = cursor.fetchone()[0]
    each = used / sent * 1000
    print(f"\n{sent / took:.0f} deliveries a second to one receiver; {each:.1f} ms CPU each, of both sides")


def milliseconds(do: Callable[[], Any], times: int, after: Callable[[], Any]) -> float:
    took = []
    for _ in range(times):
        began = time.perf_counter()
        do()
        took.append((time.perf_counter() - began) * 1000)
        after()
    return median(took)


if __name__ == "__main__":
    main()
