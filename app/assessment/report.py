"""The verification report: what was measured, judged and compared, and how the score adds up.

The pipeline fills it, the database stores it, the API documents it, the commands print it. A part that is
None was not reached: a file that cannot be opened has no measures. Evaluators of others may send no part.
"""

from typing import Any

from pydantic import AliasChoices, BaseModel, ConfigDict, Field, ValidationError

from app.enums import SubmissionStatus

# 1: until release 0.1, without a number; its `sha256` is `verified_sha256` now
REPORT_VERSION = 2


class Part(BaseModel):
    model_config = ConfigDict(extra="ignore", allow_inf_nan=False, frozen=True)


class VideoPart(Part):
    """The container and its main video stream. Times are in seconds."""

    format: str
    codec: str
    stream: int
    width: int
    height: int
    rotation: int
    size_bytes: int
    duration: float
    declared_duration: float | None
    fps: float
    frames: int
    keyframes: int


class Check(Part):
    """A technical check: its points are `weight` if it `passed`, else 0. `rejects`: it rejects the video."""

    name: str
    passed: bool
    value: float | str | None
    threshold: float | str | None
    weight: float
    reason: str | None
    rejects: bool = False


class TechnicalPart(Part):
    score: float
    checks: list[Check]


class MeasuresPart(Part):
    """Shares of the video, means of 1, times in seconds.

    `frames` are the moments that were looked at. Reports of before these were measured have no `repeated`
    (shown before in the same video), `brief_shots` (in shots of under a second), `drawn` (not filmed) and
    `unhashable` (too little in it to be known again).
    """

    frames: int
    black: float
    frozen: float
    blurred: float
    badly_exposed: float
    mean_brightness: float
    mean_blur: float
    mean_motion: float
    motion_peak: float
    cuts: list[float]
    damaged: float
    repeated: float | None = None
    brief_shots: float | None = None
    drawn: float | None = None
    unhashable: float | None = None


class Deduction(Part):
    """What a measure takes off the quality: `factor` times what its `value` is above `threshold`."""

    name: str
    value: float
    threshold: float
    factor: float
    points: float
    reason: str


class QualityPart(Part):
    score: float
    deductions: list[Deduction]


class StillPart(Part):
    """A still that the judge was shown: its second, and the SHA-256 of its JPEG."""

    seconds: float
    sha256: str


class JudgeAnswer(Part):
    """The judge's four scores in [0, 1], why, and the text it read in the video.

    `addresses_judge`: that text speaks to the judge, by its own account. `reads_like_address`: it does by our
    patterns, which alone decide nothing. `raw` holds the answers, one for each time it was asked; the scores
    are their medians. The tokens are those of all calls, and `cost_usd` what they cost; 0 where the answers
    were remembered. It saw so many `pictures`, whose longer side was `picture_size` pixels at the most.
    """

    action_match: float
    perspective_correct: float
    demonstration_quality: float
    training_utility: float
    reasoning: str
    on_screen_text: str
    addresses_judge: bool
    model: str
    prompt_version: str
    prompt_tokens: int
    completion_tokens: int
    raw: tuple[str, ...]
    cost_usd: float = 0.0
    reads_like_address: bool = False
    pictures: int | None = None
    picture_size: int | None = None


class SpanPart(Part):
    """A stretch of the video, in seconds, and where another video shows the same."""

    start: float
    end: float
    other_start: float
    other_end: float
    mirrored: bool


class MatchPart(Part):
    """What of the video another submission shows. It does not count if that is another miner's and later."""

    submission_uuid: str
    share: float
    counts: bool
    spans: list[SpanPart]


class SameScenePart(Part):
    """The miner's own takes of this scene within `hours`: those beyond `free` cost the `deduction`."""

    hours: int
    submissions: list[str]
    free: int
    deduction: float


class DuplicatesPart(Part):
    """Where the video's footage was seen before. Not `compared`: nobody of ours saw its bytes."""

    compared: bool
    same_file: str | None = None
    matched_share: float | None = None
    matches: list[MatchPart] | None = None
    one_recording_with: str | None = None
    same_scene: SameScenePart | None = None


class StageSeconds(Part):
    """Seconds that each stage of the evaluation took."""

    download: float | None = None
    probe: float | None = None
    scan: float | None = None
    known: float | None = None
    stills: float | None = None
    judge: float | None = None
    confirm: float | None = None


class SoftwarePart(Part):
    kibotos: str
    ffmpeg: str
    ffprobe: str


class Points(Part):
    """One part of the final score: `points` is `score` times `weight`."""

    name: str
    score: float
    weight: float
    points: float


class VerdictPart(Part):
    """How the final score adds up."""

    status: SubmissionStatus
    rejection_reason: str | None
    final_score: float
    parts: list[Points]


class Report(BaseModel):
    """The verification report of one submission.

    `verified_sha256` is the hash of the bytes that were evaluated, `frame_seed` is what the times follow from
    that were looked at (app/video/stills.py says how), `keyframes` are the stills the judge saw, `review` is
    why a person should look at it, `metadata` is what an evaluator of others sent along.
    """

    model_config = ConfigDict(extra="ignore", allow_inf_nan=False, validate_assignment=True)

    report_version: int = 1
    verified_sha256: str | None = Field(
        default=None, validation_alias=AliasChoices("verified_sha256", "sha256")
    )
    frame_seed: str | None = None
    video: VideoPart | None = None
    technical: TechnicalPart | None = None
    measures: MeasuresPart | None = None
    quality: QualityPart | None = None
    keyframes: list[StillPart] | None = None
    judge: JudgeAnswer | None = None
    review: str | None = None
    duplicates: DuplicatesPart | None = None
    verdict: VerdictPart | None = None
    stage_seconds: StageSeconds | None = None
    software: SoftwarePart | None = None
    metadata: dict[str, Any] | None = None

    @classmethod
    def read(cls, stored: dict[str, Any]) -> "Report":
        """Return a stored report, without the parts that are not of their type.

        Reports were not checked before version 2, so evaluators of others may have sent anything.
        """
        try:
            return cls.model_validate(stored)
        except ValidationError as error:
            wrong = {item["loc"][0] for item in error.errors(include_url=False, include_input=False)}
            return cls.model_validate({name: part for name, part in stored.items() if name not in wrong})

    def dump(self) -> dict[str, Any]:
        """Return the report as JSON has it, without what was not reached."""
        return self.model_dump(mode="json", exclude_unset=True)

    def dump_json(self) -> str:
        """Return the report as the text of a JSON object, without what was not reached."""
        return self.model_dump_json(exclude_unset=True)
