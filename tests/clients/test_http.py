"""The one exchange that all clients make, against servers that mean no good."""

import gzip
import time
import tracemalloc
import zlib

import pytest

from app.clients.http import exchange, find_redirect, read_bounded, read_start
from app.clients.retry import RetryableError
from app.config import spare_loopback_the_proxy
from tests.clients.conftest import RawServer, drip

OK = b"HTTP/1.1 200 OK\r\n"
CHUNKED = OK + b"Transfer-Encoding: chunked\r\n\r\n"


def get(server, deadline, max_bytes=1000, **options):
    with exchange("GET", server.url, deadline, **options) as response:
        return response, read_bounded(response, max_bytes, deadline)


def with_body(body, *headers, length=None):
    lines = [b"HTTP/1.1 200 OK", b"Content-Length: %d" % (len(body) if length is None else length), *headers]
    return b"\r\n".join([*lines, b"", body])


@pytest.mark.parametrize(
    "answer",
    [
        with_body(b"hello"),
        CHUNKED + b"3\r\nhel\r\n2\r\nlo\r\n0\r\n\r\n",
        b"HTTP/1.0 200 OK\r\n\r\nhello",
        with_body(gzip.compress(b"hello", mtime=0), b"Content-Encoding: gzip"),
        with_body(zlib.compress(b"hello"), b"Content-Encoding: deflate"),
    ],
)
def test_a_body_comes_as_it_was_sent(server, deadline, answer):
    server.answer(answer)
    assert get(server, deadline, max_bytes=100)[1] == b"hello"
    assert "Accept-Encoding: identity" in server.requests[0]


@pytest.mark.parametrize(
    "endless",
    [
        lambda: drip(b"H"),
        lambda: drip(b"X-Header: 1\r\n", OK),
        lambda: drip(b"x", OK + b"X-Header: "),
        lambda: drip(b"x", OK + b"Content-Length: 100000000\r\n\r\n"),
        lambda: drip(b"x", b"HTTP/1.0 200 OK\r\n\r\n"),
        lambda: drip(b"1\r\nx\r\n", CHUNKED),
        lambda: drip(b"0", CHUNKED),
        lambda: drip(b"x", CHUNKED + b"1;"),
        lambda: drip(b"X-Trailer: 1\r\n", CHUNKED + b"1\r\nx\r\n0\r\n"),
        lambda: [10_000],
    ],
    ids=[
        "status",
        "headers",
        "header",
        "length",
        "no-length",
        "chunks",
        "size",
        "extension",
        "trailers",
        "silence",
    ],
)
def test_whatever_drips_ends_at_the_deadline(server, endless):
    server.answers.append(endless())
    began = time.monotonic()
    with pytest.raises(RetryableError):
        get(server, began + 0.5, max_bytes=10**6)
    # far less than the silence that is allowed between two bytes
    assert time.monotonic() - began < 15


def test_an_upload_that_is_not_taken_ends_at_the_deadline(server):
    server.answers.append(drip(b"", b""))
    began = time.monotonic()
    with pytest.raises(RetryableError), exchange("PUT", server.url, began + 0.5, data=bytes(50_000_000)):
        pass
    assert time.monotonic() - began < 15


@pytest.mark.parametrize("bound", [999, 1000, 1001])
def test_the_bound_is_exact(server, deadline, bound):
    server.answer(with_body(bytes(1000)))
    if bound < 1000:
        with pytest.raises(RetryableError, match="larger than 999 bytes"):
            get(server, deadline, bound)
    else:
        assert len(get(server, deadline, bound)[1]) == 1000


def test_a_bomb_unpacks_to_its_bound_and_no_further(server, deadline):
    bomb = gzip.compress(bytes(200_000_000), mtime=0)
    server.answer(with_body(bomb, b"Content-Encoding: gzip"))
    tracemalloc.start()
    try:
        with pytest.raises(RetryableError, match="larger than 1000000 bytes"):
            get(server, deadline, 1_000_000)
        assert tracemalloc.get_traced_memory()[1] < 10_000_000
    finally:
        tracemalloc.stop()


@pytest.mark.parametrize(
    ("encoding", "body", "said"),
    [
        (b"gzip, gzip", gzip.compress(gzip.compress(b"x", mtime=0), mtime=0), "encoded as"),
        (b"br", b"x", "encoded as"),
        (b"gzip", b"no gzip at all", "damaged"),
        (b"gzip", gzip.compress(b"x", mtime=0) + bytes(5000), "larger than"),
    ],
)
def test_other_encodings_are_refused(server, deadline, encoding, body, said):
    server.answer(with_body(body, b"Content-Encoding: " + encoding))
    with pytest.raises(RetryableError, match=said):
        get(server, deadline)


def test_a_short_answer_is_told(server, deadline):
    server.answer(with_body(b"hel", length=5))
    with pytest.raises(RetryableError, match="the connection failed"):
        get(server, deadline)


def test_no_redirect_is_followed(server, deadline):
    server.answer(
        b"HTTP/1.1 307 x\r\nLocation: //u:secret@elsewhere:81/a?token=secret\r\nContent-Length: 0\r\n\r\n"
    )
    response, _ = get(server, deadline, headers={"Authorization": "Bearer t"})
    assert (response.status_code, find_redirect(response)) == (307, "http://elsewhere:81")
    assert len(server.requests) == 1


