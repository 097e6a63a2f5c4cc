"""The upload of a file in parts, to presigned addresses: what has arrived is not sent again."""

import hashlib
import random
import threading
import time
from base64 import b64encode
from collections import deque
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import FIRST_COMPLETED, Future, ThreadPoolExecutor, wait
from dataclasses import dataclass
from io import BytesIO
from pathlib import Path

from app.clients.retry import RetryableError
from app.clients.upload import Counted, Progress, send
from app.errors import DomainError, Unavailable

# connections at a time, while none breaks
STREAMS = 4
# After a connection broke there is one, since what is in flight may be lost again. After so many parts that
# arrive there are twice as many.
CALM_PARTS = 16
# failures without a part that arrives in between
MAX_FAILURES = 40
LONGEST_PAUSE_SECONDS = 20.0
# if bytes were sent before the connection broke, so storage is not away
LONGEST_AFTER_CUT_SECONDS = 2.0
LONGEST_WANTED_SECONDS = 60.0
# of one part: 5 MiB at 25 kbit/s
PART_SECONDS = 1800.0
IDLE_SECONDS = 60.0
# An address that expires sooner is not used.
MARGIN_SECONDS = 60.0
# addresses that are asked for at once
BATCH = 50
# With one of these headers an ETag is no MD5, since the store encrypts with a key of its owner.
_OPAQUE_ETAG = (
    "x-amz-server-side-encryption-customer-algorithm",
    "x-amz-server-side-encryption-aws-kms-key-id",
)


@dataclass(frozen=True)
class Address:
    """Where a part goes, until the Unix time `good_until`."""

    url: str
    headers: Mapping[str, str]
    good_until: float


# part numbers -> where they go
Ask = Callable[[Sequence[int]], Mapping[int, Address]]


class FileChanged(DomainError):
    """The file is not the one any more whose upload was begun."""


class PartsUpload:
    """The upload of `path` in parts of `part_bytes`.

    `etags` has the ETag of each part that has arrived, None for the others. It is filled in, and `keep` is
    called after each change. `ask` gives the addresses of parts. `progress` gets the number of bytes that
    have arrived or are under way.
    """

    def __init__(
        self,
        path: Path,
        part_bytes: int,
        etags: list[str | None],
        ask: Ask,
        keep: Callable[[], None],
        progress: Progress,
    ):
        self._path = path
        self._size = path.stat().st_size
        self._part_bytes = part_bytes
        self._etags = etags
        self._ask = ask
        self._keep = keep
        self._progress = progress
        self._addresses: dict[int, Address] = {}
        self._sent = {number: self._length(number) for number, etag in enumerate(etags, 1) if etag}
        self._counting = threading.Lock()
        self._stopped = False

    def run(self) -> None:
        """Send what has not arrived yet, several parts at a time.

        Raises Refused if storage refuses a part, Unavailable if it stays away, and what `ask` raises.
        """
        missing = deque(number for number, etag in enumerate(self._etags, 1) if etag is None)
        running: dict[Future[str], int] = {}
        streams, calm, failures = STREAMS, 0, 0
        with ThreadPoolExecutor(STREAMS) as pool:
            try:
                while missing or running:
                    while missing and len(running) < streams:
                        address = self._address(missing)
                        number = missing.popleft()
                        running[pool.submit(self._put, number, address)] = number
                    for future in wait(running, return_when=FIRST_COMPLETED).done:
                        number = running.pop(future)
                        try:
                            self._etags[number - 1] = future.result()
                        except RetryableError as error:
                            missing.appendleft(number)
                            streams, calm, failures = 1, 0, failures + 1
                            if failures >= MAX_FAILURES:
                                raise Unavailable(
                                    f"The upload broke off: {error}. Run the command again, and it goes on "
                                    "from here."
                                ) from error
                            self._pause(number, failures, error.retry_after)
                        else:
                            self._keep()
                            calm, failures = calm + 1, 0
                            if calm % CALM_PARTS == 0:
                                streams = min(2 * streams, STREAMS)
            finally:
                # the threads end at their next piece
                self._stopped = True

    def _address(self, missing: Sequence[int]) -> Address:
        """Where the first of the missing parts goes."""
        known = self._addresses.get(missing[0])
        if known is None or known.good_until < time.time() + MARGIN_SECONDS:
            self._addresses |= self._ask(list(missing)[:BATCH])
        return self._addresses[missing[0]]

    def _put(self, number: int, address: Address) -> str:
        """Send a part and return its ETag. Its MD5 is compared on both sides."""
        with self._path.open("rb") as file:
            file.seek((number - 1) * self._part_bytes)
            content = file.read(self._part_bytes)
        if len(content) != self._length(number):
            raise FileChanged(f"{self._path} has changed during its upload; run the command again.")
        digest = hashlib.md5(content, usedforsecurity=False)
        headers = dict(address.headers) | {"Content-MD5": b64encode(digest.digest()).decode()}
        body = Counted(BytesIO(content), len(content), lambda sent: self._count(number, sent))
        answer = send(address.url, headers, body, PART_SECONDS, IDLE_SECONDS)
        etag = answer.headers.get("ETag", "").strip('"')
        if not etag:
            raise RetryableError("storage gave no ETag")
        if etag != digest.hexdigest() and not any(name in answer.headers for name in _OPAQUE_ETAG):
            raise RetryableError("storage has other bytes than were sent")
        return etag

    def _pause(self, number: int, failures: int, wanted: float | None) -> None:
        """Wait before the next attempt, for as long as storage wants if it said so."""
        was_sent = self._sent.get(number, 0)
        self._count(number, 0)
        longest = LONGEST_AFTER_CUT_SECONDS if was_sent else LONGEST_PAUSE_SECONDS
        drawn = min(longest, 0.25 * 2.0 ** min(failures - 1, 20)) * random.uniform(0.5, 1)  # noqa: S311
        time.sleep(drawn if wanted is None else min(wanted, LONGEST_WANTED_SECONDS))

    def _count(self, number: int, sent: int) -> None:
        if self._stopped:
            raise RetryableError("the upload was stopped")
        with self._counting:
            self._sent[number] = sent
            self._progress(sum(self._sent.values()))

    def _length(self, number: int) -> int:
        return min(self._part_bytes, self._size - (number - 1) * self._part_bytes)
