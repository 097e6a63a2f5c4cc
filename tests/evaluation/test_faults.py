"""No fault of ours becomes a rejection or a score: an evaluation ends right, or in TransientError."""

import contextlib
import dataclasses
import functools
import hashlib
import os
import resource
import signal
import socket
import struct
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from app.assessment import pipeline
from app.assessment.model import LeaseLost
from app.errors import TransientError
from tests.evaluation.conftest import children, make_claim
from tests.odd_videos import KINDS

# of each file once: before a test breaks the tools
claim_on = functools.cache(make_claim)


class Store:
    """An HTTP server that serves one file, after the mishaps in `script`: one for each request."""

    def __init__(self):
        self.body = b""
        self.script = []
        self.requests = 0
        store = self

        class Handler(BaseHTTPRequestHandler):
            def do_GET(self):
                store.requests += 1
                mishap = store.script.pop(0) if store.script else "none"
                getattr(self, "_" + mishap)()

            def _answer(self, status, body, length=None, **headers):
                self.send_response(status)
                for name, value in headers.items():
                    self.send_header(name.replace("_", "-"), value)
                self.send_header("Content-Length", str(len(body) if length is None else length))
                self.end_headers()
                self.wfile.write(body)

            def _none(self):
                self._answer(200, store.body)

            def _busy(self):
                self._answer(429, b"", Retry_After="0")

            def _broken(self):
                self._answer(500, b"<Error/>", Retry_After="0")

            def _away(self):
                self._answer(503, b"", Retry_After="0")

            def _forbidden(self):
                self._answer(403, b"<Error><Code>AccessDenied</Code></Error>")

            def _no_bucket(self):
                self._answer(404, b"<Error><Code>NoSuchBucket</Code></Error>")

            def _no_key(self):
                self._answer(404, b"<Error><Code>NoSuchKey</Code></Error>")

            def _moved(self):
                self._answer(307, b"", Location="http://127.0.0.1:1/")

            def _short(self):
                self._answer(200, store.body[:1000], length=len(store.body))

            def _reset(self):
                self._answer(200, store.body[:1000], length=len(store.body))
                self.connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
                self.connection.close()

            def _other_bytes(self):
                self._answer(200, os.urandom(2000))

            def log_message(self, *arguments):
                pass

        self._server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        threading.Thread(target=self._server.serve_forever, daemon=True).start()
        self.url = f"http://127.0.0.1:{self._server.server_port}/video"

    def close(self):
        self._server.shutdown()
        self._server.server_close()


PASSING = ["busy", "broken", "away", "short", "reset", "no_key", "other_bytes"]
MISHAPS = [*PASSING, "forbidden", "no_bucket", "moved"]


@pytest.fixture(scope="module")
def store():
    store = Store()
    yield store
    store.close()


@pytest.fixture
def evaluate(store, judge, workdir):
    """Evaluates a file after the mishaps of `script`; returns status ("ours": TransientError) and reason."""

    def evaluate(path, script=(), judge=judge, check_lease=lambda: None, **changes):
        store.body = path.read_bytes()
        store.script = list(script)
        claim = dataclasses.replace(claim_on(path), **changes)
        try:
            outcome = pipeline.evaluate(claim, lambda: store.url, judge, workdir, check_lease, paint=None)
        except TransientError as fault:
            return "ours", str(fault)
        return "REJECTED" if outcome.rejection_reason else "SCORED", outcome.rejection_reason

    return evaluate


@pytest.fixture(scope="module")
def good(videos):
    return videos.make("bunny", seconds=3, size="320x240")


@pytest.fixture(scope="module")
def torn(videos):
    return KINDS["MP4 torn, index at the front"].make(videos)


# said twice, that there is no such object is believed
@given(
    st.lists(st.sampled_from(MISHAPS), min_size=1, max_size=4).filter(
        lambda script: script.count("no_key") < 2
    )
)
@settings(
    max_examples=12,
    suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow],
)
def test_no_mishap_of_storage_costs_the_miner_anything(evaluate, good, torn, mishaps):
    for path, due in ((good, "SCORED"), (torn, "REJECTED")):
        status, reason = evaluate(path, mishaps)
        assert status in {due, "ours"}, reason
        if status == "REJECTED":
            assert "Only " in reason


def test_single_mishaps_that_may_pass_do_pass(evaluate, good):
    for mishap in PASSING:
        assert evaluate(good, [mishap]) == ("SCORED", None)


def test_storage_out_of_reach_is_ours(good, judge, workdir):
    with pytest.raises(TransientError) as caught:
        pipeline.evaluate(make_claim(good), lambda: "http://127.0.0.1:1/video", judge, workdir, lambda: None)
    assert caught.value.dependency == "storage"


