"""What can be measured on small grey frames: pure functions over numpy arrays.

A frame is an array of uint8, height x width, 0 black to 255 white.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise
from statistics import fmean
from typing import Any

import cv2
import numpy as np

# np.median and np.unique load masked arrays when they first run: now, or each job would take 0.1 s for it
import numpy.fft
import numpy.ma
from numpy.typing import NDArray

GreyFrame = NDArray[np.uint8]
# start and end in seconds
Span = tuple[float, float]

# a pixel this dark is black, this bright is burnt out
BLACK_LEVEL = 24
BURNT_LEVEL = 250
# share of such pixels that makes a frame black, or badly exposed
BLACK_SHARE = 0.98
BURNT_SHARE = 0.5
DIM_MEAN = 0.12
# between nearly the darkest and nearly the brightest pixel; the dimmest footage has twice as much
LEAST_CONTRAST = 0.05
# blur of a frame: 0 sharp, 1 without any edge; sharp footage lies between 0.45 and 0.65, noisy or not
BLURRED = 0.75
# a running mean of so many pixels, in one of so many groups of lines
BLUR_SIZE = 9
BLUR_LINES = 6
# The fall of light towards the edge of a lens is no blurred edge. So what seems blurred is looked at again
# without what goes up or down evenly for so many pixels, and must be as blurred as this: sharp footage lies
# up to 0.6 then, and footage that is defocused by a 160th of its width from 0.68.
SLOPE_SIZE = 35
BLURRED_WITHOUT = 0.66
# what changes by fewer levels from pixel to pixel is no edge: noise, or the steps of a smooth surface
LEAST_EDGE = 0.45
# Of the pixels that are neither dark nor bright, this share has neighbours of the very same level in what was
# drawn, as test pictures are. Real footage, however plain and badly encoded, was found to have up to 0.76.
DRAWN_FLAT = 0.78
DRAWN_LEVELS = (24, 240)
# and at least this share of all pixels must be such that it can be told
DRAWN_TOLD = 0.2
# contrast is stretched by no more: noise would become a picture
MOST_STRETCH = 8.0


@dataclass(frozen=True)
class FrameMeasures:
    """Measures of one frame; shares are of 1."""

    seconds: float
    mean: float
    black_share: float
    burnt_share: float
    blur: float
    drawn: bool
    contrast: float

    @property
    def black(self) -> bool:
        return self.black_share >= BLACK_SHARE

    @property
    def badly_exposed(self) -> bool:
        return not self.black and (self.burnt_share >= BURNT_SHARE or self.mean < DIM_MEAN)

    @property
    def flat(self) -> bool:
        return not self.black and self.contrast < LEAST_CONTRAST

    @property
    def blurred(self) -> bool:
        return not self.black and self.blur >= BLURRED


def measure(seconds: float, frame: GreyFrame) -> FrameMeasures:
    """Measure `frame`, shown at `seconds`."""
    low, high = ends(frame[::4, ::4])
    return FrameMeasures(
        seconds=seconds,
        mean=cv2.sumElems(frame)[0] / frame.size / 255,
        black_share=np.count_nonzero(frame < BLACK_LEVEL) / frame.size,
        burnt_share=np.count_nonzero(frame >= BURNT_LEVEL) / frame.size,
        blur=blur(frame),
        drawn=is_drawn(frame),
        contrast=(high - low) / 255,
    )


def ends(levels: NDArray[Any]) -> tuple[float, float]:
    """Return the level that a hundredth of the pixels lie below, and the one that as many lie above.

    Does what np.percentile does but for the mean of two neighbours, in a tenth of the time.
    """
    flat = levels.ravel()
    rank = round(0.01 * (flat.size - 1))
    low, high = (np.partition(flat, place)[place] for place in (rank, flat.size - 1 - rank))
    return float(low), float(high)


def is_drawn(frame: GreyFrame) -> bool:
    """Whether the frame is made of areas of one level, as no camera's is."""
    inner = frame[:-1, :-1]
    told = cv2.inRange(inner, DRAWN_LEVELS[0] + 1, DRAWN_LEVELS[1] - 1)
    beside, below = (cv2.compare(inner, other, cv2.CMP_EQ) for other in (frame[:-1, 1:], frame[1:, :-1]))
    flat = cv2.bitwise_and(cv2.bitwise_and(beside, below), told)
    count = cv2.countNonZero(told)
    return count >= DRAWN_TOLD * told.size and cv2.countNonZero(flat) >= DRAWN_FLAT * count


def blur(frame: GreyFrame) -> float:
    """Return how little a further blur changes the frame (Crete et al. 2007): 0 sharp, 1 featureless.

    Unlike the energy of edges it does not take a plain wall for a blurred one. Pixels are averaged over their
    neighbours first, or noise would count as edges. What only the fall of light of a lens makes seem blurred
    is not.
    """
    turned = np.asarray(cv2.transpose(frame), np.uint8)
    value = max(_blur_along(frame), _blur_along(turned))
    if value >= BLURRED:
        without = max(_blur_along(frame, SLOPE_SIZE), _blur_along(turned, SLOPE_SIZE))
        if without < BLURRED_WITHOUT:
            return without
    return value


