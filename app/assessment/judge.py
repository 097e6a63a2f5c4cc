"""The judge: a vision language model scores what a video's frames show of the task.

Text of a scenario or a requirement reaches the model as data. Writing in the frames does not reach it: it was
painted over, unless the prompt's requirements say that writing matters. Then the model says whether any of it
speaks to the judge, and a person looks.

A failure is either the judge's fault or the video's. Known pictures, sent in the same form, show which.
"""

import base64
import hashlib
import io
import json
import random
import statistics
from collections.abc import Callable
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from importlib.resources import files
from typing import Any, Protocol, TypeVar

import structlog

from app.assessment import known_pictures
from app.assessment.formula import MIN_ACTION_MATCH
from app.assessment.judge_reply import SCORES, Flaw, Reply, parse_reply
from app.assessment.model import MAX_JUDGE_CALLS, Brief, CallCounter
from app.assessment.report import JudgeAnswer
from app.clients.vlm import InputRefused, Patience, Vlm
from app.clients.vlm_answer import Completion
from app.clients.vlm_habits import TooMuch
from app.config import OFFLINE_MODEL, Settings
from app.enums import Dependency
from app.errors import Deferred, TransientError, Unavailable
from app.video.frames import Still

log = structlog.get_logger(__name__)

T = TypeVar("T")

PROMPT_VERSION = "judge-v2"

NEAR_GATE = 0.05
ASKINGS_NEAR_GATE = 3
TRIES_PER_ASKING = 3
MAX_ANSWER_TOKENS = 1500
CONTROL = "A large black digit stands still on a white card."
CONTROL_DIGITS = "316982457"
CONTROL_PATIENCE = Patience(attempts=1, attempt_seconds=60, seconds=0)
SCALE = (
    "Each of the four scores is a number from 0.0 (worst) to 1.0 (best) with two decimals, such as 0.10 or "
    "0.85. Use no scale up to 10 or 100."
)


@dataclass(frozen=True)
class JudgeQuestion:
    """What the judge is asked: does this video, seen through its frames, show the prompt's task?"""

    brief: Brief
    frames: tuple[Still, ...]


@dataclass(frozen=True)
class Size:
    """How many pictures the judge is shown, and how long their longer side is at the most."""

    pictures: int
    long_side: int

    def within(self, other: "Size") -> "Size":
        """The lesser of both, in number and in length."""
        return Size(min(self.pictures, other.pictures), min(self.long_side, other.long_side))


# From what it is meant to see down to what it must see at the least; a server that takes less cannot judge.
SIZES = (Size(9, 768), Size(9, 512), Size(6, 512), Size(6, 384), Size(4, 384))
# what helps a server that takes less
MORE_ROOM = (
    "Give it more context (vLLM: --max-model-len 16384; SGLang: --context-length 16384; Ollama: "
    "OLLAMA_CONTEXT_LENGTH=32768) or more pictures a request (vLLM: --limit-mm-per-prompt '{\"image\": 9}'; "
    "SGLang: --limit-mm-data-per-request '{\"image\": 9}')."
)


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


class LocalCounter:
    """Counts in memory, for a video that is no submission."""

    def __init__(self) -> None:
        self.calls = 0

    def count(self, calls: int) -> bool:
        if calls > 0 and self.calls >= MAX_JUDGE_CALLS:
            return False
        self.calls = min(max(self.calls + calls, 0), MAX_JUDGE_CALLS)
        return True


@dataclass
class _Bill:
    """What an assessment costs: a Meter of the client. `open` calls have brought no answer of use so far.

    `most` is the size that its own pictures may have, `known_fit` whether known pictures were taken in the
    server's size since one of its own was refused.
    """

    counter: CallCounter
    most: Size = SIZES[0]
    known_fit: bool = False
    open: int = 0
    completions: list[Completion] = field(default_factory=list)

    def take(self) -> None:
        if not self.counter.count(1):
            raise TransientError(
                f"The judge was asked {MAX_JUDGE_CALLS} times about this submission, which is the limit.",
                suspect_video=True,
            )
        self.open += 1

    def give_back(self) -> None:
        self.counter.count(-1)
        self.open -= 1

    def settle(self) -> None:
        """The open calls were worth it."""
        self.open = 0

    def void(self) -> None:
        """The open calls were in vain, and not because of the video."""
        self.counter.count(-self.open)
        self.open = 0


