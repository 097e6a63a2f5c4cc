"""The report: what was stored before it had a type stays readable, and no reader misses a part."""

import io

import pytest
from rich.console import Console

from app.assessment.display import show
from app.assessment.report import REPORT_VERSION, Report, StageSeconds

# as release 0.1 wrote it
OLD = {
    "sha256": "ab" * 32,
    "technical": {
        "score": 1.0,
        "checks": [
            {
                "name": "fps",
                "passed": False,
                "value": 12.0,
                "threshold": "15 to 120",
                "weight": 0.5,
                "reason": "12.00 frames a second are not within 15 and 120.",
                "rejects": False,
            }
        ],
    },
    "quality": {
        "score": 0.9,
        "deductions": [
            {"name": "black", "value": 0.1, "threshold": 0.0, "factor": 1.0, "points": 0.1, "reason": "Dark."}
        ],
    },
    "judge": {
        "action_match": 0.9,
        "perspective_correct": 0.8,
        "demonstration_quality": 0.7,
        "training_utility": 0.6,
        "reasoning": "A mug is lifted.",
        "on_screen_text": "",
        "addresses_judge": False,
        "model": "m",
        "prompt_version": "judge-v1",
        "prompt_tokens": 1,
        "completion_tokens": 1,
        "raw": ["{}"],
    },
    "stage_seconds": {"download": 0.1, "judge": 2.5},
    "duplicates": {"compared": False},
}


def shown(report):
    output = io.StringIO()
    show(report, Console(file=output, width=120))
    return output.getvalue()


def test_a_report_of_the_first_release_is_read_whole():
    report = Report.read(OLD)
    assert (report.report_version, report.verified_sha256) == (1, "ab" * 32)
    assert report.technical.checks[0].value == 12.0
    assert report.judge.action_match == 0.9
    for told in ("12.00 frames a second", "A mug is lifted", "download 0.1 s, judge 2.5 s"):
        assert told in shown(report)


@pytest.mark.parametrize("part", sorted(OLD))
def test_nobody_crashes_on_a_part_that_is_missing(part):
    shown(Report.read({name: value for name, value in OLD.items() if name != part}))


@pytest.mark.parametrize("part", sorted(OLD))
@pytest.mark.parametrize("broken", [7, "n/a", [1], {"judge": "n/a"}, {"checks": [{}]}, {"score": []}])
def test_a_part_of_another_type_is_left_out_and_the_rest_is_kept(part, broken):
    report = Report.read(OLD | {part: broken})
    other = "judge" if part != "judge" else "quality"
    assert getattr(report, other) is not None
    shown(report)


def test_what_was_not_reached_is_not_dumped():
    report = Report(report_version=REPORT_VERSION)
    report.stage_seconds = StageSeconds(probe=0.5)
    assert report.dump() == {"report_version": REPORT_VERSION, "stage_seconds": {"probe": 0.5}}
    assert Report.read(report.dump()) == report


def test_a_report_that_is_built_wrong_is_a_bug_of_ours():
    with pytest.raises(ValueError, match="stage_seconds"):
        Report().stage_seconds = {"judge": "n/a"}
