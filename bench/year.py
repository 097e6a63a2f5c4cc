"""A year of cycles: which plans its statements have, and what a month of work leaves behind.

`python -m bench.year [--rows 1000000] [plans] [month]`. Starts PostgreSQL (durable), Valkey and SeaweedFS of
its own. Fills a database with submissions, evaluations, reports, fingerprints and corrections of twelve
cycles, and completes these, so there are ledgers, scores and weights. Then:

- plans: runs the hot requests, the pages and the periodic jobs as they are. Each statement is explained just
  before it runs (EXPLAIN ANALYZE, BUFFERS). Prints those that took longest, and all that read a large table
  from end to end; the plans of the latter go to stderr.
- month: does a month's work, a twelfth of the rows, with as many changes of each row as the product makes:
  inserts, claims, leases that are extended twice, results, corrections and what retention deletes. What
  autovacuum would come to is vacuumed at once, since the month takes seconds. Prints what each table and
  index has grown to, and what it would be if it were written anew.

Only a share of the fingerprints have keys to be found by: indexing those of all would take hours.
"""

import argparse
import json
import os
import shutil
import sys
import tempfile
import time
from collections import Counter, defaultdict
from collections.abc import Iterator
from contextlib import closing
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import psycopg2
from bittensor_core import Keypair
from flask import Flask
from sqlalchemy import event

from app import create_app, db, logs
from app.clients.chain import Chain
from app.clients.storage import ListedObject, Storage
from app.completion import service as completion
from app.config import Settings
from app.db import autocommit
from app.db import db as database
from app.duplicates import queries as duplicates
from app.local.process import start_all, stop_all
from app.local.servers import Postgres, Seaweed, Valkey
from app.retention import service as retention
from bench import cost, data, measures
from jobs import scheduler, tick, webhooks
from tests.pages.conftest import make_report

CYCLES = 12
# a table with more rows is not to be read from end to end
LARGE = 20_000
SLOWEST = 12
# submissions that are worked on together, and how many such batches come between two looks for what to vacuum
BATCH = 20
LOOK_EVERY = 25
HOTKEY = Keypair.create_from_uri("//0").ss58_address
ADMIN_TOKEN = "admin-of-the-benchmark-" * 2
TABLES = (
    "submissions",
    "uploads",
    "evaluations",
    "verification_reports",
    "fingerprints",
    "corrections",
    "judge_answers",
    "contact_sheets",
    "nonces",
    "webhook_deliveries",
    "webhook_attempts",
)

