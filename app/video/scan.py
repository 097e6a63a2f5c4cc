"""One decoding pass over the whole video, for its measures, its fingerprint and the stills of the judge.

All three use the same frames. So each picture that the judge sees was hashed and measured, and nobody can
make a frame for one of them only.
"""

import math
import re
from bisect import bisect_left
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path

import numpy as np
import pdqhash
from numpy.typing import NDArray
from PIL import Image

from app.video import motion, shots, stills
from app.video.damage import damaged
from app.video.ffmpeg import INPUT_OPTIONS, MediaFault, ResourceLimits, start
from app.video.frames import FrameHash, Still
from app.video.measures import (
    Faults,
    Found,
    FrameMeasures,
    GreyFrame,
    Measures,
    found,
    halved,
    measure,
    stretched,
    summarise,
)
from app.video.probe import Probe
from app.video.shots import Shots
from app.video.stills import Candidate

# moments that are hashed, evenly spread: all of a video of 75 s, two a second of one of 300 s
MAX_HASHES = 600
# starts of shots that are hashed besides
MAX_SHOTS = 50
# of the pictures that are measured and hashed, and of those that the judge is shown
LONG_SIDE = 384
STILL_SIDE = 768
# every frame as a thumbnail: so many points are read of it, and so many pixels made of them
POINTS = (128, 72)
THUMBNAIL = (32, 18)
PIXELS = math.prod(THUMBNAIL)
# the square that PDQ reduces every picture to; reduced before, it hashes six times as fast
HASHED_SIDE = 64
# PDQ's own measure of how much there is in a picture, of 100: a hash of less says nothing
MIN_HASH_QUALITY = 50
# A line is of a border if it is never lighter than this, but for noise. A mark in it, of which no pixel
# changes by so much, may take more of it.
BORDER_LEVEL = 24
BORDER_CHANGE = 8
BORDER_NOISE = 0.02
BORDER_MARK = 0.4

# Seconds of processor time that a gigapixel and a gigabit take, by codec: measured by `ffmpeg -threads 1`
# with the filters below on 4 s of street footage at 1080p30, clean and with noise of up to 150 Mbit/s; HEVC
# and AV1 in 10 bits, which takes a third longer. Debian's 5.1 and the wheel's 9.0 differ by a tenth at most.
COSTS = {"h264": (2.8, 8.2), "hevc": (3.7, 14.0), "vp8": (2.4, 12.0), "vp9": (3.0, 14.0), "av1": (3.4, 9.0)}
HIGHEST_COST = (3.7, 14.0)
# What decoding may be expected to take: 5 minutes of 1080p at 60 frames a second in H.264 take 120. Of a
# video that takes more only the keyframes are decoded, if it has one every so many seconds.
MOST_CPU_SECONDS = 150
SPARSE_GAP_SECONDS = 10.0

# each holds frames of its own: more would not fit 8K into the memory allowed
THREADS = 4
# twice what is expected, for a slow machine; and twice that on the wall, for a busy one
LIMITS = ResourceLimits(
    cpu_seconds=2 * MOST_CPU_SECONDS, wall_seconds=4 * MOST_CPU_SECONDS, file_bytes=64 * 2**20
)


@dataclass(frozen=True)
class Scan:
    """What the pass found. The `pictures` are those of the `candidates`."""

    measures: Measures
    faults: Faults
    fingerprint: tuple[FrameHash, ...]
    candidates: tuple[Candidate, ...]
    pictures: tuple[Still, ...]

    def stills(self, count: int) -> list[Still]:
        """Return `count` stills for the judge, plus the one in which most moves; none if all are foreign."""
        return [self.pictures[index] for index in stills.choose(self.candidates, count)]


@dataclass(frozen=True)
class _Plan:
    """What one run of ffmpeg is to bring."""

    moments: list[float]
    # which of the moments the judge may be shown
    candidates: list[int]
    frames: tuple[float, ...]
    skip: str

    @property
    def is_sparse(self) -> bool:
        return self.skip != "default"


