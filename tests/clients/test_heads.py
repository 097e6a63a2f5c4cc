"""HEAD over kept connections, against servers that answer well and badly."""

import dataclasses
import socket
import threading
import time
import uuid
from contextlib import contextmanager
from urllib.parse import urlsplit

import pytest

from app.clients.heads import BadAnswer, Heads
from app.clients.storage import Storage, StoredObject
from app.errors import Unavailable
from tests.tls import self_sign, tls_proxy

GOOD = b"HTTP/1.1 200 OK\r\nContent-Length: 5\r\nContent-Type: video/mp4\r\n\r\n"


@contextmanager
def server(*connections):
    """Answers each request of the n-th connection with the next of its answers, then closes that connection.

    Gives its URL. No answer is sent for None: the connection stays open.
    """
    with socket.create_server(("127.0.0.1", 0)) as listener:

        def serve():
            held = []
            for answers in connections:
                connection, _ = listener.accept()
                held.append(connection)
                for answer in answers:
                    request = b""
                    while not request.endswith(b"\r\n\r\n"):
                        if not (more := connection.recv(65536)):
                            break
                        request += more
                    if answer is None:
                        break
                    connection.sendall(answer)
                else:
                    connection.close()

        thread = threading.Thread(target=serve, daemon=True)
        thread.start()
        yield f"http://127.0.0.1:{listener.getsockname()[1]}"


def heads(url, cafile="", read_seconds=5.0):
    return Heads(url, cafile, 2, read_seconds)


def test_a_connection_is_used_again_and_replaced_when_the_store_has_closed_it():
    with server([GOOD, GOOD], [GOOD]) as url:
        client = heads(url)
        for _ in range(3):
            status, headers = client.ask("/key", {"host": "x"})
            assert (status, headers["content-length"], headers["content-type"]) == (200, "5", "video/mp4")


@pytest.mark.parametrize(
    "answer",
    [
        b"HTTP/1.1 403 Forbidden\r\nConnection: close\r\n\r\n",
        b"HTTP/1.1 403 Forbidden\r\nContent-Length: 4\r\n\r\nbody",
        b"HTTP/1.1 103 Early Hints\r\nLink: </x>\r\n\r\n",
    ],
    ids=["closed", "with a body", "before the answer proper"],
)
def test_after_some_answers_the_connection_is_not_used_again(answer):
    with server([answer, None], [GOOD]) as url:
        client = heads(url, read_seconds=1)
        assert client.ask("/key", {})[0] == int(answer[9:12])
        assert client.ask("/key", {})[0] == 200


def test_what_comes_late_is_not_taken_for_the_next_answer():
    late = b"HTTP/1.1 200 OK\r\nContent-Length: 666\r\n\r\n"
    with socket.create_server(("127.0.0.1", 0)) as listener:
        client = heads(f"http://127.0.0.1:{listener.getsockname()[1]}")
        first, second = (threading.Thread(target=client.ask, args=("/key", {})) for _ in range(2))
        first.start()
        connection, _ = listener.accept()
        connection.recv(65536)
        connection.sendall(GOOD)
        first.join()
        connection.sendall(late)
        time.sleep(0.1)
        second.start()
        # it asks on another connection
        listener.settimeout(5)
        other, _ = listener.accept()
        other.sendall(GOOD)
        second.join()
        connection.close()
        other.close()


def test_a_connection_that_lay_for_long_is_not_used(monkeypatch):
    monkeypatch.setattr("app.clients.heads.KEPT_SECONDS", 0)
    with server([GOOD, None], [GOOD]) as url:
        client = heads(url, read_seconds=1)
        assert [client.ask("/key", {})[0] for _ in range(2)] == [200, 200]


@pytest.mark.parametrize(
    "answer", [b"", b"HTTP/1.1 200 OK\r\nContent-", b"SSH-2.0\r\n\r\n", b"HTTP/1.1 2x0 OK\r\n\r\n"]
)
def test_what_is_no_answer_is_told(answer):
    with server([answer]) as url, pytest.raises(BadAnswer):
        heads(url).ask("/key", {})


def test_headers_without_end_are_refused():
    with server([b"HTTP/1.1 200 OK\r\nX: " + b"x" * 70_000]) as url, pytest.raises(BadAnswer):
        heads(url).ask("/key", {})


def test_a_store_that_does_not_answer_is_not_asked_again():
    with server([GOOD, None]) as url:
        client = heads(url, read_seconds=0.3)
        client.ask("/key", {})
        began = time.monotonic()
        with pytest.raises(TimeoutError):
            client.ask("/key", {})
        assert time.monotonic() - began < 5


@pytest.fixture
def secured(settings, tmp_path):
    """The settings of the store behind TLS, and the certificate that it has."""
    context, certificate = self_sign(tmp_path)
    with tls_proxy(context, urlsplit(settings.s3_endpoint).port) as port:
        yield dataclasses.replace(settings, s3_endpoint=f"https://127.0.0.1:{port}"), certificate


def test_certificates_are_checked_as_boto3_does(settings, secured, monkeypatch):
    stored, certificate = secured
    key = f"uploads/{uuid.uuid4()}/video.mp4"
    Storage(settings).put(key, b"video", "video/mp4", "no-store")
    with pytest.raises(Unavailable):
        Storage(stored).head(key)
    monkeypatch.setenv("AWS_CA_BUNDLE", str(certificate))
    storage = Storage(stored)
    for _ in range(2):
        assert storage.head(key) == StoredObject(5, "video/mp4")
    monkeypatch.setenv("AWS_CA_BUNDLE", str(certificate) + "?")
    with pytest.raises(Unavailable):
        Storage(stored).head(key)


def test_a_proxy_is_gone_through(settings, monkeypatch):
    key = f"uploads/{uuid.uuid4()}/video.mp4"
    Storage(settings).put(key, b"video", "video/mp4", "no-store")
    elsewhere = dataclasses.replace(settings, s3_endpoint="http://storage.invalid:9000")
    with pytest.raises(Unavailable):
        Storage(elsewhere).head(key)
    # the store takes a proxy's request for one of its own
    monkeypatch.setenv("http_proxy", settings.s3_endpoint)
    assert Storage(elsewhere).head(key) == StoredObject(5, "video/mp4")