class Judge:
    """Asks the VLM about one submission, within the daily token budget if `memory` keeps the account.

    Raises ConfigError if production is told to believe the offline stand-in.
    """

    def __init__(
        self,
        vlm: Vlm,
        settings: Settings,
        memory: JudgeMemory | None = None,
        counter: CallCounter | None = None,
    ):
        self._vlm = vlm
        self._settings = settings.require_judge()
        self._memory = memory
        self._counter = counter or LocalCounter()

    def assess(self, question: JudgeQuestion) -> JudgeAnswer:
        """Return the judge's answer to `question`; ask it three times where a gate is near.

        Raises TransientError if the judge is out of reach or answers nonsense, and Deferred if today's tokens
        are spent.
        """
        bill = _Bill(self._counter)
        replies = [self._ask(question, 0, bill)]
        if self._near_gate(replies[0]):
            replies += [self._ask(question, asking, bill) for asking in range(1, ASKINGS_NEAR_GATE)]
        replies.sort(key=lambda reply: reply.relevance)
        size = self._size(question, bill)
        return JudgeAnswer(
            **{name: statistics.median(getattr(reply, name) for reply in replies) for name in SCORES},
            reasoning=replies[len(replies) // 2].reasoning,
            # backends of before judge-v2 require it of a remote evaluator
            on_screen_text="",
            addresses_judge=any(reply.text_addresses_judge for reply in replies),
            model=self._vlm.model,
            prompt_version=PROMPT_VERSION,
            prompt_tokens=sum(call.prompt_tokens for call in bill.completions),
            completion_tokens=sum(call.completion_tokens for call in bill.completions),
            raw=tuple(reply.model_dump_json() for reply in replies),
            cost_usd=sum(self._cost(call) for call in bill.completions),
            pictures=size.pictures,
            picture_size=size.long_side,
        )

    def read_digits(self, digits: str) -> tuple[str, int]:
        """Show a picture of each of `digits` and return those the model reads, and how many tokens it took.

        Raises TransientError if it cannot be asked.
        """
        bill = _Bill(self._counter)
        question = JudgeQuestion(Brief("manipulation", "read", CONTROL, {}), known_pictures.take(digits))
        completion = self._fitting(
            question, lambda size: self._complete_or_blame(_digits_request(question, size), bill), bill
        )
        read = "".join(letter for letter in completion.text.rpartition("</think>")[2] if letter.isdigit())
        return read, completion.prompt_tokens + completion.completion_tokens

    def check_form(self) -> None:
        """Raise TransientError unless the model judges known pictures in the form that is asked for."""
        self._ask(_control_question(), 0, _Bill(self._counter))

    def size(self) -> Size:
        """What the server takes of the pictures it is meant to see, as far as it is known."""
        return self._size(_control_question(), _Bill(self._counter))

    def _near_gate(self, reply: Reply) -> bool:
        distances = (reply.relevance - self._settings.min_relevance, reply.action_match - MIN_ACTION_MATCH)
        # the slack keeps 0.35 - 0.3 within 0.05 in binary, too
        return any(abs(distance) <= NEAR_GATE + 1e-9 for distance in distances)

    def _ask(self, question: JudgeQuestion, asking: int, bill: _Bill) -> Reply:
        """Return the remembered or a new valid reply, of pictures in a size that the server takes."""
        return self._fitting(question, lambda size: self._ask_in(size, question, asking, bill), bill)

    def _ask_in(self, size: Size, question: JudgeQuestion, asking: int, bill: _Bill) -> Reply:
        cache_key = self._cache_key(build_request(question, asking, size))
        if self._memory and (remembered := self._memory.recall(cache_key)):
            return Reply.model_validate_json(remembered)
        names_scale, cuts, flaw = False, 0, Flaw.FORM
        thinks = self._vlm.habits.thinks
        for attempt in range(TRIES_PER_ASKING):
            # another seed, or a model at temperature 0 would repeat itself
            extra: dict[str, Any] = {"seed": asking * TRIES_PER_ASKING + attempt}
            if thinks:
                extra["max_tokens"] = self._settings.vlm_max_answer_tokens
                extra["chat_template_kwargs"] = {"enable_thinking": False}
            request = build_request(question, asking, size, names_scale) | extra
            completion = self._complete_or_blame(request, bill)
            reply = parse_reply(completion.text, names_scale)
            if isinstance(reply, Reply):
                bill.settle()
                if thinks and not self._vlm.habits.thinks:
                    learned = self._vlm.habits.model_copy(update={"thinks": True})
                    self._vlm.learn(learned, "its answer was cut off, and is not with more room")
                if self._memory:
                    self._memory.remember(cache_key, self._vlm.model, PROMPT_VERSION, reply.model_dump_json())
                return reply
            log.warning("judge_answer_invalid", attempt=attempt, flaw=reply, answer=completion.text[:300])
            if completion.refusal:
                raise self._blame(f"The judge refused to judge the video ({completion.refusal}).", bill)
            flaw = reply
            names_scale = names_scale or flaw == Flaw.SCALE
            cuts += completion.cut
            thinks = thinks or completion.cut
        if cuts == TRIES_PER_ASKING:
            fault = self._blame(
                "The judge's answers were cut off before their end: raise VLM_MAX_ANSWER_TOKENS, "
                "or set VLM_MODEL to a model that thinks less.",
                bill,
            )
            if fault.suspect_video:
                # it would be the same each time, at the highest price
                self._counter.count(MAX_JUDGE_CALLS)
            raise fault
        raise self._blame(f"The judge gave {flaw} in {TRIES_PER_ASKING} attempts.", bill)

    def _cache_key(self, request: dict[str, Any]) -> str:
        key = json.dumps([self._vlm.model, PROMPT_VERSION, request], sort_keys=True)
        return hashlib.sha256(key.encode()).hexdigest()

    def _size(self, question: JudgeQuestion, bill: _Bill) -> Size:
        habits, most = self._vlm.habits, bill.most
        return Size(
            min(len(question.frames), habits.pictures or most.pictures, most.pictures),
            min(habits.long_side or most.long_side, most.long_side),
        )

    def _fitting(self, question: JudgeQuestion, ask: Callable[[Size], T], bill: _Bill) -> T:
        """Return what `ask` does with the largest size in which the server takes the pictures of `question`.

        Where it refuses them, known pictures tell whether it takes no more, which is remembered, or whether
        they alone are too large. Raises TransientError.
        """
        while True:
            size = self._size(question, bill)
            try:
                return ask(size)
            except TooMuch as excess:
                if not bill.known_fit:
                    self._fit_known_pictures(bill)
                    bill.known_fit = True
                if self._size(question, bill) != size:
                    continue
                smaller = _smaller(size, excess)
                if smaller is None:
                    raise TransientError(
                        "The judge takes known pictures, but not this video's, however small they are.",
                        retry_after=excess.retry_after,
                        suspect_video=True,
                    ) from excess
                bill.most = smaller

    def _fit_known_pictures(self, bill: _Bill) -> None:
        """Learn in which size the server takes known pictures. Raises TransientError if it is none."""
        control = _control_question()
        size = known = self.size()
        while True:
            try:
                self._complete(build_request(control, 0, size), bill, CONTROL_PATIENCE)
                break
            except TooMuch as excess:
                smaller = _smaller(size, excess)
                if smaller is None:
                    raise self._fault(
                        f"The judge takes fewer than {SIZES[-1].pictures} pictures of {SIZES[-1].long_side} "
                        f"pixels. {MORE_ROOM}",
                        bill,
                        excess,
                    ) from excess
                size = smaller
            except Unavailable as error:
                raise self._fault(error.detail, bill, error) from error
        if size != known:
            bill.give_back()
            changes = {"pictures": size.pictures, "long_side": size.long_side}
            self._vlm.learn(self._vlm.habits.model_copy(update=changes), f"It takes no more. {MORE_ROOM}")

    def _complete_or_blame(self, request: dict[str, Any], bill: _Bill) -> Completion:
        """Send `request`. Raises TooMuch, or TransientError that says whose fault it is."""
        try:
            return self._complete(request, bill)
        except TooMuch:
            raise
        except InputRefused as error:
            raise self._blame(error.detail, bill, error.retry_after) from error
        except Unavailable as error:
            raise self._fault(error.detail, bill, error) from error

    def _fault(self, reason: str, bill: _Bill, error: Unavailable) -> TransientError:
        """Return the fault of the judge that `error` is, which costs nothing."""
        bill.void()
        return TransientError(reason, dependency=Dependency.VLM, retry_after=error.retry_after)

    def _blame(self, reason: str, bill: _Bill, retry_after: float | None = None) -> TransientError:
        """Return the fault of the judge, if it does not judge known pictures either, or else the video's."""
        question = _control_question()
        control = build_request(question, 0, self._size(question, bill))
        try:
            judges = isinstance(
                parse_reply(self._complete(control, bill, CONTROL_PATIENCE).text, True), Reply
            )
        except Unavailable:
            judges = False
        if judges:
            return TransientError(reason, retry_after=retry_after, suspect_video=True)
        bill.void()
        return TransientError(reason, dependency=Dependency.VLM, retry_after=retry_after)

    def _complete(self, request: dict[str, Any], bill: _Bill, patience: Patience | None = None) -> Completion:
        budget = self._settings.vlm_daily_token_budget
        if self._memory and budget and self._memory.tokens_today() >= budget:
            raise Deferred("The judge's tokens for today are used up.", retry_after=_seconds_to_midnight())
        call = self._vlm.complete(request, bill, patience)
        bill.completions.append(call)
        if self._memory:
            self._memory.count_tokens(
                self._vlm.model, call.prompt_tokens, call.completion_tokens, self._cost(call)
            )
        if call.model == OFFLINE_MODEL and not self._settings.development:
            raise TransientError(
                "VLM_API_URL is the address of the offline stand-in for a judge; set it to a real judge.",
                dependency=Dependency.VLM,
            )
        return call

    def _cost(self, call: Completion) -> float:
        settings = self._settings
        return (
            call.prompt_tokens * settings.vlm_prompt_price
            + call.completion_tokens * settings.vlm_completion_price
        ) / 1e6


def build_request(
    question: JudgeQuestion, asking: int, size: Size = SIZES[0], names_scale: bool = False
) -> dict[str, Any]:
    """Return the chat completion request for `question`; `asking` 1 and up shuffles its frames.

    The rules are the system message. The task is a JSON object between fences that it cannot hold itself,
    since its `<` are escaped.
    """
    frames = _choose(question.frames, size)
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
    content = [{"type": "text", "text": f"<task>{task}</task>"}]
    for frame in frames:
        content += [{"type": "text", "text": f"Frame at {frame.seconds:.2f} s:"}, _picture(frame)]
    if names_scale:
        content.append({"type": "text", "text": SCALE})
    return _request(_template(), content, "judgement", Reply.model_json_schema())


def _digits_request(question: JudgeQuestion, size: Size) -> dict[str, Any]:
    """Return the request for the digits in the pictures of `question`."""
    rules = (
        "Each picture shows one large digit. Answer with a JSON object whose field digits holds the digits "
        "of all pictures, in the order of the pictures and with nothing between them."
    )
    schema = {
        "type": "object",
        "properties": {"digits": {"type": "string"}},
        "required": ["digits"],
        "additionalProperties": False,
    }
    pictures = [_picture(frame) for frame in _choose(question.frames, size)]
    content = [{"type": "text", "text": "Which digits do these pictures show?"}, *pictures]
    return _request(rules, content, "digits", schema) | {"seed": 0}


def _request(rules: str, content: list[dict[str, Any]], name: str, schema: dict[str, Any]) -> dict[str, Any]:
    return {
        "messages": [{"role": "system", "content": rules}, {"role": "user", "content": content}],
        "temperature": 0,
        "max_tokens": MAX_ANSWER_TOKENS,
        "response_format": {
            "type": "json_schema",
            "json_schema": {"name": name, "strict": True, "schema": schema},
        },
    }


def _smaller(size: Size, excess: TooMuch) -> Size | None:
    """Return the next size after `size`, which was refused, or None under the floor."""
    if excess.at_most is not None and excess.at_most < size.pictures:
        smaller = Size(excess.at_most, size.long_side)
    else:
        smaller = next((less for each in SIZES if (less := each.within(size)) != size), size)
    least = min(SIZES[-1].pictures, size.pictures)
    return smaller if smaller != size and smaller.pictures >= least else None


def _choose(frames: tuple[Still, ...], size: Size) -> list[Still]:
    """As many of `frames` as there may be, from the first to the last, and as large."""
    count = len(frames)
    if count > size.pictures > 1:
        last = size.pictures - 1
        frames = tuple(frames[round(number * (count - 1) / last)] for number in range(size.pictures))
    return [_shrunk(frame, size.long_side) for frame in frames[: size.pictures]]


def _shrunk(frame: Still, long_side: int) -> Still:
    if long_side >= SIZES[0].long_side:
        return frame
    from PIL import Image

    buffer = io.BytesIO()
    with Image.open(io.BytesIO(frame.jpeg), formats=["JPEG"]) as picture:
        picture.thumbnail((long_side, long_side))
        picture.save(buffer, "JPEG", quality=85)
    return Still(frame.seconds, buffer.getvalue())


def _picture(frame: Still) -> dict[str, Any]:
    data = base64.b64encode(frame.jpeg).decode()
    return {"type": "image_url", "image_url": {"url": f"data:image/jpeg;base64,{data}"}}


def _control_question() -> JudgeQuestion:
    return JudgeQuestion(Brief("manipulation", "look", CONTROL, {}), known_pictures.take(CONTROL_DIGITS))


def _template() -> str:
    return files("app.assessment").joinpath("templates", f"{PROMPT_VERSION}.txt").read_text("utf-8")


def _seconds_to_midnight() -> float:
    now = datetime.now(UTC)
    midnight = (now + timedelta(days=1)).replace(hour=0, minute=0, second=0, microsecond=0)
    return (midnight - now).total_seconds()
