"""How a client tries again: what may pass, and how long to wait for it."""

import time
from email.utils import parsedate_to_datetime

from tenacity import RetryCallState, Retrying, retry_if_exception_type, stop_after_attempt, stop_after_delay
from tenacity.wait import wait_random_exponential

_backoff = wait_random_exponential(multiplier=1, max=20)


class RetryableError(Exception):
    """An attempt failed in a way that may pass. `retry_after`: the seconds the server asked to wait."""

    def __init__(self, reason: str, retry_after: float | None = None):
        super().__init__(reason)
        self.retry_after = retry_after


def retrying(attempts: int, patience_seconds: float) -> Retrying:
    """Return what calls a function again while it raises RetryableError, and raises the last one in the end.

    Waits grow and are jittered, or are what the server asked for. No attempt begins after
    `patience_seconds`.
    """
    return Retrying(
        retry=retry_if_exception_type(RetryableError),
        stop=stop_after_attempt(attempts) | stop_after_delay(patience_seconds),
        wait=_wait,
        reraise=True,
    )


def _wait(state: RetryCallState) -> float:
    error = state.outcome.exception() if state.outcome else None
    wanted = error.retry_after if isinstance(error, RetryableError) else None
    return _backoff(state) if wanted is None else wanted


def retry_after(header: str | None) -> float | None:
    """Return the seconds a Retry-After header asks for, as a number or as a date; None if it says neither."""
    if header is None:
        return None
    try:
        seconds = float(header)
    except ValueError:
        try:
            seconds = parsedate_to_datetime(header).timestamp() - time.time()
        except ValueError:
            return None
    return seconds if 0 <= seconds < 86_400 else None