REPORTS = """
    INSERT INTO verification_reports (submission_id, report, report_hash)
    SELECT e.submission_id, %(report)s::jsonb || jsonb_build_object('frame_seed', s.frame_seed), s.video_hash
    FROM evaluations e JOIN submissions s ON s.id = e.submission_id WHERE s.id BETWEEN %(first)s AND %(last)s
"""
# 40 hashes, as of 20 s of film
FINGERPRINTS = """
    INSERT INTO fingerprints (submission_id, miner_hotkey, content_hash, seconds, hashes, keys)
    SELECT s.id, s.miner_hotkey, s.video_hash,
           ARRAY(SELECT n / 2.0 FROM generate_series(0, 39) n)::real[],
           decode(repeat(s.video_hash, 40), 'hex'),
           CASE WHEN s.id %% %(one_in)s = 0
                THEN ARRAY(SELECT hashint8(s.id * 1000 + n) FROM generate_series(1, 160) n) ELSE '{}' END
    FROM submissions s WHERE s.id BETWEEN %(first)s AND %(last)s AND s.status = 'SCORED'
"""
CORRECTIONS = """
    INSERT INTO corrections (submission_id, kind, status, final_score, points_change, accepted_change, reason,
                             decided_by, cycle_id, is_late)
    SELECT s.id, 'late_copy', 'REJECTED', 0, -round(s.final_score * 10000)::integer, -1,
           'The footage is that of an earlier submission.', 'system', s.cycle_id, y.status = 'COMPLETED'
    FROM submissions s JOIN cycles y ON y.id = s.cycle_id
    WHERE s.id BETWEEN %(first)s AND %(last)s AND s.status = 'SCORED' AND s.id %% 100 = 1
"""
JUDGE_ANSWERS = """
    INSERT INTO judge_answers (cache_key, model, prompt_version, answer)
    SELECT video_hash, 'judge', '1', '{"action_match": 0.9, "perspective_correct": 1.0}'
    FROM submissions WHERE id BETWEEN %(first)s AND %(last)s
"""
SHEETS = """
    INSERT INTO contact_sheets SELECT uuid, evaluated_at FROM submissions
    WHERE id BETWEEN %(first)s AND %(last)s
"""
DELIVERIES = """
    WITH sent AS (
        INSERT INTO webhook_deliveries (endpoint_id, event, subject, data)
        SELECT e.id, 'submission.evaluated', 'submission ' || s.uuid,
               jsonb_build_object('submission_uuid', s.uuid, 'final_score', s.final_score)
        FROM submissions s, webhook_endpoints e
        WHERE s.id BETWEEN %(first)s AND %(last)s AND s.id %% 10 = 0 RETURNING id
    ) INSERT INTO webhook_attempts (delivery_id, number, seconds, status) SELECT id, 1, 0.1, 204 FROM sent
"""
ENDPOINT = """
    INSERT INTO webhook_endpoints (miner_hotkey, url, events, secret)
    VALUES (NULL, 'https://127.0.0.1/', '{submission.evaluated}', decode(repeat('ab', 24), 'hex'))
"""
# the statements of a month, for a batch of submissions; `old` are those that retention comes to
MONTH = (
    # claim
    """
        UPDATE submissions SET status = 'EVALUATING', attempts = 1, claim_token = gen_random_uuid(),
               claimed_by = 'worker', lease_expires_at = now() + interval '30 s'
        WHERE id BETWEEN %(first)s AND %(last)s""",
    # extend a lease
    """
        UPDATE submissions SET lease_expires_at = now() + interval '40 s'
        WHERE id BETWEEN %(first)s AND %(last)s""",
    # extend it again
    """
        UPDATE submissions SET lease_expires_at = now() + interval '50 s'
        WHERE id BETWEEN %(first)s AND %(last)s""",
    # result
    """
        UPDATE submissions SET status = CASE WHEN id %% 5 = 0 THEN 'REJECTED' ELSE 'SCORED' END,
               final_score = CASE WHEN id %% 5 = 0 THEN 0 ELSE round(random()::numeric, 4) END,
               evaluated_at = now(), claim_token = NULL, claimed_by = NULL, lease_expires_at = NULL
        WHERE id BETWEEN %(first)s AND %(last)s""",
    # evaluation
    """
        INSERT INTO evaluations (submission_id, technical_score, relevance_score, quality_score,
                                 rejection_reason, evaluated_by, judge_model, prompt_version)
        SELECT id, final_score, final_score, final_score,
               CASE status WHEN 'REJECTED' THEN 'It does not show the task.' END, 'worker', 'judge', '1'
        FROM submissions WHERE id BETWEEN %(first)s AND %(last)s""",
    # report
    REPORTS,
    # fingerprint
    FINGERPRINTS,
    # correction
    CORRECTIONS,
    # judge's answer
    JUDGE_ANSWERS,
    # contact sheet
    SHEETS,
    # webhook
    DELIVERIES,
    # webhook, delivered
    """
        UPDATE webhook_deliveries SET state = 'DELIVERED', ended_at = now(), attempts = 1, tries = 1
        WHERE state = 'PENDING'""",
    # nonces
    """
        INSERT INTO nonces SELECT miner_hotkey, id * 4 + n, now() FROM submissions, generate_series(0, 3) n
        WHERE id BETWEEN %(first)s AND %(last)s""",
    # nonces, deleted
    "DELETE FROM nonces WHERE nonce < (%(first)s - 1000) * 4",
    # one in ten is not submitted, and deleted a day or two later
    # uploads
    """
        INSERT INTO uploads (video_key, content_type, expires_at)
        SELECT 'uploads/' || md5('left' || n), 'video/mp4', now() + interval '1 hour'
        FROM generate_series(%(first)s::bigint, %(last)s::bigint) n WHERE n %% 10 = 0""",
    # uploads, deleted
    """
        DELETE FROM uploads WHERE video_key IN (
            SELECT 'uploads/' || md5('left' || n)
            FROM generate_series(%(first)s - 200, %(last)s - 200) n WHERE n %% 10 = 0)""",
    # rejected videos, deleted
    """
        UPDATE submissions SET video_pruned_at = now()
        WHERE id BETWEEN %(old)s AND %(old)s + 19 AND status = 'REJECTED'""",
    # contact sheets, deleted
    """
        DELETE FROM contact_sheets USING submissions s
        WHERE s.id BETWEEN %(old)s AND %(old)s + 19 AND contact_sheets.uuid = s.uuid""",
    # webhooks, deleted
    """
        DELETE FROM webhook_deliveries WHERE id IN (
            SELECT id FROM webhook_deliveries WHERE state <> 'PENDING' ORDER BY ended_at LIMIT 2)""",
)


