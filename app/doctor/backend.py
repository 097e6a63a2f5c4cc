"""What every client of a backend relies on: that it answers, and that the clocks agree."""

import json
import time
from http import HTTPStatus
from typing import Any
from urllib.parse import urlsplit

from app.clients.backend import Signer, find_detail
from app.clients.http import exchange, find_redirect, read_bounded
from app.clients.retry import RetryableError, http_date
from app.config import masked
from app.doctor.findings import Amber, Red, Unusable
from app.doctor.reach import reach
from app.terminal import printable
from app.version import VERSION

# for a whole answer
ANSWER_SECONDS = 2.5
MAX_ANSWER_BYTES = 1024 * 1024
# a signed request is refused if it is older, or from that far in the future
MOST_BEHIND_SECONDS = 10.0
MOST_AHEAD_SECONDS = 2.0


class Refused(Exception):
    """The backend answered, but not as wanted. The message is what it said."""

    def __init__(self, status: int, said: str):
        super().__init__(said)
        self.status = status


class BackendChecks:
    """The backend at `url`, asked without patience, since a person waits. `option` gave the address."""

    def __init__(self, url: str, option: str = "--api-url", token: str | None = None):
        self.url = url.rstrip("/")
        self._option = option
        self._headers = {"Content-Type": "application/json"}
        if token:
            self._headers["Authorization"] = f"Bearer {token}"
        self._skew: float | None = None

    def check(self) -> str:
        """Whether it answers, and with which version."""
        advice = f"Check {self._option} or API_URL, and ask the operator whether the backend runs."
        reach([self.url], advice)
        try:
            version = self.ask("GET", "/health")["version"]
        except (Refused, RetryableError, KeyError, TypeError) as error:
            raise Unusable(f"{masked(self.url)} is no Kibotos backend: {error}", advice) from error
        found = f"{masked(self.url)} answers, version {printable(str(version))}"
        if str(version).split(".")[:2] != VERSION.split(".")[:2]:
            raise Amber(f"{found}, and this is {VERSION}", "Install the version that the operator runs.")
        return found

    def clock(self) -> str:
        """Whether our clock agrees with the backend's, which its last answer told to the second."""
        skew = self._skew
        if skew is None:
            raise Amber("the backend tells no time", "Ask its operator why its answers have no header Date.")
        said = f"{abs(skew):.0f} s {'ahead of' if skew > 0 else 'behind'} the backend's"
        if not -MOST_BEHIND_SECONDS < skew < MOST_AHEAD_SECONDS:
            raise Unusable(
                f"this clock is {said}: signed requests are refused",
                "Set the clock by NTP, for example: timedatectl set-ntp true",
            )
        return f"at most {max(1, round(abs(skew)))} s off the backend's"

    def ask(self, method: str, path: str, body: Any = None, sign: Signer | None = None) -> Any:
        """Return the JSON at a path. Raises Refused, or RetryableError if there is no answer in time."""
        content = b"" if body is None else json.dumps(body).encode()
        headers = self._headers | dict(sign(method, urlsplit(self.url).path + path, content) if sign else {})
        began, deadline = time.time(), time.monotonic() + ANSWER_SECONDS
        with exchange(method, self.url + path, deadline, headers=headers, data=content or None) as answer:
            raw = read_bounded(answer, MAX_ANSWER_BYTES, deadline)
        self._compare_clocks(answer.headers.get("Date"), began, time.time())
        if where := find_redirect(answer):
            raise Refused(answer.status_code, f"it redirects to {where}; if you trust that, name it")
        if answer.status_code != HTTPStatus.OK:
            raise Refused(answer.status_code, printable(find_detail(answer, raw)))
        try:
            return json.loads(raw)
        except ValueError:
            raise Refused(answer.status_code, "its answer is not JSON") from None

    def _compare_clocks(self, date: str | None, began: float, ended: float) -> None:
        """Keep how far our clock is ahead, at the least: the header is cut to seconds, and was on its way."""
        if told := http_date(date):
            earliest = told.timestamp()
            if ended < earliest:
                self._skew = ended - earliest
            else:
                self._skew = max(0.0, began - (earliest + 1))


def as_red(error: Exception, advice: str) -> Red:
    """What to raise if the backend refuses a request that it should not, or is silent."""
    says = "says" if isinstance(error, Refused) else "gives no answer"
    return Red(f"the backend {says}: {error}", advice)
