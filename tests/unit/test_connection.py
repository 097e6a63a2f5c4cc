"""The HTTP connection on a real socket in a real loop; the application stands in for Flask."""

import asyncio
import json
import socket
import time

import pytest

from app.web import connection
from app.web.connection import Connection, Origin, call


class Host:
    keepalive_seconds = 95
    answer_seconds = 60
    is_stopping = False

    def __init__(self, application):
        self.connections = {}
        self.environs = []
        self._application = application

    def serve(self, client, environ):
        self.environs.append(environ)
        asyncio.get_running_loop().call_soon(client.send, call(self._application, environ))


def echo(environ, start_response):
    start_response("200 OK", [("Content-Type", "text/plain")])
    return [environ["wsgi.input"].read()]


def exchange(*sent, application=echo, then=None, host=None):
    """Send the pieces, with `then(connection)` after them, and return all that is answered and the host."""
    host = host or Host(application)

    async def talk():
        ours, theirs = socket.socketpair()
        with theirs:
            theirs.settimeout(5)
            loop = asyncio.get_running_loop()
            ours.setblocking(False)
            _, client = await loop.connect_accepted_socket(
                lambda: Connection(host, Origin("here", "80")), ours
            )
            for piece in sent:
                await asyncio.to_thread(theirs.sendall, piece)
                await asyncio.sleep(0.01)
            if then:
                then(client)
            else:
                theirs.shutdown(socket.SHUT_WR)
            answer = b""
            while part := await asyncio.to_thread(theirs.recv, 1 << 20):
                answer += part
            return answer

    return asyncio.run(talk()), host


def statuses(answer):
    return [int(part[:3]) for part in answer.split(b"HTTP/1.1 ")[1:]]


def get(path="/", *headers):
    return "\r\n".join([f"GET {path} HTTP/1.1", "Host: here", *headers, "", ""]).encode()


def post(body, *headers):
    return "\r\n".join(["POST / HTTP/1.1", "Host: here", *headers, "", ""]).encode() + body


CHUNKED = "Transfer-Encoding: chunked"


def test_a_request_in_single_bytes_is_one_request():
    request = post(b"5\r\nhello\r\n1;x=y\r\n!\r\n0\r\nX-Trailer: z\r\n\r\n", CHUNKED)
    answer, host = exchange(*(bytes([byte]) for byte in request))
    assert statuses(answer) == [200]
    assert answer.endswith(b"\r\n\r\nhello!")
    (environ,) = host.environs
    assert environ["CONTENT_LENGTH"] == "6"
    assert not {"HTTP_X_TRAILER", "HTTP_TRANSFER_ENCODING"} & environ.keys()


def test_a_kept_connection_serves_one_request_after_the_other():
    answer, host = exchange(get("/1"), get("/2"), post(b"3", "Content-Length: 1"))
    assert statuses(answer) == [200, 200, 200]
    assert [environ["PATH_INFO"] for environ in host.environs] == ["/1", "/2", "/"]


def test_pipelined_requests_get_one_answer_and_then_the_end():
    answer, host = exchange(get("/1") + get("/2") + get("/3"))
    assert statuses(answer) == [200]
    assert b"Connection: close" in answer
    assert len(host.environs) == 1


@pytest.mark.parametrize("garbage", [b"hello\r\n\r\n", get("/" + "a" * 9000), get("/", "Expect: miracles")])
def test_what_follows_a_request_does_not_spoil_its_answer(garbage):
    answer, host = exchange(get("/1") + garbage)
    assert statuses(answer) == [200]
    assert len(host.environs) == 1


@pytest.mark.parametrize(
    ("target", "path", "query"),
    [
        ("/a%20b%2Fc?x=%41#f", "/a b/c", "x=%41"),
        ("http://elsewhere:80/a?b", "/a", "b"),
        ("//a//b", "//a//b", ""),
        ("/%E4%BD%A0", "/\xe4\xbd\xa0", ""),
    ],
)
def test_the_target_is_split_as_wsgi_wants_it(target, path, query):
    _, host = exchange(get(target))
    (environ,) = host.environs
    assert (environ["PATH_INFO"], environ["QUERY_STRING"], environ["RAW_URI"]) == (path, query, target)


def test_headers_that_could_pass_for_others_are_dropped():
    _, host = exchange(get("/", "X_Forwarded_For: 1.2.3.4", "X-Real-Ip: 5", "X-Real-Ip: 6"))
    (environ,) = host.environs
    assert environ["HTTP_X_REAL_IP"] == "5,6"
    assert "HTTP_X_FORWARDED_FOR" not in environ