VACUUM_DUE = """
    SELECT relname FROM (
        SELECT s.relname, s.n_dead_tup, c.reltuples, coalesce((
            SELECT option_value::float FROM pg_options_to_table(c.reloptions)
            WHERE option_name = 'autovacuum_vacuum_scale_factor'), 0.2) AS share
        FROM pg_stat_user_tables s JOIN pg_class c ON c.oid = s.relid) t
    WHERE n_dead_tup > 50 + share * reltuples
"""


@dataclass
class Explained:
    """What one statement did, each time that it ran."""

    times: int = 0
    most_ms: float = 0.0
    pages: int = 0
    read_whole: set[str] = field(default_factory=set)
    plan: str = ""


class Explaining:
    """Explains each statement before it runs, and remembers by function what came of it."""

    def __init__(self, large: set[str]):
        self.found: dict[str, Explained] = defaultdict(Explained)
        self.large = large

    def cursor_class(self) -> type:
        explaining = self

        class Cursor(psycopg2.extensions.cursor):
            def execute(self, query: Any, binds: Any = None) -> None:
                text = query if isinstance(query, str) else query.decode()
                for statement in text.split("; ") if text.startswith("EXECUTE") else [text]:
                    # what is locked for the session stays locked; a batch of EXECUTEs has the same binds
                    if "pg_try_advisory" not in statement and statement.lstrip()[:6] in _EXPLAINABLE:
                        explaining.explain(self, statement, binds)
                super().execute(query, binds)

        return Cursor

    def explain(self, cursor: Any, statement: str, binds: Any) -> None:
        run = super(type(cursor), cursor).execute
        begin, end = ("BEGIN", "ROLLBACK")
        if not cursor.connection.autocommit:
            begin, end = ("SAVEPOINT explained", "ROLLBACK TO explained")
        run(begin)
        try:
            run(f"EXPLAIN (ANALYZE, BUFFERS, FORMAT JSON) {statement}", binds)
            plan = cursor.fetchone()[0][0]
        finally:
            run(end)
        seen = self.found[_caller()]
        seen.times += 1
        seen.pages = max(seen.pages, plan["Plan"]["Shared Hit Blocks"] + plan["Plan"]["Shared Read Blocks"])
        seen.most_ms = max(seen.most_ms, plan["Execution Time"])
        for node in _walk(plan["Plan"]):
            if node["Node Type"] == "Seq Scan" and node["Relation Name"] in self.large:
                seen.read_whole.add(node["Relation Name"])
                seen.plan = json.dumps(plan["Plan"], indent=1)


_EXPLAINABLE = ("SELECT", "INSERT", "UPDATE", "DELETE", "WITH d", "EXECUT", "(SELEC")


def _walk(node: dict[str, Any]) -> Iterator[dict[str, Any]]:
    yield node
    for below in node.get("Plans", ()):
        yield from _walk(below)


