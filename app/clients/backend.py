"""The backend itself, seen over HTTP: for remote evaluators and miners."""

import json
import time
from collections.abc import Callable, Mapping
from datetime import UTC, datetime
from http import HTTPStatus
from typing import Any
from urllib.parse import urlencode, urlsplit

import requests

from app.clients.http import exchange, find_redirect, read_bounded
from app.clients.retry import RetryableError, http_date, retry_after, retrying
from app.errors import DomainError, Unavailable
from app.terminal import name_commands

# of one attempt
ATTEMPT_SECONDS = 60.0
MAX_ANSWER_BYTES = 32 * 1024 * 1024
MAX_ATTEMPTS = 5
PATIENCE_SECONDS = 60.0
# of what the backend says that is passed on
MAX_DETAIL = 1000
# The backend names its endpoints, but the reader here has run a command.
COMMANDS = {
    "GET /v1/prompts": "`kibotos miner prompts`",
    "POST /v1/submissions": "`kibotos miner submit`",
    "POST /v1/upload/presign": "`kibotos miner upload`",
    "POST /v1/upload/multipart": "`kibotos miner upload`",
}

# (method, path with query, body) -> headers that sign them
Signer = Callable[[str, str, bytes], Mapping[str, str]]


class Refused(DomainError):
    """The backend or storage refused a request. `status` is its answer, and `detail` is a sentence."""

    def __init__(self, status: int, detail: str):
        super().__init__(detail)
        # what HTTP does not know counts as the first of its class
        self.status = HTTPStatus(status if status in {*HTTPStatus} else status // 100 * 100)


class Backend:
    """The backend at `url`, called with `token`. Holds no connection: threads may share it."""

    def __init__(self, url: str, token: str | None = None):
        self.url = url
        self._headers = {"Content-Type": "application/json"}
        if token:
            self._headers["Authorization"] = f"Bearer {token}"
        # the backend's time as its last answer told it, and when on our monotonic clock that was
        self._told = (datetime.now(UTC), time.monotonic())

    def seconds_until(self, moment: datetime) -> float:
        """How far off `moment` is by the backend's clock, whatever ours shows."""
        told, heard_at = self._told
        return (moment - told).total_seconds() - (time.monotonic() - heard_at)

    def get(self, path: str, sign: Signer | None = None, **query: Any) -> Any:
        """Return the JSON at `path`. Raises Refused, or Unavailable after several attempts."""
        query = {name: value for name, value in query.items() if value is not None}
        target = f"{path}?{urlencode(query)}" if query else path
        return self._patiently("GET", target, b"", sign)

    def patch(self, path: str, body: Any, sign: Signer) -> Any:
        """Change what is at `path` and return the answer's JSON. Raises Refused, or Unavailable."""
        return self._patiently("PATCH", path, json.dumps(body).encode(), sign)

    def delete(self, path: str, sign: Signer) -> Any:
        """Delete what is at `path` and return the answer's JSON. Raises Refused, or Unavailable."""
        return self._patiently("DELETE", path, b"", sign)

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
            raise Unavailable(f"{self.url}: {error}.", error.retry_after or 5) from error

    def _attempt(self, method: str, target: str, body: bytes, sign: Signer | None) -> Any:
        # signed is what the server sees: a path before ours, from a proxy, included
        signed_target = urlsplit(self.url).path + target
        headers = self._headers | dict(sign(method, signed_target, body) if sign else {})
        deadline = time.monotonic() + ATTEMPT_SECONDS
        with exchange(method, self.url + target, deadline, headers=headers, data=body or None) as answer:
            content = read_bounded(answer, MAX_ANSWER_BYTES, deadline)
        if told := http_date(answer.headers.get("Date")):
            self._told = (told, time.monotonic())
        if answer.status_code == HTTPStatus.TOO_MANY_REQUESTS or answer.status_code >= 500:
            said = find_detail(answer, content)
            wait = retry_after(answer.headers.get("Retry-After"))
            raise RetryableError(f"it answered {answer.status_code}: {said}", wait)
        if where := find_redirect(answer):
            raise Refused(
                answer.status_code,
                f"{self.url} redirects to {where}: if you trust that address, name it by --api-url.",
            )
        if not 200 <= answer.status_code < 300:
            raise Refused(answer.status_code, find_detail(answer, content))
        try:
            return json.loads(content)
        except (ValueError, RecursionError) as error:
            raise Unavailable(
                f"{self.url} does not answer with JSON: check that --api-url names the backend."
            ) from error


def find_detail(answer: requests.Response, content: bytes) -> str:
    """The sentence of a problem+json answer, with the fields that are wrong; of another, its reason."""
    try:
        problem = json.loads(content)
        wrong = [f"{error['field']}: {error['message']}" for error in problem.get("errors", [])]
        said = " ".join([problem["detail"], *wrong])[:MAX_DETAIL]
    except (ValueError, KeyError, TypeError, AttributeError, RecursionError):
        return (answer.reason or "without a reason")[:MAX_DETAIL]
    return name_commands(said, COMMANDS)
