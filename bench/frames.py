"""How long the scan of a video takes: python -m bench.frames [DIRECTORY]

The videos: 60 s of real footage at 1080p, a keyframe every 250 frames, as H.264, HEVC and AV1. Bars: 7, 9 and
7 seconds of processor time for probe, measures, fingerprint and stills together, and 1.15 times what ffmpeg
alone takes to decode the file with as many threads.
"""

import os
import resource
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from app.assessment import pipeline
from app.video.ffmpeg import tool
from app.video.probe import probe
from app.video.scan import THREADS, scan
from tests.videos import footage

SECONDS = 60
RUNS = 3

KEYFRAMES = ("-g", "250", "-keyint_min", "250")
CODECS = {
    "h264": ("-c:v", "libx264", "-preset", "veryfast", "-sc_threshold", "0", *KEYFRAMES),
    "hevc": (
        *("-c:v", "libx265", "-preset", "ultrafast", "-x265-params", "log-level=none:scenecut=0"),
        *KEYFRAMES,
    ),
    "av1": ("-c:v", "libsvtav1", "-preset", "11", "-g", "250"),
}


def make_clip(path: Path, codec: str) -> None:
    """Encode a video of the bars: the cartoon clip, looped, with the noise of a sensor."""
    source = ["-stream_loop", "-1", "-i", str(footage("bunny")), "-t", str(SECONDS), "-an"]
    filters = ["-vf", "scale=1920:1080,fps=30,noise=alls=4:allf=t", "-pix_fmt", "yuv420p"]
    command = [tool("ffmpeg"), "-v", "error", "-nostdin", *source, *filters, *CODECS[codec], str(path)]
    subprocess.run(command, check=True, env=os.environ | {"SVT_LOG": "1"})


def decode(path: Path) -> None:
    command = [tool("ffmpeg"), "-v", "error", "-nostdin", "-threads", str(THREADS), "-i", str(path)]
    subprocess.run([*command, "-f", "null", "-"], check=True)


@dataclass(frozen=True)
class Cost:
    """The least of RUNS runs: seconds on the wall and of processor time, children included."""

    wall: float
    cpu: float


def cost_of(*runs: Callable[[], Any]) -> list[Cost]:
    """Measure by turns, in case the machine is not quiet all the time."""
    found: list[list[Cost]] = [[] for _ in runs]
    for _ in range(RUNS):
        for costs, run in zip(found, runs, strict=True):
            wall, cpu = time.perf_counter(), cpu_seconds()
            run()
            costs.append(Cost(time.perf_counter() - wall, cpu_seconds() - cpu))
    return [Cost(min(cost.wall for cost in costs), min(cost.cpu for cost in costs)) for costs in found]


def cpu_seconds() -> float:
    usages = (resource.getrusage(who) for who in (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN))
    return sum(usage.ru_utime + usage.ru_stime for usage in usages)


def main() -> None:
    """Measure on videos that are kept in the directory given, for the next time, else on fresh ones."""
    with tempfile.TemporaryDirectory() as name:
        directory = Path(name)
        print("| codec | decoding, CPU | all, CPU | ratio | all, wall |\n|---|---|---|---|---|")
        for codec in CODECS:
            clip = Path(sys.argv[1] if len(sys.argv) > 1 else name) / f"{codec}.mp4"
            if not clip.exists():
                make_clip(clip, codec)

            def everything(clip: Path = clip) -> None:
                scanned = scan(clip, probe(clip), "seed", directory, lambda: None)
                assert len(scanned.stills(pipeline.STILLS)) >= pipeline.STILLS

            floor, whole = cost_of(lambda clip=clip: decode(clip), everything)  # type: ignore[misc]
            costs = (floor.cpu, whole.cpu, whole.cpu / floor.cpu, whole.wall)
            print(f"| {codec} | {' | '.join(f'{cost:.2f}' for cost in costs)} |", flush=True)
        print(f"memory of this process: {resource.getrusage(resource.RUSAGE_SELF).ru_maxrss // 1024} MB")


if __name__ == "__main__":
    main()
