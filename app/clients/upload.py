"""The upload of a file to a presigned address."""

from collections.abc import Callable, Iterator
from http import HTTPStatus
from pathlib import Path
from typing import BinaryIO

import requests

from app.clients.backend import Refused
from app.clients.retry import RetryableError, retrying
from app.errors import Unavailable

CHUNK_BYTES = 256 * 1024
UPLOAD_ATTEMPTS = 8
UPLOAD_PATIENCE_SECONDS = 1800.0

Progress = Callable[[int], None]


def put(url: str, headers: dict[str, str], path: Path, progress: Progress) -> None:
    """Stream a file to a presigned address. Memory stays flat; a broken connection starts it over.

    Storage takes a presigned upload whole or not at all, so there is no half to go on from. Raises Refused
    if storage refuses it, and Unavailable when it stays away.
    """
    try:
        retrying(UPLOAD_ATTEMPTS, UPLOAD_PATIENCE_SECONDS)(_put, url, headers, path, progress)
    except RetryableError as error:
        raise Unavailable(f"The upload failed: {error}. Run the command again to try anew.") from error


def _put(url: str, headers: dict[str, str], path: Path, progress: Progress) -> None:
    try:
        with path.open("rb") as file:
            body = _Counted(file, path.stat().st_size, progress)
            answer = requests.put(url, data=body, headers=headers, timeout=(10, 120), allow_redirects=False)
    except requests.RequestException as error:
        raise RetryableError(f"the connection broke ({type(error).__name__})") from error
    if answer.status_code >= 500 or answer.status_code == HTTPStatus.TOO_MANY_REQUESTS:
        raise RetryableError(f"storage answered {answer.status_code}")
    if not answer.ok:
        raise Refused(answer.status_code, f"Storage refused the upload: {answer.text[:300]}")


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
