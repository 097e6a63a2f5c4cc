"""The remote evaluator against a backend that refuses or does not understand."""

import dataclasses
import json
import threading
import time
from collections import defaultdict
from datetime import UTC, datetime, timedelta
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import pytest
import structlog

from app.assessment import pipeline
from app.assessment.wire import read_claim
from app.clients.backend import Backend
from app.evaluation.models import SubmitIn, show_claim
from app.evaluator.runner import EvaluatorRunner
from app.video.painting import Painted
from tests.evaluation.conftest import FixedJudge, make_claim
from tests.processes import eventually


class ScriptedBackend:
    """Hands out `rows` one by one, serves `video`, and answers a submit with `submit_status`."""

    def __init__(self, video):
        self.rows = []
        self.submit_status = 200
        self.fetched_answer = None
        self.received = defaultdict(list)
        backend = self

        class Handler(BaseHTTPRequestHandler):
            def do_GET(self):
                self.answer(200, video.read_bytes())

            def do_POST(self):
                body = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
                what = self.path.rsplit("/", 1)[1].replace("-", "_")
                backend.received[what].append(body)
                status, answer = getattr(backend, what)(body)
                self.answer(status, json.dumps(answer).encode())

            def answer(self, status, content):
                self.send_response(status)
                self.send_header("Content-Length", str(len(content)))
                self.end_headers()
                self.wfile.write(content)

            def log_message(self, *args):
                pass

        self.server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.url = f"http://127.0.0.1:{self.server.server_port}"

    def fetch(self, body):
        if self.fetched_answer is not None:
            return 200, self.fetched_answer
        given, self.rows = self.rows[: body["limit"]], self.rows[body["limit"] :]
        return 200, {"submissions": given}

    def precheck(self, body):
        return 200, {"rejection_reason": None}

    def submit(self, body):
        return self.submit_status, {"detail": "Correct the field x.", "final_score": 0.5}

    def release(self, body):
        return 200, {}

    def row(self, claim, **changes):
        changes = {"lease_expires_at": (datetime.now(UTC) + timedelta(minutes=5)).isoformat()} | changes
        shown = show_claim(claim, f"{self.url}/video").model_dump(mode="json")
        return shown | {"claim_token": str(claim.claim_token)} | changes


@pytest.fixture
def backend(videos):
    backend = ScriptedBackend(videos.make(seconds=2))
    thread = threading.Thread(target=backend.server.serve_forever, kwargs={"poll_interval": 0.02})
    thread.start()
    yield backend
    backend.server.shutdown()
    thread.join()
    backend.server.server_close()


@pytest.fixture
def claim(videos):
    return make_claim(videos.make(seconds=2))


@pytest.fixture
def run(backend):
    """Runs an evaluator with a judge until `done()` is true; returns what it logged."""

    def run(judge, done, batch_size=1, processors=1, paint=None):
        runner = EvaluatorRunner(
            Backend(backend.url, "t" * 32), lambda claim: judge, paint, batch_size, processors
        )
        with structlog.testing.capture_logs() as logged:
            thread = threading.Thread(target=runner.run, args=(0.05,))
            thread.start()
            try:
                eventually(lambda: done(logged) or not thread.is_alive(), 60)
                assert thread.is_alive()
            finally:
                runner.stop()
                thread.join()
        return logged

    return run


def events(logged):
    return [line["event"] for line in logged]


@pytest.mark.parametrize("status", [400, 404, 413, 422])
def test_a_refused_result_is_not_paid_for_again(backend, claim, run, status):
    backend.submit_status = status
    backend.rows = [backend.row(claim), backend.row(claim)]
    judge = FixedJudge()
    logged = run(judge, lambda logged: "submission_skipped" in events(logged))
    assert len(judge.questions) == 1
    # a backend of before has no room for features: it gets the result once more, without them
    first, *again = backend.received["submit"]
    assert len(again) == (status == 422)
    assert first["metadata"]["kibotos"]["features"]
    assert not any("features" in body["metadata"]["kibotos"] for body in again)
    # another may do better, and the video is not to blame
    released = backend.received["release"]
    assert len(released) == 2 and "refused" in released[0]["reason"]
    assert not any(body["suspect_video"] for body in released)
    (refused,) = [line for line in logged if line["event"] == "result_refused"]
    assert refused["reason"] == "Correct the field x."


def test_a_backend_of_before_tells_no_seed_and_the_token_takes_its_place(backend, claim):
    row = backend.row(claim)
    assert read_claim(row)[0] == dataclasses.replace(
        claim, lease_expires_at=read_claim(row)[0].lease_expires_at
    )
    del row["frame_seed"]
    assert read_claim(row)[0].frame_seed == claim.claim_token


