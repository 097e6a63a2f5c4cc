"""The processor time of one request, endpoint by endpoint, in process and beside a bare view.

Runs the whole application in one thread, against PostgreSQL (durable), Valkey and SeaweedFS of its own.
"Server" is the processor time of the thread that answers, without gunicorn. "Database" is that of the
connection's process in PostgreSQL. Both can be measured while other work is going on, but caches and cores
that are shared make them up to three times as long. So batches of the bare view run between.

POST /v1/submissions is measured twice. Where workers wait, each job is taken out of the queue as soon as it
is there, so that every submission finds it empty. Where they are busy, fifty jobs wait already.
"""

import argparse
import cProfile
import io
import itertools
import json
import os
import pstats
import shutil
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path
from statistics import median
from typing import Any

import psycopg2
import redis

from app import create_app, db, logs
from app.clients.chain import Chain
from app.completion import service as completion
from app.config import Settings
from app.local.process import start_all, stop_all
from app.local.servers import Postgres, Seaweed, Valkey
from bench import data, measures

BATCH = 50
WARM_UP = 100


@dataclass
class Request:
    method: str
    path: str
    body: bytes = b""
    token: str = ""

    def environ(self) -> dict[str, Any]:
        headers = {"HTTP_AUTHORIZATION": f"Bearer {self.token}"} if self.token else {}
        return {
            "REQUEST_METHOD": self.method,
            "SCRIPT_NAME": "",
            "PATH_INFO": self.path,
            "RAW_URI": self.path,
            "QUERY_STRING": "",
            "SERVER_NAME": "127.0.0.1",
            "SERVER_PORT": "80",
            "SERVER_PROTOCOL": "HTTP/1.1",
            "REMOTE_ADDR": "127.0.0.1",
            "CONTENT_TYPE": "application/json" if self.body else "",
            "CONTENT_LENGTH": str(len(self.body)),
            "HTTP_HOST": "127.0.0.1",
            "HTTP_ACCEPT": "*/*",
            "wsgi.version": (1, 0),
            "wsgi.url_scheme": "http",
            "wsgi.input": io.BytesIO(self.body),
            "wsgi.errors": sys.stderr,
            "wsgi.multithread": True,
            "wsgi.multiprocess": True,
            "wsgi.run_once": False,
            **headers,
        }


@dataclass
class Case:
    """One endpoint: the requests that are sent, and what is done after each, outside of what is measured."""

    app: Any
    requests: Iterator[Request]
    after: Callable[[], None] = lambda: None

    def send(self) -> float:
        """Send the next request and return the processor time of this thread in seconds."""
        environ, status = next(self.requests).environ(), ""

        def start_response(line: str, _headers: Any, _error: Any = None) -> None:
            nonlocal status
            status = line

        began = time.thread_time()
        answer = self.app(environ, start_response)
        body = b"".join(answer)
        if hasattr(answer, "close"):
            answer.close()
        used = time.thread_time() - began
        if not status.startswith("2"):
            raise RuntimeError(f"{environ['REQUEST_METHOD']} {environ['PATH_INFO']}: {status}, {body!r}")
        self.after()
        return used


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--rows", type=int, default=100_000, help="evaluated submissions")
    parser.add_argument("--pending", type=int, default=100_000, help="pending ones, for evaluate/fetch")
    parser.add_argument("--requests", type=int, default=1000, help="measured, of each kind")
    parser.add_argument("--profile", action="store_true", help="print where the time goes, too")
    parser.add_argument("names", nargs="*", help="of endpoints, or parts of them; all without any")
    options = parser.parse_args()
    os.environ.setdefault("GOMEMLIMIT", "2GiB")
    directory = Path(tempfile.mkdtemp(prefix="kibotos-bench-"))
    directory.chmod(0o711)
    postgres = Postgres(directory / "postgres")
    services = [postgres, Valkey(directory / "valkey"), Seaweed(directory / "seaweed")]
    start_all(services)
    try:
        measure(options, directory, postgres, services)
    finally:
        stop_all(services)
        shutil.rmtree(directory)


