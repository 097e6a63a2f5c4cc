"""Stills for the judge: a few frames of a video as JPEG, got by seeking instead of decoding everything."""

from bisect import bisect_right
from collections.abc import Sequence
from pathlib import Path

from app.video.ffmpeg import INPUT_OPTIONS, MediaFault, ResourceLimits, start
from app.video.frames import Still
from app.video.probe import Probe

LONG_SIDE = 768
# at this share of the video's length the first still is taken, and as far from its end the last
MARGIN = 0.05
# a still this near to the peak of motion, in seconds, shows it
PEAK_DISTANCE = 0.3

# at the most it decodes what a scan does
LIMITS = ResourceLimits(cpu_seconds=300, wall_seconds=600, file_bytes=4 * 2**20)

# Some demuxers seek up to 0.13 s before the wanted time, to be sure of frames that are shown before they
# are decoded: aim as much behind a keyframe, or they return the one before.
KEYFRAME_AIM = 0.15


def targets(probe: Probe, count: int, peak: float | None = None) -> list[float]:
    """Choose `count` distinct frames, uniform over the video without its margins, plus the one at `peak`.

    Where there are keyframes enough they stand in for the frames wanted, each the nearest not yet taken.
    """
    first, last = MARGIN * probe.duration, (1 - MARGIN) * probe.duration
    keyframes = [time for time in probe.keyframes if first <= time <= last]
    pool = keyframes if len(keyframes) >= count else [time for time in probe.times if first <= time <= last]
    chosen = []
    for number in range(min(count, len(pool))):
        wanted = first + (last - first) * number / max(count - 1, 1)
        nearest = min(pool, key=lambda time: abs(time - wanted))
        pool.remove(nearest)
        chosen.append(nearest)
    if peak is not None:
        at_peak = min(probe.times, key=lambda time: abs(time - peak))
        if all(abs(time - at_peak) >= PEAK_DISTANCE for time in chosen):
            chosen.append(at_peak)
    return sorted(chosen)


def take(path: Path, probe: Probe, wanted: Sequence[float], directory: Path) -> list[Still]:
    """Get the frames at the `wanted` times of `probe.times` with one start of ffmpeg.

    Those that need the same keyframe are decoded together, the others in parallel. Times are those of the
    frames really got, in order and distinct. Frames that do not decode are left out; MediaFault if none does.
    """
    groups: dict[int, list[float]] = {}
    for time in wanted:
        groups.setdefault(max(bisect_right(probe.keyframes, time) - 1, 0), []).append(time)
    width, height = probe.fit(LONG_SIDE)
    inputs, outputs = [], []
    for number, (keyframe, times) in enumerate(groups.items()):
        if keyframe:
            inputs += ["-noaccurate_seek", "-seek_timestamp", "1", "-ss", f"{_aim(probe, keyframe):.6f}"]
        # a lone keyframe is decoded faster without threads to start
        inputs += ["-threads", "1" if times == [probe.keyframes[keyframe]] else "0"]
        inputs += [*INPUT_OPTIONS, "-i", f"file:{path}"]
        filters = f"scale={width}:{height}:flags=area,format=yuvj420p"
        if times != [probe.keyframes[keyframe]]:
            near = "+".join(f"lt(abs(t-{probe.start + time:.6f}),0.0005)" for time in times)
            filters = f"select='{near}',{filters}"
        outputs += ["-map", f"{number}:{probe.stream}", "-vf", filters, "-frames:v", str(len(times))]
        # into files named by the milliseconds of the frames really got
        outputs += ["-fps_mode", "passthrough", "-enc_time_base", "1:1000", "-q:v", "4"]
        outputs += ["-f", "image2", "-frame_pts", "1", f"file:{directory}/still-%d.jpg"]
    arguments = ["-nostdin", "-y", "-copyts", *inputs, *outputs]
    with start("ffmpeg", arguments, LIMITS, reads=path, writes=directory) as running:
        running.stdout.read()
    frames = []
    for file in directory.glob("still-*.jpg"):
        seconds = int(file.stem.removeprefix("still-")) / 1000 - probe.start
        frames.append(Still(round(seconds, 3), file.read_bytes()))
        file.unlink()
    if not frames:
        raise MediaFault("No frame of it can be decoded.")
    return sorted(frames, key=lambda frame: frame.seconds)


def _aim(probe: Probe, keyframe: int) -> float:
    """Return the time stamp to seek to, to land on the keyframe of that index and not on one beside it."""
    time = probe.keyframes[keyframe]
    later = probe.keyframes[keyframe + 1 :][:1] or (probe.duration,)
    return probe.start + time + min(KEYFRAME_AIM, (later[0] - time) / 2)
