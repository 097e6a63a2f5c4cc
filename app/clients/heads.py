"""HEAD requests to a store, over connections that are kept open.

The answer to a HEAD has no body, so little of HTTP is needed. By boto3's connections it takes four times the
processor time, nearly all of it in urllib3 and http.client.
"""

import socket
import ssl
from collections import deque
from collections.abc import Mapping
from contextlib import suppress
from urllib.parse import urlsplit

MAX_KEPT = 16
MAX_HEADER_BYTES = 65_536
_PORTS = {"http": 80, "https": 443}


class BadAnswer(OSError):
    """What came is no answer to a HEAD, or the connection was closed before it was whole."""


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
        # the one that was used last is the likeliest to live
        self._kept: deque[socket.socket] = deque(maxlen=MAX_KEPT)

    def ask(self, path: str, headers: Mapping[str, str]) -> tuple[int, dict[str, str]]:
        """Return status and headers, their names in small letters. Raises OSError.

        A kept connection that the store has closed meanwhile is replaced. One that does not answer is not.
        """
        lines = [f"HEAD {path} HTTP/1.1", *(f"{name}: {value}" for name, value in headers.items())]
        request = ("\r\n".join(lines) + "\r\n\r\n").encode("ascii")
        with suppress(IndexError):
            while True:
                kept = self._kept.pop()
                try:
                    return self._exchange(kept, request)
                except TimeoutError:
                    raise
                except OSError:
                    continue
        return self._exchange(self._connect(), request)

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
        try:
            connection.sendall(request)
            answer = b""
            while b"\r\n\r\n" not in answer:
                more = connection.recv(MAX_HEADER_BYTES)
                answer += more
                if not more or len(answer) > MAX_HEADER_BYTES:
                    raise BadAnswer("the answer of the store broke off")
            status, headers = _parse(answer)
        except BaseException:
            connection.close()
            raise
        # a body, though a HEAD has none, would be taken for the next answer
        if not answer.endswith(b"\r\n\r\n") or headers.get("connection", "").lower() == "close":
            connection.close()
        else:
            self._kept.append(connection)
        return status, headers


def _parse(answer: bytes) -> tuple[int, dict[str, str]]:
    head, _, _ = answer.decode("latin-1").partition("\r\n\r\n")
    first, *lines = head.split("\r\n")
    version, _, rest = first.partition(" ")
    if version != "HTTP/1.1" or not rest[:3].isdecimal():
        raise BadAnswer("the store does not speak HTTP/1.1")
    pairs = (line.partition(":") for line in lines)
    return int(rest[:3]), {name.lower(): value.strip() for name, _, value in pairs}
