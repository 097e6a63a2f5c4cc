"""One client's connection. It holds no thread while a request is read or an answer is sent.

llhttp (through httptools) reads HTTP, asyncio moves the bytes, and PEP 3333 is the border to the application.

waitress was tried in its place. It accepts a length together with chunks. It takes a third of a second for a
megabyte in chunks of one byte. And a client that it refuses while it still sends loses the answer.
"""

import asyncio
import io
import json
import socket
import sys
import time
import uuid
from collections.abc import Callable, Iterable
from email.utils import formatdate
from enum import Enum, auto
from functools import lru_cache
from http import HTTPStatus
from itertools import chain
from tempfile import SpooledTemporaryFile
from typing import IO, Any, NamedTuple, Protocol
from urllib.parse import unquote_to_bytes, urlsplit

from httptools import HttpParserCallbackError, HttpParserError, HttpParserUpgrade, HttpRequestParser

from app.errors import BODY_TOO_LARGE, problem_document

MAX_BODY_BYTES = 1024 * 1024
MAX_TARGET_BYTES = 8190
MAX_HEAD_BYTES = 32 * 1024
MAX_HEADERS = 100
# A mebibyte of chunks of one byte each would cost a tenth of a second to put together.
MAX_CHUNKS = 4096
# A request must be whole this long after its first byte.
READ_SECONDS = 30
# A client must take some of its answer this often.
SEND_SECONDS = 60
# After an error is answered, the rest of the request is read and dropped. If a connection is closed with
# unread bytes, it is reset, and the client loses the answer.
LINGER_SECONDS = 10
LINGER_BYTES = 16 * 1024 * 1024
# If the application streams an answer, this much is kept in memory and the rest in a file.
SPOOL_BYTES = 1024 * 1024
_PIECE_BYTES = 64 * 1024

Environ = dict[str, Any]


class State(Enum):
    IDLE = auto()
    READING = auto()
    # the application has the request
    SERVING = auto()
    SENDING = auto()
    # the last answer is sent; what still comes is dropped
    LINGERING = auto()


class Answer(NamedTuple):
    head: bytes
    body: IO[bytes]


class Unservable(Exception):
    """What came is not a request that can be passed on."""

    def __init__(self, status: HTTPStatus, detail: str):
        super().__init__(detail)
        self.status = status
        self.detail = detail


class Origin(NamedTuple):
    """Where a connection was accepted."""

    name: str
    port: str

    @classmethod
    def of(cls, listener: socket.socket) -> "Origin":
        address = listener.getsockname()
        return cls(str(address[0]), str(address[1])) if isinstance(address, tuple) else cls("localhost", "")


class Host(Protocol):
    """What a connection needs of the process it lives in."""

    connections: "dict[Connection, None]"
    keepalive_seconds: float
    answer_seconds: float

    @property
    def is_stopping(self) -> bool: ...

    def serve(self, connection: "Connection", environ: Environ) -> None: ...


