"""Each request has an id, and a line in the log and a count once it is answered."""

import re
import secrets
import time
from collections.abc import Callable, Iterable
from typing import Any

import structlog
from flask import Flask, has_request_context, request

log = structlog.get_logger("kibotos.http")

_SANE_REQUEST_ID = re.compile(r"[A-Za-z0-9._-]{8,64}")
_ID = "kibotos.request_id"

# What counts a request: its method, the pattern of its route, its status and its seconds.
Count = Callable[[str, str, int, float], None]


def request_id() -> str:
    """The id of the request being served, or a new one outside of a request."""
    return (has_request_context() and request.environ.get(_ID)) or _new_id()


def _new_id() -> str:
    return secrets.token_hex(16)


def _choose_request_id(environ: dict[str, Any]) -> str:
    """The caller's own X-Request-ID if it is 8 to 64 letters, digits, dots, dashes or underscores."""
    given = environ.get("HTTP_X_REQUEST_ID")
    return given if given and _SANE_REQUEST_ID.fullmatch(given) else _new_id()


def init_app(app: Flask, count: Count) -> None:
    """Give each request an id, bind it to each log line, and log and count the request when it is answered.

    This goes around Flask, since its hooks and its Headers take three times as long for the same.
    """
    app.wsgi_app = _Followed(app.wsgi_app, count)  # type: ignore[method-assign]


class _Followed:
    """A WSGI application whose requests are logged and counted."""

    def __init__(self, application: Callable, count: Count):
        self._application = application
        self._count = count

    def __call__(self, environ: dict[str, Any], start_response: Callable) -> Iterable[bytes]:
        began = time.perf_counter()
        environ[_ID] = id = _choose_request_id(environ)
        structlog.contextvars.clear_contextvars()
        structlog.contextvars.bind_contextvars(request_id=id)

        def start(status: str, headers: list[tuple[str, str]], *error: Any) -> Callable:
            headers += [("X-Request-ID", id), ("X-Content-Type-Options", "nosniff")]
            seconds = time.perf_counter() - began
            served = environ["werkzeug.request"]
            method, code = served.method, int(status[:3])
            log.info("request", method=method, path=served.path, status=code, ms=round(seconds * 1000, 1))
            self._count(method, served.url_rule.rule if served.url_rule else "none", code, seconds)
            return start_response(status, headers, *error)

        return self._application(environ, start)
