"""What a prompt is, inside and on the wire."""

from dataclasses import dataclass
from datetime import datetime
from typing import Annotated, Any

from pydantic import AfterValidator, BaseModel, Field

from app.enums import Category
from app.fields import Id, JsonObject, LongText, QueryModel, RequestModel, ShortText, Timestamp, Whole

PromptId = Annotated[str, Field(pattern=r"^[A-Za-z0-9][A-Za-z0-9._-]{0,63}$")]
Weight = Annotated[float, Field(ge=0, le=1000)]


CategoryName = Annotated[Category, Field(strict=False)]


@dataclass(frozen=True)
class Prompt:
    id: str
    category: str
    task: str
    scenario: str
    requirements: dict[str, Any]
    weight: float
    created_at: datetime
    expires_at: datetime | None
    total_submissions: int
    is_active: bool


@dataclass(frozen=True)
class CategoryCount:
    category: str
    count: int


class PromptOut(BaseModel):
    """A task that miners are asked to film."""

    id: str
    category: Category
    task: str
    scenario: str
    requirements: dict[str, Any]
    weight: float
    created_at: Timestamp
    expires_at: Timestamp | None
    total_submissions: Id
    is_active: bool


class CategoryCountOut(BaseModel):
    category: Category
    count: int


class PromptQuery(QueryModel):
    """Which prompts to list. An unknown `category` has no prompts. An empty `category` means all of them.

    Clients in the field rely on both.
    """

    category: str | None = None
    active_only: bool = True
    limit: Annotated[int, Field(ge=1, le=1000)] | None = None
    after: PromptId | None = None


@dataclass(frozen=True)
class PromptFilter:
    """Which prompts are listed."""

    category: str | None = None
    active_only: bool = True
    after: str | None = None


@dataclass(frozen=True)
class ListVersion:
    """Two lists of prompts with the same version are equal, except for the counts of submissions."""

    rows: int
    transactions: int


class RequirementLimits(RequestModel):
    """What a prompt may set instead of the defaults. Other keys are for people and the judge.

    `writing_matters`: the task is about reading or writing, so the judge sees the frames with their writing.
    """

    min_width: Annotated[Whole, Field(ge=1, le=65536)] | None = None
    min_height: Annotated[Whole, Field(ge=1, le=65536)] | None = None
    min_fps: Annotated[float, Field(ge=0, le=1000)] | None = None
    max_fps: Annotated[float, Field(gt=0, le=1000)] | None = None
    min_duration: Annotated[float, Field(ge=0, le=86400)] | None = None
    max_duration: Annotated[float, Field(gt=0, le=86400)] | None = None
    max_file_size_mb: Annotated[float, Field(gt=0, le=5000)] | None = None
    writing_matters: bool | None = None


def _check_limits(value: dict[str, Any]) -> dict[str, Any]:
    RequirementLimits.model_validate(value)
    return value


Requirements = Annotated[JsonObject, AfterValidator(_check_limits)]


def _without_default(schema: dict[str, Any]) -> None:
    del schema["default"]


# a field that may be left out, but not be null
LEFT_OUT: Any = Field(default=None, json_schema_extra=_without_default)


class NewPrompt(RequestModel):
    id: PromptId
    category: CategoryName
    task: ShortText
    scenario: LongText
    requirements: Requirements = Field(default_factory=dict)
    weight: Weight = 1.0
    expires_at: Timestamp | None = None


class PromptChange(RequestModel):
    """The fields to change. A field that is left out stays as it is."""

    is_active: bool = LEFT_OUT
    weight: Weight = LEFT_OUT
    requirements: Requirements = LEFT_OUT
    expires_at: Timestamp | None = None
