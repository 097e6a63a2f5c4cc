"""gunicorn's worker and logger, as gunicorn_settings.py names them."""

import json
import socket
import time
import uuid
from contextlib import suppress
from http import HTTPStatus
from typing import Any

from gunicorn.glogging import Logger
from gunicorn.workers.gthread import _DEFER, ThreadWorker

from app import logs
from app.config import Settings

READ_SECONDS = 10


class PlainLogger(Logger):
    """Hands gunicorn's own lines to our formatter."""

    def setup(self, cfg: Any) -> None:
        super().setup(cfg)
        settings = Settings.from_environ()
        logs.configure(settings.log_level, settings.log_format)
        self.error_log.propagate = True


class BoundedThreadWorker(ThreadWorker):
    """gunicorn's threads, which a few clients that dawdle would otherwise hold for ever.

    A connection that sends nothing gets no thread; what is not read whole within READ_SECONDS is cut off
    there, and what is not answered within `timeout` is dropped. What is not HTTP at all, and so never reaches
    the application, is answered with problem+json too.
    """

    def init_process(self) -> None:
        # connection -> when a thread took it
        self._busy: dict[Any, float] = {}
        super().init_process()

    def handle(self, conn: Any) -> Any:
        if not conn.initialized and not conn.wait_for_data(0):
            return _DEFER
        self._busy[conn] = time.monotonic()
        try:
            return super().handle(conn)
        finally:
            del self._busy[conn]

    def murder_keepalived(self, force: bool = False) -> None:
        """Called about once a second by the worker's main loop."""
        super().murder_keepalived(force)
        for conn, since in list(self._busy.items()):
            seconds = time.monotonic() - since
            if seconds > READ_SECONDS:
                with suppress(OSError):
                    conn.sock.shutdown(socket.SHUT_RDWR if seconds > self.cfg.timeout else socket.SHUT_RD)

    def handle_error(self, req: Any, client: Any, addr: Any, exc: BaseException) -> None:
        super().handle_error(req, _ProblemWriter(client), addr, exc)


class _ProblemWriter:
    """A socket that rewrites gunicorn's HTML error page."""

    def __init__(self, sock: socket.socket):
        self._sock = sock

    def __getattr__(self, name: str) -> Any:
        return getattr(self._sock, name)

    def sendall(self, page: bytes) -> None:
        status = int(page.split(b" ", 2)[1])
        title = HTTPStatus(status).phrase
        request_id = uuid.uuid4().hex
        body = json.dumps(
            {
                "type": "about:blank",
                "title": title,
                "status": status,
                "detail": "The server could not read this as an HTTP request; check how it was built.",
                "request_id": request_id,
            }
        )
        self._sock.sendall(
            f"HTTP/1.1 {status} {title}\r\nConnection: close\r\nContent-Type: application/problem+json\r\n"
            f"X-Request-ID: {request_id}\r\nContent-Length: {len(body)}\r\n\r\n{body}".encode()
        )
