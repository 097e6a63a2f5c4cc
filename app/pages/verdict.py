"""What the page of a submission shows of its report: plain rows, and the video's time as a strip."""

from dataclasses import dataclass
from typing import Any

from app.assessment.formula import RELEVANCE_WEIGHTS
from app.assessment.report import Report

# what each check, part and score is called on the page
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
    "action_match": "It shows the action",
    "perspective_correct": "The perspective is right",
    "demonstration_quality": "The demonstration is good",
    "training_utility": "A robot can learn from it",
}


@dataclass(frozen=True)
class Mark:
    """A part of the video, of one kind: where it starts in seconds, and both in thousandths of the length."""

    kind: str
    start: float
    left: float
    width: float


@dataclass(frozen=True)
class Strip:
    """The video's time from left to right. A mark is `known` footage, a `cut` or a `still` for the judge."""

    duration: float
    marks: list[Mark]


def describe(report: Report) -> dict[str, Any]:
    """What the templates report.html and strip.html need."""
    return {"report": report, "strip": _strip(report), "name": _name, "relevance_weights": RELEVANCE_WEIGHTS}


def _name(rule: str) -> str:
    """What a check, a deduction, a score or a part is called."""
    return NAMES.get(rule, rule.replace("_", " ").capitalize())


def _strip(report: Report) -> Strip | None:
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
    return Mark(kind, start, left, max(right - left, 3.0))
