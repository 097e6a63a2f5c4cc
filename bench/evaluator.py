"""How many videos an evaluator evaluates beside a judge of a given speed: python -m bench.evaluator --help

The judge and the backend are stand-ins in this process that speak the real ones' HTTP. The judge answers
`--at-once` requests at a time, each after `--latency` seconds. The evaluators are real processes. Bar: 0.8 of
what the judge alone could answer, where the processors are not the limit.

`--stages` evaluates in one thread instead, and tells what each stage takes.
"""

import argparse
import dataclasses
import json
import os
import resource
import signal
import subprocess
import sys
import tempfile
import threading
import time
import uuid
from collections import defaultdict
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta
from pathlib import Path
from statistics import median

from app.assessment import pipeline
from app.assessment.judge import Judge
from app.assessment.wire import show_outcome
from app.clients.backend import Backend
from app.clients.vlm import Vlm
from app.config import Settings
from app.local.chat import ChatServer
from app.local.judge import complete
from app.video import painting
from bench.server import TICKS_PER_SECOND
from bench.worker_memory import family, pss
from tests.evaluation.conftest import make_claim
from tests.evaluator.test_runner import ScriptedBackend
from tests.videos import Videos
from tests.vlm_server import GOOD

ROOT = Path(__file__).parent.parent
MODEL = "stub"
COMMAND = "import sys; from cli import kibotos; kibotos(sys.argv[1:])"


class StubJudge(ChatServer):
    """Answers `at_once` requests at a time, each after `latency` seconds; the others wait for their turn."""

    def __init__(self, latency, at_once):
        super().__init__(MODEL)
        self._latency = latency
        self._turns = threading.Semaphore(at_once)
        threading.Thread(target=self.serve_forever, daemon=True).start()

    def handle_error(self, request, client_address):
        """In the end the evaluators are killed, and wait for no answer."""

    def answer(self, request):
        with self._turns:
            time.sleep(self._latency)
        return json.dumps(complete(request.schema, GOOD))


class StubBackend(ScriptedBackend):
    """Has as many submissions of one film as anybody asks for. `on_result` is called at each result."""

    def __init__(self, film, on_result=lambda: None):
        super().__init__(film)
        self.claim = make_claim(film)
        self._on_result = on_result
        self._numbers = iter(range(1, 10**9))
        threading.Thread(target=self.server.serve_forever, daemon=True).start()

    def fetch(self, body):
        claims = [
            dataclasses.replace(self.claim, id=next(self._numbers), submission_uuid=uuid.uuid4())
            for _ in range(body["limit"])
        ]
        ends = (datetime.now(UTC) + timedelta(seconds=600)).isoformat()
        return 200, {"submissions": [self.row(claim, lease_expires_at=ends) for claim in claims]}

    def judge_calls(self, body):
        return 200, {"granted": True}

    def submit(self, body):
        self._on_result()
        return super().submit(body)


def cpu_seconds(process):
    """Return the processor time of a process, and of those that it started and that have ended."""
    fields = Path(f"/proc/{process}/stat").read_text().rpartition(")")[2].split()
    return sum(int(ticks) for ticks in fields[11:15]) / TICKS_PER_SECOND


@contextmanager
def evaluators(count, batch_size, backend, judge, paints, directory):
    """Run evaluators until the block ends; yields their process ids."""
    environ = {
        **os.environ,
        **{"APP_ENV": "development", "VLM_API_URL": judge.url, "VLM_MODEL": MODEL, "LOG_LEVEL": "WARNING"},
        **{"PAINT_WRITING": str(paints).lower(), "PYTHONPATH": str(ROOT)},
    }
    arguments = ["evaluator", "--api-url", backend.url, "--batch-size", str(batch_size)]
    running = [
        subprocess.Popen([sys.executable, "-c", COMMAND, *arguments], env=environ, cwd=directory)
        for _ in range(count)
    ]
    try:
        yield [each.pid for each in running]
    finally:
        # the second one ends it at once: what is under way is for nobody
        for number in (signal.SIGTERM, signal.SIGKILL):
            for each in running:
                each.send_signal(number)
            time.sleep(0.5)
        for each in running:
            each.wait()


