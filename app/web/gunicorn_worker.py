"""gunicorn's worker and logger, as gunicorn_settings.py names them."""

import asyncio
import os
import socket
import sys
import time
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from http import HTTPStatus
from threading import get_ident
from typing import Any

import structlog
from gunicorn.glogging import Logger
from gunicorn.workers.base import Worker

from app import logs
from app.config import Settings
from app.errors import UNEXPECTED
from app.web.connection import Connection, Environ, Origin, call, problem

log = structlog.get_logger(__name__)


class PlainLogger(Logger):
    """Hands gunicorn's own lines to our formatter."""

    def setup(self, cfg: Any) -> None:
        super().setup(cfg)
        settings = Settings.from_environ()
        logs.configure(settings.log_level, settings.log_format)
        self.error_log.propagate = True


class BufferingWorker(Worker):
    """Gives a request a thread only when the request is complete. No thread is held to send the answer.

    So a slow client costs a connection and no thread. gunicorn's own threads read from the socket and write
    to it, so a few slow clients can stop a process. This class uses gunicorn's base class of workers and its
    settings, and no private parts.
    """

    @classmethod
    def check_config(cls, cfg: Any, _log: Any) -> None:
        if cfg.is_ssl:
            sys.exit(
                "TLS is for a proxy in front, see deploy/nginx/; start gunicorn without certfile and keyfile."
            )

    def run(self) -> None:
        asyncio.run(self._run())

    async def _run(self) -> None:
        self._loop = asyncio.get_running_loop()
        self._pool = ThreadPoolExecutor(self.cfg.threads)
        self.alive: bool
        self.connections: dict[Connection, None] = {}
        self._opening: set[asyncio.Task] = set()
        # since when each thread that is busy is so
        self._busy_since: dict[int, float] = {}
        self.keepalive_seconds = self.cfg.keepalive
        self.answer_seconds = self.cfg.timeout
        for listener in self.sockets:
            listener.setblocking(False)
            self._listen(listener.sock)
        while self.alive and os.getppid() == self.ppid:
            self._tick()
            await asyncio.sleep(1)
        self.alive = False
        for listener in self.sockets:
            self._loop.remove_reader(listener.sock)
        deadline = time.monotonic() + self.cfg.graceful_timeout
        while not all(each.is_waiting for each in self.connections) and time.monotonic() < deadline:
            self._tick()
            await asyncio.sleep(0.1)
        self._pool.shutdown(wait=False, cancel_futures=True)

    @property
    def is_stopping(self) -> bool:
        return not self.alive

    def _tick(self) -> None:
        now = time.monotonic()
        if not self._hangs(now):
            self.notify()
        for connection in list(self.connections):
            connection.check(now)

    def _hangs(self, now: float) -> bool:
        """Whether every thread has been at one request for longer than `timeout`: we are to be replaced."""
        busy_since = list(self._busy_since.values())
        return len(busy_since) == self.cfg.threads and now - max(busy_since) > self.cfg.timeout

    def _listen(self, listener: socket.socket) -> None:
        if self.alive:
            self._loop.add_reader(listener, self._accept, listener)

    def _accept(self, listener: socket.socket) -> None:
        """Accept one connection; its neighbour process may take the next."""
        try:
            if len(self.connections) + len(self._opening) >= self.cfg.worker_connections:
                self._make_room()
            client, _ = listener.accept()
        except (BlockingIOError, ConnectionAbortedError):
            return
        except OSError as error:
            # no room, or no file descriptors left: others go first
            log.warning("accepting_paused", error=str(error))
            self._loop.remove_reader(listener)
            self._loop.call_later(1, self._listen, listener)
            return
        client.setblocking(False)
        origin = Origin.of(listener)
        task = self._loop.create_task(
            self._loop.connect_accepted_socket(lambda: Connection(self, origin), client)
        )
        self._opening.add(task)
        task.add_done_callback(self._opening.discard)

    def _make_room(self) -> None:
        """Close the connection whose client we have waited for longest. Raise OSError if there is none."""
        waiting = [each for each in self.connections if each.is_waiting]
        if not waiting:
            raise OSError("all connections are being answered")
        min(waiting, key=lambda each: each.since).abort()

    def serve(self, connection: Connection, environ: Environ) -> None:
        """Let a thread call the application and then, in the loop, connection.send."""
        self.nr += 1
        if self.nr >= self.max_requests:
            self.alive = False
        self._pool.submit(self._answer, connection, environ)

    def _answer(self, connection: Connection, environ: Environ) -> None:
        self._busy_since[get_ident()] = time.monotonic()
        try:
            answer = call(self.wsgi, environ)
        except Exception:
            log.exception("unexpected_error")
            answer = problem(HTTPStatus.INTERNAL_SERVER_ERROR, UNEXPECTED)
        finally:
            del self._busy_since[get_ident()]
        # a loop that is closed: the process ends
        with suppress(RuntimeError):
            self._loop.call_soon_threadsafe(connection.send, answer)
