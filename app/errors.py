"""The errors that callers are told about, and transient errors."""

from http import HTTPStatus
from typing import Any

from app.enums import Dependency

RETRY_AFTER_SECONDS = 5
BODY_TOO_LARGE = "The request body is larger than 1 MiB; send a smaller one."
UNEXPECTED = "Something failed on our side; report it with the request_id and try again later."


class DomainError(Exception):
    """A request or job that cannot be done. `detail` is a sentence that tells the caller what to do."""

    status = HTTPStatus.INTERNAL_SERVER_ERROR
    retry_after: float | None = None

    def __init__(self, detail: str):
        super().__init__(detail)
        self.detail = detail


class BadRequest(DomainError):
    status = HTTPStatus.BAD_REQUEST


class Unauthorized(DomainError):
    """The credentials are missing or wrong. `challenge` is the scheme that WWW-Authenticate names."""

    status = HTTPStatus.UNAUTHORIZED

    def __init__(self, detail: str, challenge: str = "Bearer"):
        super().__init__(detail)
        self.challenge = challenge


class Forbidden(DomainError):
    status = HTTPStatus.FORBIDDEN


class NotFound(DomainError):
    status = HTTPStatus.NOT_FOUND


class Conflict(DomainError):
    status = HTTPStatus.CONFLICT


class UnsupportedMediaType(DomainError):
    status = HTTPStatus.UNSUPPORTED_MEDIA_TYPE


class Invalid(DomainError):
    """One or more fields of a request are wrong: `errors` is a list of {field, message}."""

    status = HTTPStatus.UNPROCESSABLE_ENTITY

    def __init__(self, detail: str, errors: list[dict[str, str]]):
        super().__init__(detail)
        self.errors = errors


def problem_document(status: int, detail: str, request_id: str) -> dict[str, Any]:
    """Return the members that every problem+json answer (RFC 9457) of ours has."""
    return {
        "type": "about:blank",
        "title": HTTPStatus(status).phrase,
        "status": int(status),
        "detail": detail,
        "request_id": request_id,
    }


def invalid_field(field: str, message: str) -> Invalid:
    """Return the Invalid for a single wrong field."""
    return Invalid(f"Correct the field {field}: {message}", [{"field": field, "message": message}])


class TooManyRequests(DomainError):
    status = HTTPStatus.TOO_MANY_REQUESTS

    def __init__(self, detail: str, retry_after: float):
        super().__init__(detail)
        self.retry_after = retry_after


class Unavailable(DomainError):
    """PostgreSQL, Redis, storage or the VLM is out of reach. The caller has done nothing wrong."""

    status = HTTPStatus.SERVICE_UNAVAILABLE

    def __init__(self, detail: str, retry_after: float = RETRY_AFTER_SECONDS):
        super().__init__(detail)
        self.retry_after = retry_after


class TransientError(Exception):
    """Storage, the VLM, a disk or a process failed. The submission is tried again. Its miner loses nothing.

    `dependency` is what failed, or None. The failure counts against its circuit breaker. `retry_after` is the
    number of seconds to wait at least, if it is known. `suspect_video`: the machine seems to be in order, so
    the video is probably the cause, but nothing proves it.
    """

    def __init__(
        self,
        reason: str,
        dependency: Dependency | None = None,
        retry_after: float | None = None,
        suspect_video: bool = False,
    ):
        super().__init__(reason)
        self.reason = reason
        self.dependency = dependency
        self.retry_after = retry_after
        self.suspect_video = suspect_video


class ChangingVideo(TransientError):
    """Storage returned other bytes each time. Only the owner of the upload address can cause that."""

    def __init__(self, reason: str):
        super().__init__(reason, suspect_video=True)


class Deferred(TransientError):
    """Nothing failed, but the submission must wait for `retry_after` seconds. It is no fault."""
