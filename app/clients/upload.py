"""The upload of a file to a presigned address, in one piece."""

import time
from collections.abc import Callable, Iterator
from http import HTTPStatus
from pathlib import Path
from typing import BinaryIO

import requests

from app.clients.backend import Refused
from app.clients.http import exchange, find_redirect, read_bounded
from app.clients.retry import RetryableError, retry_after, retrying
from app.errors import Unavailable

CHUNK_BYTES = 256 * 1024
UPLOAD_ATTEMPTS = 8
UPLOAD_PATIENCE_SECONDS = 1800.0
# of one attempt: 500 MB at half a megabit a second take 2.2 hours
ATTEMPT_SECONDS = 4 * 3600.0
# storage is silent until it has stored all of a file
IDLE_SECONDS = 120.0
MAX_ANSWER_BYTES = 64 * 1024

Progress = Callable[[int], None]


def put(url: str, headers: dict[str, str], path: Path, progress: Progress) -> None:
    """Stream a file to a presigned address. Memory stays flat; a broken connection starts it over.

    Storage takes a presigned upload whole or not at all, so there is no half to go on from. Raises Refused
    if storage refuses it, and Unavailable when it stays away.
    """
    try:
        retrying(UPLOAD_ATTEMPTS, UPLOAD_PATIENCE_SECONDS)(_put, url, headers, path, progress)
    except RetryableError as error:
        raise Unavailable(f"The upload failed: {error}. Run the command again.") from error


def _put(url: str, headers: dict[str, str], path: Path, progress: Progress) -> None:
    with path.open("rb") as file:
        send(url, headers, Counted(file, path.stat().st_size, progress), ATTEMPT_SECONDS, IDLE_SECONDS)


def send(
    url: str, headers: dict[str, str], body: "Counted", seconds: float, idle_seconds: float
) -> requests.Response:
    """PUT `body` to a presigned address and return the answer.

    Raises RetryableError for what may pass: a broken connection, a store that is away, bytes that were
    damaged on the way. Raises Refused for all else.
    """
    deadline = time.monotonic() + seconds
    with exchange("PUT", url, deadline, headers=headers, data=body, idle_seconds=idle_seconds) as answer:
        said = read_bounded(answer, MAX_ANSWER_BYTES, deadline).decode(errors="replace")[:300]
    status = answer.status_code
    if status >= 500 or status == HTTPStatus.TOO_MANY_REQUESTS or "<Code>BadDigest</Code>" in said:
        raise RetryableError(f"storage answered {status}", retry_after(answer.headers.get("Retry-After")))
    if where := find_redirect(answer):
        raise Refused(
            status,
            f"Storage redirects the upload to {where} and has stored nothing; tell the operator of the "
            "backend to check S3_REGION and S3_PUBLIC_ENDPOINT.",
        )
    if not 200 <= status < 300:
        raise Refused(status, f"Storage refused the upload with status {status}: {said}")
    return answer


class Counted:
    """A file that tells how much of it was read; its length becomes the Content-Length."""

    def __init__(self, file: BinaryIO, size: int, progress: Progress):
        self._file = file
        self._size = size
        self._progress = progress
        self._sent = 0

    def __len__(self) -> int:
        return self._size

    def __iter__(self) -> Iterator[bytes]:
        while chunk := self.read(CHUNK_BYTES):
            yield chunk

    def read(self, size: int = CHUNK_BYTES) -> bytes:
        chunk = self._file.read(size)
        self._sent += len(chunk)
        self._progress(self._sent)
        return chunk
