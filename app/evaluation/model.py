"""What an evaluation is given and what comes of it: shared by our workers and remote evaluators."""

from dataclasses import dataclass, field
from datetime import datetime
from typing import Any
from uuid import UUID

from app.enums import Dependency


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
    # what the miner claims of the video
    duration_sec: float
    resolution_width: int
    resolution_height: int
    fps: float


@dataclass(frozen=True)
class Frame:
    """A picture of the video as the judge sees it: a JPEG, and the second it is shown at."""

    seconds: float
    jpeg: bytes = field(repr=False)


@dataclass(frozen=True)
class FrameHash:
    """The perceptual hash (PDQ, 256 bits) of the frame shown at `seconds`, and that of its mirror image."""

    seconds: float
    pdq: bytes
    mirrored: bytes


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
    report: dict[str, Any]
    fingerprint: tuple[FrameHash, ...] = field(default=(), repr=False)
    reasoning: str = ""

    @property
    def scores(self) -> tuple[float, float, float]:
        """Technical, relevance and quality score: what the formula takes."""
        return self.technical_score, self.relevance_score, self.quality_score


class OurFault(Exception):
    """Storage, the VLM, a disk or a process failed: the submission goes back and its miner loses nothing.

    `dependency` is the one that is to blame (it counts against its circuit breaker), or None.
    `retry_after` is how many seconds to wait at the least, where that is known.
    """

    def __init__(self, reason: str, dependency: Dependency | None = None, retry_after: float | None = None):
        super().__init__(reason)
        self.reason = reason
        self.dependency = dependency
        self.retry_after = retry_after


class Deferred(OurFault):
    """Nothing failed, but it has to wait for `retry_after` seconds: goes back without counting as a fault."""


class LeaseLost(Exception):
    """The claim is no longer ours: stop at once and write nothing."""
