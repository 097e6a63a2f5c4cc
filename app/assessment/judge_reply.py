"""What the judge may reply: one JSON object, and nothing that the video could have written beside it."""

import json
import re
from enum import StrEnum
from typing import Annotated, Any

from pydantic import AfterValidator, BaseModel, BeforeValidator, ConfigDict, Field, ValidationError

from app.assessment.formula import RELEVANCE_WEIGHTS, relevance_score

# Longer than any answer with its thought.
MAX_REPLY = 256 * 1024
# of each text in it, what is kept
MAX_TEXT = 1000

_THOUGHT_ENDS = re.compile(r"</(?:think|thinking|thought|reasoning)>|◁/think▷|\[/THINK\]")
_FENCES = (
    re.compile(r"```\w*\s(?P<inside>.*)```", re.DOTALL),
    re.compile(r"<\|begin_of_box\|>(?P<inside>.*)<\|end_of_box\|>", re.DOTALL),
)
# what neither PostgreSQL can store nor a text needs
_CONTROLS = re.compile(r"[\x00-\x08\x0b-\x1f\x7f]")


class Flaw(StrEnum):
    """What is wrong with a reply that cannot be used."""

    FORM = "no usable answer"
    SCALE = "scores on another scale than from 0 to 1"


def _clean(text: str) -> str:
    """Return the beginning of `text`, as it can be stored."""
    return _CONTROLS.sub("", text[: 2 * MAX_TEXT]).encode("utf-8", "replace").decode()[:MAX_TEXT]


def _number(value: Any) -> Any:
    """A number, also where it is written as a string."""
    try:
        return float(value) if isinstance(value, str) else value
    except ValueError:
        return value


def _truth(value: Any) -> Any:
    return (
        {"true": True, "false": False}.get(value.strip().lower(), value) if isinstance(value, str) else value
    )


_Words = Annotated[str, AfterValidator(_clean)]
# in this order, or the schema would lack the limits
_Score = Annotated[float, Field(ge=0, le=1), BeforeValidator(_number)]


class Reply(BaseModel):
    """The JSON object the model answers with, in this order: it explains before it scores."""

    model_config = ConfigDict(
        title="judgement",
        strict=True,
        allow_inf_nan=False,
        extra="ignore",
        json_schema_extra={"additionalProperties": False, "description": "Judgement of one video."},
    )

    text_addresses_judge: Annotated[bool, BeforeValidator(_truth)]
    reasoning: _Words
    action_match: _Score
    perspective_correct: _Score
    demonstration_quality: _Score
    training_utility: _Score

    @property
    def relevance(self) -> float:
        return relevance_score(
            self.action_match, self.perspective_correct, self.demonstration_quality, self.training_utility
        )


SCORES = tuple(RELEVANCE_WEIGHTS)


def parse_reply(text: str, scale_was_named: bool = False) -> Reply | Flaw:
    """Return the reply that `text` is, or what is wrong with it.

    One leading thought and one fence are removed. The rest must be one object from beginning to end, since
    any other text may be quoted from the video. So may a field that appears twice. Whole scores of 0 and 1
    could belong to a scale up to 10, so they count only after the scale was named to the model.
    """
    if len(text) > MAX_REPLY:
        return Flaw.FORM
    try:
        value = _load(_unwrap(text))
    except (ValueError, RecursionError):
        return Flaw.FORM
    scores = [_number(value.get(name)) for name in SCORES]
    if all(isinstance(score, int | float) and 0 <= score <= 100 for score in scores):
        highest = max(scores)
        if highest > 1 or (highest == 1 and not scale_was_named and all(score in (0, 1) for score in scores)):
            return Flaw.SCALE
    try:
        return Reply.model_validate(value)
    except ValidationError:
        return Flaw.FORM


def _unwrap(text: str) -> str:
    """Return `text` without what reasoning models think aloud before they answer, and without a fence."""
    text = text.strip()
    if not text.startswith(("{", "`")) and (thought := _THOUGHT_ENDS.search(text)):
        text = text[thought.end() :].strip()
    for fence in _FENCES:
        if fenced := fence.fullmatch(text):
            return fenced["inside"].strip()
    return text


def _load(text: str) -> dict[str, Any]:
    """Return the object that `text` is; a comma before its end and raw line breaks in its texts do no harm.

    Raises ValueError, or RecursionError.
    """
    if text.endswith("}") and (body := text[:-1].rstrip()).endswith(","):
        text = body[:-1] + "}"
    value = json.loads(text, strict=False, object_pairs_hook=_without_repeats, parse_constant=_refuse)
    if not isinstance(value, dict):
        raise ValueError("no object")
    return value


def _without_repeats(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    found = dict(pairs)
    if len(found) < len(pairs):
        raise ValueError("a field stands there twice")
    return found


def _refuse(name: str) -> Any:
    raise ValueError(f"{name} is no JSON")
