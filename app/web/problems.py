"""The one place where any error becomes an `application/problem+json` answer."""

import math

import structlog
from flask import Flask, Response, json, request
from sqlalchemy.exc import DBAPIError
from sqlalchemy.exc import TimeoutError as PoolTimeout
from werkzeug.exceptions import HTTPException

from app.db import describe, is_away
from app.errors import (
    BODY_TOO_LARGE,
    RETRY_AFTER_SECONDS,
    UNEXPECTED,
    DomainError,
    Invalid,
    Unauthorized,
    problem_document,
)
from app.web.requests import request_id

log = structlog.get_logger(__name__)


def problem(
    status: int,
    detail: str,
    errors: list[dict[str, str]] | None = None,
    retry_after: float | None = None,
) -> Response:
    """Build the RFC 9457 answer for `status`."""
    body = problem_document(status, detail, request_id())
    if errors is not None:
        body["errors"] = errors
    response = Response(json.dumps(body), status=status, mimetype="application/problem+json")
    if retry_after is not None:
        response.headers["Retry-After"] = str(max(1, math.ceil(retry_after)))
    return response


def _domain_error(error: DomainError) -> Response:
    errors = error.errors if isinstance(error, Invalid) else None
    if errors:
        # the request's line in the log names them
        structlog.contextvars.bind_contextvars(fields=[item["field"] for item in errors])
    response = problem(error.status, error.detail, errors, error.retry_after)
    if isinstance(error, Unauthorized):
        response.headers["WWW-Authenticate"] = error.challenge
    return response


# Sentences for what the framework itself refuses.
_FRAMEWORK_DETAILS = {
    404: "There is nothing at this address; GET /openapi.json lists every endpoint.",
    405: "This address does not accept the method {method}; use {allowed}.",
    413: BODY_TOO_LARGE,
}


def _http_exception(error: HTTPException) -> Response:
    status = error.code or 500
    allowed = ", ".join(sorted(getattr(error, "valid_methods", None) or []))
    detail = _FRAMEWORK_DETAILS.get(status, "The request could not be served; check how it was built.")
    response = problem(status, detail.format(method=request.method[:20], allowed=allowed))
    if allowed:
        response.headers["Allow"] = allowed
    return response


def _database_error(error: Exception) -> Response:
    """503 while PostgreSQL is out of reach or has no free connection. Any other database error is a bug."""
    if not is_away(error):
        return _unexpected(error)
    log.warning("database_unavailable", error=describe(error))
    return problem(
        503, "The database is out of reach at the moment; try again shortly.", retry_after=RETRY_AFTER_SECONDS
    )


def _unexpected(error: Exception) -> Response:
    log.exception("unexpected_error", exc_info=error)
    return problem(500, UNEXPECTED)


def init_app(app: Flask) -> None:
    """Answer every error of `app` with problem+json."""
    app.register_error_handler(DomainError, _domain_error)
    app.register_error_handler(HTTPException, _http_exception)
    app.register_error_handler(DBAPIError, _database_error)
    app.register_error_handler(PoolTimeout, _database_error)
    app.register_error_handler(Exception, _unexpected)
