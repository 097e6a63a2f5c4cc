"""Every sentence that rejects a video ends with what its maker can do, and names its threshold."""

import ast
import re
from dataclasses import replace
from pathlib import Path
from uuid import UUID

import pytest

import app
from app.assessment import quality, technical
from app.assessment.model import Declared
from app.duplicates import service
from app.duplicates.matching import Match, Span
from app.duplicates.queries import Known
from app.video import ffmpeg
from app.video.measures import Faults, Found
from tests.unit.test_technical import make_probe

# how a remedy begins
REMEDY = r"(Upload|Encode|Film|Record|Check|Cut|Use|Submit|Declare|Clean|Change|Show)\b"
SOURCES = [
    path for room in ("video", "assessment") for path in (Path(app.__file__).parent / room).glob("*.py")
]
NAMED = {"_UPLOAD", "ENCODE_AGAIN", "LIGHTER"}


def sentences():
    """The texts of all MediaFaults and of all `run.reject(…)`, by place; what is filled in is ···."""
    for path in SOURCES:
        for node in ast.walk(ast.parse(path.read_text())):
            if isinstance(node, ast.Call) and ast.unparse(node.func) in (
                "MediaFault",
                "Missing",
                "run.reject",
            ):
                parts = node.args[0].values if isinstance(node.args[0], ast.JoinedStr) else node.args
                if text := "".join(_text(part) for part in parts):
                    yield f"{path.name}:{node.lineno}", text


def _text(part):
    if isinstance(part, ast.Constant):
        return part.value
    value = ast.unparse(part.value) if isinstance(part, ast.FormattedValue) else ""
    return "Upload it." if value in NAMED else "···" if value else ""


def last_sentence(text):
    return re.split(r"(?<=[.!?])\s+", text)[-1]


def test_every_fault_that_is_raised_ends_with_a_remedy():
    found = dict(sentences())
    assert len(found) >= 15
    # what repeats another fault ends as that does
    without = {
        place: text
        for place, text in found.items()
        if not re.match(REMEDY, last_sentence(text)) and not text.endswith("···")
    }
    assert not without


NO_FAULTS = Faults(**{name: Found(0.0) for name in Faults.__dataclass_fields__})


@pytest.mark.parametrize("name", ["black", "frozen", "brief_shots", "unhashable"])
def test_a_video_of_one_fault_is_told_where_how_much_and_what_to_do(name):
    reason = quality.rejection(replace(NO_FAULTS, **{name: Found(0.97, 3.21)}))
    assert re.search(r"97% of it, from 3\.2 s on; under \d\d% is accepted\)", reason)
    assert re.match(REMEDY, last_sentence(reason))
    assert quality.rejection(NO_FAULTS) is None


@pytest.mark.parametrize("name", Faults.__dataclass_fields__)
def test_every_deduction_says_where_how_much_and_what_to_do(name):
    (told,) = [
        each.reason
        for each in quality.deductions(replace(NO_FAULTS, **{name: Found(0.97, 3.21)}))
        if each.points
    ]
    assert re.search(r"97% of the video .*, from 3\.2 s on; \d+% is allowed\.", told)
    assert re.match(REMEDY, last_sentence(told))


@pytest.mark.parametrize(
    "changes",
    [
        {"format": "flv"},
        {"codec": "mpeg4"},
        {"width": 320, "height": 240},
        {"duration": 0.5, "declared_duration": 0.5},
        {"duration": 302.0, "declared_duration": 302.0},
        {"times": (0.0,)},
        {"present": 0.5},
        {"times": tuple(number / 5 for number in range(50))},
        {"size_bytes": 900_000_000},
    ],
)
def test_every_check_that_fails_says_what_to_do(changes):
    probe = make_probe(**changes)
    declared = Declared(duration=77, width=99, height=99, fps=99)
    failed = [each for each in technical.check(probe, probe.size_bytes, declared, {}) if not each.passed]
    assert failed
    for each in failed:
        assert re.match(REMEDY, last_sentence(each.reason)), each.reason
        assert re.search(r"\d|MP4|H\.264|single", each.reason)


KNOWN = Known(1, UUID(int=1), "a hotkey", True, [float(n) for n in range(10)], bytes(320), None)


@pytest.mark.parametrize(
    ("matched", "joint", "told"),
    [
        (
            range(10),
            None,
            "100% of the video was submitted before; at most 80% may be. Most of it, from 2.0 s",
        ),
        (range(0), 3.21, "At 3.2 s the video goes on, without a cut, from or into your submission 00000000-"),
    ],
)
def test_what_is_known_footage_is_told_where_how_much_and_what_to_do(matched, joint, told):
    spans = tuple(Span(2.0, 9.0, 0.0, 7.0, False) for _ in matched[:1])
    found = service.Compared(KNOWN, Match(frozenset(matched), spans, 0), joint)
    reason = service.conclude("a hotkey", KNOWN.fingerprint, [found], []).rejection_reason
    assert told in reason
    assert re.match(REMEDY, last_sentence(reason))


def test_what_a_tool_says_last_of_its_threads_is_not_the_reason():
    log = (
        "[dec:libdav1d @ 0x1] [fatal] Decode error rate 0.8 exceeds maximum 0.67\n"
        "[dec:libdav1d @ 0x1] [error] Task finished with error code: -1145393733\n"
        "[dec:libdav1d @ 0x1] [error] Terminating thread with return code -1145393733\n"
    )
    with pytest.raises(ffmpeg.MediaFault, match=r"it says: Decode error rate 0\.8 exceeds maximum 0\.67\."):
        ffmpeg._judge("ffmpeg", 1, log, ffmpeg.CONTROL_LIMITS)
