"""Drafts of prompts, asked of the configured language model for the operator to edit."""

import itertools
import json
import random
from collections.abc import Callable, Iterable, Iterator
from typing import Any

import structlog
from pydantic import BaseModel, ConfigDict, Field, ValidationError
from pydantic.config import JsonDict

from app.clients.vlm import Vlm
from app.enums import Category
from app.errors import Unavailable
from app.prompts.similarity import is_near_repeat
from app.prompts.taxonomy import TAXONOMY

log = structlog.get_logger(__name__)

BATCH = 10
# rounds in a row without anything new before it is given up
FRUITLESS_ROUNDS = 3

INSTRUCTIONS = """\
You write tasks for people who film everyday physical work from their own eyes, as training data for robots.
For each item of the list you are given, write one scenario: a single English sentence in the imperative, 10
to 35 words, that says what is done with which objects, and how one can see that it is done. It must be
possible for one person without special equipment, safe, legal, without other people's faces, and must
show the hands or the way at every moment. No two scenarios may be alike. Say how many seconds the whole
action takes at least and at most. Answer with JSON only."""


# what strict mode of the protocol demands
_CLOSED: JsonDict = {"additionalProperties": False}


class _Draft(BaseModel):
    model_config = ConfigDict(json_schema_extra=_CLOSED)

    task: str = Field(min_length=1, max_length=200)
    scenario: str = Field(min_length=20, max_length=500)
    min_seconds: float = Field(ge=1, le=120)
    max_seconds: float = Field(ge=2, le=300)


class _Drafts(BaseModel):
    model_config = ConfigDict(title="drafts", json_schema_extra=_CLOSED)

    drafts: list[_Draft] = Field(max_length=4 * BATCH)


def generate(
    vlm: Vlm,
    category: Category,
    count: int,
    known_scenarios: Iterable[str],
    known_ids: Iterable[str],
    progress: Callable[[int], None],
) -> list[dict[str, Any]]:
    """Return up to `count` new prompts of `category`, none a near repeat of another or of a known one.

    Fewer where the model has nothing new to say any more. `progress` is told how many there are. Raises
    Unavailable if the model is out of reach or gives nothing that can be used.
    """
    scenarios, ids = list(known_scenarios), set(known_ids)
    numbers = (f"{category}-{n:02}" for n in itertools.count(1))
    found: list[dict[str, Any]] = []
    fruitless = 0
    while len(found) < count and fruitless < FRUITLESS_ROUNDS:
        before = len(found)
        for draft in _ask(vlm, category, min(BATCH, count - len(found)), scenarios):
            if is_near_repeat(draft.scenario, scenarios) or draft.max_seconds <= draft.min_seconds:
                continue
            scenarios.append(draft.scenario)
            found.append(_prompt(next(name for name in numbers if name not in ids), category, draft))
            if len(found) == count:
                break
        progress(len(found))
        fruitless = 0 if len(found) > before else fruitless + 1
    if not found:
        raise Unavailable(f"{vlm.model} gave no scenario that can be used; try another VLM_MODEL.")
    return found


def _prompt(id: str, category: Category, draft: _Draft) -> dict[str, Any]:
    return {
        "id": id,
        "category": category.value,
        "task": draft.task,
        "scenario": " ".join(draft.scenario.split()),
        "requirements": {"min_duration": round(draft.min_seconds), "max_duration": round(draft.max_seconds)},
        "weight": 1.0,
    }


def _ask(vlm: Vlm, category: Category, count: int, known: list[str]) -> Iterator[_Draft]:
    """Yield what the model drafts for `count` random pairs of task and place."""
    field = TAXONOMY[category]
    pairs = random.sample(list(itertools.product(field.tasks, field.places)), count)
    wish = {
        "category": category.value,
        "items": [{"task": task, "place": place} for task, place in pairs],
        # of many, the latest: those are what the model would repeat
        "not_like_these": known[-30:],
    }
    answer = vlm.complete(
        {
            "messages": [
                {"role": "system", "content": INSTRUCTIONS},
                {"role": "user", "content": json.dumps(wish, ensure_ascii=False)},
            ],
            "temperature": 0.9,
            "max_tokens": 200 * count + 200,
            "response_format": {
                "type": "json_schema",
                "json_schema": {"name": "drafts", "strict": True, "schema": _Drafts.model_json_schema()},
            },
        }
    )
    try:
        text = answer.text
        yield from _Drafts.model_validate_json(text[text.index("{") : text.rindex("}") + 1]).drafts
    except (ValueError, ValidationError):
        log.warning("drafts_invalid", answer=answer.text[:300])
