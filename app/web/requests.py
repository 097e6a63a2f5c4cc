"""Each request has an id, and a line in the log once it is answered."""

import re
import time
import uuid
from typing import Any

import structlog
from flask import Flask, Response, g, has_request_context, request

log = structlog.get_logger("kibotos.http")

_SANE_REQUEST_ID = re.compile(r"[A-Za-z0-9._-]{8,64}")


def request_id() -> str:
    """The id of the request being served, or a new one outside of a request."""
    if has_request_context() and "request_id" in g:
        return g.request_id
    return uuid.uuid4().hex


def _choose_request_id(environ: dict[str, Any]) -> str:
    """The caller's own X-Request-ID if it is 8 to 64 letters, digits, dots, dashes or underscores."""
    given = environ.get("HTTP_X_REQUEST_ID", "")
    return given if _SANE_REQUEST_ID.fullmatch(given) else uuid.uuid4().hex


def init_app(app: Flask) -> None:
    """Give each request an id, bind it to each log line and log the request when it is answered."""

    @app.before_request
    def begin() -> None:
        g.request_id = _choose_request_id(request.environ)
        g.began = time.perf_counter()
        structlog.contextvars.clear_contextvars()
        structlog.contextvars.bind_contextvars(request_id=g.request_id)

    @app.after_request
    def end(response: Response) -> Response:
        response.headers["X-Request-ID"] = g.request_id
        response.headers["X-Content-Type-Options"] = "nosniff"
        log.info(
            "request",
            method=request.method,
            path=request.path,
            status=response.status_code,
            ms=round((time.perf_counter() - g.began) * 1000, 1),
        )
        return response
