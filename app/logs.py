"""Logs: one line an event on stdout, for people in a terminal and JSON otherwise."""

import logging
import re
import sys
import time
import uuid
from typing import Any, TextIO

import structlog
from flask import Flask, Response, g, has_request_context, request
from werkzeug.datastructures import Headers

log = structlog.get_logger("kibotos.http")

_SANE_REQUEST_ID = re.compile(r"[A-Za-z0-9._-]{8,64}")


def configure(level: str, log_format: str, stream: TextIO | None = None) -> None:
    """Send every logger of the process, the libraries' too, through one formatter to `stream` (stdout).

    `log_format` is `console`, `json` or `auto` (console where the stream is a terminal).
    """
    stream = stream or sys.stdout
    shared: list[Any] = [
        structlog.contextvars.merge_contextvars,
        structlog.stdlib.add_log_level,
        structlog.stdlib.add_logger_name,
        structlog.processors.TimeStamper(fmt="iso", utc=True),
    ]
    pretty = log_format == "console" or (log_format == "auto" and stream.isatty())
    render: list[Any] = (
        [structlog.dev.ConsoleRenderer()]
        if pretty
        else [structlog.processors.format_exc_info, structlog.processors.JSONRenderer()]
    )
    handler = logging.StreamHandler(stream)
    handler.setFormatter(
        structlog.stdlib.ProcessorFormatter(
            foreign_pre_chain=shared,
            processors=[structlog.stdlib.ProcessorFormatter.remove_processors_meta, *render],
        )
    )
    root = logging.getLogger()
    root.handlers = [handler]
    root.setLevel(level)
    for noisy in ("botocore", "boto3", "urllib3", "s3transfer", "bittensor", "websockets"):
        logging.getLogger(noisy).setLevel(max(logging.WARNING, logging.getLevelName(level)))
    structlog.configure(
        processors=[
            structlog.stdlib.filter_by_level,
            *shared,
            structlog.stdlib.PositionalArgumentsFormatter(),
            structlog.stdlib.ProcessorFormatter.wrap_for_formatter,
        ],
        logger_factory=structlog.stdlib.LoggerFactory(),
        wrapper_class=structlog.stdlib.BoundLogger,
        cache_logger_on_first_use=True,
    )


def request_id() -> str:
    """The id of the request being served, or a new one outside of a request."""
    if has_request_context() and "request_id" in g:
        return g.request_id
    return uuid.uuid4().hex


def choose_request_id(headers: Headers) -> str:
    """The caller's own X-Request-ID if it is 8 to 64 letters, digits, dots, dashes or underscores."""
    given = headers.get("X-Request-ID", "")
    return given if _SANE_REQUEST_ID.fullmatch(given) else uuid.uuid4().hex


def init_app(app: Flask) -> None:
    """Give each request an id, bind it to each log line and log the request when it is answered."""

    @app.before_request
    def begin() -> None:
        g.request_id = choose_request_id(request.headers)
        g.began = time.perf_counter()
        structlog.contextvars.clear_contextvars()
        structlog.contextvars.bind_contextvars(request_id=g.request_id)

    @app.after_request
    def end(response: Response) -> Response:
        response.headers["X-Request-ID"] = request_id()
        log.info(
            "request",
            method=request.method,
            path=request.path,
            status=response.status_code,
            ms=round((time.perf_counter() - g.get("began", time.perf_counter())) * 1000, 1),
        )
        return response
