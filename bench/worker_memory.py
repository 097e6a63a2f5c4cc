"""How much memory a worker takes while it evaluates a film: python -m bench.worker_memory FILM [FILM …]

A worker is a process with all that it imports, its work horse, and what that starts: ffmpeg, and the painter.
A page that several of them have counts once (PSS, as Linux tells it). Bar: 350 MB at the most.

The judge answers at once; everything else is as in production, without Redis and PostgreSQL.
"""

import os
import subprocess
import sys
import tempfile
import time
from pathlib import Path

from app.assessment.judge import JudgeQuestion
from app.assessment.model import Brief
from app.assessment.report import JudgeAnswer

EVERY_SECONDS = 0.02


class Judge:
    def assess(self, question: JudgeQuestion) -> JudgeAnswer:
        return JudgeAnswer(
            action_match=1.0,
            perspective_correct=1.0,
            demonstration_quality=1.0,
            training_utility=1.0,
            reasoning="",
            addresses_judge=False,
            model="none",
            prompt_version="none",
            prompt_tokens=0,
            completion_tokens=0,
            raw=(),
        )


def work(film: Path) -> None:
    """Be a worker: import what one does, and evaluate the film in a work horse."""
    import jobs.worker  # noqa: F401
    from app.assessment import pipeline

    if horse := os.fork():
        os._exit(os.waitstatus_to_exitcode(os.waitpid(horse, 0)[1]))
    brief = Brief("manipulation", "move", "A hand moves a box.", {})
    with tempfile.TemporaryDirectory() as directory:
        outcome = pipeline.evaluate_file(film, brief, Judge(), Path(directory))
    stills = outcome.report.keyframes or []
    print(
        outcome.rejection_reason
        or f"{len(stills)} stills, {max(each.painted or 0 for each in stills):.1%} painted"
    )
    sys.stdout.flush()
    os._exit(0)


def family(process: int) -> list[int]:
    """Return a process and all that descend from it."""
    found = [process]
    for each in found:
        try:
            for thread in Path(f"/proc/{each}/task").iterdir():
                found += [int(child) for child in (thread / "children").read_text().split()]
        except OSError:
            continue
    return found


def pss(process: int) -> tuple[str, float]:
    """Return what a process is called, and its megabytes, in which what it shares is shared out."""
    try:
        command = Path(f"/proc/{process}/cmdline").read_bytes().decode("utf-8", "replace")
        lines = Path(f"/proc/{process}/smaps_rollup").read_text().splitlines()
    except OSError:
        return "", 0.0
    name = "ffmpeg" if "ffmpeg" in command else "painter" if "writing.py" in command else "worker"
    return name, next((int(line.split()[1]) / 1024 for line in lines if line.startswith("Pss:")), 0.0)


def main() -> None:
    for film in sys.argv[1:]:
        process = subprocess.Popen([sys.executable, "-m", __spec__.name, "--work", film])
        most: dict[str, float] = {}
        while process.poll() is None:
            parts = [pss(each) for each in family(process.pid)]
            together = sum(part for _, part in parts)
            for name in ("painter", "ffmpeg"):
                if any(part[0] == name for part in parts):
                    own = sum(part for each, part in parts if each == name)
                    most[name] = max(most.get(name, 0), own)
            busiest = next((name for name, _ in parts if name in ("painter", "ffmpeg")), "neither")
            most[f"all, with {busiest}"] = max(most.get(f"all, with {busiest}", 0), together)
            time.sleep(EVERY_SECONDS)
        print(f"{film}: " + ", ".join(f"{name} {value:.0f} MB" for name, value in most.items()), flush=True)


if __name__ == "__main__":
    if sys.argv[1] == "--work":
        work(Path(sys.argv[2]))
    else:
        main()
