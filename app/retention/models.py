"""Classes of objects in storage, and what a sweep finds of each."""

from dataclasses import dataclass, field
from datetime import datetime
from enum import StrEnum
from typing import Any


class Kind(StrEnum):
    """The classes of objects. What is not UNSUBMITTED, REJECTED, TAKEN_DOWN or ORPHAN is kept."""

    ACCEPTED = "accepted"
    # not evaluated yet, or in a review or an appeal
    OPEN = "open"
    REJECTED = "rejected"
    UNSUBMITTED = "unsubmitted"
    TAKEN_DOWN = "taken_down"
    GOLD = "gold"
    SHEET = "sheet"
    LEDGER = "ledger"
    MIRROR = "mirror"
    RELEASE = "release"
    # under a prefix of ours, and known to nobody
    ORPHAN = "orphan"


@dataclass(frozen=True)
class Judged:
    """An object, its class, and when it is to be deleted; None: never."""

    key: str
    size_bytes: int
    kind: Kind
    due_at: datetime | None

    def is_due(self, moment: datetime) -> bool:
        return self.due_at is not None and self.due_at <= moment


@dataclass
class Tally:
    """What was found of a class: all of it, what of it was due, and what was deleted."""

    objects: int = 0
    size_bytes: int = 0
    due: int = 0
    due_bytes: int = 0
    deleted: int = 0
    deleted_bytes: int = 0


@dataclass
class Tallies:
    """What a sweep has found so far, by class, and how many abandoned multipart uploads it aborted."""

    by_kind: dict[Kind, Tally] = field(default_factory=dict)
    aborted: int = 0

    def add(self, judged: Judged, is_due: bool, is_deleted: bool) -> None:
        tally = self.by_kind.setdefault(judged.kind, Tally())
        tally.objects += 1
        tally.size_bytes += judged.size_bytes
        if is_due:
            tally.due += 1
            tally.due_bytes += judged.size_bytes
        if is_deleted:
            tally.deleted += 1
            tally.deleted_bytes += judged.size_bytes

    @property
    def objects(self) -> int:
        return sum(tally.objects for tally in self.by_kind.values())

    @property
    def size_bytes(self) -> int:
        return sum(tally.size_bytes for tally in self.by_kind.values())

    @property
    def has_too_many_orphans(self) -> bool:
        """Whether so much is unknown that the database may be the one that lacks something."""
        found = self.by_kind.get(Kind.ORPHAN, Tally()).due
        return found > max(MOST_ORPHANS, MOST_ORPHANS_SHARE * self.objects)

    def to_json(self) -> dict[str, Any]:
        return {"aborted": self.aborted, **{kind.value: vars(each) for kind, each in self.by_kind.items()}}

    @classmethod
    def from_json(cls, found: dict[str, Any]) -> "Tallies":
        by_kind = {kind: Tally(**found[kind]) for kind in Kind if kind in found}
        return cls(by_kind, found.get("aborted", 0))


# Above both, nothing unknown is deleted without a person's word: perhaps an old backup was restored.
MOST_ORPHANS = 100
MOST_ORPHANS_SHARE = 0.01


@dataclass(frozen=True)
class Sweep:
    """A walk over the bucket: where it goes on, and what it has found so far."""

    id: int
    started_at: datetime
    finished_at: datetime | None
    after_key: str
    found: dict[str, Any]
    last_error: str | None

    @property
    def tallies(self) -> Tallies:
        return Tallies.from_json(self.found)