def measure(options: argparse.Namespace, directory: Path, postgres: Postgres, services: list) -> None:
    environ = {
        "ADMIN_TOKEN": "admin-of-the-benchmark-" * 2,
        "EVALUATOR_TOKEN": "evaluator-of-the-benchmark-" * 2,
    }
    for service in services:
        environ |= service.environ
    os.environ.update(environ)
    # as under gunicorn
    logs.configure("INFO", "json", (directory / "log").open("w"))
    settings = Settings.from_environ(environ)
    app = create_app(settings)
    with app.app_context():
        db.init_schema()
    login = f"host=127.0.0.1 port={postgres.port} user=postgres password={postgres.password} dbname=kibotos"
    with closing(psycopg2.connect(login)) as connection, connection.cursor() as cursor:
        connection.autocommit = True
        bench = measures.Bench(settings, environ, cursor, {}, directory, 0)
        measures.fill(bench, options.rows, options.rows)
        with app.app_context():
            # there are scores and weights from then on
            completion.tick(settings, Chain("ws://127.0.0.1:1"))
        print("| what | server | database | bare view beside it | server of its |\n|---|---|---|---|---|")
        bare = _bare(app, directory)
        for name, make in CASES.items():
            if options.names and not any(wanted in name for wanted in options.names):
                continue
            case = make(app, bench, options)
            for each in (bare, case):
                for _ in range(WARM_UP):
                    each.send()
            figures = [(_batch(case, cursor), _batch(bare, cursor)) for _ in range(options.requests // BATCH)]
            ours, database = (median(column) for column in zip(*(own for own, _ in figures), strict=True))
            floor, floor_database = (median(c) for c in zip(*(bare for _, bare in figures), strict=True))
            ratio = median(own[0] / theirs[0] for own, theirs in figures)
            print(
                f"| {name} | {ours:.3f} ms | {database:.3f} ms | {floor:.3f} + {floor_database:.3f} ms "
                f"| {ratio:.2f} |",
                flush=True,
            )
            if options.profile:
                _profile(case)


def _batch(case: Case, cursor: Any) -> tuple[float, float]:
    """The milliseconds of processor time of a request in this thread, and in PostgreSQL."""
    before = _backends_ns(cursor)
    used = sum(case.send() for _ in range(BATCH))
    return used / BATCH * 1e3, (_backends_ns(cursor) - before) / BATCH / 1e6


def _backends_ns(cursor: Any) -> int:
    """Processor time of all backends that serve the application, in nanoseconds."""
    cursor.execute("SELECT pid FROM pg_stat_activity WHERE usename = 'kibotos'")
    return sum(int(Path(f"/proc/{pid}/schedstat").read_text().split()[0]) for (pid,) in cursor.fetchall())


def _profile(case: Case) -> None:
    profile = cProfile.Profile(time.thread_time)
    profile.enable()
    for _ in range(WARM_UP):
        case.send()
    profile.disable()
    pstats.Stats(profile, stream=sys.stdout).sort_stats("cumulative").print_stats(110)


def _bare(ours: Any, directory: Path) -> Case:
    documents = directory / "documents.json"
    documents.write_text(json.dumps({"prompt": ours.test_client().get("/v1/prompts/prompt-1").json}))
    os.environ["BENCH_DOCUMENTS"] = str(documents)
    # it reads the environment
    from bench.bare import app as bare

    return Case(bare, itertools.repeat(Request("GET", "/select/prompt/prompt-1")))


def _get(path: str) -> Callable[..., Case]:
    def make(app: Any, bench: measures.Bench, _options: argparse.Namespace) -> Case:
        bench.cursor.execute("SELECT uuid, cycle_id FROM submissions WHERE cycle_id IS NOT NULL LIMIT 1000")
        rows = itertools.cycle(bench.cursor.fetchall())
        return Case(app, (Request("GET", path.format(uuid=uuid, cycle_id=id)) for uuid, id in rows))

    return make


def _submit_to_idle(app: Any, bench: measures.Bench, options: argparse.Namespace) -> Case:
    bodies = measures.prepare_submissions(bench, options.requests + 2 * WARM_UP, "idle")
    queue = redis.Redis.from_url(bench.settings.redis_url)

    def work() -> None:
        while job := queue.lpop("rq:queue:evaluations"):
            queue.delete(b"rq:job:" + job)

    return Case(app, (Request("POST", "/v1/submissions", body) for body in bodies), work)


def _submit_to_busy(app: Any, bench: measures.Bench, options: argparse.Namespace) -> Case:
    bodies = measures.prepare_submissions(bench, options.requests + 2 * WARM_UP, "busy")
    return Case(app, (Request("POST", "/v1/submissions", body) for body in bodies))


def _report(verified: bool) -> Callable[..., Case]:
    def make(app: Any, bench: measures.Bench, options: argparse.Namespace) -> Case:
        number = options.requests + 2 * WARM_UP
        first = options.rows + 1 + 10_000_000 * verified
        data.insert_submissions(bench.cursor, first, first + number - 1, _active(bench), pending=True)
        leased = data.lease_pending(bench.cursor)
        results = (data.make_result(id, token, video if verified else None) for id, token, video in leased)
        token = bench.environ["EVALUATOR_TOKEN"]
        return Case(
            app,
            (Request("POST", "/v1/evaluate/submit", json.dumps(each).encode(), token) for each in results),
        )

    return make


def _fetch(app: Any, bench: measures.Bench, options: argparse.Namespace) -> Case:
    first = options.rows * 2 + 1_000_000
    with data.bulk(bench.cursor):
        data.insert_submissions(
            bench.cursor, first, first + options.pending - 1, _active(bench), pending=True
        )
    token = bench.environ["EVALUATOR_TOKEN"]
    return Case(app, itertools.repeat(Request("POST", "/v1/evaluate/fetch", b'{"limit": 5}', token)))


def _active(bench: measures.Bench) -> int:
    bench.cursor.execute("SELECT id FROM cycles WHERE status = 'ACTIVE'")
    return bench.cursor.fetchone()[0]


CASES: dict[str, Callable[[Any, measures.Bench, argparse.Namespace], Case]] = {
    "GET /health": _get("/health"),
    "GET /v1/submissions/{uuid}": _get("/v1/submissions/{uuid}"),
    "GET /v1/prompts/{id}": _get("/v1/prompts/prompt-1"),
    "GET /v1/prompts": _get("/v1/prompts"),
    "GET /v1/cycles/status": _get("/v1/cycles/status"),
    "GET /v1/scores/{cycle_id}": _get("/v1/scores/{cycle_id}"),
    "GET /v1/weights/latest": _get("/v1/weights/latest"),
    "POST /v1/submissions, workers wait for it": _submit_to_idle,
    "POST /v1/submissions, workers are busy": _submit_to_busy,
    "POST /v1/evaluate/submit, four scores": _report(verified=False),
    "POST /v1/evaluate/submit, with a fingerprint": _report(verified=True),
    "POST /v1/evaluate/fetch": _fetch,
}


if __name__ == "__main__":
    # prometheus_client looks for the directory once, when it is first imported
    with tempfile.TemporaryDirectory() as metrics:
        os.environ["PROMETHEUS_MULTIPROC_DIR"] = metrics
        main()
