import json
import time

import pytest

from app.assessment.model import LeaseLost
from app.clients.backend import Backend, Refused
from app.clients.retry import RetryableError, retry_after, retrying
from app.clients.upload import put
from app.errors import TransientError, Unavailable
from app.video.download import download


def with_status(status, body=b"", *headers):
    lines = [b"HTTP/1.1 %d Status" % status, b"Content-Length: %d" % len(body), *headers]
    return b"\r\n".join([*lines, b"", body])


def never():
    """A check that no wait may come to."""
    pytest.fail("It waits.")


class Failing:
    """Fails with `error`, again and again."""

    def __init__(self, error):
        self.error = error
        self.calls = 0

    def __call__(self):
        self.calls += 1
        raise self.error


@pytest.mark.parametrize("asked", [60.1, 7200, 86_400])
def test_a_wait_beyond_the_patience_is_not_begun(asked):
    failing = Failing(RetryableError("busy", retry_after=asked))
    with pytest.raises(RetryableError) as raised:
        retrying(5, patience_seconds=60, check=never)(failing)
    assert (failing.calls, raised.value.retry_after) == (1, asked)


def test_a_wait_within_the_patience_is_made():
    failing = Failing(RetryableError("busy", retry_after=0.01))
    with pytest.raises(RetryableError):
        retrying(3, patience_seconds=60)(failing)
    assert failing.calls == 3


def test_a_lost_lease_ends_a_wait():
    checks = []

    def check():
        checks.append(time.monotonic())
        if len(checks) == 2:
            raise LeaseLost("It ended.")

    failing = Failing(RetryableError("busy", retry_after=500))
    with pytest.raises(LeaseLost):
        retrying(5, patience_seconds=1000, check=check)(failing)
    assert failing.calls == 1


@pytest.mark.parametrize(
    ("header", "seconds"),
    [
        (None, None),
        ("", None),
        ("5", 5),
        ("0", 0),
        ("-1", None),
        ("nan", None),
        ("inf", None),
        ("99999999", 86_400),
        ("Wed, 21 Oct 2099 07:28:00 GMT", 86_400),
        ("Wed, 21 Oct 2099 07:28:00 -0000", 86_400),
        ("Wed, 21 Oct 2015 07:28:00 GMT", None),
        ("Wed, 21 Oct 99999 07:28:00 GMT", None),
        ("soon", None),
    ],
)
def test_retry_after(header, seconds):
    assert retry_after(header) == seconds


def test_a_store_that_asks_for_hours_holds_no_worker(server, tmp_path):
    server.answer(with_status(503, b"", b"Retry-After: 7200"))
    with pytest.raises(TransientError, match="503") as raised:
        download(server.url, tmp_path / "video", 1000, never)
    assert raised.value.retry_after == 7200
    assert len(server.requests) == 1


def test_a_download_is_not_redirected(server, tmp_path):
    server.answer(with_status(307, b"", b"Location: https://eu.example/secret"))
    with pytest.raises(TransientError, match=r"status 307, to https://eu\.example\."):
        download(server.url, tmp_path / "video", 1000, lambda: None)


def test_a_lost_lease_ends_a_download_that_drips(server, tmp_path):
    def drip():
        yield b"HTTP/1.1 200 OK\r\nContent-Length: 1000000\r\n\r\n"
        while True:
            yield b"x"
            yield 0.02

    server.answers.append(drip())
    received = []

    def check():
        received.append(1)
        if len(received) > 3:
            raise LeaseLost("It ended.")

    with pytest.raises(LeaseLost):
        download(server.url, tmp_path / "video", 10**6, check)


@pytest.mark.parametrize(
    ("status", "headers", "said"),
    [
        (301, [b"Location: https://a.b.eu-west-1.amazonaws.com/k?X-Amz-Signature=secret"], "eu-west-1"),
        (307, [b"Location: https://a.b.eu-west-1.amazonaws.com/k?X-Amz-Signature=secret"], "nothing"),
        (304, [], "status 304"),
        (403, [], "status 403: <Code>No</Code>"),
        (499, [], "status 499"),
    ],
)
def test_only_2xx_is_an_upload(server, tmp_path, status, headers, said):
    path = tmp_path / "video.mp4"
    path.write_bytes(b"video")
    server.answer(with_status(status, b"" if status == 304 else b"<Code>No</Code>", *headers))
    with pytest.raises(Refused, match=said) as raised:
        put(server.url, {}, path, lambda sent: None)
    assert "secret" not in str(raised.value)


@pytest.mark.parametrize("status", [200, 201, 204])
def test_2xx_is_an_upload(server, tmp_path, status):
    path = tmp_path / "video.mp4"
    path.write_bytes(b"video")
    server.answer(with_status(status))
    put(server.url, {}, path, lambda sent: None)


@pytest.mark.parametrize(
    ("answer", "error", "said"),
    [
        (with_status(200, b"<html>"), Unavailable, "does not answer with JSON"),
        (with_status(200, b"[" * 100_000), Unavailable, "does not answer with JSON"),
        (with_status(302, b"", b"Location: https://other.example/login"), Refused, "https://other.example"),
        (with_status(404, b'{"detail": "Not here."}'), Refused, "Not here."),
        (with_status(404, b"[]"), Refused, "Status"),
        (with_status(429, b"{}", b"Retry-After: 3600"), Unavailable, "429"),
        (with_status(200, b"x" * 40_000_000), Unavailable, "larger than"),
    ],
)
def test_what_the_backend_may_answer(server, answer, error, said):
    server.answer(answer)
    with pytest.raises(error, match=said) as raised:
        Backend(server.url).post("/v1/x", {}, once=True)
    if b"3600" in answer:
        assert raised.value.retry_after == 3600


def test_a_refusal_speaks_of_commands(server):
    problem = {
        "detail": "Correct the field prompt_id: there is no such prompt; GET /v1/prompts lists them.",
        "errors": [
            {"field": "video_key", "message": "use the video_key that you got from POST /v1/upload/presign."}
        ],
    }
    server.answer(with_status(422, json.dumps(problem).encode()))
    with pytest.raises(Refused) as raised:
        Backend(server.url).post("/v1/submissions", {})
    assert "`kibotos miner prompts` lists them." in raised.value.detail
    assert "that you got from `kibotos miner upload`." in raised.value.detail


@pytest.mark.parametrize("date", [b"", b"Date: nonsense", b"Date: Wed, 21 Oct 2099 07:28:00 -0000"])
def test_an_odd_date_does_no_harm(server, date):
    server.answer(with_status(200, json.dumps({}).encode(), *([date] if date else [])))
    assert Backend(server.url).get("/v1/x") == {}
