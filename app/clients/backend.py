"""The backend itself, seen over HTTP: for remote evaluators and miners."""

import json
import time
from collections.abc import Callable, Mapping
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime
from http import HTTPStatus
from typing import Any
from urllib.parse import urlencode, urlsplit

import requests

from app.clients.retry import RetryableError, retry_after, retrying
from app.errors import DomainError, Unavailable
from app.version import VERSION

TIMEOUT_SECONDS = (5, 30)
MAX_ATTEMPTS = 5
PATIENCE_SECONDS = 60.0

# (method, path with query, body) -> headers that sign them
Signer = Callable[[str, str, bytes], Mapping[str, str]]


class Refused(DomainError):
    """The backend answered 4xx; `status` is its status and `detail` its sentence."""

    def __init__(self, status: int, detail: str):
        super().__init__(detail)
        self.status = HTTPStatus(status)


class Backend:
    """The backend at `url`, called with `token`. Holds no connection: threads may share it."""

    def __init__(self, url: str, token: str | None = None):
        self.url = url
        self._headers = {"User-Agent": f"kibotos/{VERSION}", "Content-Type": "application/json"}
        if token:
            self._headers["Authorization"] = f"Bearer {token}"
        # the backend's time as its last answer told it, and when on our monotonic clock that was
        self._told = (datetime.now(UTC), time.monotonic())

    def seconds_until(self, moment: datetime) -> float:
        """How far off `moment` is by the backend's clock, whatever ours shows."""
        told, heard_at = self._told
        return (moment - told).total_seconds() - (time.monotonic() - heard_at)

    def get(self, path: str, **query: Any) -> Any:
        """Return the JSON at `path`. Raises Refused, or Unavailable after several attempts."""
        query = {name: value for name, value in query.items() if value is not None}
        target = f"{path}?{urlencode(query)}" if query else path
        return self._patiently("GET", target, b"", None)

    def post(self, path: str, body: Any, sign: Signer | None = None, once: bool = False) -> Any:
        """Post `body` as JSON and return the answer's JSON. Raises Refused, or Unavailable.

        Tried again when that may help, unless `once`; `sign` signs each attempt anew.
        """
        attempts = 1 if once else MAX_ATTEMPTS
        return self._patiently("POST", path, json.dumps(body).encode(), sign, attempts)

    def _patiently(
        self, method: str, target: str, body: bytes, sign: Signer | None, attempts: int = MAX_ATTEMPTS
    ) -> Any:
        try:
            return retrying(attempts, PATIENCE_SECONDS)(self._attempt, method, target, body, sign)
        except RetryableError as error:
            raise Unavailable(f"{self.url} {error}.", error.retry_after or 5) from error

    def _attempt(self, method: str, target: str, body: bytes, sign: Signer | None) -> Any:
        # signed is what the server sees: a path before ours, from a proxy, included
        signed_target = urlsplit(self.url).path + target
        headers = self._headers | dict(sign(method, signed_target, body) if sign else {})
        try:
            answer = requests.request(
                method,
                self.url + target,
                data=body or None,
                headers=headers,
                timeout=TIMEOUT_SECONDS,
                allow_redirects=False,
            )
        except requests.RequestException as error:
            raise RetryableError(f"is out of reach ({type(error).__name__})") from error
        if date := answer.headers.get("Date"):
            self._told = (parsedate_to_datetime(date), time.monotonic())
        if answer.status_code == HTTPStatus.TOO_MANY_REQUESTS or answer.status_code >= 500:
            wait = retry_after(answer.headers.get("Retry-After"))
            if wait is None or wait <= PATIENCE_SECONDS:
                raise RetryableError(f"answered {answer.status_code}: {_detail(answer)}", wait)
        if not answer.ok:
            raise Refused(answer.status_code, _detail(answer))
        try:
            return answer.json()
        except ValueError as error:
            raise Unavailable(f"{self.url} does not answer with JSON: is that the backend?") from error


def _detail(answer: requests.Response) -> str:
    """The sentence of a problem+json answer, with the fields that are wrong; of another, its reason."""
    try:
        problem = answer.json()
        wrong = [f"{error['field']}: {error['message']}" for error in problem.get("errors", [])]
        return " ".join([problem["detail"], *wrong])
    except (ValueError, KeyError, TypeError, AttributeError):
        return answer.reason or "without a reason"
