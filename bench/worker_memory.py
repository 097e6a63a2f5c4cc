"""How much memory a worker takes while it evaluates a film: python -m bench.worker_memory FILM [FILM …]

A worker is a process with all that it imports, its work horse, and what that starts: ffmpeg, and the painter.
A page that several of them have counts once, and so does a page of a file, whoever else on this machine has
it: as if nothing else ran here. Bar: 350 MB at the most.

The judge answers at once; everything else is as in production, without Redis and PostgreSQL.
"""

import os
import re
import subprocess
import sys
import tempfile
import time
from pathlib import Path

from app.assessment.judge import JudgeQuestion
from app.assessment.model import Brief
from app.assessment.report import JudgeAnswer

EVERY_SECONDS = 0.1
# a mapping of a file in smaps: where in the file it begins, the file, and its kilobytes, also of no file
MAPPING = re.compile(
    r"^[0-9a-f]+-[0-9a-f]+ \S+ ([0-9a-f]+) \S+ \d+ +(/.*)\n"
    r"(?:.*\n)*?Rss: +(\d+) kB\n(?:.*\n)*?Anonymous: +(\d+) kB$",
    re.MULTILINE,
)


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
    from app.assessment import pipeline
    from jobs.worker import keep_shared

    keep_shared()
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


def name_of(process: int) -> str:
    """Return which part of a worker a process is; nothing if it has ended."""
    try:
        command = Path(f"/proc/{process}/cmdline").read_bytes().decode("utf-8", "replace")
    except OSError:
        return ""
    return "ffmpeg" if "ffmpeg" in command else "painter" if "writing.py" in command else "worker"


def own(process: int) -> float:
    """Return the megabytes that are of no file; what a process shares with those it forked is shared out."""
    try:
        lines = Path(f"/proc/{process}/smaps_rollup").read_text().splitlines()
    except OSError:
        return 0.0
    return sum(int(line.split()[1]) for line in lines if line.startswith(("Pss_Anon:", "Pss_Shmem:"))) / 1024


def of_files(processes: list[int]) -> float:
    """Return the megabytes of files that the processes have, each part of a file once."""
    parts: dict[tuple[str, str], int] = {}
    for process in processes:
        try:
            text = Path(f"/proc/{process}/smaps").read_text()
        except OSError:
            continue
        for mapping in MAPPING.finditer(text):
            offset, file, resident, anonymous = mapping.groups()
            size = int(resident) - int(anonymous)
            parts[file, offset] = max(parts.get((file, offset), 0), size)
    return sum(parts.values()) / 1024


def main() -> None:
    for film in sys.argv[1:]:
        process = subprocess.Popen([sys.executable, "-m", __spec__.name, "--work", film])
        most: dict[str, float] = {}
        while process.poll() is None:
            members = family(process.pid)
            parts = {each: name_of(each) for each in members}
            sizes = {each: own(each) for each in members}
            files = of_files(members)
            busiest = next((name for name in parts.values() if name in ("painter", "ffmpeg")), "neither")
            counts = {f"all, with {busiest}": sum(sizes.values()) + files, "files": files}
            counts |= {name: 0.0 for name in parts.values() if name}
            for each, name in parts.items():
                if name:
                    counts[name] += sizes[each]
            for name, value in counts.items():
                most[name] = max(most.get(name, 0), value)
            time.sleep(EVERY_SECONDS)
        print(f"{film}: " + ", ".join(f"{name} {value:.0f} MB" for name, value in most.items()), flush=True)


if __name__ == "__main__":
    if sys.argv[1] == "--work":
        work(Path(sys.argv[2]))
    else:
        main()