@dataclass(frozen=True)
class _Decoded:
    """What one run of ffmpeg brought: the pictures at the moments as far as it came."""

    small: GreyFrame
    measured: list[FrameMeasures]
    thumbnails: NDArray[np.uint8]
    pictures: list[bytes]
    damaged: float
    faulty: bool


def scan(
    path: Path,
    probe: Probe,
    seed: str,
    directory: Path,
    check_lease: Callable[[], None],
    most_cpu_seconds: float = MOST_CPU_SECONDS,
) -> Scan:
    """Decode the whole video once and look at the moments that `seed` gives (see stills.moments).

    Memory does not grow with the picture or the rate. Of a video that is expected to take more than
    `most_cpu_seconds` only the keyframes are decoded; if even that is too much, MediaFault is raised before
    anything is. What does not decode cleanly is decoded again with one thread: with several, the outcome
    would change from run to run. Raises MediaFault, TransientError, or what `check_lease` raises, which is
    called every few seconds of video. Files of its own in `directory` are gone in the end.
    """
    plan = _plan(probe, seed, most_cpu_seconds)
    decoded = _decode(path, probe, plan, THREADS, directory, check_lease)
    if decoded.faulty:
        decoded = _decode(path, probe, plan, 1, directory, check_lease)
    if not decoded.measured:
        raise MediaFault("No frame of it can be decoded.")
    return _evaluated(decoded, plan, probe)


def _evaluated(decoded: _Decoded, plan: _Plan, probe: Probe) -> Scan:
    small, measured = decoded.small, decoded.measured
    seconds = [frame.seconds for frame in measured]
    every = _times(probe, len(decoded.thumbnails))
    if plan.is_sparse:
        # keyframes alone do not tell what lies between them
        split, repeated = Shots((), ()), Found(0.0)
    else:
        split = shots.find(decoded.thumbnails, every, probe.duration)
        repeated = motion.repeated(decoded.thumbnails, every)
    changes = motion.changes(small, seconds, split.starts)
    kept = plan.candidates[: len(decoded.pictures)]
    hashes = _hashes(small, seconds, split, kept)
    is_black = [frame.black for frame in measured]
    return Scan(
        measures=summarise(measured, changes, split.starts),
        faults=Faults(
            black=found(is_black, seconds),
            frozen=motion.frozen(small, seconds, split.starts),
            repeated=repeated,
            brief_shots=split.brief_shots(probe.duration),
            blurred=found([frame.blurred for frame in measured], seconds),
            badly_exposed=found([frame.badly_exposed for frame in measured], seconds),
            drawn=found([frame.drawn for frame in measured], seconds),
            unhashable=found(
                [each is None and not is_black[index] for index, each in hashes.items()],
                [seconds[index] for index in hashes],
            ),
            damaged=Found(decoded.damaged),
        ),
        fingerprint=tuple(each for each in hashes.values() if each),
        candidates=tuple(
            Candidate(seconds[index], changes[index], not split.is_brief(seconds[index])) for index in kept
        ),
        pictures=tuple(
            Still(round(seconds[index], 3), jpeg) for index, jpeg in zip(kept, decoded.pictures, strict=False)
        ),
    )


def _plan(probe: Probe, seed: str, most_cpu_seconds: float) -> _Plan:
    wanted = stills.moments(probe, seed)
    frames, skip = probe.times, "default"
    if expected_cpu_seconds(probe, frames) > most_cpu_seconds:
        frames, skip = probe.keyframes, "nokey"
        gap = max(later - earlier for earlier, later in pairwise([*probe.keyframes, probe.duration]))
        if gap > SPARSE_GAP_SECONDS or expected_cpu_seconds(probe, frames) > most_cpu_seconds:
            raise MediaFault(
                f"Decoding {len(probe.times)} frames of {probe.width}x{probe.height} with a keyframe every "
                f"{gap:.0f} s takes too long. Encode it smaller, with fewer frames a second, or, if it is "
                f"the keyframes that are too rare, with one at least every {SPARSE_GAP_SECONDS:.0f} s."
            )
        wanted = stills.at_keyframes(probe, wanted)
    return _Plan(wanted, stills.candidates(wanted, probe.duration), frames, skip)


