"""Where a backend's answers are read: at the backend, and at its mirror while the backend is away."""

import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from http import HTTPStatus
from typing import BinaryIO
from urllib.parse import urljoin

import requests

from app.clients.backend import find_detail
from app.clients.http import CHUNK_BYTES, exchange, find_redirect, read_bounded
from app.clients.retry import RetryableError
from app.terminal import printable


class NoAnswer(Exception):
    """The site gives no answer now, but may later; the message is a sentence about why."""


class NotThere(Exception):
    """The site has no such thing; the message is a sentence."""


class NotAsPublished(NoAnswer):
    """The site itself says that it no longer has what it once published; the message is a sentence."""


class LeadsElsewhere(Exception):
    """The site redirects; the message is a sentence about what to do."""


@dataclass(frozen=True)
class Paths:
    """Where a site has what; {} is the cycle."""

    latest: str
    weights: str
    head: str
    ledger: str


BACKEND_PATHS = Paths(
    "/v1/weights/latest", "/v1/weights/{}", "/v1/cycles/{}/ledger/head", "/v1/cycles/{}/ledger"
)
MIRROR_PATHS = Paths("/weights/latest.json", "/weights/{}.json", "/heads/{}.json", "/ledgers/{}.jsonl.zst")


@dataclass(frozen=True)
class Site:
    """A place with a backend's answers. `called` is its name in sentences, `option` gave its address.

    `seconds` are for a whole answer, however slowly it comes.
    """

    name: str
    called: str
    url: str
    option: str
    paths: Paths
    seconds: float = 30.0

    @classmethod
    def backend(cls, url: str, seconds: float = 30.0) -> "Site":
        return cls("backend", "The backend", url.rstrip("/"), "--backend-url", BACKEND_PATHS, seconds)

    @classmethod
    def mirror(cls, url: str, seconds: float = 30.0) -> "Site":
        return cls("mirror", "The mirror", url.rstrip("/"), "--mirror-url", MIRROR_PATHS, seconds)

    @property
    def is_mirror(self) -> bool:
        return self.paths is MIRROR_PATHS

    def read(self, path: str, max_bytes: int) -> bytes:
        """Return what is at `path`. Raises NoAnswer, NotThere, NotAsPublished or LeadsElsewhere."""
        deadline = time.monotonic() + self.seconds
        with self._answered(path), exchange("GET", self.url + path, deadline) as answer:
            content = read_bounded(answer, max_bytes, deadline)
        if where := find_redirect(answer):
            raise LeadsElsewhere(
                f"{self.called} redirects to {where}, and redirects are not followed. "
                f"If you trust that address, name it by {self.option}."
            )
        if answer.status_code == HTTPStatus.CONFLICT:
            said = " ".join(find_detail(answer, content).split())
            raise NotAsPublished(f"{self.called} says: {printable(said)}")
        self._check_status(path, answer)
        return content

    def download(self, path: str, file: BinaryIO, max_bytes: int, seconds: float) -> None:
        """Write what is at `path` to a file. One redirect is followed: who reads the file must check it.

        Raises NoAnswer, NotThere or LeadsElsewhere.
        """
        deadline = time.monotonic() + seconds
        url = self.url + path
        for _ in range(2):
            with self._answered(path), exchange("GET", url, deadline) as answer:
                if not find_redirect(answer):
                    self._check_status(path, answer)
                    self._copy(answer, file, max_bytes, deadline)
                    return
            url = urljoin(url, answer.headers["Location"])
        raise LeadsElsewhere(f"{self.called} redirects more than once. Its operator must mend that.")

    def _copy(self, answer: requests.Response, file: BinaryIO, max_bytes: int, deadline: float) -> None:
        size = 0
        while chunk := answer.raw.read1(CHUNK_BYTES, decode_content=False):
            size += len(chunk)
            if size > max_bytes:
                raise RetryableError(f"its answer is larger than {max_bytes} bytes")
            file.write(chunk)
        # what was cut at the deadline looks like one that has ended
        if time.monotonic() >= deadline:
            raise RetryableError("it takes too long")

    @contextmanager
    def _answered(self, path: str) -> Iterator[None]:
        try:
            yield
        except RetryableError as error:
            raise NoAnswer(f"{self.called} gave no answer: {error}.") from error

    def _check_status(self, path: str, answer: requests.Response) -> None:
        # a store answers 403 for what is not there, if it lets nobody list
        missing = {HTTPStatus.NOT_FOUND} | ({HTTPStatus.FORBIDDEN} if self.is_mirror else set())
        if answer.status_code in missing:
            raise NotThere(f"{self.called} has no {path}.")
        if answer.status_code == HTTPStatus.SERVICE_UNAVAILABLE:
            raise NoAnswer(f"{self.called} answered with status 503. Try again in a minute.")
        if answer.status_code != HTTPStatus.OK:
            raise NoAnswer(f"{self.called} answered with status {answer.status_code}.")