def measure(options, batch_size, film, directory):
    """Evaluate `--videos` films, after as many as are under way at once, and print a row of a table."""
    under_way = options.evaluators * batch_size
    # when a result came, and the processor time until then
    results = []
    is_over = threading.Event()
    pids = []

    def note():
        results.append((time.monotonic(), sum(map(cpu_seconds, pids))))
        if len(results) > under_way + options.videos:
            is_over.set()

    backend, judge = StubBackend(film, note), StubJudge(options.latency, options.at_once)
    most = 0.0
    with evaluators(
        options.evaluators, batch_size, backend, judge, not options.no_painting, directory
    ) as started:
        pids += started
        while not is_over.wait(1):
            most = max(most, sum(pss(each)[1] for pid in pids for each in family(pid)))
    if backend.received["release"]:
        print(f"released: {backend.received['release'][0]['reason']}")
    (began, cpu_before), (ended, cpu_after) = results[under_way], results[under_way + options.videos]
    a_second = options.videos / (ended - began)
    alone = options.at_once / options.latency
    cpu = (cpu_after - cpu_before) / options.videos
    stages = defaultdict(list)
    for body in backend.received["submit"][under_way:]:
        for stage, seconds in body["metadata"]["kibotos"]["report"]["stage_seconds"].items():
            stages[stage].append(seconds)
    print(
        f"| {options.latency:g} s, {options.at_once} at once | {options.evaluators} x {batch_size} "
        f"| {a_second * 3600:.0f} | {a_second / alone:.2f} | {cpu:.2f} s | {3600 / cpu:.0f} | {most:.0f} MB |"
    )
    medians = ", ".join(f"{stage} {median(seconds):.2f}" for stage, seconds in stages.items())
    print(f"    median seconds on the wall: {medians}; load {os.getloadavg()[0]:.1f}", flush=True)


class Meter:
    """Adds up the seconds between the moments at which it is told what comes next."""

    def __init__(self):
        # on the wall, of the evaluator's own process, and of the programs that it starts
        self.spent = defaultdict(lambda: [0.0, 0.0, 0.0])
        self._now, self._since = None, self._clock()

    @staticmethod
    def _clock():
        children = resource.getrusage(resource.RUSAGE_CHILDREN)
        return time.monotonic(), time.thread_time(), children.ru_utime + children.ru_stime

    def begin(self, what):
        now = self._clock()
        for index in (0, 1, 2):
            self.spent[self._now][index] += now[index] - self._since[index]
        self._now, self._since = what, now


class Metered:
    """A processor that is always free, and tells a meter what it is used for."""

    def __init__(self, meter):
        self._meter = meter
        self._uses = iter(["probe, scan, hashes, stills", "paint"])

    def __enter__(self):
        self._meter.begin(next(self._uses))

    def __exit__(self, *_):
        self._meter.begin("rest")


def measure_stages(options, film, directory):
    """Evaluate `--videos` films one after the other and print what the stages take of each, on average."""
    backend, judge = StubBackend(film), StubJudge(options.latency, options.at_once)
    settings = Settings.from_environ({"VLM_API_URL": judge.url, "VLM_MODEL": MODEL})
    client, vlm, meter = Backend(backend.url, None), Vlm(settings), Meter()
    paint = None if options.no_painting else painting.paint
    for _ in range(options.videos):
        meter.begin("download and SHA-256")
        evaluation = pipeline.look(
            backend.claim,
            lambda: f"{backend.url}/video",
            directory,
            lambda: None,
            paint=paint,
            processor=Metered(meter),
        )
        meter.begin("judge")
        outcome = evaluation.judged(Judge(vlm, settings))
        meter.begin("submit")
        client.post("/v1/evaluate/submit", show_outcome(backend.claim, outcome))
        meter.begin("rest")
    assert outcome.rejection_reason is None, outcome.rejection_reason
    for what, spent in meter.spent.items():
        if what:
            print(f"| {what} | " + " | ".join(f"{each / options.videos:.2f} s" for each in spent) + " |")


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("--latency", type=float, default=2.0, help="seconds that the judge takes to answer")
    parser.add_argument("--at-once", type=int, default=1, help="requests that it answers at a time")
    parser.add_argument("--batch-size", type=int, nargs="+", default=[5])
    parser.add_argument("--evaluators", type=int, default=1)
    parser.add_argument("--videos", type=int, default=20)
    parser.add_argument("--film", default="bikes", help="footage, or the path of a film")
    parser.add_argument("--seconds", type=float, default=5.0, help="of film")
    parser.add_argument("--size", default="1280x720")
    parser.add_argument("--no-painting", action="store_true")
    parser.add_argument("--stages", action="store_true")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as name:
        directory = Path(name)
        source = Path(options.film) if "/" in options.film else options.film
        film = Videos(directory).make(source, seconds=options.seconds, size=options.size)
        print(
            f"a film of {options.seconds:g} s, {options.size}, {film.stat().st_size / 1e6:.1f} MB", flush=True
        )
        if options.stages:
            measure_stages(options, film, directory)
        else:
            for batch_size in options.batch_size:
                measure(options, batch_size, film, directory)


if __name__ == "__main__":
    main()