def expected_cpu_seconds(probe: Probe, wanted: Sequence[float]) -> float:
    """Return what decoding the `wanted` frames takes by COSTS. Nothing of the file is decoded to tell."""
    per_gigapixel, per_gigabit = COSTS.get(probe.codec, HIGHEST_COST)
    pixels = probe.width * probe.height * len(wanted)
    return per_gigapixel * pixels / 1e9 + per_gigabit * probe.size_bytes * 8 / 1e9


def _decode(
    path: Path, probe: Probe, plan: _Plan, threads: int, directory: Path, check_lease: Callable[[], None]
) -> _Decoded:
    width, height = probe.fit(LONG_SIDE)
    thumbnails = directory / "thumbnails"
    arguments = ["-nostdin", "-y", "-copyts", "-threads", str(threads), "-skip_frame", plan.skip]
    # a frame that no other one needs looks the same without it, in small
    arguments += ["-skip_loop_filter", "noref"]
    # a stream that changes its size goes on in the same filters
    arguments += ["-reinit_filter", "0", *INPUT_OPTIONS, "-i", f"file:{path}"]
    arguments += ["-filter_complex", _filters(probe, plan)]
    arguments += ["-map", "[small]", "-fps_mode", "passthrough", "-f", "rawvideo", "pipe:1"]
    arguments += ["-map", "[thumbnails]", "-fps_mode", "passthrough", "-f", "rawvideo", f"file:{thumbnails}"]
    arguments += ["-map", "[stills]", "-fps_mode", "passthrough", "-q:v", "4"]
    arguments += ["-f", "image2", f"file:{directory}/still-%04d.jpg"]
    # room for all of them at once: one by one they would scatter over the heap, and take twice as much
    small = np.empty((len(plan.moments), height // 2, width // 2), np.uint8)
    measured: list[FrameMeasures] = []
    count = 0
    try:
        # the log tells which of them are damaged
        with start("ffmpeg", arguments, LIMITS, log_level="verbose", reads=path, writes=directory) as running:
            while len(raw := running.stdout.read(width * height)) == width * height:
                if count == len(small):
                    raise MediaFault("It goes on for longer than its frames are timed.")
                frame = np.frombuffer(raw, np.uint8).reshape(height, width)
                small[count] = halved(frame)
                measured.append(measure(plan.moments[count], frame))
                count += 1
                if count % 40 == 0:
                    check_lease()
        every = np.fromfile(thumbnails, np.uint8)
        files = sorted(directory.glob("still-*.jpg"))
        pictures = [file.read_bytes() for file in files]
    finally:
        thumbnails.unlink(missing_ok=True)
        for file in directory.glob("still-*.jpg"):
            file.unlink()
    # those before its last frame: by then it has come to an end, or was never decoded up to there
    reached = bisect_left(plan.moments, plan.frames[-1])
    share = damaged(running.log, len(plan.frames), uncovered=(reached - 1 - count) / len(plan.moments))
    return _Decoded(
        small=small[:count],
        measured=measured,
        thumbnails=every[: len(every) // PIXELS * PIXELS].reshape(-1, PIXELS),
        pictures=pictures,
        damaged=share,
        faulty=share > 0 or bool(re.search(r"\[(error|fatal)\]", running.log)),
    )


def _filters(probe: Probe, plan: _Plan) -> str:
    """Return ffmpeg's filters, which make three streams of what is decoded.

    [thumbnails] of every frame; [small] of what is shown at each moment, and [stills] of some of those. The
    number of moments that come before a frame is its time for the filter `fps`: so it gives one picture a
    moment, the one that a player shows then.
    """
    width, height = probe.fit(LONG_SIDE)
    still_width, still_height = probe.fit(STILL_SIDE)
    passed = _count(plan.moments, f"(T-{probe.start:.6f})")
    is_candidate = "+".join(f"eq(n,{index})" for index in plan.candidates)
    return (
        f"[0:{probe.stream}]split=2[every][shown];"
        f"[every]scale={POINTS[0]}:{POINTS[1]}:flags=neighbor,"
        f"scale={THUMBNAIL[0]}:{THUMBNAIL[1]}:flags=area,format=gray[thumbnails];"
        f"[shown]setpts='{passed}/TB',fps=1:start_time=0:eof_action=pass,"
        f"trim=end_frame={len(plan.moments)},split=2[a][b];"
        f"[a]scale={width}:{height}:flags=area,format=gray[small];"
        f"[b]select='{is_candidate}',scale={still_width}:{still_height}:flags=area,format=yuvj420p[stills]"
    )


def _count(moments: Sequence[float], time: str, first: int = 0) -> str:
    """Return an expression of ffmpeg's: how many of the moments, and `first` more, lie before `time`."""
    if not moments:
        return str(first)
    middle = len(moments) // 2
    earlier = _count(moments[:middle], time, first)
    later = _count(moments[middle + 1 :], time, first + middle + 1)
    # a keyframe's own time counts as not before it, however it was rounded
    return f"if(lt({time},{moments[middle] + 0.0005:.4f}),{earlier},{later})"


def _times(probe: Probe, count: int) -> NDArray[np.float64]:
    """Return the times of the frames that were decoded."""
    if count == len(probe.times):
        return np.asarray(probe.times)
    # what is damaged, or coded in fields, has fewer pictures than packets
    return np.linspace(0, probe.duration, count, endpoint=False)


def _hashes(
    frames: GreyFrame, seconds: Sequence[float], split: Shots, kept: Sequence[int]
) -> dict[int, FrameHash | None]:
    """Hash the moments, by index, without the black borders that all of a shot share.

    All that the judge may be shown are among them. None: there is too little in it.
    """
    starts = {int(index) for index in np.searchsorted(seconds, split.starts[:MAX_SHOTS])}
    edges = sorted({0, *starts, len(frames)})
    wanted = {*range(0, len(frames), math.ceil(len(frames) / MAX_HASHES)), *edges[:-1], *kept}
    hashes = {}
    for first, past in pairwise(edges):
        top, bottom, left, right = _borders(frames[first:past])
        for index in sorted(wanted.intersection(range(first, past))):
            hashes[index] = hash_frame(frames[index][top:bottom, left:right], seconds[index])
    return hashes


def hash_frame(shown: GreyFrame, seconds: float) -> FrameHash | None:
    """Return the hash of a picture, its contrast stretched, or None if there is too little in it."""
    square = Image.fromarray(shown.astype(np.float32)).resize(
        (HASHED_SIDE, HASHED_SIDE), Image.Resampling.BOX
    )
    clear = stretched(np.asarray(square))
    # upright, turned by 90, 180 and 270 degrees, upside down, mirrored, and the two diagonals
    orientations, quality = pdqhash.compute_dihedral(np.repeat(clear[:, :, np.newaxis], 3, axis=2))
    if quality < MIN_HASH_QUALITY:
        return None
    return FrameHash(round(seconds, 3), _packed(orientations[0]), _packed(orientations[5]))


def _packed(bits: "np.ndarray[tuple[int, ...], np.dtype[np.int64]]") -> bytes:
    return np.packbits(bits.astype(np.uint8)).tobytes()


def _borders(frames: GreyFrame) -> tuple[int, int, int, int]:
    """Return the part (top, bottom, left, right) outside of which every frame is black, a fixed mark apart.

    Without this a letterboxed copy would have other hashes. If the part is less than a quarter of the
    picture, the picture is simply dark, and all of it counts.
    """
    brightest = frames.max(axis=0)
    lit = brightest >= BORDER_LEVEL
    moving = lit & (brightest - frames.min(axis=0) >= BORDER_CHANGE)
    rows, columns = (
        np.flatnonzero((moving.mean(axis=axis) > BORDER_NOISE) | (lit.mean(axis=axis) > BORDER_MARK))
        for axis in (1, 0)
    )
    height, width = brightest.shape
    if len(rows) and len(columns):
        top, bottom, left, right = rows[0], rows[-1] + 1, columns[0], columns[-1] + 1
        if (bottom - top) * (right - left) * 4 >= height * width:
            return int(top), int(bottom), int(left), int(right)
    return 0, height, 0, width
