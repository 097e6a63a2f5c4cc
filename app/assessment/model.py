"""What an evaluation is given and what comes of it: shared by our workers and remote evaluators."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any, Protocol
from uuid import UUID

from app.assessment.report import Report
from app.video.frames import FrameHash

# How many requests to a judge a single submission can cost at the most, in its whole life and whoever
# evaluates it. Three askings of three tries each are nine.
MAX_JUDGE_CALLS = 20


@dataclass(frozen=True)
class Brief:
    """What a video was asked to show, and within which limits: a prompt as an evaluation knows it."""

    category: str
    task: str
    scenario: str
    requirements: Mapping[str, Any]


@dataclass(frozen=True)
class Declared:
    """What the miner says of the video."""

    duration: float
    width: int
    height: int
    fps: float


@dataclass(frozen=True)
class Claim:
    """A submission under a live lease: everything an evaluation may know of it.

    The miner's own description of the action is not among it: it must not reach the judge.
    """

    id: int
    submission_uuid: UUID
    attempt: int
    claim_token: UUID
    lease_expires_at: datetime
    video_key: str
    video_hash: str
    prompt_id: str
    category: str
    task: str
    scenario: str
    requirements: dict[str, Any]
    # declared by the miner
    duration_sec: float
    resolution_width: int
    resolution_height: int
    fps: float

    @property
    def brief(self) -> Brief:
        return Brief(self.category, self.task, self.scenario, self.requirements)

    @property
    def declared(self) -> Declared:
        return Declared(self.duration_sec, self.resolution_width, self.resolution_height, self.fps)


@dataclass(frozen=True)
class Outcome:
    """What the evaluation of a video found. The three scores lie in [0, 1].

    `quality_score` is before duplicates, which only the database can tell. `rejection_reason` names a
    fault of the video that the miner can act on, or is None: whether the video shows its task is for the
    gates to say, with the judge's `reasoning`. `action_match` is None where no judge was asked.
    """

    technical_score: float
    relevance_score: float
    quality_score: float
    action_match: float | None
    rejection_reason: str | None
    judge_model: str | None
    prompt_version: str | None
    report: Report
    fingerprint: tuple[FrameHash, ...] = field(default=(), repr=False)
    reasoning: str = ""

    @property
    def scores(self) -> tuple[float, float, float]:
        """Technical, relevance and quality score: what the formula takes."""
        return self.technical_score, self.relevance_score, self.quality_score


class CallCounter(Protocol):
    """Counts the requests to a judge that a submission has cost."""

    def count(self, calls: int) -> bool:
        """Add `calls` up to MAX_JUDGE_CALLS; False if it has cost those. Below 0 they are taken off."""


class LeaseLost(Exception):
    """The claim is no longer ours: stop at once and write nothing."""
