"""What a release is: its rules, its states, and what is told of it on the wire."""

from dataclasses import dataclass
from datetime import datetime
from enum import StrEnum
from typing import Annotated, Any
from uuid import UUID

from pydantic import BaseModel, ConfigDict, Field

from app.enums import Category, DataFormat, ReleaseState, Split


class Rules(BaseModel):
    """What a submission must be to be in a release. None: anything. Rules of old releases are read for ever.

    `first_cycle` and `last_cycle` belong to it. `licences` are SPDX identifiers; a submission without a
    licence, of its own or by default, is in no release whatever the rules.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    min_score: Annotated[float, Field(ge=0, le=1)] = 0.0
    categories: tuple[Category, ...] | None = None
    first_cycle: int | None = None
    last_cycle: int | None = None
    licences: tuple[str, ...] | None = None


class TaskKind(StrEnum):
    """What a worker does for releases: a film, a file, or the step from one state to the next."""

    FILM = "film"
    PART = "part"
    STEP = "step"


@dataclass(frozen=True)
class Task:
    """A row under a live lease. `attempts` counts this one, and those that nothing outside made fail."""

    kind: TaskKind
    id: int
    claim_token: UUID
    attempts: int
    last_fault: str | None

    @property
    def subject(self) -> str:
        return f"{self.kind} {self.id} of a release"


@dataclass(frozen=True)
class Release:
    """A release as it stands now.

    `chosen` episodes were frozen. `films` of them are made, and `parts_done` of `parts` files written; the
    first are counted again and again while the release is built.
    """

    id: int
    name: str
    rules: dict[str, Any]
    formats: list[str]
    recipe: str
    predecessor: str | None
    frozen_at: datetime
    software: dict[str, str]
    chosen: int
    left_out: int
    state: ReleaseState
    failure: str | None
    completed_at: datetime | None
    manifest_sha256: str | None
    figures: dict[str, Any] | None
    films: int
    parts: int
    parts_done: int
    last_fault: str | None
    taken_down: int

    @property
    def is_over(self) -> bool:
        return self.state in (ReleaseState.COMPLETE, ReleaseState.FAILED)


@dataclass(frozen=True)
class LeftOut:
    """A submission that was chosen for a release and is not in it."""

    submission_id: int
    submission_uuid: UUID
    reason: str


class FiguresOut(BaseModel):
    """How much there is in a complete release. Hours are of film."""

    episodes: int
    hours: float
    bytes: int
    by_category: dict[Category, int]
    hours_by_category: dict[Category, float]
    by_split: dict[Split, int]
    by_licence: dict[str, int]
    miners: int


class ReleaseOut(BaseModel):
    """A release. `manifest_sha256`, which names it for good, and `figures` are null until it is complete.

    Of `episodes_chosen`, `episodes_left_out` are not in it: `kibotos releases show` says why. `films_made`
    and `files_written` show how far it is. `films_taken_down` were taken down since: if there are any, its
    files are no longer given out.
    """

    name: str
    state: ReleaseState
    rules: Rules
    formats: list[DataFormat]
    recipe: str
    predecessor: str | None
    frozen_at: datetime
    completed_at: datetime | None
    manifest_sha256: str | None
    episodes_chosen: int
    episodes_left_out: int
    films_made: int
    files: int
    files_written: int
    films_taken_down: int
    figures: FiguresOut | None

    @classmethod
    def of(cls, release: Release) -> "ReleaseOut":
        return cls(
            name=release.name,
            state=release.state,
            rules=Rules.model_validate(release.rules),
            formats=[DataFormat(each) for each in release.formats],
            recipe=release.recipe,
            predecessor=release.predecessor,
            frozen_at=release.frozen_at,
            completed_at=release.completed_at,
            manifest_sha256=release.manifest_sha256,
            episodes_chosen=release.chosen,
            episodes_left_out=release.left_out,
            films_made=release.films,
            files=release.parts,
            files_written=release.parts_done,
            films_taken_down=release.taken_down,
            figures=FiguresOut.model_validate(release.figures) if release.figures else None,
        )


class ReleasesOut(BaseModel):
    """Releases, the newest first. `next` is what `before` is for those before them; null: there are none."""

    releases: list[ReleaseOut]
    next: str | None
