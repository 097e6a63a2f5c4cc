"""The vision language model: an OpenAI-compatible chat completions endpoint."""

import json
import time
from dataclasses import dataclass
from http import HTTPStatus
from typing import Any, Protocol

import requests
import structlog

from app.clients.http import exchange, find_redirect, read_bounded
from app.clients.retry import RetryableError, retry_after, retrying
from app.clients.vlm_answer import AnsweredError, Completion, read_completion
from app.clients.vlm_habits import Habits, TooMuch, find_excess
from app.config import Settings, masked
from app.errors import Unavailable

log = structlog.get_logger(__name__)

MAX_ANSWER_BYTES = 256 * 1024
# of a refusal, what is looked at
MAX_SAID = 4000
# refusals that no picture can bring about
_SETTINGS_WRONG = {*range(300, 400), 401, 402, 404, 405}
# refusals that may be of the form of a request, and no filter's
_FORM_REFUSED = {400, 422, 501}
# what is learned is forgotten after that, for servers change
HABIT_SECONDS = 86_400.0


@dataclass(frozen=True)
class Patience:
    """The most attempts for a request, the time for each, and the time after which no attempt begins.

    If a server asks to wait for more than `seconds`, there is no further attempt.
    """

    attempts: int = 4
    attempt_seconds: float = 120.0
    seconds: float = 150.0


class InputRefused(Unavailable):
    """The server gave no answer, and the request itself may be the cause, for example by a content filter."""


class _Busy(RetryableError):
    """The server is too busy at the moment."""


class _Refused(Exception):
    """The server refused the request, perhaps for its form. `said` is its answer."""

    def __init__(self, reason: str, said: str):
        super().__init__(reason)
        self.said = said


class Meter(Protocol):
    """Counts the requests that are sent."""

    def take(self) -> None:
        """Called before a request is sent. What it raises prevents that."""

    def give_back(self) -> None:
        """Called when the server did not take the form of a request, and so did no work."""


class HabitStore(Protocol):
    """Remembers what servers refuse, also after this process has ended."""

    def load(self, endpoint: str, model: str, max_age_seconds: float) -> str | None: ...

    def save(self, endpoint: str, model: str, habits: str) -> None: ...


class Vlm:
    """The endpoint at VLM_API_URL. Holds no connection, so it may be shared by threads and across forks."""

    def __init__(self, settings: Settings, store: HabitStore | None = None, patience: Patience = Patience()):
        self._settings = settings
        self._store = store
        self._patience = patience
        self._habits: Habits | None = None
        self._learned_at = time.monotonic()
        self.model = settings.vlm_model
        self.endpoint = masked(settings.vlm_api_url)
        self._headers = {"Content-Type": "application/json"}
        if settings.vlm_api_key:
            self._headers["Authorization"] = f"Bearer {settings.vlm_api_key}"

    @property
    def habits(self) -> Habits:
        """What this server accepts, as far as it is known."""
        if self._habits is None or time.monotonic() - self._learned_at > HABIT_SECONDS:
            known = self._store and self._store.load(self.endpoint, self.model, HABIT_SECONDS)
            self._habits = Habits.model_validate_json(known) if known else Habits()
            self._learned_at = time.monotonic()
        return self._habits

    def learn(self, habits: Habits, because: str) -> None:
        """Remember what this server accepts."""
        log.warning("judge_habit_learned", model=self.model, habits=habits.model_dump_json(), because=because)
        self._habits = habits
        if self._store:
            self._store.save(self.endpoint, self.model, habits.model_dump_json())

    def complete(
        self, payload: dict[str, Any], meter: Meter | None = None, patience: Patience | None = None
    ) -> Completion:
        """Send a chat completion request and return the answer of its first choice.

        `payload` is the body without `model`, with `max_tokens` and a strict `json_schema`. It is sent in the
        form that the server accepts. After an error that may pass, it is sent again, with growing, jittered
        waits or after the time that the server names. Raises TooMuch if the request must be smaller,
        InputRefused if the request itself may be the cause, and Unavailable otherwise.
        """
        patience = patience or self._patience
        while True:
            habits = self.habits
            body = {"model": self.model, **habits.shape(payload)}
            try:
                return retrying(patience.attempts, patience.seconds)(self._attempt, body, meter, patience)
            except RetryableError as error:
                kind = Unavailable if isinstance(error, _Busy) else InputRefused
                raise kind(f"The judge does not answer: {error}.", error.retry_after or 30) from error
            except _Refused as refused:
                learned = habits.learn(refused.said, body)
                if learned is None:
                    raise InputRefused(f"The judge refused the request: {refused}.", 60) from refused
                self.learn(learned, refused.said[:300])
            except TooMuch:
                if meter:
                    meter.give_back()
                raise
            if meter:
                meter.give_back()

    def _attempt(self, body: dict[str, Any], meter: Meter | None, patience: Patience) -> Completion:
        if meter:
            meter.take()
        deadline = time.monotonic() + patience.attempt_seconds
        url = f"{self._settings.vlm_api_url}/chat/completions"
        with exchange(
            "POST",
            url,
            deadline,
            headers=self._headers,
            data=json.dumps(body).encode(),
            idle_seconds=patience.attempt_seconds,
        ) as response:
            answer = read_bounded(response, MAX_ANSWER_BYTES, deadline)
        status = response.status_code
        if status == HTTPStatus.OK:
            try:
                return read_completion(answer)
            except AnsweredError as error:
                status, answer = error.status or HTTPStatus.INTERNAL_SERVER_ERROR, error.said.encode()
            except ValueError as error:
                raise RetryableError("its answer is no chat completion") from error
        raise self._failure(status, answer, response)

    def _failure(self, status: int, answer: bytes, response: requests.Response) -> Exception:
        """Return what an answer without a completion means."""
        said = answer.decode("utf-8", "replace")[:MAX_SAID]
        if self._settings.vlm_api_key:
            said = said.replace(self._settings.vlm_api_key, "***")
        log.warning("vlm_refused", status=status, said=said[:300])
        reason = f"it answered with status {status}"
        if where := find_redirect(response):
            return Unavailable(
                f"The judge has moved to {where} ({reason}); set VLM_API_URL to its new address.", 60
            )
        if status in _SETTINGS_WRONG:
            return Unavailable(
                f"The judge refused the request: {reason}; check VLM_API_URL, VLM_API_KEY and VLM_MODEL.", 60
            )
        wait = retry_after(response.headers.get("Retry-After"))
        if status == HTTPStatus.TOO_MANY_REQUESTS or wait is not None:
            return _Busy(reason, wait)
        if excess := find_excess(status, said):
            return excess
        if status == HTTPStatus.REQUEST_TIMEOUT or (status >= 500 and status != HTTPStatus.NOT_IMPLEMENTED):
            return RetryableError(reason, wait)
        if status in _FORM_REFUSED:
            return _Refused(reason, said)
        return InputRefused(f"The judge refused the request: {reason}.", 60)
