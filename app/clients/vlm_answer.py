"""What servers of chat completions answer, read as leniently as it can be without guessing."""

import json
import math
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Annotated, Any

from pydantic import BaseModel, BeforeValidator, ConfigDict, Field, ValidationError

# why a choice ended, where it was not the model's own end
_CUT = {"length", "max_tokens"}
_WITHHELD = {"content_filter", "content-filter", "safety", "refusal", "prohibited_content", "blocklist"}


@dataclass(frozen=True)
class Completion:
    """What the model said. `model` is the name the server gives it, which may be another than asked for.

    `cut`: the answer was longer than it might be. `refusal` says why the model or a filter did not answer,
    and is empty if it did.
    """

    text: str
    model: str
    prompt_tokens: int
    completion_tokens: int
    cut: bool = False
    refusal: str = ""


class AnsweredError(Exception):
    """An error that came with status 200. `status` is the one that it names, or None."""

    def __init__(self, said: str, status: int | None):
        super().__init__(said)
        self.said = said
        self.status = status


def _text(value: Any) -> str:
    """A text, or the texts of a list of parts; "" for what is neither."""
    if isinstance(value, list):
        parts = (part.get("text") if isinstance(part, dict) else part for part in value)
        return "".join(part for part in parts if isinstance(part, str))
    return value if isinstance(value, str) else ""


def _count(value: Any) -> int:
    try:
        number = float(value)
    except (TypeError, ValueError):
        return 0
    return min(max(int(number), 0), 2**31 - 1) if math.isfinite(number) else 0


def _object(value: Any) -> Any:
    return value if isinstance(value, dict) else {}


_Text = Annotated[str, BeforeValidator(_text)]
_Count = Annotated[int, BeforeValidator(_count)]


class _Part(BaseModel):
    model_config = ConfigDict(extra="ignore")


class _Usage(_Part):
    prompt_tokens: _Count = 0
    completion_tokens: _Count = 0


class _Message(_Part):
    content: _Text = ""
    reasoning_content: _Text = ""
    reasoning: _Text = ""
    refusal: _Text = ""

    @property
    def said(self) -> str:
        # some servers take the whole answer for a thought
        return next((s for s in (self.content, self.reasoning_content, self.reasoning) if s.strip()), "")


class _Choice(_Part):
    message: Annotated[_Message, BeforeValidator(_object)]
    finish_reason: _Text = ""


class _Answer(_Part):
    model: _Text = ""
    choices: list[_Choice] = Field(min_length=1)
    usage: Annotated[_Usage, BeforeValidator(_object)] = _Usage()


def read_completion(body: bytes) -> Completion:
    """Return the first choice of an answer, or of a stream that was not asked for.

    Raises ValueError if it is neither, and AnsweredError if it is an error.
    """
    value = _joined(body) if body.lstrip()[:5] in (b"data:", b"event", b": ope", b": pin") else _loaded(body)
    if isinstance(value, dict) and value.get("error") and not value.get("choices"):
        error = value["error"]
        code = error.get("code", error.get("status")) if isinstance(error, dict) else None
        known = isinstance(code, int) and 400 <= code < 600
        raise AnsweredError(json.dumps(error)[:4000], code if known else None)
    try:
        answer = _Answer.model_validate(value)
    except ValidationError as error:
        raise ValueError("no chat completion") from error
    choice = answer.choices[0]
    reason = choice.finish_reason.lower()
    refusal = choice.message.refusal or (reason if reason in _WITHHELD else "")
    return Completion(
        text=choice.message.said,
        model=answer.model,
        prompt_tokens=answer.usage.prompt_tokens,
        completion_tokens=answer.usage.completion_tokens,
        cut=reason in _CUT,
        refusal=refusal[:200],
    )


def _loaded(data: bytes) -> Any:
    try:
        return json.loads(data)
    except RecursionError as error:
        raise ValueError("nested too deeply") from error


def _events(body: bytes) -> Iterator[dict[str, Any]]:
    for line in body.splitlines():
        data = line.removeprefix(b"data:").strip()
        if line.startswith(b"data:") and data != b"[DONE]":
            event = _loaded(data)
            if isinstance(event, dict):
                yield event


def _joined(body: bytes) -> dict[str, Any]:
    """Return the answer that the events of a stream make together."""
    whole: dict[str, Any] = {}
    message: dict[str, str] = {}
    reason = ""
    for event in _events(body):
        whole |= {name: value for name, value in event.items() if value}
        for choice in event.get("choices") or ():
            for name, piece in _object(_object(choice).get("delta")).items():
                message[name] = message.get(name, "") + _text(piece)
            reason = _text(_object(choice).get("finish_reason")) or reason
    if whole.get("choices") is not None or message:
        whole["choices"] = [{"message": message, "finish_reason": reason}]
    return whole
