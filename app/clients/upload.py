"""The upload of a file to a presigned address."""

import time
from collections.abc import Callable, Iterator
from http import HTTPStatus
from pathlib import Path
from typing import BinaryIO

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
    deadline = time.monotonic() + ATTEMPT_SECONDS
    with path.open("rb") as file:
        body = _Counted(file, path.stat().st_size, progress)
        with exchange("PUT", url, deadline, headers=headers, data=body, idle_seconds=IDLE_SECONDS) as answer:
            said = read_bounded(answer, MAX_ANSWER_BYTES, deadline).decode(errors="replace")[:300]
    status = answer.status_code
    if status >= 500 or status == HTTPStatus.TOO_MANY_REQUESTS:
        raise RetryableError(f"storage answered {status}", retry_after(answer.headers.get("Retry-After")))
    if where := find_redirect(answer):
        raise Refused(
            status,
            f"Storage redirects the upload to {where} and has stored nothing; tell the operator of the "
            "backend to check S3_REGION and S3_PUBLIC_ENDPOINT.",
        )
    if not 200 <= status < 300:
        raise Refused(status, f"Storage refused the upload with status {status}: {said}")


class _Counted:
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
