"""The exceptions that callers are told about, and those that pass."""

from http import HTTPStatus

from app.enums import Dependency

RETRY_AFTER_SECONDS = 5


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
    """No or bad credentials; `challenge` is the scheme that WWW-Authenticate names."""

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


def invalid_field(field: str, message: str) -> Invalid:
    """Return the Invalid for a single wrong field."""
    return Invalid(f"Correct the field {field}: {message}", [{"field": field, "message": message}])


class TooManyRequests(DomainError):
    status = HTTPStatus.TOO_MANY_REQUESTS

    def __init__(self, detail: str, retry_after: float):
        super().__init__(detail)
        self.retry_after = retry_after


class Unavailable(DomainError):
    """PostgreSQL, Redis, storage or the VLM is out of reach: our fault, not the caller's."""

    status = HTTPStatus.SERVICE_UNAVAILABLE

    def __init__(self, detail: str, retry_after: float = RETRY_AFTER_SECONDS):
        super().__init__(detail)
        self.retry_after = retry_after


class TransientError(Exception):
    """Storage, the VLM, a disk or a process failed: the submission goes back and its miner loses nothing.

    `dependency` is the one that is to blame (it counts against its circuit breaker), or None.
    `retry_after` is how many seconds to wait at the least, where that is known. `suspect_video`: nothing is
    found wrong with the machine, so that only the video is left to blame, though nothing proves it.
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
    """Storage gave other bytes each time: only who holds the upload's address can bring that about."""

    def __init__(self, reason: str):
        super().__init__(reason, suspect_video=True)


class Deferred(TransientError):
    """Nothing failed, but it has to wait for `retry_after` seconds: goes back without counting as a fault."""
