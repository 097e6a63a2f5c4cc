"""Where in the frames of a shot the picture lies, without a border around it. Pure, over numpy arrays.

A copy in a border would have other hashes than the original. A border is black, or of one colour, or blurred,
for as long as the shot lasts. A mark that stands still may be in it.
"""

from dataclasses import dataclass

import cv2
import numpy as np
from numpy.typing import NDArray

from app.video.measures import GreyFrame

# A pixel is as the border if it is never lighter than this in a black one, and in one of another colour never
# further from that than this.
BLACK_LEVEL = 24
LEVEL_AWAY = 14
# A line is of the border if all its pixels are but for noise. A mark in it, of which no pixel changes by so
# much, may take more of it.
CHANGE = 8
NOISE = 0.02
MARK = 0.4
# What has less of the picture left is no border: the picture is dark, or plain.
LEAST_BLACK = 0.25
LEAST_COLOURED = 0.15
# A border that is not black lies on both sides of the picture, is so wide, as a share of the whole, and ends
# at once: within so many lines this share of the pixels is otherwise
LEAST_WIDTH = 0.02
EDGE_LINES = 3
EDGE_SHARE = 0.5
# What is blurred changes from line to line, and where it ends by so many times as much, at least by so many
# grey levels. It takes so much of the whole, at either side, at the most.
SUDDEN = 2.5
LEAST_STEP = 0.5
MOST_BLURRED = 0.45
# so far it must go along with the picture, made larger and blurred, as a correlation
LEAST_LIKENESS = 0.9


@dataclass(frozen=True)
class Inner:
    """The part of the frames that the picture takes."""

    top: int
    bottom: int
    left: int
    right: int

    def of(self, frames: GreyFrame) -> GreyFrame:
        """Cut one frame, or several, to it."""
        return frames[..., self.top : self.bottom, self.left : self.right]

    @property
    def corners(self) -> NDArray[np.float64]:
        """Top left, then clockwise, as columns and rows (4 x 2)."""
        top, bottom, left, right = self.top, self.bottom, self.left, self.right
        return np.array([[left, top], [right, top], [right, bottom], [left, bottom]], np.float64)

    def within(self, outer: "Inner") -> "Inner":
        """The same part, told by the frames of which `outer` was cut."""
        return Inner(
            outer.top + self.top, outer.top + self.bottom, outer.left + self.left, outer.left + self.right
        )


def find(frames: GreyFrame) -> Inner:
    """Return the part of the frames of a shot (n x height x width) that is no border."""
    brightest, darkest = frames.max(axis=0), frames.min(axis=0)
    found = _without_black(brightest, darkest)
    found = _without_colour(*map(found.of, (frames, brightest, darkest))).within(found)
    return _without_blur(found.of(frames)).within(found)


def _whole(frames: GreyFrame) -> Inner:
    height, width = frames.shape[-2:]
    return Inner(0, height, 0, width)


def _without_black(brightest: GreyFrame, darkest: GreyFrame) -> Inner:
    lit = brightest >= BLACK_LEVEL
    rows, columns = _taken(lit, lit & (brightest - darkest >= CHANGE))
    return _between(rows, columns, _whole(brightest), LEAST_BLACK)


def _without_colour(frames: GreyFrame, brightest: GreyFrame, darkest: GreyFrame) -> Inner:
    ring = np.concatenate([frames[0, 0], frames[0, -1], frames[0, :, 0], frames[0, :, -1]])
    level = int(np.median(ring))
    other = (brightest > level + LEVEL_AWAY) | (darkest < level - LEVEL_AWAY)
    rows, columns = _taken(other, other & (brightest - darkest >= CHANGE))
    rows, columns = _sharp_edged(rows, other.mean(axis=1)), _sharp_edged(columns, other.mean(axis=0))
    return _between(rows, columns, _whole(frames), LEAST_COLOURED)


def _taken(other: NDArray[np.bool_], moving: NDArray[np.bool_]) -> tuple[NDArray[np.intp], NDArray[np.intp]]:
    """Return the rows and the columns that are not of the border, by which pixels are otherwise."""
    rows, columns = (
        np.flatnonzero((moving.mean(axis=axis) > NOISE) | (other.mean(axis=axis) > MARK)) for axis in (1, 0)
    )
    return rows, columns


