"""What the files of a release are made of."""

from datetime import date, datetime
from typing import Any

from pydantic import BaseModel, ConfigDict

from app.attributes.model import Attributes
from app.enums import ActorType, CameraType, Category, DataFormat, Split
from app.video.film import Film


class Judged(BaseModel):
    """By what a submission was judged: the model, the version of its prompt, and of this software."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    model: str | None
    prompt_version: str | None
    software: str


class Episode(BaseModel):
    """One accepted submission in a release, and its film.

    `index` counts from 0 over the release. Episodes are numbered by split, in the order of Split, so those of
    a split follow one another. `task_index` is the place of `task` among the release's distinct tasks, from
    0: equal texts have equal places. `intrinsics` are what the miner declared, as JSON.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    index: int
    split: Split
    uuid: str
    source_sha256: str
    prompt_id: str
    task: str
    task_index: int
    category: Category
    scenario: str
    technical_score: float
    relevance_score: float
    quality_score: float
    final_score: float
    camera_type: CameraType
    actor_type: ActorType
    intrinsics: dict[str, Any] | None
    hotkey: str
    cycle: int | None
    submitted_at: datetime
    licence: str
    consent_hash: str | None
    consent_version: str | None
    consent_date: date | None
    judged: Judged
    film: Film
    # None where no look was taken
    attributes: Attributes | None


class Header(BaseModel):
    """What is said of a release as a whole.

    `rules` are those by which its episodes were chosen, by their names in the command. `versions` are of the
    software that made it. `predecessor` is the release that it replaces.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    name: str
    created_at: datetime
    formats: tuple[DataFormat, ...]
    rules: dict[str, Any]
    versions: dict[str, str]
    blurred: bool = True
    predecessor: str | None = None
    # where the release can be had, if it is published
    url: str | None = None
    publisher: str | None = None


class BuiltFile(BaseModel):
    """A file of a release that has been built."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    path: str
    sha256: str
    bytes: int