def _blur_along(frame: GreyFrame, slope_size: int = 0) -> float:
    """The blur along the rows of a frame, against a running mean of BLUR_SIZE pixels.

    With a `slope_size`, what goes up or down evenly for so many pixels is taken away before.
    """
    # Some lines tell as much as all of them.
    upper, middle, lower = (frame[first::BLUR_LINES][: frame.shape[0] // BLUR_LINES] for first in range(3))
    lines = upper.astype(np.int16) + middle + lower
    calmed = lines[:, :-2] + lines[:, 1:-1] + lines[:, 2:]
    # at each step to the next pixel, the running total takes up one and loses another
    count = calmed.shape[1] - BLUR_SIZE - 1
    lost, here, following, taken = (
        calmed[:, at : at + count] for at in (1, BLUR_SIZE // 2 + 1, BLUR_SIZE // 2 + 2, BLUR_SIZE + 1)
    )
    if slope_size:
        steps, smooth_steps = (following - here) * np.int16(BLUR_SIZE), taken - lost
        edges, smooth_edges = (
            np.abs(each - cv2.blur(each.astype(np.float32), (slope_size, 1)))
            for each in (steps, smooth_steps)
        )
    else:
        edges, smooth_edges = cv2.absdiff(following, here) * np.int16(BLUR_SIZE), cv2.absdiff(taken, lost)
    edges = cv2.threshold(edges, LEAST_EDGE * 9 * BLUR_SIZE, 0, cv2.THRESH_TOZERO)[1]
    strength = int(cv2.sumElems(edges)[0])
    gone = np.maximum(cv2.subtract(edges, smooth_edges), 0)
    return 1 - int(cv2.sumElems(gone)[0]) / strength if strength else 1.0


def halved(frame: GreyFrame) -> GreyFrame:
    """Return the frame in half its size."""
    height, width = (side // 2 * 2 for side in frame.shape)
    rows = np.add(frame[:height:2, :width], frame[1:height:2, :width], dtype=np.uint16)
    # two pixels at once: their sum stands in the upper half, and a quarter of it is left
    pairs = rows.view(np.uint32)
    return (((pairs << 16) + pairs) >> 18).astype(np.uint8)


def stretched(picture: NDArray[np.float32]) -> GreyFrame:
    """Return the picture with its contrast stretched to all levels, as far as MOST_STRETCH goes."""
    low, high = ends(picture)
    gain = min(max(255 / max(high - low, 1.0), 1.0), MOST_STRETCH)
    return np.clip((picture - (low + high) / 2) * gain + 127.5, 0, 255).astype(np.uint8)


@dataclass(frozen=True)
class Found:
    """How much of a video is of some kind, as a share of 1, and where it is.

    `at` is the second it begins at, and `spans` are its parts. None and empty: unknown.
    """

    share: float
    at: float | None = None
    spans: tuple[Span, ...] = ()

    @property
    def onset(self) -> str:
        """Where it begins, as a part of a sentence; nothing if that is unknown."""
        return "" if self.at is None else f", from {self.at:.1f} s on"


def found(is_so: Sequence[bool], seconds: Sequence[float]) -> Found:
    """Return how many of the moments are so, and the spans of them.

    A span goes from its first moment to the next that is not so, or to the last of all.
    """
    edges = [
        index
        for index in range(len(is_so) + 1)
        if (index > 0 and is_so[index - 1]) != (index < len(is_so) and is_so[index])
    ]
    spans = tuple(
        (seconds[first], seconds[min(past, len(seconds) - 1)])
        for first, past in zip(edges[::2], edges[1::2], strict=True)
    )
    return Found(sum(is_so) / max(len(is_so), 1), spans[0][0] if spans else None, spans)


def joined(spans: Sequence[Span], most: int) -> list[Span]:
    """Return at most so many spans: those with the smallest gaps between them become one."""
    by_gap = sorted(range(1, len(spans)), key=lambda index: spans[index - 1][1] - spans[index][0])
    starts = sorted(by_gap[: most - 1])
    edges = [0, *starts, len(spans)] if spans else []
    return [(spans[first][0], spans[past - 1][1]) for first, past in pairwise(edges)]


@dataclass(frozen=True)
class Faults:
    """The faults of a video, each as a share of it.

    `frozen`: nothing moves of itself. `repeated`: it was shown before. `brief_shots`: it belongs to a shot of
    less than a second. `drawn`: it was not filmed. `unhashable`: it has too little detail to be recognised
    again, not counting black. `damaged`: it does not decode cleanly.
    """

    black: Found
    frozen: Found
    repeated: Found
    brief_shots: Found
    blurred: Found
    badly_exposed: Found
    drawn: Found
    unhashable: Found
    damaged: Found


@dataclass(frozen=True)
class Measures:
    """Of a video: how many moments were measured, means of 1, times in seconds."""

    frames: int
    mean_brightness: float
    mean_blur: float
    mean_motion: float
    motion_peak: float
    cuts: tuple[float, ...]


def summarise(measured: Sequence[FrameMeasures], changes: Sequence[float], cuts: Sequence[float]) -> Measures:
    """Sum up all moments of a video, of which there is at least one, and what changes around each."""
    end = measured[-1].seconds
    inner = [index for index, frame in enumerate(measured) if 0.05 * end <= frame.seconds <= 0.95 * end]
    peak = max(inner or range(len(measured)), key=lambda index: changes[index])
    return Measures(
        frames=len(measured),
        mean_brightness=fmean(frame.mean for frame in measured),
        mean_blur=fmean(frame.blur for frame in measured),
        mean_motion=fmean(changes),
        motion_peak=measured[peak].seconds,
        cuts=tuple(cuts),
    )