def _sharp_edged(lines: NDArray[np.intp], shares: NDArray[np.float64]) -> NDArray[np.intp]:
    """Return the lines of the picture, or all lines unless a border begins and ends at once on both sides."""
    every = np.arange(len(shares))
    if not len(lines):
        return every
    first, last = lines[0], lines[-1]
    least = max(1, round(LEAST_WIDTH * len(shares)))
    edges = shares[first : first + EDGE_LINES], shares[max(0, last + 1 - EDGE_LINES) : last + 1]
    if min(first, len(shares) - 1 - last) < least or min(edge.max() for edge in edges) < EDGE_SHARE:
        return every
    return every[first : last + 1]


def _without_blur(frames: GreyFrame) -> Inner:
    whole = _whole(frames)
    height, width = frames.shape[1:]
    if min(height, width) < 2:
        return whole
    down, across = np.zeros(height - 1), np.zeros(width - 1)
    some = frames[:: max(1, len(frames) // 24)]
    for frame in some:
        down += cv2.absdiff(frame[1:], frame[:-1]).sum(axis=1)
        across += cv2.absdiff(frame[:, 1:], frame[:, :-1]).sum(axis=0)
    down /= len(some) * width
    across /= len(some) * height
    top, bottom, left, right = (_smooth(steps) for steps in (down, down[::-1], across, across[::-1]))
    found = [
        Inner(top + more, whole.bottom - bottom - more, 0, whole.right)
        for more in range(EDGE_LINES)
        if min(top, bottom)
    ] + [
        Inner(0, whole.bottom, left + more, whole.right - right - more)
        for more in range(EDGE_LINES)
        if min(left, right)
    ]
    likenesses = [_likeness(frames, inner) for inner in found]
    most = max(likenesses, default=0.0)
    return found[likenesses.index(most)] if most >= LEAST_LIKENESS else whole


def _smooth(steps: NDArray[np.float64]) -> int:
    """Return how many lines from the edge on go over into each other, up to a sudden step; 0 without one."""
    for at in range(max(2, round(LEAST_WIDTH * len(steps))), round(MOST_BLURRED * len(steps))):
        if steps[at] >= SUDDEN * max(steps[: at - 1].max(), LEAST_STEP):
            return at + 1
    return 0


def _likeness(frames: GreyFrame, inner: Inner) -> float:
    """Return how much what lies around the picture is like it, made larger and blurred, as a correlation."""
    height, width = frames.shape[1:]
    around = np.ones((height, width), bool)
    inner.of(around)[:] = False
    some = frames[:: max(1, len(frames) // 4)]
    shown = np.stack([frame[around] for frame in some]).ravel()
    scale_y, scale_x = height / (inner.bottom - inner.top), width / (inner.right - inner.left)
    covering = max(scale_y, scale_x)
    likeness = 0.0
    for scales in ((covering, covering), (scale_y, scale_x)):
        larger = np.stack([_middle(inner.of(frame), *scales, height, width)[around] for frame in some])
        if shown.std() and larger.std():
            likeness = max(likeness, float(np.corrcoef(larger.ravel(), shown)[0, 1]))
    return likeness


def _middle(picture: GreyFrame, scale_y: float, scale_x: float, height: int, width: int) -> GreyFrame:
    """Return the middle of a picture that is made larger and blurred."""
    size = (max(width, round(picture.shape[1] * scale_x)), max(height, round(picture.shape[0] * scale_y)))
    blurred = cv2.GaussianBlur(cv2.resize(picture, size), (0, 0), max(size) / 40)
    top, left = (size[1] - height) // 2, (size[0] - width) // 2
    return np.asarray(blurred[top : top + height, left : left + width], np.uint8)


def _between(rows: NDArray[np.intp], columns: NDArray[np.intp], whole: Inner, least: float) -> Inner:
    """Return the part from the first to the last of the lines, or the whole if too little of it is left."""
    if len(rows) and len(columns):
        inner = Inner(int(rows[0]), int(rows[-1]) + 1, int(columns[0]), int(columns[-1]) + 1)
        area = (inner.bottom - inner.top) * (inner.right - inner.left)
        if area >= least * whole.bottom * whole.right:
            return inner
    return whole
