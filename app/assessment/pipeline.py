"""The evaluation of one video: the same for workers, remote evaluators and local files.

It uses no database and no Flask. A fault of the video is in the Outcome. For any other failure TransientError
is raised, and nothing is said about the video.
"""

import hashlib
import shutil
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Protocol

import structlog

from app.assessment import formula, quality, speech, technical
from app.assessment.judge import JudgeQuestion
from app.assessment.model import Brief, Claim, Declared, Outcome
from app.assessment.report import (
    REPORT_VERSION,
    Check,
    FaultSpan,
    JudgeAnswer,
    MeasuresPart,
    QualityPart,
    Report,
    SoftwarePart,
    StageSeconds,
    StillPart,
    TechnicalPart,
    VideoPart,
)
from app.enums import Dependency
from app.errors import ChangingVideo, TransientError, Unavailable
from app.version import VERSION
from app.video import control, ffmpeg, painting, sheet
from app.video.download import Missing, download
from app.video.ffmpeg import MediaFault
from app.video.frames import FrameHash, Still
from app.video.measures import joined
from app.video.painting import Painted
from app.video.probe import Probe, probe
from app.video.scan import Scan, scan

log = structlog.get_logger(__name__)

# stills the judge sees, besides the one at the peak of motion
STILLS = 8
# spans of a fault that a report tells
MOST_SPANS = 12
# The object was there when the submission was accepted, and miners cannot delete: that it is gone is believed
# at this attempt only, minutes later.
MISSING_BELIEVED_AT = 3

# The precheck: why a video with these frames and packed features will be rejected for known footage, or None.
FindKnown = Callable[[tuple[FrameHash, ...], bytes], str | None]
# Paints the writing in stills over.
Paint = Callable[[list[Still]], list[Painted]]
# Entered for what keeps a processor busy. It may block until one is free.
Processor = AbstractContextManager[Any]
AT_ONCE: Processor = nullcontext()


class Assessor(Protocol):
    """Who answers what the judge is asked."""

    def assess(self, question: JudgeQuestion) -> JudgeAnswer: ...


def evaluate(
    claim: Claim,
    open_url: Callable[[], str],
    judge: Assessor,
    workdir: Path,
    check_lease: Callable[[], None],
    find_known: FindKnown = lambda frames, features: None,
    paint: Paint | None = painting.paint,
) -> Outcome:
    """Look at the video of `claim` and have it judged: see `look`. Raises TransientError."""
    return look(claim, open_url, workdir, check_lease, find_known, paint).judged(judge)


def look(
    claim: Claim,
    open_url: Callable[[], str],
    workdir: Path,
    check_lease: Callable[[], None],
    find_known: FindKnown = lambda frames, features: None,
    paint: Paint | None = painting.paint,
    processor: Processor = AT_ONCE,
) -> "Evaluation":
    """Download the video of `claim` from what `open_url` returns, and evaluate it up to the judge.

    Works in a directory of its own under `workdir`, which is gone in the end: the judge needs no file.
    `check_lease` is called often, so it must be cheap; what it raises ends the evaluation. `find_known` is
    asked in the end, before the judge. Without `paint` the judge sees what is written in the video.
    `processor` is entered to decode and to paint. Raises TransientError if the video is not to blame.
    """
    with _directory(workdir) as directory:
        file = directory / "video"
        evaluation = Evaluation(
            claim.brief, claim.declared, check_lease, directory, file, find_known, paint, processor
        )
        evaluation.frame_seed = frame_seed(claim)
        try:
            with evaluation.stage("download"):
                evaluation.digest = _fetch(claim, open_url, file, check_lease)
        except MediaFault as fault:
            if isinstance(fault, Missing) and claim.attempt < MISSING_BELIEVED_AT:
                raise TransientError(
                    "Storage does not find the video.", dependency=Dependency.STORAGE
                ) from fault
            evaluation.reject(f"The video cannot be downloaded: {fault}")
            return evaluation
        if evaluation.digest != claim.video_hash:
            evaluation.reject(
                f"The file under video_key has the SHA-256 {evaluation.digest}, not the submitted "
                "video_hash. Upload and submit the same file."
            )
            return evaluation
        evaluation.look()
        return evaluation


