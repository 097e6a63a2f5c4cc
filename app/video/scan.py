"""One decoding pass over the whole video in small, for its measures and its fingerprint."""

import math
import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path

import numpy as np
import pdqhash
from PIL import Image

from app.video.ffmpeg import INPUT_OPTIONS, MediaFault, ResourceLimits, start
from app.video.frames import FrameHash
from app.video.measures import FrameMeasures, GreyFrame, Measures, measure, summarise
from app.video.probe import Probe

# frames a second that are read, every second of them measured; fewer in videos over MAX_FRAMES
RATE = 8
MAX_FRAMES = 2400
# frames that are hashed, evenly spread: all that are read of a video of 75 s, two a second of one of 300 s
MAX_HASHES = 600
# starts of shots that are hashed besides
MAX_SHOTS = 50
LONG_SIDE = 384
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
THREADS = "4"
# twice what is expected, for a slow machine; and twice that on the wall, for a busy one
LIMITS = ResourceLimits(cpu_seconds=2 * MOST_CPU_SECONDS, wall_seconds=4 * MOST_CPU_SECONDS)


@dataclass(frozen=True)
class Scan:
    """What the pass over all frames found. `damaged` is the share of frames that do not decode cleanly."""

    measures: Measures
    fingerprint: tuple[FrameHash, ...]
    damaged: float


def scan(
    path: Path, probe: Probe, check_lease: Callable[[], None], most_cpu_seconds: float = MOST_CPU_SECONDS
) -> Scan:
    """Decode the whole video once, in small and grey, and measure and hash it as the frames come.

    Memory does not grow with the picture or the rate. Of a video that is expected to take more than
    `most_cpu_seconds` only the keyframes are decoded; if even that is too much, MediaFault is raised before
    anything is. Raises MediaFault, TransientError, or what `check_lease` raises, which is called every few
    seconds of video.
    """
    rate = min(RATE, MAX_FRAMES / max(probe.duration, 1))
    wanted, skip = probe.times, "default"
    gap = max(later - earlier for earlier, later in pairwise([*probe.keyframes, probe.duration]))
    if expected_cpu_seconds(probe, wanted) > most_cpu_seconds:
        wanted, skip = probe.keyframes, "nokey"
        if gap > SPARSE_GAP_SECONDS or expected_cpu_seconds(probe, wanted) > most_cpu_seconds:
            raise MediaFault(
                f"Decoding {len(probe.times)} frames of {probe.width}x{probe.height} with a keyframe every "
                f"{gap:.0f} s takes too long. Encode it smaller, with fewer frames a second, or, if it is "
                f"the keyframes that are too rare, with one at least every {SPARSE_GAP_SECONDS:.0f} s."
            )
        # no more often than there is a new frame: a repeated one would count as frozen
        rate = min(rate, 1 / gap)
    width, height = probe.fit(LONG_SIDE)
    filters = f"fps={rate:.6f},scale={width}:{height}:flags=area,format=gray"
    arguments = ["-nostdin", "-threads", THREADS, "-skip_frame", skip, *INPUT_OPTIONS, "-i", f"file:{path}"]
    arguments += ["-map", f"0:{probe.stream}", "-vf", filters]
    arguments += ["-fps_mode", "passthrough", "-f", "rawvideo", "pipe:1"]
    # room for all of them at once: one by one they would scatter over the heap, and take twice as much
    capacity = math.ceil(probe.duration * rate * 1.05) + RATE
    small = np.empty((capacity, height // 2, width // 2), np.uint8)
    count = 0
    measured: list[FrameMeasures] = []
    previous = None
    # the log's last lines tell how many frames were decoded
    with start("ffmpeg", arguments, LIMITS, log_level="verbose", reads=path) as running:
        while len(raw := running.stdout.read(width * height)) == width * height:
            frame = np.frombuffer(raw, np.uint8).reshape(height, width)
            if count == capacity:
                raise MediaFault("It goes on for longer than its frames are timed.")
            if count % 2 == 0:
                measured.append(measure(count / rate, frame, previous))
                previous = frame
            small[count] = _halved(frame)
            count += 1
            if count % 40 == 0:
                check_lease()
    if not measured:
        raise MediaFault("No frame of it can be decoded.")
    measures = summarise(measured)
    return Scan(
        measures=measures,
        fingerprint=_fingerprint(small[:count], rate, measures.cuts),
        damaged=_damaged(running.log, len(wanted)),
    )


def expected_cpu_seconds(probe: Probe, wanted: Sequence[float]) -> float:
    """Return what decoding the `wanted` frames takes by COSTS. Nothing of the file is decoded to tell."""
    per_gigapixel, per_gigabit = COSTS.get(probe.codec, HIGHEST_COST)
    pixels = probe.width * probe.height * len(wanted)
    return per_gigapixel * pixels / 1e9 + per_gigabit * probe.size_bytes * 8 / 1e9


def _damaged(log: str, packets: int) -> float:
    """Return the share of a video's packets that gave no frame or a corrupt one, by ffmpeg's log."""
    decoded = re.search(r"(\d+) frames decoded", log)
    missing = packets - int(decoded[1]) if decoded else 0
    return min(1.0, (max(missing, 0) + log.count("corrupt decoded frame")) / packets)


def _fingerprint(frames: GreyFrame, rate: float, cuts: Sequence[float]) -> tuple[FrameHash, ...]:
    """Hash the frames that have something in them, without the black borders that all of a shot share."""
    starts = [round(seconds * rate) for seconds in cuts[:MAX_SHOTS]]
    hashed = {*range(0, len(frames), math.ceil(len(frames) / MAX_HASHES)), *starts}
    hashes = []
    for first, past in pairwise([0, *starts, len(frames)]):
        top, bottom, left, right = _borders(frames[first:past])
        for index in sorted(hashed.intersection(range(first, past))):
            shown = Image.fromarray(frames[index][top:bottom, left:right])
            square = np.asarray(shown.resize((HASHED_SIDE, HASHED_SIDE), Image.Resampling.BOX))
            bits, quality = pdqhash.compute(np.repeat(square[:, :, np.newaxis], 3, axis=2))
            if quality >= MIN_HASH_QUALITY:
                mirrored, _ = pdqhash.compute(np.repeat(square[:, ::-1, np.newaxis], 3, axis=2))
                hashes.append(FrameHash(round(index / rate, 3), _packed(bits), _packed(mirrored)))
    return tuple(hashes)


def _packed(bits: "np.ndarray[tuple[int, ...], np.dtype[np.int64]]") -> bytes:
    return np.packbits(bits.astype(np.uint8)).tobytes()


def _borders(frames: GreyFrame) -> tuple[int, int, int, int]:
    """Return the part (top, bottom, left, right) outside of which every frame is black, a fixed mark apart.

    Letterboxing a copy changes its hashes else. A part of less than a quarter of the picture is no picture
    in a frame but a dark one: then all of it counts.
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


def _halved(frame: GreyFrame) -> GreyFrame:
    height, width = (side // 2 * 2 for side in frame.shape)
    quads = frame[:height, :width].reshape(height // 2, 2, width // 2, 2)
    return quads.mean(axis=(1, 3)).astype(np.uint8)