def _caller() -> str:
    """The function of the application that asked."""
    frame: Any = sys._getframe()
    while frame := frame.f_back:
        path = Path(frame.f_code.co_filename)
        if "app" in path.parts and path.name != "db.py" and ".venv" not in path.parts:
            return f"{path.parent.name}/{path.stem}.{frame.f_code.co_name}"
    return "?"


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--rows", type=int, default=1_000_000, help="submissions in all")
    parser.add_argument("--keyed", type=int, default=20_000, help="of them that can be found by their keys")
    parser.add_argument("parts", nargs="*", metavar="part", help="plans or month; both without any")
    options = parser.parse_args()
    parts = options.parts or ["plans", "month"]
    os.environ.setdefault("GOMEMLIMIT", "2GiB")
    directory = Path(tempfile.mkdtemp(prefix="kibotos-bench-"))
    directory.chmod(0o711)
    postgres = Postgres(directory / "postgres")
    services = [postgres, Valkey(directory / "valkey"), Seaweed(directory / "seaweed")]
    start_all(services)
    try:
        environ = {"ADMIN_TOKEN": ADMIN_TOKEN, "EVALUATOR_TOKEN": "evaluator-of-the-benchmark-" * 2}
        for service in services:
            environ |= service.environ
        os.environ.update(environ)
        logs.configure("ERROR", "console")
        settings = Settings.from_environ(environ)
        app = create_app(settings)
        with app.app_context():
            db.init_schema()
        Storage(settings).ensure_bucket()
        login = f"host=127.0.0.1 port={postgres.port} user=postgres password={postgres.password}"
        with (
            closing(psycopg2.connect(f"{login} dbname=kibotos")) as connection,
            connection.cursor() as cursor,
        ):
            connection.autocommit = True
            bench = measures.Bench(settings, environ, cursor, {}, directory, 0)
            fill(bench, app, options)
            if "plans" in parts:
                explain_all(bench, app, options)
            if "month" in parts:
                work_a_month(cursor, options)
    finally:
        stop_all(services)
        shutil.rmtree(directory)


