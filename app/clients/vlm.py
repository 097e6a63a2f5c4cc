"""The vision language model: an OpenAI-compatible chat completions endpoint."""

import time
from dataclasses import dataclass
from http import HTTPStatus
from typing import Any

import requests
import structlog
import urllib3
from pydantic import BaseModel, ConfigDict, Field, ValidationError

from app.clients.retry import RetryableError, retry_after, retrying
from app.config import Settings
from app.errors import Unavailable

log = structlog.get_logger(__name__)

CONNECT_TIMEOUT_SECONDS = 5
READ_TIMEOUT_SECONDS = 120
MAX_ANSWER_BYTES = 256 * 1024
MAX_ATTEMPTS = 4
# No further attempt begins after this long; nor does one wait longer than this for a server that asks us to.
PATIENCE_SECONDS = 150.0


@dataclass(frozen=True)
class Completion:
    """What the model said. `model` is the name the server gives it, which may be another than asked for."""

    text: str
    model: str
    prompt_tokens: int
    completion_tokens: int


class _Usage(BaseModel):
    prompt_tokens: int = Field(default=0, ge=0, lt=2**31)
    completion_tokens: int = Field(default=0, ge=0, lt=2**31)


class _Message(BaseModel):
    content: str | None = None


class _Choice(BaseModel):
    message: _Message


class _Answer(BaseModel):
    """The part of a chat completion that is used."""

    model_config = ConfigDict(extra="ignore")

    model: str = ""
    choices: list[_Choice] = Field(min_length=1)
    usage: _Usage | None = None


class InputRefused(Unavailable):
    """The endpoint works but does not take this request: too large an image, say, or a content filter."""


class Vlm:
    """The endpoint at VLM_API_URL. Holds no connection, so it may be shared by threads and across forks."""

    def __init__(self, settings: Settings):
        self._settings = settings
        self.model = settings.vlm_model

    def complete(self, payload: dict[str, Any]) -> Completion:
        """Send a chat completion request and return the answer of its first choice.

        `payload` is the body without `model`. Refused connections, resets, timeouts, 429 and 5xx are tried
        again with growing, jittered waits or after the time the server names. Raises Unavailable when that
        does not help, and at once for any other refusal; its kind InputRefused for 400, 413 and 422.
        """
        try:
            return retrying(MAX_ATTEMPTS, PATIENCE_SECONDS)(self._attempt, payload)
        except RetryableError as error:
            raise Unavailable(f"The judge does not answer: {error}.", error.retry_after or 30) from error

    def _authorise(self, request: requests.PreparedRequest) -> requests.PreparedRequest:
        if self._settings.vlm_api_key:
            request.headers["Authorization"] = f"Bearer {self._settings.vlm_api_key}"
        return request

    def _attempt(self, payload: dict[str, Any]) -> Completion:
        began = time.monotonic()
        try:
            with requests.post(
                f"{self._settings.vlm_api_url}/chat/completions",
                json={"model": self.model, **payload},
                # as `auth`, not as a header: else requests would prefer what it finds in ~/.netrc
                auth=self._authorise,
                timeout=(CONNECT_TIMEOUT_SECONDS, READ_TIMEOUT_SECONDS),
                # the key goes to the configured address only
                allow_redirects=False,
                stream=True,
            ) as response:
                body = _read(response, began + READ_TIMEOUT_SECONDS)
        except (requests.RequestException, urllib3.exceptions.HTTPError) as error:
            log.warning("vlm_unreachable", error=type(error).__name__)
            raise RetryableError(f"{type(error).__name__} while asking it") from error
        if response.status_code == HTTPStatus.OK:
            return _completion(body)
        said = body.decode("utf-8", "replace")[:300]
        if self._settings.vlm_api_key:
            said = said.replace(self._settings.vlm_api_key, "***")
        log.warning("vlm_refused", status=response.status_code, said=said)
        reason = f"it answered with status {response.status_code}"
        if response.status_code in (408, 429) or response.status_code >= 500:
            wait = retry_after(response.headers.get("Retry-After"))
            if wait is not None and wait > PATIENCE_SECONDS:
                raise Unavailable(f"The judge asks to wait: {reason}.", wait)
            raise RetryableError(reason, wait)
        if response.status_code in (400, 413, 422):
            raise InputRefused(f"The judge refused the request: {reason}.", 60)
        raise Unavailable(f"The judge refused the request: {reason}.", 60)


def _read(response: requests.Response, deadline: float) -> bytes:
    """Return the body, in which each read may take its time but all of them together may not."""
    body = bytearray()
    # iter_content would wait for whole chunks, however slowly they come
    while chunk := response.raw.read1(decode_content=True):
        body += chunk
        if len(body) > MAX_ANSWER_BYTES:
            raise RetryableError(f"its answer is larger than {MAX_ANSWER_BYTES} bytes")
        if time.monotonic() > deadline:
            raise RetryableError("its answer takes too long")
    return bytes(body)


def _completion(body: bytes) -> Completion:
    try:
        answer = _Answer.model_validate_json(body)
    except ValidationError as error:
        raise RetryableError("its answer is no chat completion") from error
    usage = answer.usage or _Usage()
    return Completion(
        text=answer.choices[0].message.content or "",
        model=answer.model,
        prompt_tokens=usage.prompt_tokens,
        completion_tokens=usage.completion_tokens,
    )
