"""gunicorn's settings, for `kibotos api` and plain `gunicorn wsgi:app` alike."""

import json
import os
import shutil
import socket
import sys
import tempfile
import time
import uuid
from contextlib import suppress
from http import HTTPStatus
from pathlib import Path

from dotenv import load_dotenv
from gunicorn.glogging import Logger
from gunicorn.workers.gthread import _DEFER, ThreadWorker

from app import logs
from app.config import ConfigError, Settings

READ_SECONDS = 10

load_dotenv(".env")
try:
    _settings = Settings.from_environ().require_server()
except ConfigError as error:
    sys.exit(str(error))

_host = "127.0.0.1" if _settings.development else "0.0.0.0"  # noqa: S104
bind = f"{_host}:{os.environ.get('PORT', '8000')}"
workers = _settings.web_workers
threads = _settings.web_threads
# a request waits for its dependencies at most half of this; a worker that hangs longer is replaced
timeout = 60
graceful_timeout = 30
keepalive = 5
control_socket_disable = True

errorlog = None  # no handler of its own: see below
# prometheus_client looks for the directory once, when it is first imported: that must be in the workers
_metrics = Path(_settings.prometheus_multiproc_dir or tempfile.mkdtemp(prefix="kibotos-metrics-"))
os.environ["PROMETHEUS_MULTIPROC_DIR"] = str(_metrics)


class logger_class(Logger):
    """Hands gunicorn's own lines to our formatter."""

    def setup(self, cfg):
        super().setup(cfg)
        logs.configure(_settings.log_level, _settings.log_format)
        self.error_log.propagate = True


class worker_class(ThreadWorker):
    """gunicorn's threads, which a few clients that dawdle would otherwise hold for ever.

    A connection that sends nothing gets no thread; what is not read whole within READ_SECONDS is cut off
    there, and what is not answered within `timeout` is dropped. What is not HTTP at all, and so never reaches
    the application, is answered with problem+json too.
    """

    def init_process(self):
        self._busy = {}  # connection -> when a thread took it
        super().init_process()

    def handle(self, conn):
        if not conn.initialized and not conn.wait_for_data(0):
            return _DEFER
        self._busy[conn] = time.monotonic()
        try:
            return super().handle(conn)
        finally:
            del self._busy[conn]

    def murder_keepalived(self, force=False):
        """Called about once a second by the worker's main loop."""
        super().murder_keepalived(force)
        for conn, since in list(self._busy.items()):
            seconds = time.monotonic() - since
            if seconds > READ_SECONDS:
                with suppress(OSError):
                    conn.sock.shutdown(socket.SHUT_RDWR if seconds > self.cfg.timeout else socket.SHUT_RD)

    def handle_error(self, req, client, addr, exc):
        super().handle_error(req, _ProblemWriter(client), addr, exc)


class _ProblemWriter:
    """A socket that rewrites gunicorn's HTML error page."""

    def __init__(self, sock):
        self._sock = sock

    def __getattr__(self, name):
        return getattr(self._sock, name)

    def sendall(self, page):
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


def on_starting(server):
    """Refuse to be open to others in development, and begin with no counts of an earlier run."""
    try:
        for host, _port in (address for address in server.cfg.address if isinstance(address, tuple)):
            _settings.require_bind(host)
    except ConfigError as error:
        sys.exit(str(error))
    _metrics.mkdir(parents=True, exist_ok=True)
    for file in _metrics.glob("*.db"):
        file.unlink()


def child_exit(server, worker):
    from prometheus_client.multiprocess import mark_process_dead

    mark_process_dead(worker.pid, str(_metrics))


def on_exit(server):
    shutil.rmtree(_metrics, ignore_errors=True)