def fill(bench: measures.Bench, app: Flask, options: argparse.Namespace) -> None:
    began, cursor = time.perf_counter(), bench.cursor
    size = options.rows // CYCLES
    cursor.execute(ENDPOINT)
    with data.bulk(cursor):
        data.insert_prompts(cursor)
        for cycle in range(CYCLES):
            first, last = cycle * size + 1, (cycle + 1) * size
            cycle_id = data.insert_cycle(cursor, "EVALUATING")
            data.insert_submissions(cursor, first, last, cycle_id)
            data.insert_evaluations(cursor, cycle_id)
            binds = {"first": first, "last": last, "one_in": max(1, options.rows // options.keyed)}
            for statement in (REPORTS, FINGERPRINTS, CORRECTIONS, JUDGE_ANSWERS, SHEETS, DELIVERIES):
                cursor.execute(statement, binds | {"report": json.dumps(make_report())})
        cursor.execute("UPDATE submissions SET miner_hotkey = %s WHERE miner_uid = 0", (HOTKEY,))
        cursor.execute("UPDATE webhook_deliveries SET state = 'DELIVERED', ended_at = now(), attempts = 1")
        cursor.execute(
            "INSERT INTO prompt_submission_counts SELECT prompt_id, 0, count(*) FROM submissions GROUP BY 1"
        )
    data.insert_cycle(cursor, "ACTIVE")
    with app.app_context():
        for _ in range(CYCLES):
            completion.tick(bench.settings, Chain("ws://127.0.0.1:1"))
    cursor.execute("VACUUM ANALYZE")
    cursor.execute("SELECT pg_size_pretty(pg_database_size('kibotos'))")
    print(
        f"{datetime.now(UTC):%F}: {options.rows:,} submissions in {CYCLES} cycles, {cursor.fetchone()[0]}, "
        f"filled in {time.perf_counter() - began:.0f} s\n",
        flush=True,
    )


def explain_all(bench: measures.Bench, app: Flask, options: argparse.Namespace) -> None:
    """Run what is hot and what is periodic, and print what its statements did."""
    cursor = bench.cursor
    cursor.execute("SELECT relname FROM pg_class WHERE relkind = 'r' AND reltuples > %s", (LARGE,))
    explaining = Explaining({row[0] for row in cursor.fetchall()})
    with app.app_context():
        database.engine.dispose()

        @event.listens_for(database.engine, "connect")
        def explain(connection: Any, _record: Any) -> None:
            connection.cursor_factory = explaining.cursor_class()

    few = SimpleNamespace(requests=5, rows=options.rows, pending=20_000)
    for name, make in cost.CASES.items():
        case = make(app, bench, few)
        for _ in range(5):
            case.send()
        print(f"ran {name}", file=sys.stderr, flush=True)
    for path in paths(cursor):
        answer = app.test_client().get(path, headers={"Authorization": f"Bearer {ADMIN_TOKEN}"})
        if answer.status_code >= 400:
            print(f"{path}: {answer.status_code}", file=sys.stderr, flush=True)
    with app.app_context():
        _run_periodic(bench, cursor)
    print("| statement of | times | at most | pages at most | reads from end to end |\n|---|---|---|---|---|")
    by_time = sorted(explaining.found.items(), key=lambda item: -item[1].most_ms)
    for place, (name, seen) in enumerate(by_time):
        if place < SLOWEST or seen.read_whole:
            whole = ", ".join(sorted(seen.read_whole))
            print(f"| {name} | {seen.times} | {seen.most_ms:.1f} ms | {seen.pages} | {whole} |", flush=True)
            if seen.plan:
                print(name, seen.plan, file=sys.stderr)
    print(f"\n{len(by_time)} statements in all\n", flush=True)


def paths(cursor: Any) -> list[str]:
    """Of each page, and each GET that is not measured alone, one address."""
    cursor.execute("SELECT uuid, cycle_id, prompt_id FROM submissions WHERE status = 'SCORED' LIMIT 1")
    uuid, cycle, prompt = cursor.fetchone()
    cursor.execute("SELECT uuid FROM webhook_endpoints")
    (webhook,) = cursor.fetchone()
    of_submission = [f"/v1/submissions/{uuid}/{what}" for what in ("report", "receipt")]
    of_cycle = [f"/v1/cycles/{cycle}/ledger/head", f"/cycles/{cycle}", f"/v1/weights/{cycle}"]
    of_miner = [f"/miners/{HOTKEY}", f"/v1/miners/{HOTKEY}/standing", f"/v1/miners/{HOTKEY}/submissions"]
    admin = [f"/v1/admin/{what}" for what in ("judge", "reviews", "webhooks")]
    admin.append(f"/v1/admin/webhooks/{webhook}/deliveries")
    pages = ["/", "/cycles", "/prompts", "/releases", "/metrics", f"/submissions/{uuid}"]
    others = ["status", "releases", "scores/latest", "appeals/statistics", f"prompts/{prompt}"]
    return [*of_submission, *of_cycle, *of_miner, *admin, *pages, *(f"/v1/{what}" for what in others)]


def _run_periodic(bench: measures.Bench, cursor: Any) -> None:
    """The periodic jobs, the looks of the clock, a page of the sweep, and searches for known footage."""
    for entry in scheduler.periodic(bench.settings):
        if entry.has_work:
            with autocommit():
                entry.has_work()
    for job in (
        tick.tick_cycles,
        tick.store_ledgers,
        tick.reconcile_evaluations,
        tick.tend_releases,
        tick.sweep_storage,
        tick.tidy_webhooks,
        tick.tidy_uploads,
        webhooks.deliver_due,
    ):
        job()
    cursor.execute("SELECT video_key FROM uploads LIMIT 250")
    page = [ListedObject(key, 1, datetime.now(UTC)) for (key,) in cursor.fetchall()]
    retention.judge(page, bench.settings)
    cursor.execute("SELECT submission_id, keys FROM fingerprints WHERE keys <> '{}' ORDER BY 1 DESC LIMIT 5")
    for id, keys in cursor.fetchall():
        subject = duplicates.get_subject(id)
        duplicates.list_sharing(keys, subject, 10)
        duplicates.list_own(subject, 24, 10)
        duplicates.list_later(keys, subject, 10)
        database.session.rollback()


def work_a_month(cursor: Any, options: argparse.Namespace) -> None:
    """A month's work, then the sizes of tables and indexes, before and after they are written anew."""
    cursor.execute("ALTER SYSTEM SET autovacuum = off")
    cursor.execute("SELECT pg_reload_conf()")
    cursor.execute("SELECT id FROM cycles WHERE status = 'ACTIVE'")
    (cycle_id,) = cursor.fetchone()
    cursor.execute("SELECT pg_stat_reset()")
    before, began = _sizes(cursor), time.perf_counter()
    month, vacuumed = options.rows // CYCLES, Counter[str]()
    for done in range(0, month, BATCH):
        # numbers that the fill has not used
        number = options.rows * 4 + done
        data.insert_submissions(cursor, number, number + BATCH - 1, cycle_id, pending=True)
        cursor.execute("SELECT max(id) FROM submissions")
        (last,) = cursor.fetchone()
        first = last - BATCH + 1
        binds = {"first": first, "last": last, "one_in": 50, "report": json.dumps(make_report())}
        binds["old"] = done + 1
        for statement in MONTH:
            cursor.execute(statement, binds)
        if done // BATCH % LOOK_EVERY == 0:
            vacuumed.update(_vacuum(cursor))
    print(f"A month: {month:,} submissions in {time.perf_counter() - began:.0f} s\n")
    _tell_bloat(cursor, before)
    _tell_updates(cursor, vacuumed)


def _vacuum(cursor: Any) -> list[str]:
    """Vacuum what autovacuum would; return the names."""
    cursor.execute("SELECT pg_stat_force_next_flush()")
    cursor.execute(VACUUM_DUE)
    due = [row[0] for row in cursor.fetchall()]
    for table in due:
        cursor.execute(f"VACUUM ANALYZE {table}")
    return due


def _sizes(cursor: Any) -> dict[str, int]:
    """The bytes of each table, with what it keeps apart, and of each index."""
    cursor.execute(
        """
        SELECT c.relname, CASE c.relkind WHEN 'r' THEN pg_table_size(c.oid) ELSE pg_relation_size(c.oid) END
        FROM pg_class c LEFT JOIN pg_index i ON i.indexrelid = c.oid
        WHERE coalesce(i.indrelid, c.oid) = ANY(%s::text[]::regclass[])
        """,
        (list(TABLES),),
    )
    return dict(cursor.fetchall())


def _tell_bloat(cursor: Any, before: dict[str, int]) -> None:
    after = _sizes(cursor)
    for table in TABLES:
        cursor.execute(f"VACUUM FULL {table}")
    anew = _sizes(cursor)
    print("| table or index | before the month | after it | written anew | needless |\n|---|---|---|---|---|")
    for name in sorted(after, key=lambda name: anew[name] - after[name])[:SLOWEST]:
        sizes = " | ".join(f"{size[name] / 2**20:.0f} MB" for size in (before, after, anew))
        print(f"| {name} | {sizes} | {1 - anew[name] / max(1, after[name]):.0%} |")
    total = [sum(size.values()) for size in (before, after, anew)]
    sizes = " | ".join(f"{size / 2**20:.0f} MB" for size in total)
    print(f"| all | {sizes} | {1 - total[2] / total[1]:.0%} |\n", flush=True)


def _tell_updates(cursor: Any, vacuumed: Counter[str]) -> None:
    print("| table | inserted | updated | of it HOT | deleted | vacuumed |\n|---|---|---|---|---|---|")
    cursor.execute(
        """
        SELECT relname, n_tup_ins, n_tup_upd, n_tup_hot_upd, n_tup_del
        FROM pg_stat_user_tables WHERE relname = ANY(%s) ORDER BY n_tup_upd + n_tup_del DESC
        """,
        (list(TABLES),),
    )
    for name, *counts in cursor.fetchall():
        figures = " | ".join(f"{count:,}" for count in (*counts, vacuumed[name]))
        print(f"| {name} | {figures} |")


if __name__ == "__main__":
    # prometheus_client looks for the directory once, when it is first imported
    with tempfile.TemporaryDirectory() as metrics:
        os.environ["PROMETHEUS_MULTIPROC_DIR"] = metrics
        main()