def test_a_file_that_is_gone_is_the_miners_fault_only_when_it_stays_away(evaluate, good):
    gone = ["no_key"] * 10
    for attempt in (1, 2):
        assert evaluate(good, gone, attempt=attempt) == ("ours", "Storage does not find the video.")
    status, reason = evaluate(good, gone, attempt=3)
    assert (status, "no file under its video_key" in reason) == ("REJECTED", True)


def test_an_object_that_keeps_changing_stops_no_others_evaluation(store, good, judge, workdir):
    store.body, store.script = b"", ["other_bytes", "other_bytes"]
    with pytest.raises(TransientError, match="other bytes each time") as caught:
        pipeline.evaluate(make_claim(good), lambda: store.url, judge, workdir, lambda: None)
    assert caught.value.dependency is None


def test_other_bytes_than_submitted_are_the_miners_fault(evaluate, good):
    status, reason = evaluate(good, video_hash="0" * 64)
    assert status == "REJECTED"
    assert hashlib.sha256(good.read_bytes()).hexdigest() in reason


def test_a_file_far_too_large_is_read_no_further(evaluate, good, judge):
    status, reason = evaluate(good, requirements={"max_file_size_mb": 0.01})
    assert (status, "larger than 0.02 MB" in reason) == ("REJECTED", True)
    assert not judge.questions


def test_a_file_a_little_too_large_only_loses_points(evaluate, good):
    limit = good.stat().st_size / 1e6 * 0.9
    assert evaluate(good, requirements={"max_file_size_mb": limit}) == ("SCORED", None)


def test_the_judges_fault_is_ours(evaluate, good):
    class AbsentJudge:
        def assess(self, question):
            raise TransientError("The judge does not answer.", dependency="vlm")

    assert evaluate(good, judge=AbsentJudge()) == ("ours", "The judge does not answer.")


def test_a_lost_lease_stops_at_once(evaluate, good, judge):
    def check_lease():
        raise LeaseLost

    with pytest.raises(LeaseLost):
        evaluate(good, check_lease=check_lease)
    assert not judge.questions


@pytest.mark.parametrize("name", ["ffmpeg", "ffprobe"])
@pytest.mark.parametrize(
    "script",
    [
        "exit 1",
        "exit 127",
        "echo '[fatal] No space left on device' >&2; exit 1",
        "echo '[error] Invalid data found when processing input' >&2; exit 1",
        "kill -SEGV $$",
        "kill -KILL $$",
        "kill -TERM $$",
    ],
)
def test_a_broken_tool_is_ours(name, script, broken_tool, evaluate, good, torn):
    claim_on(good), claim_on(torn)
    broken_tool(name, script)
    assert evaluate(good)[0] == "ours"
    status, reason = evaluate(torn)
    # what ffprobe alone shows to be torn is not ffmpeg's business
    assert status == "ours" or (name == "ffmpeg" and "Only " in reason)


def test_a_tool_killed_in_the_middle_is_ours(evaluate, videos):
    # more pictures than wait for us between two looks at the lease
    long = videos.make("bikes", seconds=10, size="320x240")
    servers = children()
    killed = []

    def kill():
        for pid in children() - servers:
            os.kill(pid, signal.SIGKILL)
            killed.append(pid)

    status, reason = evaluate(long, check_lease=kill)
    assert killed
    assert (status, "killed by signal 9" in reason) == ("ours", True)


def test_a_copy_that_changes_under_our_hands_is_ours(evaluate, good, workdir):
    def spoil():
        for copy in workdir.glob("*/video"):
            if copy.stat().st_size == good.stat().st_size:
                with copy.open("r+b") as file:
                    file.truncate(1000)

    status, reason = evaluate(good, check_lease=spoil)
    assert (status, "changed while" in reason) == ("ours", True)


def test_a_copy_that_vanishes_is_ours(evaluate, good, workdir):
    def remove():
        for copy in workdir.glob("*/video"):
            if copy.stat().st_size == good.stat().st_size:
                copy.unlink()

    assert evaluate(good, check_lease=remove)[0] == "ours"


@contextlib.contextmanager
def largest_file(size):
    """Lets this process write files of at most `size` bytes, as a full disk would."""
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (size, hard))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))


def test_a_full_disk_is_ours(evaluate, good):
    with largest_file(10_000):
        status, reason = evaluate(good)
    assert (status, "could not be written" in reason) == ("ours", True)


def test_no_directory_to_work_in_is_ours(store, good, judge, tmp_path):
    with pytest.raises(TransientError):
        pipeline.evaluate(make_claim(good), lambda: store.url, judge, tmp_path / "missing", lambda: None)


def test_a_painter_that_fails_is_ours_and_the_judge_sees_nothing(store, good, judge, workdir):
    def fail(stills):
        raise TransientError("The painter of writing failed.")

    store.body, store.script = good.read_bytes(), []
    with pytest.raises(TransientError, match="painter"):
        pipeline.evaluate(make_claim(good), lambda: store.url, judge, workdir, lambda: None, paint=fail)
    assert not judge.questions
