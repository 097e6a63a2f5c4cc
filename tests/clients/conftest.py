"""A server that answers with the very bytes a test scripts, at the pace it scripts."""

import re
import socket
import threading
import time

import pytest


class RawServer:
    """Gives each connection the next of `answers`, the last one again and again; keeps the requests.

    An answer is a list: bytes are sent, numbers are seconds to wait. `drip(…)` makes one that never ends.
    `answers` may be a generator as well. Of a large request the head is kept only.
    """

    def __init__(self):
        self.answers = []
        self.requests = []
        self._closing = threading.Event()
        self._listener = socket.create_server(("127.0.0.1", 0))
        self.url = f"http://127.0.0.1:{self._listener.getsockname()[1]}"
        threading.Thread(target=self._serve, daemon=True).start()

    def answer(self, *parts):
        self.answers.append(parts)

    def close(self):
        self._closing.set()
        self._listener.close()

    def _serve(self):
        while True:
            try:
                connection, _ = self._listener.accept()
            except OSError:
                return
            threading.Thread(target=self._answer, args=(connection,), daemon=True).start()

    def _next(self):
        if not isinstance(self.answers, list):
            return next(self.answers)
        return self.answers.pop(0) if len(self.answers) > 1 else self.answers[0]

    def _answer(self, connection):
        with connection:
            request = b""
            while not _is_whole(request):
                received = connection.recv(65536)
                if not received:
                    return
                request += received
            self.requests.append(request.decode("latin-1"))
            parts = self._next()
            try:
                for part in parts:
                    if isinstance(part, bytes):
                        connection.sendall(part)
                    elif self._closing.wait(part):
                        return
                # what was sent must arrive before the connection is reset for what was not read
                connection.shutdown(socket.SHUT_WR)
                while connection.recv(65536):
                    pass
            except OSError:
                return


def _is_whole(request):
    """Whether the head of a request is there, and its body unless that is large."""
    head, end, body = request.partition(b"\r\n\r\n")
    length = re.search(rb"(?i)content-length: (\d+)", head)
    return bool(end) and (not length or int(length[1]) > 10_000 or len(body) >= int(length[1]))


def drip(piece, first=b""):
    """An answer that goes on with `piece` a little at a time: for ever, as far as a test can wait."""
    yield first
    for _ in range(3000):
        yield piece
        yield 0.02


@pytest.fixture
def server():
    server = RawServer()
    yield server
    server.close()


@pytest.fixture
def deadline():
    return time.monotonic() + 20
