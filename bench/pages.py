"""What the pages cost with many submissions: `python -m bench.pages [--rows 1000000] [--cycle 100000]`.

Starts PostgreSQL and Valkey of its own. Each page is first rendered without anything kept, in this process:
so all its statements count. Then gunicorn answers it, as visitors get it; and the API beside it, alone and
with a visitor who opens page after page. Prints the table of bench/pages.md.
"""

import argparse
import json
import shutil
import statistics
import tempfile
import threading
import time
from collections.abc import Iterator
from contextlib import closing
from itertools import cycle
from pathlib import Path

import psycopg2
import requests
from bittensor_core import Keypair
from flask import Flask
from sqlalchemy import event

from app import create_app, db, logs
from app.config import Settings
from app.local.process import start_all, stop_all
from app.local.servers import Postgres, Seaweed, Valkey
from app.web.kept import Kept
from bench import data
from bench.load import Load, request, run
from bench.server import serve
from tests.pages.conftest import make_report

TIMES = 15
REPORTS = 2000
# that get hotkeys of the right form, for their pages
MINERS = 5
ADMIN_TOKEN = "admin-of-the-benchmark-" * 2

_SCORES = """
    INSERT INTO miner_scores (cycle_id, miner_uid, miner_hotkey, total_submissions, accepted_submissions,
                              avg_score, total_score, scores_by_category, holds_uid)
    SELECT cycle_id, miner_uid, miner_hotkey, count(*), count(*) FILTER (WHERE status = 'SCORED'),
           coalesce(avg(final_score) FILTER (WHERE status = 'SCORED'), 0),
           coalesce(sum(final_score * prompt_weight), 0), '{"manipulation": 1.5, "household": 2.5}', true
    FROM submissions WHERE cycle_id = %s GROUP BY 1, 2, 3
"""
_REPORTS = """
    INSERT INTO verification_reports (submission_id, report)
    SELECT submission_id, %s::jsonb FROM evaluations ORDER BY submission_id DESC LIMIT %s
"""


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--rows", type=int, default=1_000_000, help="submissions in all")
    parser.add_argument("--cycle", type=int, default=100_000, help="submissions of a cycle")
    options = parser.parse_args()
    directory = Path(tempfile.mkdtemp(prefix="kibotos-bench-"))
    # PostgreSQL may have to run as another user
    directory.chmod(0o711)
    postgres, valkey = Postgres(directory / "postgres"), Valkey(directory / "valkey")
    services = [postgres, valkey, Seaweed(directory / "seaweed")]
    start_all(services)
    try:
        environ = {"ADMIN_TOKEN": ADMIN_TOKEN, "EVALUATOR_TOKEN": "evaluator-of-the-benchmark-" * 2}
        environ |= {"LOG_FORMAT": "json", "LOG_LEVEL": "ERROR"}
        for service in services:
            environ |= service.environ
        logs.configure("ERROR", "console")
        app = create_app(Settings.from_environ(environ))
        with app.app_context():
            db.init_schema()
        superuser = f"postgresql://postgres:{postgres.password}@127.0.0.1:{postgres.port}/kibotos"
        paths = fill(superuser, options.rows, options.cycle)
        measure(app, environ, paths, directory / "gunicorn.log")
    finally:
        stop_all(services)
        shutil.rmtree(directory)


def measure(app: Flask, environ: dict[str, str], paths: dict[str, list[str]], log: Path) -> None:
    print(
        "| page | kB sent | anew: least | median | its statements | its processor time | kept: median | p99 |"
    )
    print("|---|---|---|---|---|---|---|---|", flush=True)
    rendered = {name: render(app, urls) for name, urls in paths.items()}
    with serve("wsgi:app", environ, log) as server:
        for name, urls in paths.items():
            load = run(server.port, asked(urls), 1, 4)
            answered = f"{load.percentile_ms(50):.1f} ms | {load.percentile_ms(99):.0f} ms"
            print(f"| {name} | {rendered[name]} | {answered} |", flush=True)
        api = [f"/v1{url}" for url in paths["/submissions/{uuid}"]]
        for turn in range(3):
            alone = run(server.port, asked(api), 4, 4)
            with Visitor(server.port, [url for urls in paths.values() for url in urls[:5]]) as visitor:
                beside = run(server.port, asked(api), 4, 4)
            print(
                f"\nTurn {turn + 1}: GET /v1/submissions/{{uuid}} {told(alone)}; "
                f"beside a visitor of {visitor.rate:.0f} pages a second {told(beside)}"
            )
        print("Memory of the web processes:", ", ".join(f"{size:.0f} MB" for size in server.megabytes()))


