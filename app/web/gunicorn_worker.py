"""gunicorn's worker and logger, as gunicorn_settings.py names them."""

import json
import logging
import os
import time
import uuid
from http import HTTPStatus
from typing import Any

from gunicorn.glogging import Logger
from gunicorn.workers.base import Worker
from waitress import create_server, wasyncore
from waitress.channel import HTTPChannel
from waitress.parser import HTTPRequestParser
from waitress.server import BaseWSGIServer
from waitress.task import ErrorTask

from app import logs
from app.config import Settings

# a request must be whole so long after its first byte
READ_SECONDS = 30
# A body up to here is read to its end and then refused by the application: whoever is refused while he still
# sends may lose the answer.
MAX_READ_BYTES = 16 * 2**20
MAX_CONNECTIONS = 1000


class PlainLogger(Logger):
    """Hands gunicorn's own lines to our formatter."""

    def setup(self, cfg: Any) -> None:
        super().setup(cfg)
        settings = Settings.from_environ()
        logs.configure(settings.log_level, settings.log_format)
        self.error_log.propagate = True


class BufferingWorker(Worker):
    """Serves by waitress: a request gets a thread when it is whole, and keeps it until it is answered.

    gunicorn's own threads read from the socket and write to it, so as many slow clients as there are threads
    stop a process. Here they cost a connection each.
    """

    def run(self) -> None:
        # a line for each request that waits for a thread
        logging.getLogger("waitress.queue").setLevel(logging.ERROR)
        sockets: dict[int, Any] = {}
        create_server(
            self.wsgi,
            map=sockets,
            sockets=[listener.sock for listener in self.sockets],
            threads=self.cfg.threads,
            connection_limit=MAX_CONNECTIONS,
            channel_timeout=self.cfg.keepalive,
            cleanup_interval=1,
            max_request_body_size=MAX_READ_BYTES,
            outbuf_high_watermark=2**30,
            asyncore_use_poll=True,
            clear_untrusted_proxy_headers=False,
        )
        while self.alive and os.getppid() == self.ppid:
            self._serve(sockets)
        for listener in _all(sockets, BaseWSGIServer):
            listener.close()
        deadline = time.monotonic() + self.cfg.graceful_timeout
        while any(map(_is_owed_an_answer, _all(sockets, HTTPChannel))) and time.monotonic() < deadline:
            self._serve(sockets)

    def _serve(self, sockets: dict[int, Any]) -> None:
        """Move what there is to read and write, for a second at the most."""
        self.notify()
        wasyncore.loop(timeout=1, use_poll=True, map=sockets, count=1)
        for channel in _all(sockets, HTTPChannel):
            if channel.request and time.monotonic() - channel.request.began > READ_SECONDS:
                channel.will_close = True


def _all(sockets: dict[int, Any], kind: type) -> list[Any]:
    return [each for each in sockets.values() if isinstance(each, kind)]


def _is_owed_an_answer(channel: HTTPChannel) -> bool:
    return bool(channel.requests or channel.total_outbufs_len)


class _TimedRequest(HTTPRequestParser):
    def __init__(self, adj: Any):
        super().__init__(adj)
        self.began = time.monotonic()


class _Problem(ErrorTask):
    """Answers what is not HTTP, and so never reaches the application, with problem+json too."""

    def execute(self) -> None:
        error = self.request.error
        request_id = uuid.uuid4().hex
        body = json.dumps(
            {
                "type": "about:blank",
                "title": HTTPStatus(error.code).phrase,
                "status": error.code,
                "detail": "The server could not read this as an HTTP request; check how it was built.",
                "request_id": request_id,
            }
        ).encode()
        self.status = f"{error.code} {error.reason}"
        self.response_headers += [("Content-Type", "application/problem+json"), ("X-Request-ID", request_id)]
        self.set_close_on_finish()
        self.content_length = len(body)
        self.write(body)


HTTPChannel.parser_class = _TimedRequest
HTTPChannel.error_task_class = _Problem
