"""How long frames and measures of a video take: python -m bench.frames

The video: 60 s of real footage at 1080p, H.264, a keyframe every 250 frames. Bars: five distinct frames
within 1.3 times five ffmpeg runs in parallel that each seek to the nearest keyframe; probe, measures,
fingerprint and stills together within 0.15 times the video's length, on two cores.
"""

import statistics
import subprocess
import tempfile
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from app.evaluation import media, pipeline, stills
from app.evaluation.probe import probe
from app.evaluation.sandbox import tool
from tests.videos import footage

SECONDS = 60
RUNS = 7


def make_clip(path: Path) -> None:
    """Encode the video of the bars: the cartoon clip, looped, with the noise of a sensor."""
    source = ["-stream_loop", "-1", "-i", str(footage("bunny")), "-t", str(SECONDS), "-an"]
    filters = ["-vf", "scale=1920:1080,fps=30,noise=alls=4:allf=t"]
    codec = ["-c:v", "libx264", "-preset", "veryfast", "-pix_fmt", "yuv420p"]
    keyframes = ["-g", "250", "-keyint_min", "250", "-sc_threshold", "0"]
    command = [tool("ffmpeg"), "-v", "error", "-nostdin", *source, *filters, *codec, *keyframes, str(path)]
    subprocess.run(command, check=True)


def five_runs_in_parallel(path: Path, directory: Path) -> None:
    """What the first bar is measured against."""
    processes = [
        subprocess.Popen(
            [
                *(tool("ffmpeg"), "-v", "error", "-nostdin", "-y", "-noaccurate_seek", "-ss", str(seconds)),
                *("-threads", "1", "-i", str(path), "-frames:v", "1", "-vf", "scale=512:-2"),
                str(directory / f"{seconds}.jpg"),
            ]
        )
        for seconds in (3, 16.5, 30, 43.5, 57)
    ]
    assert not any(process.wait() for process in processes)


def timed(run: Callable[[], Any]) -> tuple[float, float]:
    """Return the best and the middle of RUNS times, in seconds."""
    times = []
    for _ in range(RUNS):
        began = time.perf_counter()
        run()
        times.append(time.perf_counter() - began)
    return min(times), statistics.median(times)


def show(label: str, figures: Sequence[float]) -> None:
    print(f"{label:50}" + "".join(f"{figure:7.3f}" for figure in figures))


def main() -> None:
    with tempfile.TemporaryDirectory() as name:
        directory = Path(name)
        clip = directory / "clip.mp4"
        make_clip(clip)
        found = probe(clip)
        five = stills.targets(found, 5)
        frames = stills.take(clip, found, five, directory)
        assert len({frame.jpeg for frame in frames}) == 5

        reference = timed(lambda: five_runs_in_parallel(clip, directory))
        ours = timed(lambda: stills.take(clip, found, five, directory))
        print(f"{'':50}  best   middle")
        show("five ffmpeg -noaccurate_seek in parallel, 512 px", reference)
        show(f"five distinct stills, {stills.LONG_SIDE} px", ours)
        show("  in parts of the former (bar 1.3)", [a / b for a, b in zip(ours, reference, strict=True)])
        show("ffprobe", timed(lambda: probe(clip)))

        def everything() -> None:
            found = probe(clip)
            scan = media.scan(clip, found, lambda: None)
            wanted = stills.targets(found, pipeline.STILLS, scan.measures.motion_peak)
            stills.take(clip, found, wanted, directory)

        whole = timed(everything)
        show("probe, measures, fingerprint and stills", whole)
        show("  in parts of the video's length (bar 0.15)", [seconds / SECONDS for seconds in whole])


if __name__ == "__main__":
    main()
