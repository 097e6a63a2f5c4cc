"""The web process as the internet meets it: gunicorn on a socket."""

import json
import socket
import subprocess
import sys
from contextlib import ExitStack
from urllib.parse import urlsplit

import pytest
import requests

from tests.api.conftest import ADMIN_TOKEN, PRODUCTION, bearer, running
from tests.processes import environment

MIB = 1024 * 1024


def exchange(url, sent, then=()):
    """Send raw bytes and return all that the server answers."""
    parts = urlsplit(url)
    with socket.create_connection((parts.hostname, parts.port), timeout=20) as connection:
        connection.sendall(sent)
        for more in then:
            try:
                connection.sendall(more)
            except OSError:
                break
        answer = b""
        while chunk := connection.recv(65536):
            answer += chunk
    return answer


def problem_of(answer):
    head, _, body = answer.partition(b"\r\n\r\n")
    assert b"content-type: application/problem+json" in head.lower()
    problem = json.loads(body)
    assert problem["status"] == int(head.split()[1])
    assert f"X-Request-ID: {problem['request_id']}" in head.decode()
    assert problem["detail"].endswith(".")
    return problem


@pytest.fixture(scope="module")
def logs(tmp_path_factory):
    return tmp_path_factory.mktemp("web")


@pytest.fixture(scope="module")
def url(settings, logs):
    with running(settings, logs) as address:
        yield address


def test_a_body_over_one_mib_is_refused_before_it_is_read(url):
    head = (
        b"POST /v1/submissions HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n"
        b"Content-Type: application/json\r\nContent-Length: %d\r\n\r\n" % (300 * MIB)
    )
    assert problem_of(exchange(url, head))["status"] == 413


def chunk(content):
    return b"%x\r\n%s\r\n" % (len(content), content)


CHUNKED = (
    b"POST /v1/admin/prompts HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n"
    b"Content-Type: application/json\r\nTransfer-Encoding: chunked\r\n\r\n"
)


def test_a_chunked_body_is_counted_and_refused_over_one_mib(url):
    answer = exchange(url, CHUNKED, [chunk(b"[" * 65536)] * 20)
    assert problem_of(answer)["status"] == 413


def test_a_chunked_body_within_the_limit_is_read(database, url):
    body = json.dumps({"id": "chunked", "category": "household", "task": "wash", "scenario": "Wash a plate"})
    half = len(body) // 2
    answer = exchange(url, CHUNKED, [chunk(body[:half].encode()), chunk(body[half:].encode()), chunk(b"")])
    assert answer.startswith(b"HTTP/1.1 201")


@pytest.mark.parametrize(
    "sent",
    [
        b"hello\r\n\r\n",
        b"GET / HTTP/9.9\r\n\r\n",
        b"GET /health HTTP/1.1\r\nHost: localhost\r\nbad header\r\n\r\n",
        b"GET /" + b"a" * 10_000 + b" HTTP/1.1\r\n\r\n",
        b"GET /health HTTP/1.1\r\n" + b"A: b\r\n" * 200 + b"\r\n",
        b"POST /v1/submissions HTTP/1.1\r\nContent-Length: -1\r\n\r\n",
        b"POST /v1/submissions HTTP/1.1\r\nContent-Length: 5\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n",
        CHUNKED + b"zz\r\n",
    ],
)
def test_what_is_not_http_gets_a_problem_document_too(url, sent):
    assert 400 <= problem_of(exchange(url, sent))["status"] < 600
    assert requests.get(f"{url}/health", timeout=10).ok


# left alone, gunicorn gives each silent connection a thread for 5 s, and each that stops halfway for ever
@pytest.mark.parametrize(
    ("sent", "count"), [(b"", 24), (b"GET /health HTTP/1.1\r\nHost: loc", 2)], ids=["silent", "halfway"]
)
def test_clients_that_dawdle_do_not_keep_others_out(settings, logs, sent, count):
    with running(settings, logs, web_workers=1, web_threads=2) as url, ExitStack() as dawdlers:
        parts = urlsplit(url)
        for _ in range(count):
            connection = dawdlers.enter_context(socket.create_connection((parts.hostname, parts.port)))
            connection.sendall(sent)
        assert requests.get(f"{url}/health", timeout=40).ok


def test_the_answer_tells_no_version_and_forbids_sniffing(url):
    answer = requests.get(f"{url}/nowhere", timeout=10)
    assert answer.headers.get("Server", "") in {"", "gunicorn"}
    assert answer.headers["X-Content-Type-Options"] == "nosniff"
    assert answer.headers["Content-Type"] == "application/problem+json"


def test_the_request_id_is_in_the_answer_and_in_the_log(url, logs):
    answer = requests.get(f"{url}/nowhere", headers={"X-Request-ID": "look-for-me-1"}, timeout=10)
    assert answer.headers["X-Request-ID"] == answer.json()["request_id"] == "look-for-me-1"
    lines = [line for log in logs.glob("web-*.log") for line in log.read_text().splitlines()]
    assert any("look-for-me-1" in line and "/nowhere" in line for line in lines)


def test_the_line_of_a_422_in_the_log_names_the_fields(url, logs):
    headers = {"X-Request-ID": "look-for-me-2"}
    body = {"id": "p", "category": "household", "task": "", "scenario": 7}
    answer = requests.post(f"{url}/v1/admin/prompts", json=body, headers=headers, timeout=10)
    assert answer.status_code == 422
    lines = [line for log in logs.glob("web-*.log") for line in log.read_text().splitlines()]
    (ours,) = [json.loads(line) for line in lines if "look-for-me-2" in line]
    assert (ours["status"], sorted(ours["fields"])) == (422, ["scenario", "task"])


@pytest.mark.parametrize("size", [1_100_000, 5_000_000])
def test_a_common_client_reads_the_413_of_a_large_body(url, size):
    answer = requests.post(f"{url}/v1/submissions", data=b"x" * size, timeout=30)
    assert answer.status_code == 413


def refuses_to_start(*command, environ, tmp_path):
    done = subprocess.run(
        [sys.executable, "-m", *command],
        env=environ,
        cwd=tmp_path,
        capture_output=True,
        text=True,
        timeout=60,
    )
    assert done.returncode != 0
    assert "Traceback" not in done.stdout + done.stderr
    return done.stdout + done.stderr


@pytest.mark.parametrize("command", [["cli", "api", "--host"], ["gunicorn", "wsgi:app", "--bind"]])
def test_development_refuses_to_bind_to_other_than_loopback(settings, tmp_path, command):
    if command[0] == "gunicorn":
        command = [*command[:1], "--config", f"{sys.path[0]}/gunicorn.conf.py", *command[1:]]
    said = refuses_to_start(*command, "0.0.0.0", environ=environment(settings), tmp_path=tmp_path)
    assert "loopback" in said


@pytest.mark.parametrize("missing", ["admin_token", "evaluator_token"])
def test_production_does_not_start_without_both_tokens(settings, tmp_path, missing):
    environ = environment(settings, **PRODUCTION | {missing: ()})
    assert missing.upper() in refuses_to_start("cli", "api", environ=environ, tmp_path=tmp_path)


def test_production_answers_only_with_the_token(serve):
    url = serve(**PRODUCTION)
    prompt = {"id": "p-1", "category": "household", "task": "wash", "scenario": "Wash a plate"}
    assert requests.post(f"{url}/v1/admin/prompts", json=prompt, timeout=10).status_code == 401
    answer = requests.post(f"{url}/v1/admin/prompts", json=prompt, headers=bearer(ADMIN_TOKEN), timeout=10)
    assert answer.status_code == 201
