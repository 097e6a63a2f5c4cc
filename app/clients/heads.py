"""HEAD requests to a store, over connections that are kept open.

The answer to a HEAD has no body, so little of HTTP is needed. By boto3's connections it takes four times the
processor time, nearly all of it in urllib3 and http.client.
"""

import select
import socket
import ssl
import time
from collections import deque
from collections.abc import Mapping
from contextlib import suppress
from http import HTTPStatus
from urllib.parse import urlsplit

from httptools import HttpParserError, HttpResponseParser

MAX_KEPT = 16
# On its way to a store, or there, a connection that nobody uses may be dropped without a word.
KEPT_SECONDS = 30
MAX_HEADER_BYTES = 65_536
_PORTS = {"http": 80, "https": 443}


class BadAnswer(OSError):
    """What came is no HTTP, or the connection was closed before the answer was whole."""


class Heads:
    """Sends HEAD requests to the host of `url`. Threads share it; a fork must not, once it is connected."""

    def __init__(self, url: str, cafile: str, connect_seconds: float, read_seconds: float):
        parts = urlsplit(url)
        self._host = parts.hostname or ""
        self._address = (self._host, parts.port or _PORTS[parts.scheme])
        self._connect_seconds = connect_seconds
        self._read_seconds = read_seconds
        self._context: ssl.SSLContext | None = None
        if parts.scheme == "https":
            # it asks for a valid certificate of this host
            self._context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
            self._context.load_verify_locations(cafile)
        # with the time of its last use; the one that was used last is the likeliest to live
        self._kept: deque[tuple[socket.socket, float]] = deque()

    def ask(self, path: str, headers: Mapping[str, str]) -> tuple[int, dict[str, str]]:
        """Return status and headers, their names in small letters. Raises OSError.

        A kept connection that the store has closed meanwhile is replaced. One that does not answer is not.
        """
        lines = [f"HEAD {path} HTTP/1.1", *(f"{name}: {value}" for name, value in headers.items())]
        request = ("\r\n".join(lines) + "\r\n\r\n").encode("ascii")
        while kept := self._take():
            try:
                return self._exchange(kept, request)
            except TimeoutError:
                raise
            except OSError:
                continue
        return self._exchange(self._connect(), request)

    def _take(self) -> socket.socket | None:
        """Return a kept connection on which nothing has come: that would be taken for the next answer."""
        with suppress(IndexError):
            while True:
                kept, last_used = self._kept.pop()
                if time.monotonic() - last_used <= KEPT_SECONDS and not _is_readable(kept):
                    return kept
                kept.close()
        return None

    def _connect(self) -> socket.socket:
        connection = socket.create_connection(self._address, self._connect_seconds)
        try:
            connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            if self._context:
                connection = self._context.wrap_socket(connection, server_hostname=self._host)
            connection.settimeout(self._read_seconds)
        except BaseException:
            connection.close()
            raise
        return connection

    def _exchange(self, connection: socket.socket, request: bytes) -> tuple[int, dict[str, str]]:
        answer = _Answer()
        try:
            connection.sendall(request)
            received = b""
            while not answer.is_whole:
                received = connection.recv(MAX_HEADER_BYTES)
                answer.take(received)
        except BaseException:
            connection.close()
            raise
        # a body, though a HEAD has none, would be taken for the next answer
        if received.endswith(b"\r\n\r\n") and answer.keeps_alive and len(self._kept) < MAX_KEPT:
            self._kept.append((connection, time.monotonic()))
        else:
            connection.close()
        return answer.status, answer.headers


def _is_readable(connection: socket.socket) -> bool:
    if isinstance(connection, ssl.SSLSocket) and connection.pending():
        return True
    poll = select.poll()
    poll.register(connection, select.POLLIN)
    return bool(poll.poll(0))


class _Answer:
    """The head of an answer, as llhttp reads it."""

    def __init__(self) -> None:
        self._parser = HttpResponseParser(self)
        self._bytes = 0
        self.is_whole = False
        self.headers: dict[str, str] = {}

    def take(self, received: bytes) -> None:
        self._bytes += len(received)
        if not received or self._bytes > MAX_HEADER_BYTES:
            raise BadAnswer("the answer of the store broke off")
        try:
            self._parser.feed_data(received)
        except HttpParserError as error:
            raise BadAnswer(f"the answer of the store is no HTTP: {error}") from error

    def on_header(self, name: bytes, value: bytes) -> None:
        self.headers[name.decode("latin-1").lower()] = value.decode("latin-1")

    def on_headers_complete(self) -> None:
        self.is_whole = True
        self.status: int = self._parser.get_status_code()
        # after an answer below 200 the answer proper is still to come
        self.keeps_alive: bool = self._parser.should_keep_alive() and self.status >= HTTPStatus.OK