def frame_seed(claim: Claim) -> str:
    """Return what the moments follow from: the SHA-256 of a random number of the submission's.

    The number is drawn when the submission is accepted. The miner has uploaded the video by then, so nobody
    can make a video for it. If the video is evaluated again, the judge is asked about the same stills.
    """
    return hashlib.sha256(claim.frame_seed.bytes).hexdigest()


def evaluate_file(
    file: Path,
    brief: Brief,
    judge: Assessor | None,
    workdir: Path,
    paint: Paint | None = painting.paint,
) -> Outcome:
    """Evaluate a local file as if it had been submitted, with nothing wrong declared. Raises TransientError.

    Without a judge the outcome has a relevance of 0, and nothing is painted.
    """
    with _directory(workdir) as directory:
        evaluation = Evaluation(brief, None, lambda: None, directory, file, paint=paint if judge else None)
        evaluation.digest = evaluation.frame_seed = _sha256(file)
        if file.stat().st_size > (max_bytes := technical.largest_file(brief.requirements)):
            evaluation.reject(
                f"It is larger than {max_bytes / 1e6:g} MB. Encode it with fewer bits a second."
            )
        else:
            evaluation.look()
        return evaluation.judged(judge)


@contextmanager
def _directory(workdir: Path) -> Iterator[Path]:
    """A directory that is deleted at the end. A failure of the disk meanwhile is a transient error."""
    directory = None
    try:
        directory = Path(tempfile.mkdtemp(prefix="evaluation-", dir=workdir))
        yield directory
    except OSError as error:
        raise TransientError(
            f"A file of ours could not be read or written: {error.strerror or error}."
        ) from error
    finally:
        if directory:
            shutil.rmtree(directory, ignore_errors=True)


def _fetch(claim: Claim, open_url: Callable[[], str], path: Path, check_lease: Callable[[], None]) -> str:
    """Download the video and return its SHA-256.

    If the bytes do not have the asserted hash, they are downloaded again. Only if storage returns the same
    bytes twice are they what the miner uploaded.
    """
    max_bytes = technical.largest_file(claim.brief.requirements)
    digest = ""
    for _ in range(2):
        try:
            url = open_url()
        except Unavailable as error:
            raise TransientError(
                error.detail, dependency=Dependency.STORAGE, retry_after=error.retry_after
            ) from error
        before, digest = digest, download(url, path, max_bytes, check_lease)
        if digest == claim.video_hash:
            return digest
    if digest != before:
        # not counted against storage: a miner who uploads all the time must not stop the evaluation of others
        raise ChangingVideo("Storage returns other bytes each time.")
    return digest


