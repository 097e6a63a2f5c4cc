"""The verification report: what was measured, judged and compared, and how the score adds up.

The pipeline fills it, the database stores it, the API documents it, and the commands print it. A part is None
if the evaluation did not reach it: a file that cannot be opened has no measures. Other people's evaluators
may send no part at all.
"""

from typing import Any

from pydantic import AliasChoices, BaseModel, ConfigDict, Field, ValidationError

from app.enums import SubmissionStatus

# Version 1 had no number, until release 0.1. Its `sha256` is now `verified_sha256`.
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
    """A technical check. It gives `weight` points if it `passed`, else 0. `rejects`: it rejects the video."""

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


class FaultSpan(Part):
    """A part of the video, in seconds, that has the fault `kind`, which is named as in the measures."""

    kind: str
    start: float
    end: float


class MeasuresPart(Part):
    """Measures of the video, mostly as shares of 1. Times are in seconds.

    `frames` is the number of moments that were looked at. `repeated`: shown before in the same video.
    `brief_shots`: in shots of less than a second. `drawn`: not filmed. `unhashable`: too little detail to be
    recognised again. Old reports do not have these four. `spans` says where the faults are: at most 12 of a
    kind, so near ones may be joined. Old reports do not have it.
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
    spans: list[FaultSpan] | None = None


class Deduction(Part):
    """A deduction from the quality: `points` is `factor` times the part of `value` above `threshold`.

    For `written`, the whole value counts as soon as it is above the threshold.
    """

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
    """A still that the judge saw: its time in seconds, and the SHA-256 of its JPEG.

    `painted` is the share of it that was painted over because there was writing. It is null in old reports,
    and where the prompt's requirements say `writing_matters`. `words` are lines that were read in it, for
    people to know: at most four, of at most three stills, in Latin letters, Chinese and Japanese. Nothing
    depends on them, but that a person may look if `writing_matters`. It is null if there are none.
    """

    seconds: float
    sha256: str
    painted: float | None = None
    words: tuple[str, ...] | None = None


class JudgeAnswer(Part):
    """The judge's four scores in [0, 1], and its reasoning.

    `addresses_judge`: the judge says that writing in the video speaks to it. Up to the prompt `judge-v1` the
    judge also wrote down what it read, as `on_screen_text`, and `reads_like_address` was the opinion of
    patterns; later answers have "" and false there. `raw` has the answers, one for each time the judge was
    asked. The scores are their medians. The tokens are those of all requests, and `cost_usd` is their cost.
    It is 0 if the answers were remembered. `pictures` is the number of stills that the
    judge saw. Their longer side had at most `picture_size` pixels.
    """

    action_match: float
    perspective_correct: float
    demonstration_quality: float
    training_utility: float
    reasoning: str
    on_screen_text: str = ""
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
    """A part of the video, in seconds, and the part of another video that shows the same."""

    start: float
    end: float
    other_start: float
    other_end: float
    mirrored: bool


class MatchPart(Part):
    """The part of the video that another submission shows. If that one is later and by another miner, it does
    not count."""

    submission_uuid: str
    share: float
    counts: bool
    spans: list[SpanPart]


class SameScenePart(Part):
    """The miner's own takes of this scene within `hours`. More takes than `free` cost the `deduction`."""

    hours: int
    submissions: list[str]
    free: int
    deduction: float


class DuplicatesPart(Part):
    """Where the video's footage was seen before. `compared` is false if its bytes were not verified."""

    compared: bool
    same_file: str | None = None
    matched_share: float | None = None
    matches: list[MatchPart] | None = None
    one_recording_with: str | None = None
    # a submission that was taken down, of which it shows some footage
    taken_down: str | None = None
    same_scene: SameScenePart | None = None


class StageSeconds(Part):
    """Seconds that each stage of the evaluation took."""

    download: float | None = None
    probe: float | None = None
    scan: float | None = None
    known: float | None = None
    stills: float | None = None
    paint: float | None = None
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

    `verified_sha256` is the hash of the evaluated bytes. The moments that were looked at follow from
    `frame_seed`; docs/design.md says how. `keyframes` are the stills that the judge saw. `review` says why a
    person should look at the submission. `metadata` is what another person's evaluator added.
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
        """Return a stored report, without parts of a wrong type.

        Reports were not checked before version 2, so other people's evaluators may have sent anything.
        """
        try:
            return cls.model_validate(stored)
        except ValidationError as error:
            wrong = {item["loc"][0] for item in error.errors(include_url=False, include_input=False)}
            return cls.model_validate({name: part for name, part in stored.items() if name not in wrong})

    def dump(self) -> dict[str, Any]:
        """Return the report as a dict for JSON, without the parts that were not reached."""
        return self.model_dump(mode="json", exclude_unset=True)

    def dump_json(self) -> str:
        """Return the report as the text of a JSON object, without the parts that were not reached."""
        return self.model_dump_json(exclude_unset=True)