def test_a_row_of_an_unknown_category_is_released_and_the_next_is_evaluated(backend, claim, run):
    backend.rows = [backend.row(claim, category="gardening"), backend.row(claim)]
    run(FixedJudge(), lambda logged: backend.received["submit"])
    (released,) = backend.received["release"]
    assert (released["submission_id"], released["claim_token"]) == (claim.id, str(claim.claim_token))
    assert "does not understand category" in released["reason"]


def test_a_row_that_is_none_does_not_end_it(backend, claim, run):
    backend.rows = [{"id": "one"}, {}, backend.row(claim)]
    logged = run(FixedJudge(), lambda logged: backend.received["submit"])
    assert events(logged).count("row_not_understood") == 2
    assert backend.received["release"] == []


@pytest.mark.parametrize("answer", [[], {"submissions": "none"}, {"submissions": [5]}, "x"])
def test_an_answer_of_something_else_does_not_end_it(backend, run, answer):
    backend.fetched_answer = answer
    logged = run(FixedJudge(), lambda logged: len(backend.received["fetch"]) > 2)
    assert "fetch_failed" in events(logged)


@pytest.mark.parametrize(
    "text",
    ["word " * 14_000, "\U0001f600" * 70_000, "\0" * 50 + "\ud800x", '"' * 70_000],
    ids=["long", "wide", "not storable", "escaped"],
)
def test_whatever_the_judge_says_can_be_reported(backend, claim, run, text):
    judge = FixedJudge(reasoning=text, raw=(text, text, text), model=text[:300], prompt_version=text)
    backend.rows = [backend.row(claim)]
    run(judge, lambda logged: backend.received["submit"])
    (body,) = backend.received["submit"]
    result = SubmitIn.model_validate(body)
    findings = result.metadata["kibotos"]
    assert len(findings["fingerprint"]) > 100
    assert findings["report"]["judge"]["action_match"] == 0.9


def test_while_one_video_is_judged_the_next_is_decoded(backend, claim, run):
    backend.rows = [backend.row(dataclasses.replace(claim, id=id)) for id in (1, 2)]

    class WaitingJudge(FixedJudge):
        def assess(self, question):
            eventually(lambda: len(backend.received["precheck"]) == 2, 60)
            return super().assess(question)

    logged = run(WaitingJudge(), lambda logged: events(logged).count("result_reported") == 2, batch_size=2)
    assert backend.received["release"] == []
    # what a host looks at
    (told, _) = [line for line in logged if line["event"] == "result_reported"]
    assert {"download", "scan", "judge"} < told["stage_seconds"].keys()
    assert 0 < told["lease_seconds_left"] <= 300


def test_no_more_is_claimed_than_can_be_worked_on_soon(backend, claim, run):
    """With one processor two may be before the judge: the one that is worked on, and the next."""
    rows = [backend.row(dataclasses.replace(claim, id=id)) for id in range(4)]
    painted, at_once, ahead = [], [], []
    busy = threading.Lock()

    def paint(frames):
        at_once.append(busy.acquire(blocking=False))
        # longer than another would need to come here
        time.sleep(0.2)
        painted.append(frames)
        busy.release()
        return [Painted(frame, 0.0) for frame in frames]

    def fetch(body):
        given = [rows.pop(0) for _ in range(min(body["limit"], len(rows)))]
        ahead.append(4 - len(rows) - len(painted))
        return 200, {"submissions": given}

    class WaitingJudge(FixedJudge):
        def assess(self, question):
            eventually(lambda: len(painted) >= 3, 60)
            return super().assess(question)

    backend.fetch = fetch
    run(WaitingJudge(), lambda logged: len(backend.received["submit"]) == 4, batch_size=4, paint=paint)
    assert max(ahead) == 2
    assert all(at_once)


def test_a_processor_is_held_for_what_computes_and_not_while_others_are_waited_for(backend, claim, tmp_path):
    held, seen = threading.Lock(), {}

    def note(what, answer=None):
        seen[what] = held.locked()
        return answer

    class NotingJudge(FixedJudge):
        def assess(self, question):
            return note("judge", super().assess(question))

    evaluation = pipeline.look(
        claim,
        lambda: note("download", f"{backend.url}/video"),
        tmp_path,
        lambda: None,
        lambda frames, features: note("known"),
        lambda frames: note("paint", [Painted(frame, 0.0) for frame in frames]),
        held,
    )
    assert list(tmp_path.iterdir()) == []
    evaluation.judged(NotingJudge())
    assert seen == {"download": False, "known": False, "paint": True, "judge": False}
