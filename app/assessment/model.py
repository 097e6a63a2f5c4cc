"""The input and the outcome of an evaluation, for workers and remote evaluators."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any, Protocol
from uuid import UUID

from app.assessment.report import Report
from app.video.frames import FrameHash

# The most requests to a judge that a submission can cost in its whole life, by all evaluators together. Three
# questions with three tries each are nine.
MAX_JUDGE_CALLS = 20


@dataclass(frozen=True)
class Brief:
    """What a video should show, and its limits: the prompt as an evaluation knows it."""

    category: str
    task: str
    scenario: str
    requirements: Mapping[str, Any]

    @property
    def writing_matters(self) -> bool:
        """Whether the task is about reading or writing, so that the judge must see what is written."""
        return self.requirements.get("writing_matters") is True


@dataclass(frozen=True)
class Declared:
    """What the miner declares of the video."""

    duration: float
    width: int
    height: int
    fps: float


@dataclass(frozen=True)
class Claim:
    """A submission under a live lease, with everything that an evaluation may know about it.

    It does not have the miner's own description of the action, which must not reach the judge.
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
    # what the moments that are looked at follow from: the same in each claim of a submission or of an appeal
    frame_seed: UUID
    # the submission has a result, which is appealed against
    is_appeal: bool = False

    @property
    def brief(self) -> Brief:
        return Brief(self.category, self.task, self.scenario, self.requirements)

    @property
    def declared(self) -> Declared:
        return Declared(self.duration_sec, self.resolution_width, self.resolution_height, self.fps)


@dataclass(frozen=True)
class Outcome:
    """What the evaluation of a video found. The three scores lie in [0, 1].

    `quality_score` is the quality before duplicates, which only the database knows. `rejection_reason` names
    a fault of the video, or is None. It says nothing about the task: the gates decide whether the video shows
    it, and give the judge's `reasoning`. `action_match` is None if no judge was asked.
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
    # packed, see app/video/features.py; empty from evaluators of before these
    features: bytes = field(default=b"", repr=False)
    # a WebP, see app/video/sheet.py; empty if there is none
    contact_sheet: bytes = field(default=b"", repr=False)
    reasoning: str = ""

    @property
    def scores(self) -> tuple[float, float, float]:
        """Technical, relevance and quality score: what the formula takes."""
        return self.technical_score, self.relevance_score, self.quality_score


class CallCounter(Protocol):
    """Counts the requests to a judge about a submission."""

    def count(self, calls: int) -> bool:
        """Add `calls`, up to MAX_JUDGE_CALLS; False if these are used up. A negative number is taken off."""


class LeaseLost(Exception):
    """The lease has ended: stop at once and write nothing."""
