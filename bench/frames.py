"""How long frames and measures of a video take: python -m bench.frames

The video: 60 s of real footage at 1080p, H.264, a keyframe every 250 frames. Bars: five distinct frames
within 1.3 times five ffmpeg runs in parallel that each seek to the nearest keyframe; probe, measures,
fingerprint and stills together within 0.15 times the video's length, on two cores.
"""

import resource
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from app.assessment import pipeline
from app.video import stills
from app.video.ffmpeg import tool
from app.video.probe import probe
from app.video.scan import scan
from tests.videos import footage

SECONDS = 60
RUNS = 5


def make_clip(path: Path) -> None:
    """Encode the video of the bars: the cartoon clip, looped, with the noise of a sensor."""
    source = ["-stream_loop", "-1", "-i", str(footage("bunny")), "-t", str(SECONDS), "-an"]
    filters = ["-vf", "scale=1920:1080,fps=30,noise=alls=4:allf=t"]
    codec = ["-c:v", "libx264", "-preset", "veryfast", "-pix_fmt", "yuv420p"]
    keyframes = ["-g", "250", "-keyint_min", "250", "-sc_threshold", "0"]
    command = [tool("ffmpeg"), "-v", "error", "-nostdin", *source, *filters, *codec, *keyframes, str(path)]
    subprocess.run(command, check=True)


def five_runs_in_parallel(path: Path, directory: Path) -> None:
    """What the first bar is measured against. Without passthrough ffmpeg decodes on from the keyframe."""
    processes = [
        subprocess.Popen(
            [
                *(tool("ffmpeg"), "-v", "error", "-nostdin", "-y", "-noaccurate_seek", "-ss", str(seconds)),
                *(
                    "-threads",
                    "1",
                    "-i",
                    str(path),
                    "-frames:v",
                    "1",
                    "-fps_mode",
                    "passthrough",
                    "-vf",
                    "scale=512:-2,format=yuvj420p",
                ),
                str(directory / f"{seconds}.jpg"),
            ]
        )
        for seconds in (3, 16.5, 30, 43.5, 57)
    ]
    assert not any(process.wait() for process in processes)


@dataclass(frozen=True)
class Cost:
    """Of RUNS runs: the best and the middle seconds on the wall, the least of CPU time, children included."""

    best: float
    middle: float
    cpu: float

    def __truediv__(self, other: "Cost | float") -> "Cost":
        if isinstance(other, Cost):
            return Cost(self.best / other.best, self.middle / other.middle, self.cpu / other.cpu)
        return Cost(self.best / other, self.middle / other, self.cpu / other)


def cost_of(run: Callable[[], Any]) -> Cost:
    walls, cpus = [], []
    for _ in range(RUNS):
        wall, cpu = time.perf_counter(), cpu_seconds()
        run()
        walls.append(time.perf_counter() - wall)
        cpus.append(cpu_seconds() - cpu)
    return Cost(min(walls), statistics.median(walls), min(cpus))


def cpu_seconds() -> float:
    usages = (resource.getrusage(who) for who in (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN))
    return sum(usage.ru_utime + usage.ru_stime for usage in usages)


def show(label: str, cost: Cost) -> None:
    print(f"{label:50}{cost.best:8.3f}{cost.middle:8.3f}{cost.cpu:8.3f}", flush=True)


def main() -> None:
    """Measure on a clip that is kept in the directory given, for the next time, else on a fresh one."""
    with tempfile.TemporaryDirectory() as name:
        directory = Path(name)
        clip = Path(sys.argv[1] if len(sys.argv) > 1 else name) / "clip.mp4"
        if not clip.exists():
            make_clip(clip)
        found = probe(clip)
        five = stills.targets(found, 5)
        frames = stills.take(clip, found, five, directory)
        assert len({frame.jpeg for frame in frames}) == 5

        print(f"{'':50}    best  middle     CPU")
        reference = cost_of(lambda: five_runs_in_parallel(clip, directory))
        show("five ffmpeg -noaccurate_seek in parallel, 512 px", reference)
        ours = cost_of(lambda: stills.take(clip, found, five, directory))
        show(f"five distinct stills, {stills.LONG_SIDE} px", ours)
        show("  in parts of the former (bar 1.3)", ours / reference)
        show("ffprobe", cost_of(lambda: probe(clip)))

        def everything() -> None:
            found = probe(clip)
            scanned = scan(clip, found, lambda: None)
            wanted = stills.targets(found, pipeline.STILLS, scanned.measures.motion_peak)
            stills.take(clip, found, wanted, directory)

        whole = cost_of(everything)
        show("probe, measures, fingerprint and stills", whole)
        show("  in parts of the video's length (bar 0.15)", whole / SECONDS)


if __name__ == "__main__":
    main()
