"""The verdict on every kind of file, with its seconds: python -m bench.verdicts

The files are those of tests/odd_videos.py. The judge likes them all, so what is told is the video's own
doing; its answer costs no time.
"""

import tempfile
import time
from pathlib import Path

from app.assessment import pipeline
from tests.evaluation.conftest import BRIEF, FixedJudge
from tests.odd_videos import ACCEPTED, REFUSED
from tests.videos import Videos


def main() -> None:
    print("| file | verdict | technical | quality | seconds | reason |\n|---|---|---|---|---|---|")
    with tempfile.TemporaryDirectory() as name:
        directory = Path(name)
        videos = Videos(directory)
        for what, make in (ACCEPTED | REFUSED).items():
            path = make(videos)
            began = time.perf_counter()
            outcome = pipeline.evaluate_file(path, BRIEF, FixedJudge(), directory)
            seconds = time.perf_counter() - began
            verdict = "REJECTED" if outcome.rejection_reason else "SCORED"
            scores = f"{outcome.technical_score:.2f} | {outcome.quality_score:.2f}"
            print(
                f"| {what} | {verdict} | {scores} | {seconds:.2f} | {outcome.rejection_reason or ''} |",
                flush=True,
            )


if __name__ == "__main__":
    main()
