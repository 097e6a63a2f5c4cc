"""What the page of a submission shows of its report: plain rows, and the video's time in lanes."""

from collections.abc import Iterable
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
    "known": "Seen before",
    "cut": "Cuts",
    "still": "Seen by the judge",
}
# the faults of which a report can say where they are, in the order in which the page shows them
_FAULTS = ("black", "frozen", "repeated", "brief_shots", "blurred", "badly_exposed", "drawn", "unhashable")
# of one kind; evaluators of other people may report any number
_MOST_MARKS = 60


@dataclass(frozen=True)
class Mark:
    """A part of the video, in seconds; `left` and `width` are thousandths of its length."""

    start: float
    end: float
    left: float
    width: float


@dataclass(frozen=True)
class Lane:
    """Where in the video something is: `known` footage, a fault, a `cut`, or a `still` for the judge.

    `tone`: "bad" if it rejects or costs the most, "warn" for a fault that costs points, "mild" for one that
    does not, else "".
    """

    kind: str
    tone: str
    marks: list[Mark]


@dataclass(frozen=True)
class Strip:
    """The video's time from left to right, in a lane for each kind of mark.

    `is_complete` is false for an old report, which does not say where the faults are.
    """

    duration: float
    lanes: list[Lane]
    is_complete: bool


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
    duration, measures = report.video.duration, report.measures
    matches = (report.duplicates.matches if report.duplicates else None) or []
    spans: dict[str, list[tuple[float, float]]] = {
        "known": [(span.start, span.end) for match in matches for span in match.spans]
    }
    for kind in _FAULTS:
        found = measures.spans if measures else None
        spans[kind] = [(span.start, span.end) for span in found or () if span.kind == kind]
    spans["cut"] = [(seconds, seconds) for seconds in (measures.cuts if measures else ())]
    spans["still"] = [(still.seconds, still.seconds) for still in report.keyframes or ()]
    costly = {each.name for each in (report.quality.deductions if report.quality else ()) if each.points}
    tones = {kind: "warn" if kind in costly else "mild" for kind in _FAULTS} | {"known": "bad"}
    lanes = [Lane(kind, tones.get(kind, ""), _marks(each, duration)) for kind, each in spans.items() if each]
    return Strip(duration, lanes, measures is None or measures.spans is not None)


def _marks(spans: Iterable[tuple[float, float]], duration: float) -> list[Mark]:
    marks = []
    for start, end in sorted(spans)[:_MOST_MARKS]:
        left, right = (min(max(seconds / duration, 0.0), 1.0) * 1000 for seconds in (start, end))
        width = max(right - left, 4.0)
        marks.append(Mark(start, end, min(left, 1000 - width), width))
    return marks