def fill(url: str, rows: int, size: int) -> dict[str, list[str]]:
    """Insert completed cycles and one that is evaluated, and return what is asked of each page."""
    began = time.perf_counter()
    with closing(psycopg2.connect(url)) as connection, connection.cursor() as cursor:
        connection.autocommit = True
        with data.bulk(cursor):
            data.insert_prompts(cursor)
            for first in range(1, rows, size):
                last = first + size - 1
                cycle_id = data.insert_cycle(cursor, "EVALUATING" if last >= rows else "COMPLETED")
                data.insert_submissions(cursor, first, last, cycle_id)
        for number in range(1, cycle_id + 1):
            data.insert_evaluations(cursor, number)
            if number < cycle_id:
                cursor.execute(_SCORES, (number,))
        data.insert_cycle(cursor, "ACTIVE")
        cursor.execute("SET session_replication_role = replica")
        hotkeys = [Keypair.create_from_uri(f"//{uid}").ss58_address for uid in range(MINERS)]
        for uid, hotkey in enumerate(hotkeys):
            for table in ("submissions", "miner_scores"):
                cursor.execute(f"UPDATE {table} SET miner_hotkey = %s WHERE miner_uid = %s", (hotkey, uid))
        cursor.execute(_REPORTS, (json.dumps(make_report()), REPORTS))
        cursor.execute(
            "INSERT INTO prompt_submission_counts SELECT prompt_id, 0, count(*) FROM submissions GROUP BY 1"
        )
        cursor.execute("VACUUM ANALYZE")
        cursor.execute("SELECT uuid::text FROM submissions ORDER BY id DESC LIMIT 500")
        submissions = [row[0] for row in cursor.fetchall()]
    print(f"{rows:,} submissions, {size:,} a cycle, in {time.perf_counter() - began:.0f} s\n")
    return {
        "/": ["/"],
        "/cycles": ["/cycles"],
        "/cycles/{id}, completed": [f"/cycles/{number}" for number in range(1, cycle_id)] or ["/cycles"],
        "/cycles/{id}, evaluated": [f"/cycles/{cycle_id}"],
        "/miners/{hotkey}": [f"/miners/{hotkey}" for hotkey in hotkeys],
        "/submissions/{uuid}": [f"/submissions/{uuid}" for uuid in submissions],
        "/prompts": ["/prompts"],
    }


def asked(urls: list[str]) -> Iterator[bytes]:
    return cycle(request("GET", url, headers="Accept-Encoding: gzip\r\n") for url in urls)


def told(load: Load) -> str:
    return f"{load.rate:.0f}/s, p99 {load.percentile_ms(99):.0f} ms"


def render(app: Flask, urls: list[str]) -> str:
    """Render pages with nothing kept: how much is sent, how long it takes, and the part of the statements."""
    spent: list[float] = []
    with app.app_context():
        engine = db.db.engine
    begun: list[float] = []
    before = lambda *_: begun.append(time.perf_counter())  # noqa: E731
    after = lambda *_: spent.append(time.perf_counter() - begun[-1])  # noqa: E731
    event.listen(engine, "before_cursor_execute", before)
    event.listen(engine, "after_cursor_execute", after)
    client, took, statements, worked, sent = app.test_client(), [], [], [], 0
    for url in [urls[number % len(urls)] for number in range(TIMES)]:
        app.extensions["kept"] = Kept()
        spent.clear()
        began, worked_before = time.perf_counter(), time.process_time()
        answer = client.get(url, headers={"Accept-Encoding": "gzip"})
        took.append((time.perf_counter() - began) * 1000)
        worked.append((time.process_time() - worked_before) * 1000)
        statements.append(sum(spent) * 1000)
        assert answer.status_code == 200, (url, answer.status)
        sent = max(sent, len(answer.data))
    event.remove(engine, "before_cursor_execute", before)
    event.remove(engine, "after_cursor_execute", after)
    # the first one compiles templates and statements
    return (
        f"{sent / 1000:.1f} | {min(took[1:]):.0f} ms | {statistics.median(took[1:]):.0f} ms | "
        f"{min(statements[1:]):.0f} ms | {min(worked[1:]):.1f} ms"
    )


class Visitor:
    """Opens ten pages a second, one after the other, while the block runs."""

    def __init__(self, port: int, urls: list[str]):
        self._urls = [f"http://127.0.0.1:{port}{url}" for url in urls]
        self._over = threading.Event()
        self._thread = threading.Thread(target=self._visit, daemon=True)
        self._count, self._began = 0, 0.0
        self.rate = 0.0

    def __enter__(self) -> "Visitor":
        self._began = time.perf_counter()
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._over.set()
        self._thread.join()
        self.rate = self._count / (time.perf_counter() - self._began)

    def _visit(self) -> None:
        with requests.Session() as session:
            for url in cycle(self._urls):
                if self._over.wait(0.1):
                    return
                session.get(url, timeout=30).raise_for_status()
                self._count += 1


if __name__ == "__main__":
    main()