class Connection(asyncio.Protocol):
    """Reads a request, passes it on, sends the answer, and begins again.

    A client may send a request before the last one is answered (pipelining). Then the connection ends after
    that answer, as HTTP allows, and the client sends the request again.
    """

    def __init__(self, host: Host, origin: Origin):
        self._host = host
        self._origin = origin
        self._transport: asyncio.Transport
        self._parser = HttpRequestParser(self)
        self._state = State.IDLE
        self.since = time.monotonic()
        self._is_writable = True
        self._body: IO[bytes] = io.BytesIO()
        self._dropped = 0
        self._close_after = False
        self._has_ended = False
        self._reset()

    def _reset(self) -> None:
        """Forget the request that was read."""
        self._received = 0
        self._target = b""
        self._headers: list[tuple[bytes, bytes]] = []
        self._fields = 0
        self._field_bytes = 0
        self._in_head = True
        self._chunks = 0
        self._parts: list[bytes] = []
        self._length = 0

    # what asyncio calls

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        assert isinstance(transport, asyncio.Transport)
        self._transport = transport
        self._peer = transport.get_extra_info("peername")
        self._host.connections[self] = None

    def connection_lost(self, exc: Exception | None) -> None:
        self._host.connections.pop(self, None)
        self._body.close()

    def data_received(self, data: bytes) -> None:
        if self._state in (State.IDLE, State.READING):
            self._read(data)
        elif self._state is State.LINGERING:
            self._dropped += len(data)
            if self._dropped > LINGER_BYTES:
                self._transport.abort()
        else:
            # not before the answer to the last: close after that
            self._close_after = True
            self._transport.pause_reading()

    def eof_received(self) -> bool:
        # a client that has sent all it wants may still read its answer
        self._close_after = self._has_ended = True
        return self._state in (State.SERVING, State.SENDING)

    def pause_writing(self) -> None:
        self._is_writable = False

    def resume_writing(self) -> None:
        self._is_writable = True
        if self._state is State.SENDING:
            self._send_more()

    # what the parser calls; what is raised here comes out of feed_data

    def on_url(self, part: bytes) -> None:
        self._target += part
        if len(self._target) > MAX_TARGET_BYTES:
            raise Unservable(HTTPStatus.REQUEST_URI_TOO_LONG, "The address is too long; shorten its query.")

    def on_header(self, name: bytes, value: bytes) -> None:
        self._fields += 1
        self._field_bytes += len(name) + len(value)
        if self._fields > MAX_HEADERS or self._field_bytes > MAX_HEAD_BYTES:
            raise _head_too_large()
        # after the head come trailers, which nobody here asks for
        if self._in_head:
            self._headers.append((name.lower(), value))

    def on_headers_complete(self) -> None:
        self._in_head = False
        names = [name for name, _ in self._headers]
        if names.count(b"host") > 1 or names.count(b"content-type") > 1:
            raise Unservable(HTTPStatus.BAD_REQUEST, "Send the headers Host and Content-Type once.")
        headers = dict(self._headers)
        if int(headers.get(b"content-length", 0)) > MAX_BODY_BYTES:
            raise _too_large()
        expected = headers.get(b"expect", b"100-continue").lower()
        if expected != b"100-continue":
            raise Unservable(HTTPStatus.EXPECTATION_FAILED, "Leave the header Expect out.")
        if b"expect" in headers and self._parser.get_http_version() == "1.1":
            self._transport.write(b"HTTP/1.1 100 Continue\r\n\r\n")

    def on_chunk_header(self) -> None:
        self._chunks += 1
        if self._chunks > MAX_CHUNKS:
            raise Unservable(
                HTTPStatus.BAD_REQUEST,
                f"The body comes in more than {MAX_CHUNKS} chunks; send larger ones, or its Content-Length.",
            )

    def on_body(self, part: bytes) -> None:
        self._parts.append(part)
        self._length += len(part)
        if self._length > MAX_BODY_BYTES:
            raise _too_large()

    def on_message_begin(self) -> None:
        if self._state is State.SERVING:
            self._close_after = True

    def on_message_complete(self) -> None:
        if self._state is not State.READING:
            return
        environ = self._environ()
        self._state = State.SERVING
        self.since = time.monotonic()
        self._close_after |= not self._parser.should_keep_alive()
        self._reset()
        self._host.serve(self, environ)

    # ours

    def _read(self, data: bytes) -> None:
        if self._state is State.IDLE:
            self._state = State.READING
            self.since = time.monotonic()
        self._received += len(data)
        try:
            self._parser.feed_data(data)
            if self._state is State.READING and self._in_head and self._received > MAX_HEAD_BYTES:
                raise _head_too_large()
            if self._state is State.READING and self._received > MAX_HEAD_BYTES + 2 * MAX_BODY_BYTES:
                raise _too_large()
        except HttpParserUpgrade:
            # other protocols are not spoken here: it was served as what it is, and what follows is not read
            self._close_after = True
        except (HttpParserError, Unservable) as error:
            cause = error.__context__ if isinstance(error, HttpParserCallbackError) else error
            if not isinstance(cause, Unservable | HttpParserError):
                raise
            if self._state is not State.READING:
                # a request before this one is being answered
                self._close_after = True
            else:
                self._refuse(
                    cause if isinstance(cause, Unservable) else Unservable(HTTPStatus.BAD_REQUEST, _NOT_HTTP)
                )

    def _environ(self) -> Environ:
        target = self._target.decode("latin-1")
        path, _, query = target.partition("#")[0].partition("?")
        if not target.startswith("/"):
            # the absolute form, as for a proxy
            path = _path_of(path)
        body = b"".join(self._parts)
        peer = self._peer if isinstance(self._peer, tuple) else ("", 0)
        environ: Environ = {
            "REQUEST_METHOD": self._parser.get_method().decode("latin-1"),
            "SCRIPT_NAME": "",
            "PATH_INFO": unquote_to_bytes(path).decode("latin-1"),
            "QUERY_STRING": query,
            "RAW_URI": target,
            "SERVER_NAME": self._origin.name,
            "SERVER_PORT": self._origin.port,
            "SERVER_PROTOCOL": f"HTTP/{self._parser.get_http_version()}",
            "REMOTE_ADDR": peer[0],
            "REMOTE_PORT": str(peer[1]),
            "CONTENT_LENGTH": str(len(body)),
            "wsgi.version": (1, 0),
            "wsgi.url_scheme": "http",
            "wsgi.input": io.BytesIO(body),
            "wsgi.errors": sys.stderr,
            "wsgi.multithread": True,
            "wsgi.multiprocess": True,
            "wsgi.run_once": False,
        }
        for name, value in self._headers:
            key = name.decode("latin-1").upper()
            # as nginx and gunicorn do: or X_Forwarded_For would pass for X-Forwarded-For. The body has its
            # length by now, however it came.
            if "_" in key or key in {"CONTENT-LENGTH", "TRANSFER-ENCODING"}:
                continue
            key = "CONTENT_TYPE" if key == "CONTENT-TYPE" else f"HTTP_{key.replace('-', '_')}"
            text = value.decode("latin-1")
            environ[key] = f"{environ[key]},{text}" if key in environ else text
        return environ

    def send(self, answer: Answer) -> None:
        """Send what the application answered, and then read on or close."""
        if self._transport.is_closing():
            answer.body.close()
            return
        self._state = State.SENDING
        self.since = time.monotonic()
        self._close_after |= self._host.is_stopping
        self._body = answer.body
        end = b"Connection: close\r\n\r\n" if self._close_after else b"Connection: keep-alive\r\n\r\n"
        first = self._body.read(_PIECE_BYTES)
        self._transport.write(answer.head + end + first)
        self._send_more()

    def _send_more(self) -> None:
        while self._is_writable and (piece := self._body.read(_PIECE_BYTES)):
            self.since = time.monotonic()
            self._transport.write(piece)
        if self._is_writable:
            self._body.close()
            self._finish()

    def _finish(self) -> None:
        self.since = time.monotonic()
        if self._has_ended:
            self._transport.close()
        elif self._close_after:
            self._state = State.LINGERING
            self._transport.write_eof()
            self._transport.resume_reading()
        else:
            self._state = State.IDLE

    def _refuse(self, refusal: Unservable) -> None:
        self._state = State.SERVING
        self._close_after = True
        self.send(problem(refusal.status, refusal.detail))

    def check(self, now: float) -> None:
        """End the connection if its client takes too long; the process calls this every second."""
        seconds = now - self.since
        if self._state is State.READING and seconds > READ_SECONDS:
            self._refuse(Unservable(HTTPStatus.REQUEST_TIMEOUT, _TOO_SLOW))
        elif seconds > self._patience():
            self._transport.abort()

    def _patience(self) -> float:
        match self._state:
            case State.IDLE:
                return 0 if self._host.is_stopping else self._host.keepalive_seconds
            case State.READING:
                return READ_SECONDS
            case State.SERVING:
                return self._host.answer_seconds
            case State.SENDING:
                return SEND_SECONDS
            case State.LINGERING:
                return LINGER_SECONDS

    @property
    def is_waiting(self) -> bool:
        """Whether we wait for the client, so that the connection can be closed without losing an answer."""
        return self._state in (State.IDLE, State.READING, State.LINGERING)

    def abort(self) -> None:
        self._transport.abort()


