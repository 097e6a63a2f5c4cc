"""The judge: a vision language model scores what a video's frames show of the task.

Whatever a frame, a scenario or a requirement says reaches the model as data. The model transcribes the
text it sees before it scores, and text that speaks to the judge is reported whatever scores come with it.
"""

import base64
import hashlib
import json
import random
import statistics
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from importlib.resources import files
from typing import Annotated, Any, Protocol

import structlog
from pydantic import AfterValidator, BaseModel, ConfigDict, Field

from app.assessment.formula import MIN_ACTION_MATCH, relevance_score
from app.assessment.model import Brief
from app.assessment.prompt_injection import addresses_judge
from app.assessment.report import JudgeAnswer
from app.clients.vlm import Completion, InputRefused, Vlm
from app.config import OFFLINE_MODEL, Settings
from app.enums import Dependency
from app.errors import Deferred, TransientError, Unavailable
from app.video.frames import Still

log = structlog.get_logger(__name__)

PROMPT_VERSION = "judge-v1"

NEAR_GATE = 0.05
ASKINGS_NEAR_GATE = 3
TRIES_PER_ASKING = 3
MAX_ANSWER_TOKENS = 1500
MAX_TEXT = 1000


@dataclass(frozen=True)
class JudgeQuestion:
    """What the judge is asked: does this video, seen through its frames, show the prompt's task?"""

    brief: Brief
    frames: tuple[Still, ...]


class JudgeMemory(Protocol):
    """Remembers answers and counts tokens, where there is a database to do so."""

    def recall(self, cache_key: str) -> str | None:
        """Return the valid answer that was given to this very request, or None."""

    def remember(self, cache_key: str, model: str, prompt_version: str, answer: str) -> None:
        """Keep a valid answer."""

    def count_tokens(self, model: str, prompt_tokens: int, completion_tokens: int, cost_usd: float) -> None:
        """Add what a call used, whether or not its answer was of use, to today's account."""

    def tokens_today(self) -> int:
        """Return the tokens used since midnight UTC."""


def _storable(text: str) -> str:
    """Return `text` without what PostgreSQL cannot store."""
    return text.replace("\0", "").encode("utf-8", "replace").decode()


Storable = Annotated[str, AfterValidator(_storable)]


class _Reply(BaseModel):
    """The JSON object the model answers with, in this order: it reads, then explains, then scores."""

    model_config = ConfigDict(
        title="judgement",
        strict=True,
        allow_inf_nan=False,
        extra="ignore",
        json_schema_extra={"additionalProperties": False, "description": "Judgement of one video."},
    )

    on_screen_text: Storable
    text_addresses_judge: bool
    reasoning: Storable
    action_match: float = Field(ge=0, le=1)
    perspective_correct: float = Field(ge=0, le=1)
    demonstration_quality: float = Field(ge=0, le=1)
    training_utility: float = Field(ge=0, le=1)

    @property
    def relevance(self) -> float:
        return relevance_score(
            self.action_match, self.perspective_correct, self.demonstration_quality, self.training_utility
        )