def _sha256(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


@dataclass
class Evaluation:
    """One evaluation under way: what it works on, and what is known so far.

    `look`, or `reject`, then `judged`.
    """

    brief: Brief
    declared: Declared | None
    check_lease: Callable[[], None]
    directory: Path
    path: Path
    find_known: FindKnown = lambda frames, features: None
    paint: Paint | None = painting.paint
    processor: Processor = AT_ONCE
    digest: str = ""
    frame_seed: str = ""
    report: Report = field(default_factory=lambda: Report(report_version=REPORT_VERSION))
    seconds: dict[str, float] = field(default_factory=dict)
    checks: list[Check] = field(default_factory=list)
    quality: float = 0.0
    fingerprint: tuple[FrameHash, ...] = ()
    features: bytes = b""
    contact_sheet: bytes = b""
    # the share of each still, by its seconds, that was painted over
    covered: dict[float, float] = field(default_factory=dict)
    # lines that were read in it
    words: dict[float, tuple[str, ...]] = field(default_factory=dict)
    # what the judge sees
    frames: tuple[Still, ...] = ()
    # without the judge
    rejected: Outcome | None = None

    @contextmanager
    def stage(self, name: str) -> Iterator[None]:
        """Time a stage for the report."""
        self.check_lease()
        began = time.monotonic()
        try:
            yield
        finally:
            self.seconds[name] = round(time.monotonic() - began, 3)

    def look(self) -> None:
        """Run the stages before the judge. A fault of the video ends them: the judge sees only videos
        without a fault.
        """
        probed = None
        try:
            # the lease is looked at after the wait for a processor
            with self.processor:
                with self.stage("probe"):
                    probed = probe(self.path)
                self._check(probed)
                if rejection := technical.rejection(self.checks):
                    self.reject(rejection)
                    return
                with self.stage("scan"):
                    scanned = scan(self.path, probed, self.frame_seed, self.directory, self.check_lease)
                self._note(scanned)
            with self.stage("known"):
                known = self.find_known(self.fingerprint, self.features)
            if known:
                self.reject(known)
                return
            frames = scanned.stills(STILLS)
            if not frames:
                raise MediaFault(
                    "None of its pictures belongs to those before and after it, so none can be shown to the "
                    "judge. Film in one take, without inserted frames."
                )
        except MediaFault as fault:
            with self.processor, self.stage("confirm"):
                self._confirm()
            self._check(probed, str(fault))
            self.reject(technical.rejection(self.checks) or str(fault))
            return
        if self.paint:
            with self.processor, self.stage("paint"):
                frames = self._painted(frames, self.paint)
        self.frames = tuple(frames)
        self.report.keyframes = [
            StillPart(
                seconds=frame.seconds,
                sha256=hashlib.sha256(frame.jpeg).hexdigest(),
                painted=self.covered.get(frame.seconds),
                words=self.words.get(frame.seconds),
            )
            for frame in frames
        ]

    def judged(self, judge: Assessor | None) -> Outcome:
        """Have the judge score it, unless it was rejected, and return the outcome. Raises TransientError."""
        if self.rejected:
            return self.rejected
        if judge is None:
            return self._outcome(0.0, None, None)
        with self.stage("judge"):
            answer = judge.assess(JudgeQuestion(self.brief, self.frames))
        return self._conclude(answer)

    def _check(self, probed: Probe | None, fault: str | None = None) -> None:
        """Make the technical checks, with the `fault` found by decoding if there is one."""
        size = self.path.stat().st_size
        self.checks = technical.check(probed, size, self.declared, self.brief.requirements, fault)
        if probed:
            self.report.video = _describe(probed)

    def _note(self, scanned: Scan) -> None:
        """Take up what the scan found. Raises MediaFault if it is no moving picture."""
        damaged = scanned.faults.damaged
        deductions = quality.deductions(scanned.faults)
        self.quality = quality.score(deductions)
        self.fingerprint = scanned.fingerprint
        self.features = scanned.features
        self.contact_sheet = _drawn(scanned)
        self.report.frame_seed = self.frame_seed
        self.report.measures = _measured(scanned)
        self.report.quality = QualityPart(score=self.quality, deductions=deductions)
        if damaged.share > technical.MAX_DAMAGED:
            raise MediaFault(
                f"{damaged.share:.0%} of its frames are damaged{damaged.onset}; "
                f"at most {technical.MAX_DAMAGED:.0%} may be. Record or encode it again."
            )
        if reason := quality.rejection(scanned.faults):
            raise MediaFault(reason)

    def _painted(self, frames: list[Still], paint: Paint) -> list[Still]:
        """Return the stills without writing. If that covered much of them, it costs quality.

        Where writing matters to the task they stay as they are.
        """
        painted = paint(frames)
        self.words = {each.still.seconds: each.words for each in painted if each.words}
        if self.brief.writing_matters:
            return frames
        self.covered = {each.still.seconds: each.covered for each in painted}
        written = quality.written(self.covered)
        assert self.report.quality
        deductions = [*self.report.quality.deductions, written]
        self.quality = quality.score(deductions)
        self.report.quality = QualityPart(score=self.quality, deductions=deductions)
        return [each.still for each in painted]

    def _confirm(self) -> None:
        """Raise TransientError unless the failure is the video's: its bytes are intact and the tools work."""
        if _sha256(self.path) != self.digest:
            raise TransientError("Our copy of the video changed while it was evaluated.")
        control.check(self.directory)

    def _conclude(self, answer: JudgeAnswer) -> Outcome:
        self.report.judge = answer
        relevance = formula.relevance_score(
            answer.action_match,
            answer.perspective_correct,
            answer.demonstration_quality,
            answer.training_utility,
        )
        if answer.addresses_judge:
            self.report.review = "The judge says that writing in the video speaks to it. The score stands."
        elif self.brief.writing_matters and (line := speech.find(self.words.values())):
            self.report.review = (
                "The judge saw the writing in this video, which may speak to it. The score stands. It says: "
                f"“{line}”"
            )
        return self._outcome(relevance, None, answer)

    def reject(self, reason: str) -> None:
        """Note the outcome of a video that the judge is not asked about."""
        self.rejected = self._outcome(0.0, reason, None)

    def _outcome(self, relevance: float, reason: str | None, answer: JudgeAnswer | None) -> Outcome:
        technical_score = technical.score(self.checks)
        self.report.verified_sha256 = self.digest
        self.report.technical = TechnicalPart(score=technical_score, checks=self.checks)
        self.report.stage_seconds = StageSeconds(**self.seconds)
        self.report.software = SoftwarePart(
            kibotos=VERSION, ffmpeg=ffmpeg.version("ffmpeg"), ffprobe=ffmpeg.version("ffprobe")
        )
        return Outcome(
            technical_score=technical_score,
            relevance_score=relevance,
            quality_score=self.quality,
            action_match=answer.action_match if answer else None,
            rejection_reason=reason,
            judge_model=answer.model if answer else None,
            prompt_version=answer.prompt_version if answer else None,
            report=self.report,
            fingerprint=self.fingerprint,
            features=self.features,
            contact_sheet=self.contact_sheet,
            reasoning=answer.reasoning if answer else "",
        )


def _drawn(scanned: Scan) -> bytes:
    """Return the contact sheet, or b"": for people to look at, it must not cost anybody a result."""
    try:
        return sheet.draw(scanned.pictures)
    except Exception:
        log.exception("contact_sheet_not_drawn")
        return b""


def _describe(probed: Probe) -> VideoPart:
    return VideoPart(
        format=probed.format,
        codec=probed.codec,
        stream=probed.stream,
        width=probed.width,
        height=probed.height,
        rotation=probed.rotation,
        size_bytes=probed.size_bytes,
        duration=round(probed.duration, 3),
        declared_duration=probed.declared_duration,
        fps=round(probed.fps, 3),
        frames=len(probed.times),
        keyframes=len(probed.keyframes),
    )


def _measured(scanned: Scan) -> MeasuresPart:
    means = {
        name: round(value, 4) for name, value in vars(scanned.measures).items() if isinstance(value, float)
    }
    shares = {name: round(found.share, 4) for name, found in vars(scanned.faults).items()}
    cuts = [round(seconds, 3) for seconds in scanned.measures.cuts]
    spans = [
        FaultSpan(kind=name, start=round(start, 2), end=round(end, 2))
        for name, found in vars(scanned.faults).items()
        for start, end in joined(found.spans, MOST_SPANS)
    ]
    return MeasuresPart(frames=scanned.measures.frames, cuts=cuts, spans=spans, **means, **shares)