_TOO_SLOW = "The request did not arrive in time; send it again."
_NOT_HTTP = "The server could not read this as an HTTP request; check how it was built."


def _path_of(url: str) -> str:
    try:
        return "/" + urlsplit(url).path.removeprefix("/")
    except ValueError:
        raise Unservable(HTTPStatus.BAD_REQUEST, _NOT_HTTP) from None


def _head_too_large() -> Unservable:
    return Unservable(
        HTTPStatus.REQUEST_HEADER_FIELDS_TOO_LARGE,
        f"Send at most {MAX_HEADERS} headers, with at most {MAX_HEAD_BYTES // 1024} KiB in all.",
    )


def _too_large() -> Unservable:
    return Unservable(HTTPStatus.REQUEST_ENTITY_TOO_LARGE, BODY_TOO_LARGE)


def problem(status: HTTPStatus, detail: str) -> Answer:
    """The problem+json answer where there is no application to give one."""
    request_id = uuid.uuid4().hex
    body = json.dumps(problem_document(status, detail, request_id)).encode()
    headers = [
        ("Content-Type", "application/problem+json"),
        ("Content-Length", str(len(body))),
        ("X-Content-Type-Options", "nosniff"),
        ("X-Request-ID", request_id),
    ]
    return Answer(_head(f"{status.value} {status.phrase}", headers), io.BytesIO(body))


def _head(status: str, headers: Iterable[tuple[str, str]]) -> bytes:
    lines = [f"HTTP/1.1 {status}", f"Date: {_date(int(time.time()))}"]
    lines += [f"{name}: {value}" for name, value in headers]
    return ("\r\n".join(lines) + "\r\n").encode("latin-1")


@lru_cache(maxsize=1)
def _date(second: int) -> str:
    return formatdate(second, usegmt=True)


def call(application: Callable, environ: Environ) -> Answer:
    """Let a WSGI application answer, and return the whole answer.

    A streamed answer must end. Its length is added here.
    """
    started: list[Any] = []
    written: list[bytes] = []

    def start_response(status: str, headers: list[tuple[str, str]], exc_info: Any = None) -> Callable:
        started[:] = [status, headers]
        return written.append

    chunks = application(environ, start_response)
    try:
        parts = chain(written, chunks)
        first = next(parts, b"")
        # shares the bytes: an answer that is kept for all callers is in memory once
        body: IO[bytes] = io.BytesIO(first)
        if (second := next(parts, None)) is not None:
            body = SpooledTemporaryFile(max_size=SPOOL_BYTES)  # noqa: SIM115  # closed once it is sent
            body.writelines(chain((first, second), parts))
    finally:
        if hasattr(chunks, "close"):
            chunks.close()
    status, headers = started
    length = body.seek(0, io.SEEK_END)
    body.seek(0)
    if environ["REQUEST_METHOD"] == "HEAD" or status[:3] in {"204", "304"}:
        body = io.BytesIO()
    elif not any(name.lower() == "content-length" for name, _ in headers):
        headers = [*headers, ("Content-Length", str(length))]
    return Answer(_head(status, headers), body)
