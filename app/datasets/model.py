"""What the files of a release are made of."""

from datetime import date, datetime
from typing import Any, Protocol

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


class Filmed(Protocol):
    """What the plan of a release needs to know of an episode."""

    @property
    def index(self) -> int: ...
    @property
    def split(self) -> Split: ...
    @property
    def film(self) -> Film: ...


class Episode(BaseModel):
    """One accepted submission in a release, and its film.

    `index` counts from 0 over the release. Episodes are numbered by split, in the order of Split, so those of
    a split follow one another. `task_index` is the place of `task` among the release's distinct tasks, from
    0: equal texts have equal places. `intrinsics` are what the miner declared, as JSON. `attributes` are None
    where nobody has looked.
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
    attributes: Attributes | None


class Limits(BaseModel):
    """What the files of a release hold at the most; a film is never divided.

    `video_bytes` and `shard_bytes` are of films, `data_frames` of rows; `episodes` is how many a file has.
    Files of one row an episode about the whole release are not divided.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    video_bytes: int = 200 * 2**20
    shard_bytes: int = 256 * 2**20
    data_frames: int = 1_000_000
    episodes: int = 5_000


class Header(BaseModel):
    """What is said of a release as a whole.

    `rules` are those by which its episodes were chosen, by their names in the command. `versions` are of the
    software that made it. `predecessor` is the release that it replaces. `url` is where it can be had, if it
    is published.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    name: str
    created_at: datetime
    formats: tuple[DataFormat, ...]
    rules: dict[str, Any]
    versions: dict[str, str]
    # faces are blurred in every film
    blurred: bool = True
    predecessor: str | None = None
    url: str | None = None
    publisher: str | None = None
    limits: Limits = Limits()


class BuiltFile(BaseModel):
    """A file of a release that has been built."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    path: str
    sha256: str
    bytes: int