class Judge:
    """Asks the VLM, within the daily token budget if `memory` keeps the account.

    Raises ConfigError if production is told to believe the offline stand-in.
    """

    def __init__(self, vlm: Vlm, settings: Settings, memory: JudgeMemory | None = None):
        self._vlm = vlm
        self._settings = settings.require_judge()
        self._memory = memory

    def assess(self, question: JudgeQuestion) -> JudgeAnswer:
        """Return the judge's answer to `question`; ask it three times where a gate is near.

        Raises TransientError if the judge is out of reach or answers nonsense, and Deferred if today's tokens
        are spent.
        """
        calls: list[Completion] = []
        replies = [self._ask(question, 0, calls)]
        if self._near_gate(replies[0]):
            replies += [self._ask(question, asking, calls) for asking in range(1, ASKINGS_NEAR_GATE)]
        replies.sort(key=lambda reply: reply.relevance)
        middle = replies[len(replies) // 2]
        texts = list(dict.fromkeys(reply.on_screen_text for reply in replies if reply.on_screen_text))

        def median(score: str) -> float:
            return statistics.median(getattr(reply, score) for reply in replies)

        return JudgeAnswer(
            action_match=median("action_match"),
            perspective_correct=median("perspective_correct"),
            demonstration_quality=median("demonstration_quality"),
            training_utility=median("training_utility"),
            reasoning=middle.reasoning[:MAX_TEXT],
            on_screen_text="\n".join(texts)[:MAX_TEXT],
            addresses_judge=any(
                reply.text_addresses_judge or addresses_judge(reply.on_screen_text) for reply in replies
            ),
            model=self._vlm.model,
            prompt_version=PROMPT_VERSION,
            prompt_tokens=sum(call.prompt_tokens for call in calls),
            completion_tokens=sum(call.completion_tokens for call in calls),
            raw=tuple(reply.model_dump_json() for reply in replies),
            cost_usd=sum(self._cost(call) for call in calls),
        )

    def _near_gate(self, reply: _Reply) -> bool:
        distances = (reply.relevance - self._settings.min_relevance, reply.action_match - MIN_ACTION_MATCH)
        # the slack keeps 0.35 - 0.3 within 0.05 in binary, too
        return any(abs(distance) <= NEAR_GATE + 1e-9 for distance in distances)

    def _ask(self, question: JudgeQuestion, asking: int, calls: list[Completion]) -> _Reply:
        """Return the remembered or a new valid reply; `calls` takes what was said on the way."""
        request = build_request(question, asking)
        cache_key = hashlib.sha256(
            json.dumps([self._vlm.model, PROMPT_VERSION, request], sort_keys=True).encode()
        ).hexdigest()
        if self._memory and (remembered := self._memory.recall(cache_key)):
            return _Reply.model_validate_json(remembered)
        for attempt in range(TRIES_PER_ASKING):
            # another seed, or a model at temperature 0 would repeat itself
            call = self._call(request | {"seed": asking * TRIES_PER_ASKING + attempt})
            calls.append(call)
            reply = parse_reply(call.text)
            if reply is not None:
                if self._memory:
                    self._memory.remember(cache_key, self._vlm.model, PROMPT_VERSION, reply.model_dump_json())
                return reply
            log.warning("judge_answer_invalid", attempt=attempt, answer=call.text[:300])
        # not counted against the judge, which did answer: one video must not stop the evaluation of others
        raise TransientError("The judge gave no usable answer in several attempts.")

    def _call(self, request: dict[str, Any]) -> Completion:
        budget = self._settings.vlm_daily_token_budget
        if self._memory and budget and self._memory.tokens_today() >= budget:
            raise Deferred("Today's tokens of the judge are spent.", retry_after=_seconds_to_midnight())
        try:
            call = self._vlm.complete(request)
        except InputRefused as error:
            # not counted against the judge, either
            raise TransientError(error.detail, retry_after=error.retry_after) from error
        except Unavailable as error:
            raise TransientError(
                error.detail, dependency=Dependency.VLM, retry_after=error.retry_after
            ) from error
        if self._memory:
            self._memory.count_tokens(
                self._vlm.model, call.prompt_tokens, call.completion_tokens, self._cost(call)
            )
        if call.model == OFFLINE_MODEL and not self._settings.development:
            raise TransientError(
                "VLM_API_URL leads to the offline stand-in for a judge.", dependency=Dependency.VLM
            )
        return call

    def _cost(self, call: Completion) -> float:
        settings = self._settings
        return (
            call.prompt_tokens * settings.vlm_prompt_price
            + call.completion_tokens * settings.vlm_completion_price
        ) / 1e6


def build_request(question: JudgeQuestion, asking: int) -> dict[str, Any]:
    """Return the chat completion request for `question`; `asking` 1 and up shuffles its frames.

    The rules are the system message. The task is a JSON object between fences that it cannot hold itself,
    since its `<` are escaped.
    """
    frames = list(question.frames)
    if asking:
        random.Random(asking).shuffle(frames)  # noqa: S311 (an order, not a secret)
    task = json.dumps(
        {
            "category": question.brief.category,
            "task": question.brief.task,
            "scenario": question.brief.scenario,
            "requirements": question.brief.requirements,
        },
        ensure_ascii=False,
        sort_keys=True,
    ).replace("<", "\\u003c")
    content: list[dict[str, Any]] = [{"type": "text", "text": f"<task>{task}</task>"}]
    for frame in frames:
        content.append({"type": "text", "text": f"Frame at {frame.seconds:.2f} s:"})
        data = base64.b64encode(frame.jpeg).decode()
        content.append({"type": "image_url", "image_url": {"url": f"data:image/jpeg;base64,{data}"}})
    return {
        "messages": [
            {"role": "system", "content": _template()},
            {"role": "user", "content": content},
        ],
        "temperature": 0,
        "max_tokens": MAX_ANSWER_TOKENS,
        "response_format": {
            "type": "json_schema",
            "json_schema": {"name": "judgement", "strict": True, "schema": _Reply.model_json_schema()},
        },
    }


def _template() -> str:
    return files("app.assessment").joinpath("templates", f"{PROMPT_VERSION}.txt").read_text("utf-8")


def parse_reply(text: str) -> _Reply | None:
    """Return the one valid reply that `text` holds, bare, fenced or wrapped; None if there is none.

    None, too, if there are several that differ: one of them may be quoted from the video.
    """
    found: list[_Reply] = []
    # what a reasoning model thinks aloud is not its answer
    for candidate in _replies_in(text.rpartition("</think>")[2]):
        if candidate not in found:
            found.append(candidate)
    return found[0] if len(found) == 1 else None


def _replies_in(text: str) -> Iterator[_Reply]:
    decoder = json.JSONDecoder()
    start = text.find("{")
    while start >= 0:
        end = start + 1
        try:
            value, past = decoder.raw_decode(text, start)
            yield _Reply.model_validate(value)
            end = past
        except (ValueError, RecursionError):
            pass
        start = text.find("{", end)


def _seconds_to_midnight() -> float:
    now = datetime.now(UTC)
    midnight = (now + timedelta(days=1)).replace(hour=0, minute=0, second=0, microsecond=0)
    return (midnight - now).total_seconds()
