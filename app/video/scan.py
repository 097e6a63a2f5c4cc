"""One decoding pass over the whole video, for its measures, its fingerprint and the stills of the judge.

All three use the same frames. So each picture that the judge sees was hashed and measured, and nobody can
make a frame for one of them only.
"""

import math
import re
import time
import zlib
from bisect import bisect_left, bisect_right
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from itertools import islice, pairwise
from pathlib import Path

import numpy as np
import pdqhash
from numpy.typing import NDArray
from PIL import Image

from app.video import borders, features, insets, layers, motion, shots, stills
from app.video.damage import begins, damaged, undefined
from app.video.ffmpeg import ENCODE_AGAIN, INPUT_OPTIONS, LIGHTER, MediaFault, ResourceLimits, start
from app.video.frames import FrameHash, Still
from app.video.measures import (
    Faults,
    Found,
    FrameMeasures,
    GreyFrame,
    Measures,
    Span,
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
# every second of its waves is odd from left to right: they change their sign in the mirror image
MIRRORED_WAVES = np.where(np.arange(256) % 2, -1, 1).astype(np.float32)

# Seconds of processor time that a gigapixel and a gigabit take, by codec: measured by `ffmpeg -threads 1`
# with the filters below on 4 s of street footage at 1080p30, clean and with noise of up to 150 Mbit/s; HEVC
# and AV1 in 10 bits, which takes a third longer. Debian's 5.1 and the wheel's 9.0 differ by a tenth at most.
COSTS = {"h264": (2.8, 8.2), "hevc": (3.7, 14.0), "vp8": (2.4, 12.0), "vp9": (3.0, 14.0), "av1": (3.4, 9.0)}
HIGHEST_COST = (3.7, 14.0)
# What decoding may be expected to take: 5 minutes of 4K at 60 frames a second in H.264, of 500 MB, take 451.
MOST_CPU_SECONDS = 460

# pictures that are measured one after the other: between ffmpeg's own work each would take twice as long
TOGETHER = 8
# each holds frames of its own: more would not fit 8K into the memory allowed
THREADS = 4
# For both runs of a scan together. Half as much again as is expected, for a slow machine; on the wall some
# more, for a busy one, but so that a job of JOB_TIMEOUT_SECONDS (900) has time for all else.
LIMITS = ResourceLimits(cpu_seconds=MOST_CPU_SECONDS * 3 // 2, wall_seconds=750)
# more than the largest still takes; all thumbnails together may take more
FILE_BYTES = 2**21
# no packet of a fair file holds more frames that are shown
FRAMES_A_PACKET = 2
# What does not decode cleanly is decoded again with so many threads; the last run counts. For the rest of a
# slice that breaks off the decoder of HEVC shows whatever its memory held, which differs between the runs.
AGAIN = {"hevc": (2, 1)}
# so much of a video at the most may be such that nobody can say what it shows
MOST_UNDEFINED = 0.5


@dataclass(frozen=True)
class Scan:
    """What the pass found. The `pictures` are those of the `candidates`; `features` are packed."""

    measures: Measures
    faults: Faults
    fingerprint: tuple[FrameHash, ...]
    features: bytes
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
    # what has more frames is refused
    most_frames: int


@dataclass(frozen=True)
class Decoded:
    """What one run of ffmpeg brought: the pictures at the moments as far as it came."""

    small: GreyFrame
    # some of them in twice the size, with their indexes
    large: GreyFrame
    enlarged: list[int]
    measured: list[FrameMeasures]
    # what tells the pictures of two runs apart
    checksums: list[int]
    # and all frames, with their times
    thumbnails: NDArray[np.uint8]
    times: NDArray[np.float64]
    # with the indexes of the moments that they show
    pictures: list[bytes]
    shown: list[int]
    damaged: float
    faulty: bool
    cpu_seconds: float
    # the ends of what was left out
    gaps: tuple[float, ...] = ()


def scan(
    path: Path,
    probe: Probe,
    seed: str,
    directory: Path,
    check_lease: Callable[[], None],
    limits: ResourceLimits = LIMITS,
) -> Scan:
    """Decode the whole video once and look at the moments that `seed` gives (see stills.moments).

    The rest is as with `decode`.
    """
    decoded = decode(path, probe, seed, directory, check_lease, limits)
    at = begins(path, probe) if decoded.damaged else None
    return _evaluated(decoded, probe, Found(decoded.damaged, at))


def decode(
    path: Path,
    probe: Probe,
    seed: str,
    directory: Path,
    check_lease: Callable[[], None],
    limits: ResourceLimits = LIMITS,
) -> Decoded:
    """Decode the whole video once, and keep its pictures at the moments that `seed` gives.

    Memory grows with the number of frames, not with the picture. A video that is expected to take more than
    MOST_CPU_SECONDS is refused before it is decoded. What does not decode cleanly is decoded again with one
    thread, if the time for both runs allows it: with several, the outcome would change from run to run. That
    of HEVC does so even then. So what both runs show differently is left out, each time up to the next
    keyframe. Raises MediaFault, TransientError, or what `check_lease` raises, which is called every few
    seconds of video. Files of its own in `directory` are gone in the end.
    """
    expected = expected_cpu_seconds(probe)
    if expected > MOST_CPU_SECONDS:
        raise MediaFault(
            f"Decoding {len(probe.times)} frames of {probe.width}x{probe.height} takes too long: about "
            f"{expected:.0f} s of processor time, at most {MOST_CPU_SECONDS} s are allowed. {LIGHTER}"
        )
    plan = _plan(probe, seed)
    limits = replace(limits, file_bytes=max(FILE_BYTES, PIXELS * plan.most_frames))
    began = time.monotonic()
    decoded = _decode(path, probe, plan, THREADS, limits, directory, check_lease)
    differ: list[float] = []
    for threads in AGAIN.get(probe.codec, (1,)) if decoded.faulty else ():
        cpu_left = int(limits.cpu_seconds - decoded.cpu_seconds)
        if threads > 1 and 2 * expected > cpu_left:
            # the run that counts needs the time
            continue
        if expected > cpu_left:
            raise MediaFault(
                f"It does not decode without errors, and to decode it once more takes too long. {LIGHTER}"
            )
        wall_left = max(1.0, limits.wall_seconds - (time.monotonic() - began))
        limits = replace(limits, cpu_seconds=max(1, cpu_left), wall_seconds=wall_left)
        began = time.monotonic()
        # only what tells two runs apart is needed of the one before
        before = decoded = replace(
            decoded,
            small=decoded.small[:0].copy(),
            large=decoded.large[:0].copy(),
            enlarged=[],
            pictures=[],
            shown=[],
        )
        decoded = _decode(path, probe, plan, threads, limits, directory, check_lease)
        differ += _differing(before, decoded, probe)
    if differ and probe.codec in AGAIN:
        decoded = _without(undefined(differ, probe.keyframes), decoded, probe)
    if not decoded.measured:
        raise MediaFault(f"No frame of it can be decoded. {ENCODE_AGAIN}")
    return decoded


def _differing(one: Decoded, other: Decoded, probe: Probe) -> list[float]:
    """Return the times of the frames that two runs show differently, of which neither need be right."""
    pairs = zip(one.measured, one.checksums, other.checksums, strict=False)
    differ = [_shown_at(frame.seconds, probe) for frame, mine, its in pairs if mine != its]
    if len(one.thumbnails) == len(other.thumbnails):
        differ += other.times[(one.thumbnails != other.thumbnails).any(axis=1)].tolist()
    return differ


def _shown_at(seconds: float, probe: Probe) -> float:
    """Return when the frame begins that is shown at a moment."""
    return probe.times[max(0, bisect_right(probe.times, seconds) - 1)]


def _without(spans: Sequence[Span], decoded: Decoded, probe: Probe) -> Decoded:
    """Leave out what lies in the spans. Raises MediaFault if that is most of the video."""

    def is_defined(time: float) -> bool:
        return not any(start <= time < end for start, end in spans)

    kept = [
        index for index, frame in enumerate(decoded.measured) if is_defined(_shown_at(frame.seconds, probe))
    ]
    lost = 1 - len(kept) / max(1, len(decoded.measured))
    if lost > MOST_UNDEFINED:
        raise MediaFault(
            f"{lost:.0%} of it, from {spans[0][0]:.1f} s on, is so damaged that it looks otherwise each "
            f"time; at most {MOST_UNDEFINED:.0%} may be. {ENCODE_AGAIN}"
        )
    places = {index: place for place, index in enumerate(kept)}
    frames = [is_defined(time) for time in decoded.times.tolist()]
    pairs = zip(decoded.shown, decoded.pictures, strict=True)
    pictures = [(places[index], jpeg) for index, jpeg in pairs if index in places]
    return replace(
        decoded,
        small=decoded.small[kept],
        large=decoded.large[[index in places for index in decoded.enlarged]],
        enlarged=[places[index] for index in decoded.enlarged if index in places],
        measured=[decoded.measured[index] for index in kept],
        checksums=[decoded.checksums[index] for index in kept],
        thumbnails=decoded.thumbnails[frames],
        times=decoded.times[frames],
        pictures=[jpeg for _, jpeg in pictures],
        shown=[place for place, _ in pictures],
        gaps=tuple(end for _, end in spans),
    )


def _evaluated(decoded: Decoded, probe: Probe, damage: Found) -> Scan:
    small, measured, kept = decoded.small, decoded.measured, decoded.shown
    seconds = [frame.seconds for frame in measured]
    split = shots.find(decoded.thumbnails, decoded.times, probe.duration)
    cuts = sorted((*split.starts, *decoded.gaps))
    changes = motion.changes(small, seconds, cuts)
    hashes = _hashes(small, seconds, split, kept)
    is_black = [frame.black for frame in measured]
    pictures = tuple(
        Still(round(seconds[index], 3), jpeg) for index, jpeg in zip(kept, decoded.pictures, strict=True)
    )
    return Scan(
        measures=summarise(measured, changes, split.starts),
        faults=Faults(
            black=found(is_black, seconds),
            frozen=motion.frozen(small, seconds, cuts),
            repeated=motion.repeated(decoded.thumbnails, decoded.times),
            brief_shots=split.brief_shots(probe.duration),
            blurred=found([frame.blurred for frame in measured], seconds),
            badly_exposed=found([frame.badly_exposed for frame in measured], seconds),
            drawn=max(
                found([frame.drawn for frame in measured], seconds),
                layers.find(small, seconds, cuts),
                key=lambda each: each.share,
            ),
            unhashable=found(
                [
                    measured[index].flat or (each is None and not is_black[index])
                    for index, each in hashes.items()
                ],
                [seconds[index] for index in hashes],
            ),
            damaged=damage,
        ),
        fingerprint=tuple(each for each in hashes.values() if each),
        features=features.pack(
            replace(features.extract(pictures, small, seconds), insets=_insets(decoded, seconds))
        ),
        candidates=tuple(
            Candidate(seconds[index], changes[index], not split.is_brief(seconds[index])) for index in kept
        ),
        pictures=pictures,
    )


def _plan(probe: Probe, seed: str) -> _Plan:
    wanted = stills.moments(probe, seed)
    return _Plan(wanted, stills.candidates(wanted, probe.duration), FRAMES_A_PACKET * len(probe.times) + 100)


def expected_cpu_seconds(probe: Probe) -> float:
    """Return what decoding takes by COSTS. Nothing of the file is decoded to tell."""
    per_gigapixel, per_gigabit = COSTS.get(probe.codec, HIGHEST_COST)
    pixels = math.prod(probe.coded_size) * len(probe.times)
    return per_gigapixel * pixels / 1e9 + per_gigabit * probe.size_bytes * 8 / 1e9


def _decode(
    path: Path,
    probe: Probe,
    plan: _Plan,
    threads: int,
    limits: ResourceLimits,
    directory: Path,
    check_lease: Callable[[], None],
) -> Decoded:
    width, height = probe.fit(LONG_SIDE)
    thumbnails = directory / "thumbnails"
    # what the filters do is little: to share it out among threads costs more than to do it
    arguments = ["-nostdin", "-y", "-copyts", "-filter_complex_threads", "1", "-threads", str(threads)]
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
    every_so_many = math.ceil(len(plan.moments) / features.MAX_INSET_FRAMES)
    large = np.empty((math.ceil(len(plan.moments) / every_so_many), height, width), np.uint8)
    together = np.empty((TOGETHER, height, width), np.uint8)
    measured: list[FrameMeasures] = []
    checksums: list[int] = []
    count = 0
    try:
        # the log tells which of them are damaged
        with start("ffmpeg", arguments, limits, log_level="verbose", reads=path, writes=directory) as running:
            while came := running.stdout.readinto(together.data) // (width * height):  # type: ignore[attr-defined]
                for frame in together[:came]:
                    if count == len(small):
                        raise MediaFault(f"It goes on for longer than its frames are timed. {ENCODE_AGAIN}")
                    small[count] = halved(frame)
                    if count % every_so_many == 0:
                        large[count // every_so_many] = frame
                    measured.append(measure(plan.moments[count], frame))
                    checksums.append(zlib.crc32(frame))
                    count += 1
                if count % (5 * TOGETHER) == 0:
                    check_lease()
        every = np.fromfile(thumbnails, np.uint8)
        if len(every) >= PIXELS * plan.most_frames:
            raise MediaFault(
                f"It has more than twice as many frames as the {len(probe.times)} that its container lists. "
                f"{ENCODE_AGAIN}"
            )
        files = sorted(directory.glob("still-*.jpg"))
        pictures = [file.read_bytes() for file in files]
    finally:
        thumbnails.unlink(missing_ok=True)
        for file in directory.glob("still-*.jpg"):
            file.unlink()
    # those before its last frame: by then it has come to an end, or was never decoded up to there
    reached = bisect_left(plan.moments, probe.times[-1])
    share = damaged(running.log, len(probe.times), uncovered=(reached - 1 - count) / len(plan.moments))
    thumbs = every[: len(every) // PIXELS * PIXELS].reshape(-1, PIXELS)
    shown = plan.candidates[: len(pictures)]
    return Decoded(
        small=small[:count],
        large=large[: math.ceil(count / every_so_many)],
        enlarged=list(range(0, count, every_so_many)),
        measured=measured,
        checksums=checksums,
        thumbnails=thumbs,
        times=_times(probe, len(thumbs)),
        pictures=pictures[: len(shown)],
        shown=shown,
        damaged=share,
        faulty=share > 0 or bool(re.search(r"\[(error|fatal)\]", running.log)),
        cpu_seconds=running.cpu_seconds,
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
        f"[every]trim=end_frame={plan.most_frames},scale={POINTS[0]}:{POINTS[1]}:flags=neighbor,"
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
    # a moment that is a frame's own time is not before it, however that time was rounded
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
    """Hash the moments, by index, without the border that all of a shot share.

    All that the judge may be shown are among them. None: there is too little in it.
    """
    starts = {int(index) for index in np.searchsorted(seconds, split.starts[:MAX_SHOTS])}
    edges = sorted({0, *starts, len(frames)})
    wanted = {*range(0, len(frames), math.ceil(len(frames) / MAX_HASHES)), *edges[:-1], *kept}
    hashes = {}
    for first, past in pairwise(edges):
        inner = borders.find(frames[first:past])
        for index in sorted(wanted.intersection(range(first, past))):
            hashes[index] = hash_frame(inner.of(frames[index]), seconds[index])
    return hashes


def _insets(decoded: Decoded, seconds: Sequence[float]) -> tuple[tuple[FrameHash, ...], ...]:
    """Hash what is shown inside of the picture, without its borders, as the picture of a known film is."""
    found = []
    for frames in islice(insets.cut(decoded.large), features.MAX_INSETS):
        inner = borders.find(frames)
        hashes = (
            hash_frame(inner.of(frame), seconds[index])
            for frame, index in zip(frames, decoded.enlarged, strict=True)
        )
        found.append(tuple(each for each in hashes if each))
    return tuple(each for each in found if each)


def hash_frame(shown: GreyFrame, seconds: float) -> FrameHash | None:
    """Return the hash of a picture, its contrast stretched, or None if there is too little in it."""
    square = Image.fromarray(shown.astype(np.float32)).resize(
        (HASHED_SIDE, HASHED_SIDE), Image.Resampling.BOX
    )
    clear = stretched(np.asarray(square))
    waves, quality = pdqhash.compute_float(np.repeat(clear[:, :, np.newaxis], 3, axis=2))
    if quality < MIN_HASH_QUALITY:
        return None
    return FrameHash(round(seconds, 3), _packed(waves), _packed(waves * MIRRORED_WAVES))


def _packed(waves: NDArray[np.float32]) -> bytes:
    """Return PDQ's hash of a picture, given its 256 waves: which of them are stronger than the median."""
    return np.packbits(waves > np.partition(waves, 127)[127]).tobytes()
