"""The download of a video, by its URL: one way for our workers and for remote evaluators."""

import hashlib
import time
from collections.abc import Callable
from http import HTTPStatus
from pathlib import Path

import requests
import structlog

from app.clients.http import CHUNK_BYTES, exchange, find_redirect, read_bounded
from app.clients.retry import RetryableError, retry_after, retrying
from app.enums import Dependency
from app.errors import TransientError
from app.video.ffmpeg import MediaFault

log = structlog.get_logger(__name__)

# all attempts together
PATIENCE_SECONDS = 300.0
MAX_ATTEMPTS = 4
MAX_REFUSAL_BYTES = 64 * 1024
# A store that does not find an object is asked once more, this much later, before it is believed.
MISSING_AFTER_SECONDS = 4.0


class Missing(MediaFault):
    """Storage says, twice, that there is no such object."""


class _NotFound(Exception):
    """Storage said that there is no such object."""


def download(url: str, path: Path, max_bytes: int, check_lease: Callable[[], None]) -> str:
    """Stream what is at `url` into `path`, and return its SHA-256 in hex. Memory stays flat.

    Resets, timeouts, short answers, 429 and 5xx are tried again. Raises Missing if storage says twice
    that there is no such object, MediaFault if it has more than `max_bytes`; TransientError for all else.
    """
    deadline = time.monotonic() + PATIENCE_SECONDS
    attempts = retrying(MAX_ATTEMPTS, PATIENCE_SECONDS, check_lease)
    try:
        try:
            return attempts(_attempt, url, path, max_bytes, deadline, check_lease)
        except _NotFound:
            time.sleep(MISSING_AFTER_SECONDS)
            return attempts(_attempt, url, path, max_bytes, deadline, check_lease)
    except _NotFound as error:
        raise Missing("There is no file under its video_key. Upload it before you submit it.") from error
    except RetryableError as error:
        raise TransientError(
            f"Storage: {error}.", dependency=Dependency.STORAGE, retry_after=error.retry_after
        ) from error
    except OSError as error:
        raise TransientError(f"The download could not be written: {error.strerror}.") from error


def _attempt(url: str, path: Path, max_bytes: int, deadline: float, check_lease: Callable[[], None]) -> str:
    digest = hashlib.sha256()
    received = 0
    try:
        with exchange("GET", url, deadline) as response, path.open("wb") as file:
            _check_status(response, deadline)
            # the bytes as they are stored, whatever encoding they were uploaded with
            while chunk := response.raw.read1(CHUNK_BYTES, decode_content=False):
                received += len(chunk)
                if received > max_bytes:
                    raise MediaFault(f"It is larger than {max_bytes / 1e6:g} MB. Submit a smaller file.")
                digest.update(chunk)
                file.write(chunk)
                check_lease()
            # a body of unknown length that was cut looks like one that has ended
            if time.monotonic() >= deadline:
                raise RetryableError("it takes too long")
    except RetryableError as error:
        log.warning("download_interrupted", error=str(error), received=received)
        raise
    return digest.hexdigest()


def _check_status(response: requests.Response, deadline: float) -> None:
    status = response.status_code
    if status == HTTPStatus.OK:
        return
    # only that very answer speaks of the object: a missing bucket is a 404, too
    said = read_bounded(response, MAX_REFUSAL_BYTES, deadline)
    log.warning("download_refused", status=status)
    if status == HTTPStatus.NOT_FOUND and b"NoSuchKey" in said:
        raise _NotFound
    if status == HTTPStatus.TOO_MANY_REQUESTS or status >= 500:
        wait = retry_after(response.headers.get("Retry-After"))
        raise RetryableError(f"it answered with status {status}", wait)
    to = f", to {where}" if (where := find_redirect(response)) else ""
    raise TransientError(
        f"Storage refused the download with status {status}{to}.", dependency=Dependency.STORAGE
    )
