"""What the page of a submission shows of its report: plain rows, and the video's time as a strip."""

from dataclasses import dataclass, field

from app.assessment.report import Report

# what each check and each part is called on the page
NAMES = {
    "readable": "The file can be read",
    "valid_format": "Container",
    "valid_codec": "Codec",
    "resolution": "Picture size",
    "fps": "Frames a second",
    "duration": "Length",
    "file_size": "File size",
    "black": "Black",
    "frozen": "Nothing moves",
    "repeated": "Shown twice",
    "brief_shots": "Shots under 1 s",
    "blurred": "Blurred",
    "badly_exposed": "Too dark or burnt out",
    "drawn": "Drawn, not filmed",
    "unhashable": "Too little detail",
    "damaged": "Damaged",
    "technical": "Technical",
    "relevance": "Relevance",
    "quality": "Quality",
}
JUDGED = (
    ("action_match", "It shows the action", 0.4),
    ("perspective_correct", "The perspective is right", 0.2),
    ("demonstration_quality", "The demonstration is good", 0.2),
    ("training_utility", "A robot can learn from it", 0.2),
)


@dataclass(frozen=True)
class Mark:
    """A part of the video, in seconds and in thousandths of its length, of one kind."""

    kind: str
    start: float
    end: float
    left: float
    width: float


@dataclass(frozen=True)
class Strip:
    """The video's time from left to right. A mark is `known` footage, a `cut` or a `still` for the judge."""

    duration: float
    marks: list[Mark] = field(default_factory=list)


def name(rule: str) -> str:
    """What a check, a deduction or a part is called."""
    return NAMES.get(rule, rule.replace("_", " ").capitalize())


def strip(report: Report) -> Strip | None:
    """Return what is known about the video's seconds, or None if its length is not known."""
    if report.video is None or report.video.duration <= 0:
        return None
    duration = report.video.duration
    marks = []
    matches = report.duplicates.matches if report.duplicates else None
    for match in matches or ():
        marks += [_mark("known", span.start, span.end, duration) for span in match.spans]
    if report.measures:
        marks += [_mark("cut", seconds, seconds, duration) for seconds in report.measures.cuts]
    marks += [_mark("still", still.seconds, still.seconds, duration) for still in report.keyframes or ()]
    return Strip(duration, marks)


def _mark(kind: str, start: float, end: float, duration: float) -> Mark:
    left = min(max(start / duration, 0.0), 1.0) * 1000
    right = min(max(end / duration, 0.0), 1.0) * 1000
    return Mark(kind, start, end, left, max(right - left, 3.0))