def test_the_body_of_a_redirect_is_bounded_too(server, deadline):
    head = b"HTTP/1.1 302 x\r\nLocation: http://169.254.169.254/\r\nContent-Length: 100000000\r\n\r\n"
    server.answer(head, *[bytes(1_000_000)] * 100)
    tracemalloc.start()
    try:
        with exchange("GET", server.url, deadline) as response:
            assert find_redirect(response) == "http://169.254.169.254"
            assert len(read_start(response, 500)) <= 500
        assert tracemalloc.get_traced_memory()[1] < 20_000_000
    finally:
        tracemalloc.stop()
    assert len(server.requests) == 1


@pytest.fixture
def netrc(tmp_path, monkeypatch):
    path = tmp_path / "netrc"
    path.write_text("default login joe password secret\n")
    path.chmod(0o600)
    monkeypatch.setenv("NETRC", str(path))


def test_netrc_neither_replaces_nor_adds_a_credential(server, deadline, netrc):
    server.answer(with_body(b""))
    get(server, deadline, headers={"Authorization": "Bearer token"})
    get(server, deadline)
    assert "Authorization: Bearer token" in server.requests[0]
    assert "Authorization" not in server.requests[1]


def test_user_and_password_of_the_address_are_sent(server, deadline, netrc):
    server.answer(with_body(b""))
    with exchange("GET", server.url.replace("//", "//me:pass@"), deadline):
        pass
    assert "Authorization: Basic bWU6cGFzcw==" in server.requests[0]


@pytest.fixture
def proxies(monkeypatch):
    """Sets the proxy environment, as people do: `proxies(http_proxy=…)`; nothing of it is set before."""
    names = ("http", "https", "all", "no")
    for name in (f"{each}_proxy" for each in names):
        monkeypatch.delenv(name, raising=False)
        monkeypatch.delenv(name.upper(), raising=False)

    def set_all(**values):
        for name, value in values.items():
            monkeypatch.setenv(name, value)

    return set_all


@pytest.mark.parametrize("name", ["http_proxy", "HTTP_PROXY", "all_proxy", "ALL_PROXY"])
def test_a_proxy_is_used_as_the_environment_has_it(server, deadline, proxies, name):
    server.answer(with_body(b"by proxy"))
    proxies(**{name: server.url})
    with exchange("GET", "http://backend.example/x", deadline) as response:
        assert read_bounded(response, 100, deadline) == b"by proxy"
    assert server.requests[0].startswith("GET http://backend.example/x HTTP/1.1")


@pytest.mark.parametrize("name", ["no_proxy", "NO_PROXY"])
def test_exempted_hosts_are_asked_directly(server, deadline, proxies, name):
    server.answer(with_body(b"by proxy"))
    proxies(**{"http_proxy": server.url, name: ".example"})
    with pytest.raises(RetryableError):
        get(Address("http://backend.example.invalid.example:1"), deadline)
    assert not server.requests


class Address:
    def __init__(self, url):
        self.url = url


def test_https_goes_through_a_tunnel(server, deadline, proxies):
    server.answer(b"HTTP/1.1 403 Forbidden\r\nContent-Length: 0\r\n\r\n")
    proxies(HTTPS_PROXY=server.url)
    with pytest.raises(RetryableError, match="ProxyError"):
        get(Address("https://backend.example/"), deadline)
    assert server.requests[0].startswith("CONNECT backend.example:443")


def test_a_socks_proxy_is_spoken_to(deadline, proxies):
    import socket
    import threading

    with socket.create_server(("127.0.0.1", 0)) as listener:
        greeting = []

        def listen():
            connection, _ = listener.accept()
            with connection:
                greeting.append(connection.recv(100))

        thread = threading.Thread(target=listen)
        thread.start()
        proxies(ALL_PROXY=f"socks5h://127.0.0.1:{listener.getsockname()[1]}")
        with pytest.raises(RetryableError):
            get(Address("http://backend.example/"), deadline)
        thread.join()
    assert greeting[0].startswith(b"\x05")


@pytest.mark.parametrize("exempt", ["", "internal.example", "*"])
def test_this_machine_is_never_asked_through_a_proxy(server, deadline, proxies, exempt):
    import os

    proxy = RawServer()
    proxy.answer(with_body(b"by proxy"))
    server.answer(with_body(b"directly"))
    proxies(http_proxy=proxy.url, ALL_PROXY=proxy.url, NO_PROXY=exempt)
    spare_loopback_the_proxy()
    spare_loopback_the_proxy()
    assert get(server, deadline)[1] == b"directly"
    assert get(Address(server.url.replace("127.0.0.1", "localhost")), deadline)[1] == b"directly"
    expected = {"": "localhost,127.0.0.1,::1", "*": "*"}.get(exempt, f"{exempt},localhost,127.0.0.1,::1")
    assert os.environ["no_proxy" if exempt != "*" else "NO_PROXY"] == expected
    proxy.close()
