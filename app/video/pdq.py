"""The perceptual hash of pictures: PDQ, which tells by a picture's 256 lowest waves. Pure, over numpy arrays.

The hashes are those of Meta's own program to the bit, but many are made at once.
"""

from collections.abc import Sequence
from functools import cache

import cv2
import numpy as np
from numpy.typing import NDArray

from app.video.frames import FrameHash
from app.video.measures import GreyFrame, stretched

# the square that every picture is reduced to, and how many waves are told down and across
SIDE = 64
WAVES = 16
# PDQ's own measure of how much there is in a picture, of 100: a hash of less says nothing
LEAST_QUALITY = 50
# so many pictures are hashed at once: more would not fit into the caches
BATCH = 8
# The waves beside the median must differ by so much. If not, they are summed as Meta's program does it: in
# single precision one after the other, which is wrong by up to a thousandth.
LEAST_GAP = 0.02

# half a wave more each, over the square
_COSINES = np.cos(np.pi / 2 / SIDE * np.arange(1, WAVES + 1)[:, None] * np.arange(1, 2 * SIDE, 2))
_COSINES = (_COSINES * float(np.float32(np.sqrt(2 / SIDE)))).astype(np.float32)
# every second of the waves is odd from left to right: they change their sign in the mirror image
_MIRRORED = np.where(np.arange(WAVES**2) % 2, -1, 1)


def hashes(pictures: GreyFrame, seconds: Sequence[float]) -> list[FrameHash | None]:
    """Return the hashes of pictures (n x height x width), shown at `seconds`, their contrast stretched.

    None: there is too little in it.
    """
    found: list[FrameHash | None] = []
    for first in range(0, len(pictures), BATCH):
        squares = np.array([stretched(each) for each in _reduced(pictures[first : first + BATCH])])
        waves = _waves(squares)
        of_each = zip(
            seconds[first : first + BATCH],
            _quality(squares),
            _stronger(waves, squares),
            _stronger(waves * _MIRRORED, squares, _MIRRORED),
            strict=True,
        )
        found += [
            FrameHash(round(at, 3), plain, mirrored) if quality >= LEAST_QUALITY else None
            for at, quality, plain, mirrored in of_each
        ]
    return found


def _reduced(pictures: GreyFrame) -> NDArray[np.float32]:
    """Return the mean levels of the parts of each picture: of SIDE rows and columns of equal size.

    A pixel belongs to the part that its middle is in. Of a smaller picture each part is the nearest pixel.
    """
    for axis in (1, 2):
        if (side := pictures.shape[axis]) < SIDE:
            pictures = pictures.take(((np.arange(SIDE) + 0.5) * side / SIDE).astype(np.intp), axis)
    count, height, width = pictures.shape
    rows, columns = _edges(height), _edges(width)
    # of each row, then of the rows: so Pillow's box filter rounds them as well
    totals = cv2.integral(pictures.reshape(count * height, width)).take(columns, 1)
    totals = np.diff(totals[1:] - totals[:-1], axis=1)
    across = np.asarray(totals / np.diff(columns), np.float32)
    totals = cv2.integral(across, sdepth=cv2.CV_64F).take(np.arange(count)[:, None] * height + rows, 0)
    sums = np.diff(totals[:, 1:] - totals[:, :-1], axis=2)
    return (sums / np.diff(rows)[:, None]).astype(np.float32)


@cache
def _edges(length: int) -> NDArray[np.intp]:
    """Return where SIDE equal parts of so many pixels begin, and where the last one ends."""
    return (np.arange(SIDE + 1) * length / SIDE + 0.5).astype(np.intp)


def _waves(squares: GreyFrame) -> NDArray[np.float64]:
    """Return the 256 waves of each square (n x SIDE x SIDE)."""
    cosines = _COSINES.astype(np.float64)
    return (cosines @ (squares @ cosines.T)).reshape(-1, WAVES**2)[:, ::-1]


def _as_meta_sums(square: GreyFrame) -> NDArray[np.float32]:
    """Return the waves of one square as Meta's program rounds them."""
    levels = square.astype(np.float32)
    for _ in range(2):
        parts = _COSINES.T[:, :, None] * levels[:, None]
        # along its first axis numpy adds one after the other
        levels = np.ascontiguousarray(np.add.reduce(parts, axis=0).T)
    return levels.ravel()[::-1]


def _quality(squares: GreyFrame) -> NDArray[np.intp]:
    """Return how much there is in each square, of 100, by the steps between its pixels."""
    levels = squares.astype(np.int16)
    steps = [np.abs(np.diff(levels, axis=axis)) * 100 // 255 for axis in (1, 2)]
    return np.minimum(sum(each.sum(axis=(1, 2)) for each in steps) // 90, 100)


def _stronger(
    waves: NDArray[np.float64], squares: GreyFrame, signs: NDArray[np.intp] | int = 1
) -> list[bytes]:
    """Return which waves of each square, once they have these signs, are stronger than the median."""
    middle = WAVES**2 // 2
    ranked = np.partition(waves, (middle - 1, middle), axis=1)
    medians, next_ones = ranked[:, middle - 1], ranked[:, middle]
    bits = waves > medians[:, None]
    for index in np.flatnonzero(next_ones - medians < LEAST_GAP):
        exact = _as_meta_sums(squares[index]) * signs
        bits[index] = exact > np.partition(exact, middle - 1)[middle - 1]
    return [each.tobytes() for each in np.packbits(bits, axis=1)]
