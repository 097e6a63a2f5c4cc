"""The verdict on every kind of file, by every set of media tools at hand: python -m bench.verdicts [WORD]

The files are those of tests/odd_videos.py; with a WORD, those whose names hold it. The judge likes them all,
so what is told is the video's own doing; its answer costs no time. Debian's ffmpeg stands beside that of the
wheels if it is installed. Lines that are not as the table expects, or differ between the tools, end with `!`.
"""

import dataclasses
import re
import sys
import tempfile
import time
from pathlib import Path

from app.assessment import pipeline
from app.assessment.model import Outcome
from app.video import ffmpeg
from tests import toolsets
from tests.evaluation.conftest import BRIEF, FixedJudge
from tests.odd_videos import KINDS, REQUIREMENTS, Kind
from tests.videos import Videos


def main() -> None:
    sets = toolsets.at_hand()
    for name in sets:
        with toolsets.using(name):
            print(f"{name}: ffmpeg {ffmpeg.version('ffmpeg')}, ffprobe {ffmpeg.version('ffprobe')}")
    told = " | ".join(f"{name}: verdict, technical, quality, seconds" for name in sets)
    print(f"\n| file | seen at | {told} | reason | |\n|{'---|' * (len(sets) + 4)}")
    with tempfile.TemporaryDirectory() as name:
        directory = Path(name)
        videos = Videos(directory)
        for what, kind in KINDS.items():
            if len(sys.argv) > 1 and sys.argv[1] not in what:
                continue
            path = kind.make(videos)
            outcomes, cells = [], []
            for toolset in sets:
                began = time.perf_counter()
                with toolsets.using(toolset):
                    outcomes.append(evaluate(path, kind, directory))
                cells.append(f"{_told(outcomes[-1])}, {time.perf_counter() - began:.2f}")
            reasons = {outcome.rejection_reason or "": None for outcome in outcomes}
            good = all(_as_expected(outcome, kind) for outcome in outcomes)
            good &= len({_told(outcome) for outcome in outcomes}) == 1
            line = " | ".join([what, kind.source, *cells, " / ".join(reasons), "" if good else "!"])
            print(f"| {line} |", flush=True)


def evaluate(path: Path, kind: Kind, directory: Path) -> Outcome:
    brief = dataclasses.replace(BRIEF, requirements=REQUIREMENTS | kind.requirements)
    return pipeline.evaluate_file(path, brief, FixedJudge(), directory)


def _told(outcome: Outcome) -> str:
    verdict = "REJECTED" if outcome.rejection_reason else "SCORED"
    return f"{verdict}, {outcome.technical_score:.2f}, {outcome.quality_score:.2f}"


def _as_expected(outcome: Outcome, kind: Kind) -> bool:
    if kind.reason is None:
        return outcome.rejection_reason is None and outcome.technical_score >= kind.technical
    return bool(re.search(kind.reason, outcome.rejection_reason or ""))


if __name__ == "__main__":
    main()
