"""The evaluation's own checks on a local file, before it is uploaded."""

import tempfile
from pathlib import Path
from typing import Any

from app.assessment import pipeline
from app.assessment.model import Brief
from app.assessment.report import Report
from app.miner.client import Rejected, Video


def inspect(path: Path, prompt: dict[str, Any]) -> Video:
    """Run the evaluation's own checks on a file, without the judge.

    Raises Rejected with the reason if these checks would reject the video.
    """
    brief = Brief(prompt["category"], prompt["task"], prompt["scenario"], prompt["requirements"])
    with tempfile.TemporaryDirectory() as directory:
        outcome = pipeline.evaluate_file(path, brief, None, Path(directory))
    if outcome.rejection_reason:
        raise Rejected(
            f"The evaluation would reject this video, so it was not uploaded: {outcome.rejection_reason}"
        )
    report = outcome.report
    assert report.video and report.verified_sha256, "what is not rejected has been opened"
    declared = {
        "duration_sec": report.video.duration,
        "resolution_width": report.video.width,
        "resolution_height": report.video.height,
        "fps": report.video.fps,
    }
    return Video(path, report.verified_sha256, declared, _list_losses(report))


def _list_losses(report: Report) -> list[str]:
    checks = report.technical.checks if report.technical else ()
    deductions = report.quality.deductions if report.quality else ()
    return [check.reason for check in checks if not check.passed and check.reason] + [
        deduction.reason for deduction in deductions if deduction.points > 0
    ]
