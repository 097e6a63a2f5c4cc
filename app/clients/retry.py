"""How a client tries again after an error that may pass, and how long it waits."""

import time
from collections.abc import Callable
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime
from math import isfinite

from tenacity import RetryCallState, Retrying, retry_if_exception_type, stop_after_attempt, stop_before_delay
from tenacity.wait import wait_random_exponential

# between two checks while waiting
CHECK_SECONDS = 1.0
LONGEST_RETRY_AFTER_SECONDS = 86_400.0

_backoff = wait_random_exponential(multiplier=1, max=20)


class RetryableError(Exception):
    """An attempt failed in a way that may pass. `retry_after`: the seconds the server asked to wait."""

    def __init__(self, reason: str, retry_after: float | None = None):
        super().__init__(reason)
        self.retry_after = retry_after


def retrying(attempts: int, patience_seconds: float, check: Callable[[], None] = lambda: None) -> Retrying:
    """Return what calls a function again while it raises RetryableError, and raises the last one in the end.

    Waits grow and are jittered, or are as long as the server asked for. No wait goes beyond
    `patience_seconds`: if the server asks for a longer one, there is no further attempt. `check` is called
    every second of a wait. If it raises, the wait ends.
    """

    def sleep(seconds: float) -> None:
        end = time.monotonic() + seconds
        while (left := end - time.monotonic()) > 0:
            check()
            time.sleep(min(left, CHECK_SECONDS))

    return Retrying(
        retry=retry_if_exception_type(RetryableError),
        stop=stop_after_attempt(attempts) | stop_before_delay(patience_seconds),
        wait=_wait,
        sleep=sleep,
        reraise=True,
    )


def _wait(state: RetryCallState) -> float:
    error = state.outcome.exception() if state.outcome else None
    wanted = error.retry_after if isinstance(error, RetryableError) else None
    return _backoff(state) if wanted is None else wanted


def retry_after(header: str | None) -> float | None:
    """Return the seconds that a Retry-After header asks for, at most a day; None if it cannot be read."""
    if header is None:
        return None
    try:
        seconds = float(header)
    except ValueError:
        moment = http_date(header)
        if moment is None:
            return None
        seconds = (moment - datetime.now(UTC)).total_seconds()
    if not isfinite(seconds) or seconds < 0:
        return None
    return min(seconds, LONGEST_RETRY_AFTER_SECONDS)


def http_date(header: str | None) -> datetime | None:
    """Return the moment an HTTP date names, or None if it is none."""
    try:
        moment = parsedate_to_datetime(header or "")
    except (ValueError, OverflowError):
        return None
    return moment.replace(tzinfo=UTC) if moment.tzinfo is None else moment