@pytest.mark.parametrize(
    ("sent", "status"),
    [
        (b"hello\r\n\r\n", 400),
        (b"GET / HTTP/9.9\r\n\r\n", 400),
        (b"GET / HTTP/1.1\nHost: x\n\n", 400),
        (get("/", "Host: other"), 400),
        (get("/", "a b: c"), 400),
        (get("/", "Folded: a", " b"), 400),
        (get("http://[/"), 400),
        (get("/" + "a" * 9000), 414),
        (get("/", *["A: b"] * 200), 431),
        (get("/", "A: " + "b" * 40_000), 431),
        (b"GET / HTTP/1.1\r\nA: " + b"b" * 40_000, 431),
        (get("/", "Expect: miracles"), 417),
        (post(b"", "Content-Length: -1"), 400),
        (post(b"", "Content-Length: 1048577"), 413),
        (post(b"", f"Content-Length: {10**30}"), 400),
        (post(b"abc", "Content-Length: 3", "Content-Length: 3"), 400),
        (post(b"0\r\n\r\n", "Content-Length: 5", CHUNKED), 400),
        (post(b"abc", "Transfer-Encoding: gzip"), 400),
        (post(b"zz\r\n", CHUNKED), 400),
        (post(b"-1\r\n", CHUNKED), 400),
        (post(b"2\r\nabc\r\n0\r\n\r\n", CHUNKED), 400),
        (post(b"1\r\na", CHUNKED) + b"GARBAGE", 400),
        (post(b"f" * 40 + b"\r\n", CHUNKED), 400),
        (post(b"1\r\na\r\n" * 5000 + b"0\r\n\r\n", CHUNKED), 400),
        (post(b"1;" + b"x" * 70_000 + b"\r\na\r\n" * 1, CHUNKED) + b"y" * 3_000_000, 400),
        (post(b"0\r\n" + b"A: b\r\n" * 200 + b"\r\n", CHUNKED), 431),
        (
            post(b"10000\r\n" + b"x" * 65536 + b"\r\n", CHUNKED) + b"10000\r\n%s\r\n" % (b"x" * 65536) * 16,
            413,
        ),
    ],
)
def test_what_is_no_request_gets_a_problem_document_and_the_end(sent, status):
    answer, host = exchange(sent)
    assert statuses(answer) == [status]
    head, _, body = answer.partition(b"\r\n\r\n")
    problem = json.loads(body)
    assert problem["status"] == status
    assert problem["detail"].endswith(".")
    assert f"X-Request-ID: {problem['request_id']}".encode() in head
    assert b"Connection: close" in head
    assert not host.environs


def test_a_body_that_is_too_large_is_answered_though_its_sender_sends_all_of_it_first():
    body = b"x" * 5_000_000
    answer, _ = exchange(post(body, f"Content-Length: {len(body)}"))
    assert statuses(answer) == [413]


def test_who_asks_whether_to_continue_is_told_to():
    answer, _ = exchange(post(b"", "Expect: 100-continue", "Content-Length: 2"), b"ok")
    assert statuses(answer) == [100, 200]
    answer, _ = exchange(post(b"", "Expect: 100-continue", "Content-Length: 2000000"))
    assert statuses(answer) == [413]


def test_an_offer_of_another_protocol_is_ignored():
    answer, host = exchange(get("/", "Connection: upgrade", "Upgrade: h2c"))
    assert statuses(answer) == [200]
    assert len(host.environs) == 1


def test_a_streamed_answer_gets_its_length():
    def stream(environ, start_response):
        start_response("200 OK", [])
        return (b"x" * 100_000 for _ in range(30))

    answer, _ = exchange(get(), application=stream)
    assert b"Content-Length: 3000000\r\n" in answer
    assert answer.endswith(b"\r\n\r\n" + b"x" * 3_000_000)


@pytest.mark.parametrize(("method", "status"), [("HEAD", "200 OK"), ("GET", "304 NOT MODIFIED")])
def test_some_answers_have_no_body(method, status):
    def answer_with_body(environ, start_response):
        start_response(status, [])
        return [b"body"]

    answer, _ = exchange(get().replace(b"GET", method.encode()), application=answer_with_body)
    assert answer.endswith(b"\r\n\r\n")


@pytest.mark.parametrize(
    ("sent", "seconds", "expected"),
    [
        (b"", connection.READ_SECONDS + 1, None),
        (b"", Host.keepalive_seconds + 1, []),
        (b"GET / HT", connection.READ_SECONDS - 1, None),
        (b"GET / HT", connection.READ_SECONDS + 1, [408]),
        (post(b"x", "Content-Length: 5"), connection.READ_SECONDS + 1, [408]),
    ],
)
def test_a_client_has_its_time_and_no_more(sent, seconds, expected):
    """`expected` None: the connection stays."""

    def later(client):
        client.check(time.monotonic() + seconds)
        if expected is None:
            assert not client._transport.is_closing()
            client.abort()

    try:
        answer, _ = exchange(sent, then=later)
    except ConnectionResetError:
        answer = b""
    assert statuses(answer) == (expected or [])
