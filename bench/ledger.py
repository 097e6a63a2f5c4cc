#!/usr/bin/env python3
"""Measure how long it takes to record the ledger of a large cycle, to write its file, and to prove a line.

Starts PostgreSQL of its own in a directory that it removes, and fills it with one cycle. One in a hundred of
its submissions has a correction.
"""

import argparse
import os
import resource
import shutil
import sys
import tempfile
import time
from collections.abc import Callable
from contextlib import closing
from pathlib import Path
from random import Random
from statistics import quantiles
from typing import Any

ROOT = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(ROOT))

import psycopg2
from sqlalchemy import text

from app import create_app, db, logs
from app.config import Settings
from app.cycles import queries as cycles
from app.db import fetch_value
from app.ledger import contents, service
from app.local.servers import Postgres
from app.proofs.packing import pack
from app.proofs.receipts import read_receipt
from app.weights import service as weights
from bench import data

RECEIPTS = 300

REPORTS = """
    INSERT INTO verification_reports (submission_id, report, report_hash)
    SELECT id, '{}', video_hash FROM submissions
"""
CORRECTIONS = """
    INSERT INTO corrections (submission_id, kind, status, final_score, points_change, accepted_change, reason,
                             decided_by, cycle_id, is_late)
    SELECT id, 'late_copy', 'REJECTED', 0, -round(final_score * 10000)::integer, -1,
           'The footage is that of an earlier submission.', 'system', cycle_id, false
    FROM submissions WHERE status = 'SCORED' AND id % 100 = 1
"""


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--submissions", type=int, default=1_000_000)
    options = parser.parse_args()
    directory = Path(tempfile.mkdtemp(prefix="kibotos-bench-"))
    # PostgreSQL may have to run as another user
    directory.chmod(0o711)
    postgres = Postgres(directory / "postgres", durable=True)
    postgres.start()
    try:
        measure(options.submissions, postgres, directory)
    finally:
        postgres.stop()
        shutil.rmtree(postgres.data.parent, ignore_errors=True)
        shutil.rmtree(directory, ignore_errors=True)


def measure(submissions: int, postgres: Postgres, directory: Path) -> None:
    logs.configure("ERROR", "console")
    settings = Settings.from_environ({"APP_ENV": "development"} | postgres.environ)
    app = create_app(settings)
    with app.app_context():
        db.init_schema()
        cycle_id = fill(postgres, submissions)
        cycles.lift_statement_timeout()
        drafted = timed("ledger: its draft, while corrections go on", lambda: contents.draft(cycle_id))
        insert_corrections(cycle_id)

        def complete() -> None:
            recorded = weights.record(cycle_id, check_registration=False)
            cycles.complete_cycle(cycle_id, cycles.clock(), None, [], recorded.last_correction_id)
            service.record(cycle_id, None, None, drafted)
            db.db.session.commit()

        timed("scores, weights and ledger, while corrections wait", complete)
        path = directory / "ledger"

        def write() -> service.Ledger:
            with path.open("wb") as file, pack(file) as packed:
                return service.write(cycle_id, packed)

        ledger = timed("ledger: its file, again from the database", write)
        print(f"{ledger.lines} lines, {path.stat().st_size / 1e6:.0f} MB in zstd")
        print(f"peak memory {resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024:.0f} MB")
        prove(settings, submissions)


def insert_corrections(cycle_id: int) -> None:
    """What was corrected while the draft was read: ten submissions, each in a chunk of its own."""
    insert = text("""
        INSERT INTO corrections (submission_id, kind, status, final_score, points_change, accepted_change,
                                 reason, decided_by, cycle_id, is_late)
        SELECT id, 'operator', 'SCORED', final_score, 0, 0, 'Seen.', 'Ada', cycle_id, false FROM submissions
        WHERE cycle_id = :cycle_id AND status = 'SCORED' AND id % 100 <> 1
        ORDER BY hashint8(id) LIMIT 10
    """)
    db.db.session.execute(insert, {"cycle_id": cycle_id})


def fill(postgres: Postgres, submissions: int) -> int:
    superuser = {"user": "postgres", "password": postgres.password, "dbname": "kibotos"}
    with (
        closing(psycopg2.connect(host="127.0.0.1", port=postgres.port, **superuser)) as connection,
        connection.cursor() as cursor,
    ):
        connection.autocommit = True
        data.insert_prompts(cursor)
        cycle_id = data.insert_cycle(cursor, "EVALUATING")
        with data.bulk(cursor):
            data.insert_submissions(cursor, 1, submissions, cycle_id)
            data.insert_evaluations(cursor, cycle_id)
            cursor.execute(REPORTS)
            cursor.execute(CORRECTIONS)
        cursor.execute("VACUUM ANALYZE")
    return cycle_id


def prove(settings: Settings, submissions: int) -> None:
    random = Random(1)
    times = []
    for _ in range(RECEIPTS):
        find = text("SELECT uuid FROM submissions WHERE id = :id")
        uuid = fetch_value(find, id=random.randint(1, submissions))
        start = time.perf_counter()
        receipt = service.get_receipt(uuid, settings)
        times.append((time.perf_counter() - start) * 1000)
        read_receipt(receipt.encode())
    cuts = quantiles(times, n=100)
    print(f"{RECEIPTS} receipts: median {cuts[49]:.1f} ms, 99 % under {cuts[98]:.1f} ms")


def postgres_time() -> float:
    """The processor time of the server process that serves this session."""
    pid = fetch_value(text("SELECT pg_backend_pid()"))
    used = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    return (int(used[11]) + int(used[12])) / os.sysconf("SC_CLK_TCK")


def timed(what: str, work: Callable[[], Any]) -> Any:
    start, ours, others = time.perf_counter(), time.process_time(), postgres_time()
    result = work()
    spent, ours, others = time.perf_counter() - start, time.process_time() - ours, postgres_time() - others
    print(f"{what}: {spent:.1f} s; CPU {ours:.1f} s ours, {others:.1f} s of PostgreSQL", flush=True)
    return result


if __name__ == "__main__":
    main()
