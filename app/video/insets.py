"""Where in a film's picture another picture is shown: beside others, in a corner, or on a screen.

At the sides of such a picture the grey level changes at the same place in all frames, whatever moves inside
and around. So its sides are straight lines, of which four make a quadrilateral. What else is bounded so (a
window, a table, a box) may be taken for one: then hashes of a part of the picture are compared in vain.
Pure, over numpy arrays.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import cv2
import numpy as np
from numpy.typing import NDArray

from app.video import borders
from app.video.measures import GreyFrame, halved

# so many frames tell where the lines are; so many pictures are told in them at the most
LOOKED_AT = 24
# and so many pictures are taken that end where the frame does, and so many others
MOST_AT_EDGE = 3
MOST_WITHIN = 2
# A picture takes at least such a share of the frame, and of its width and height.
LEAST_AREA = 0.1
MOST_AREA = 0.8
LEAST_SIDE = 0.22
# so far, as shares of the frame, its corners may lie outside of it
OUTSIDE = 0.08
# A step between pixels, in grey levels, that counts if it is the largest within so many pixels
STEP = 4
BESIDE = 2
# lines are looked for at these slopes, and so many of each direction are tried
SLOPES = np.linspace(-0.36, 0.36, 49)
LINES = 28
# lines so near to a side of the frame, in pixels, are that side
EDGE = 3
# A side counts by the share of frames and pixels with a step on it. The frame's own sides have none, and
# count so much; a line needs so much to be one, and a side to be of a picture.
OF_FRAME = 0.55
LEAST_LINE = 0.2
LEAST_SHARE = 0.3
# What else tells: all four sides, that opposite ones are parallel, and the area
BY_ALL = 0.15
BY_SLOPE = 0.5
BY_AREA = 0.3
# two pictures that have more than this of both in common are one
SAME = 0.75
# so many quadrilaterals are looked at for that
TRIED = 2000
# Sides are then laid where the step is the largest, first by whole pixels, then by parts.
SEARCHES = ((5, 1.0), (1, 0.25))
MOST_STEP = 64
SAMPLES = 64
# The picture is cut out in this size: what is stored of known films was hashed in the same.
CUT_SIDE = 192
# And smaller by such a share: the pixels on its sides are half of what is around. Some have an edge of their
# own, so the likeliest of those that do not end where the frame does is cut by more as well.
SHRUNK = 0.004
SHRUNK_MORE = 0.02
# frames that are cut at once
TOGETHER = 4

Places = NDArray[np.float64]
Shares = NDArray[np.float32]


def cut(frames: GreyFrame) -> Iterator[GreyFrame]:
    """Yield what is shown in each picture that is found inside the frames (n x height x width), upright.

    A picture may come twice, cut in two ways. If the frames have a white border, they come first as a
    negative: if they are one already, that is how the original was hashed, without its black border.
    """
    height, width = frames.shape[1:]
    if _has_white_border(frames):
        yield np.stack([halved(frame) for frame in ~frames])
    for number, corners in enumerate(find(frames)):
        yield _cut(frames, corners, SHRUNK)
        if number == 0 and not ((corners == 0) | (corners == (width, height))).any():
            yield _cut(frames, corners, SHRUNK_MORE)


def _has_white_border(frames: GreyFrame) -> bool:
    """Whether more would be cut off the frames' borders if dark and bright were exchanged."""
    some = frames[:: max(1, len(frames) // LOOKED_AT)]
    return borders.find(~some).of(some).size < borders.find(some).of(some).size


def find(frames: GreyFrame) -> list[Places]:
    """Return the corners of the pictures inside, the likeliest first: top left, then clockwise (4 x 2)."""
    if not len(frames) or min(frames.shape[1:]) < 4 / LEAST_SIDE:
        return []
    some = frames[:: -(-len(frames) // LOOKED_AT)]
    small = np.stack([halved(frame) for frame in some])
    found = _quadrilaterals(small)
    ridges = (_ridges(some, 0), _ridges(some, 1)) if found else ()
    return [_fitted(ridges, 2 * corners) for corners in found]


@dataclass(frozen=True)
class _Lines:
    """Lines from top to bottom, x = at + slope * (y - height / 2), and how much of each is a side.

    The last two are the frame's own sides. `sums` are running totals down each line.
    """

    at: Places
    slope: Places
    sums: Places


def _steps(frames: GreyFrame) -> Shares:
    """Return for each pixel the share of frames in which a step from the left is the largest beside it."""
    shares = np.zeros(frames.shape[1:], np.float32)
    for frame in frames:
        step = np.zeros(frame.shape, np.uint8)
        step[:, 1:] = cv2.absdiff(frame[:, 1:], frame[:, :-1])
        largest = cv2.dilate(step, np.ones((1, 2 * BESIDE + 1), np.uint8))
        shares += (step == largest) & (step >= STEP)
    shares /= len(frames)
    # a line need not go through the middle of a pixel
    beside = cv2.dilate(shares, np.ones((1, 3), np.uint8))
    return np.maximum(shares, 0.9 * beside)


def _lines(shares: Shares) -> _Lines:
    """Return the likeliest lines: those that are a side for some length."""
    height, width = shares.shape
    rows = np.arange(height)
    margin = int(np.ceil(SLOPES[-1] * height / 2)) + 1
    padded = np.pad(shares, ((0, 0), (margin, margin)))
    length = max(2, int(LEAST_SIDE * height))
    strength = np.empty((len(SLOPES), width), np.float32)
    sums = np.zeros((height + 1, width), np.float32)
    for number, slope in enumerate(SLOPES):
        across = np.round(slope * (rows - height / 2)).astype(int)
        along = padded.take((rows * padded.shape[1] + margin + across)[:, None] + np.arange(width))
        np.cumsum(along, axis=0, out=sums[1:])
        strength[number] = (sums[length:] - sums[:-length]).max(axis=0) / length
    # beside the frame's own sides there is nothing to be shown
    strength[:, :EDGE] = strength[:, width - EDGE :] = 0
    # most pictures stand upright
    strength[len(SLOPES) // 2] *= 1.1
    at: list[int] = []
    slopes: list[float] = []
    totals = []
    while len(at) < LINES:
        number, place = divmod(int(strength.argmax()), width)
        if strength[number, place] < LEAST_LINE:
            break
        at.append(place)
        slopes.append(float(SLOPES[number]))
        across = np.round(place + slopes[-1] * (rows - height / 2)).astype(int) + margin
        totals.append(np.cumsum(padded[rows, np.clip(across, 0, padded.shape[1] - 1)]))
        # what lies beside and leans as much is the same line
        strength[max(0, number - 2) : number + 3, max(0, place - 2) : place + 3] = 0
    sides = np.zeros((len(at) + 2, height + 1))
    if totals:
        sides[:-2, 1:] = totals
    sides[-2:] = np.arange(height + 1) * OF_FRAME
    return _Lines(np.array([*at, 0.0, width]), np.array([*slopes, 0.0, 0.0]), sides)


def _quadrilaterals(frames: GreyFrame) -> list[Places]:
    """Return the likeliest quadrilaterals of which all sides are lines."""
    height, width = frames.shape[1:]
    down = _lines(_steps(frames))
    across = _lines(np.ascontiguousarray(_steps(np.ascontiguousarray(frames.swapaxes(1, 2)))))
    # where each line down meets each line across
    y = across.at + across.slope * (down.at - down.slope * height / 2 - width / 2)[:, None]
    y /= 1 - across.slope * down.slope[:, None]
    x = down.at[:, None] + down.slope[:, None] * (y - height / 2)
    inside = (np.abs(x / width - 0.5) <= 0.5 + OUTSIDE) & (np.abs(y / height - 0.5) <= 0.5 + OUTSIDE)
    row = np.clip(np.round(y), 0, height).astype(int)
    column = np.clip(np.round(x), 0, width).astype(int)
    # how much of each line between any two of the others is a side
    upright = _between(np.take_along_axis(down.sums, row, 1), row, inside, LEAST_SIDE * height)
    level = _between(np.take_along_axis(across.sums, column.T, 1), column.T, inside.T, LEAST_SIDE * width)
    # left, right, top, bottom: all fours of which each is a side
    is_upright, is_level = upright >= LEAST_SHARE, (level >= LEAST_SHARE).transpose(1, 2, 0)
    fours = np.nonzero(is_upright[:, None] & is_upright & is_level[..., None] & is_level[:, :, None])
    a, b, c, d = fours
    left, right, top, bottom = upright[a, c, d], upright[b, c, d], level[c, a, b], level[d, a, b]
    least = np.minimum(np.minimum(left, right), np.minimum(top, bottom))
    bent = np.abs(down.slope[a] - down.slope[b]) + np.abs(across.slope[c] - across.slope[d])
    wide = (column[None] - column[:, None]).max(axis=2) / width
    high = (row[:, None] - row[:, :, None]).max(axis=0) / height
    likelihood = least + BY_ALL * (left + right + top + bottom) - BY_SLOPE * bent
    likelihood += BY_AREA * wide[a, b] * high[c, d]
    # the last two lines of each direction are the frame's own sides
    within = (np.maximum(a, b) < len(down.at) - 2) & (np.maximum(c, d) < len(across.at) - 2)
    corners = np.array([[x[line, other], y[line, other]] for line, other in ((a, c), (b, c), (b, d), (a, d))])
    # what lies in the frame's own border is hashed anyway
    hashed = borders.find(frames).corners
    found: list[Places] = []
    for some, known, most in ((within, [], MOST_WITHIN), (~within, [hashed], MOST_AT_EDGE)):
        possible = np.flatnonzero(some & (likelihood > 0))
        ranked = possible[np.argsort(-likelihood[possible])][:TRIED]
        found += _likeliest(corners[..., ranked].transpose(2, 0, 1), [*found, *known], most, height, width)
    return found


def _likeliest(ranked: Places, before: list[Places], most: int, height: int, width: int) -> list[Places]:
    """Return the first so many quadrilaterals of a fair size that are not those found before."""

    def filled(corners: Places) -> NDArray[np.bool_]:
        mask = np.zeros((height, width), np.uint8)
        return cv2.fillConvexPoly(mask, corners.round().astype(np.int32), 1) > 0

    found: list[Places] = []
    masks = [filled(corners) for corners in before]
    for corners in ranked:
        if len(found) == most:
            break
        mask = filled(corners)
        if LEAST_AREA <= mask.mean() <= MOST_AREA and all(
            (mask & other).sum() <= SAME * (mask | other).sum() for other in masks
        ):
            found.append(corners)
            masks.append(mask)
    return found


def _between(sums: Places, place: NDArray[np.intp], inside: NDArray[np.bool_], least: float) -> Places:
    """Return how much of each line is a side, from each of the others to each further one, or -1."""
    length = place[:, None, :] - place[:, :, None]
    shares = (sums[:, None, :] - sums[:, :, None]) / np.maximum(length, 1)
    shares[(length < least) | ~(inside[:, None, :] & inside[:, :, None])] = -1
    return shares


def _fitted(steps: Sequence[Shares], corners: Places) -> Places:
    """Return the corners such that each side lies where the step, across and down, is the largest."""
    height, width = steps[0].shape
    corners = corners.copy()
    along = np.linspace(0.03, 0.97, SAMPLES)
    for reach, step in SEARCHES:
        moves = np.arange(-reach, reach + step / 2, step)
        first, last = (moved.ravel() for moved in np.meshgrid(moves, moves, indexing="ij"))
        # each side's ends, and the coordinate that they move in
        for one, other, axis in ((0, 3, 0), (1, 2, 0), (0, 1, 1), (3, 2, 1)):
            ends = corners[[one, other]]
            size = (width, height)[axis]
            at_edge = [edge for edge in (0, size) if (np.abs(ends[:, axis] - edge) < 3).all()]
            if at_edge:
                corners[[one, other], axis] = at_edge[0]
                continue
            places = (ends[:1] + (ends[1] - ends[0]) * along[:, None]) - [[0.5, 0.5]]
            moved = np.broadcast_to(places, (len(first), SAMPLES, 2)).copy()
            # a step lies between two pixels
            moved[..., axis] += 0.5 + first[:, None] * (1 - along) + last[:, None] * along
            across, down = np.moveaxis(moved.astype(np.float32), 2, 0)
            seen = cv2.remap(steps[axis], across, down, cv2.INTER_CUBIC)
            best = int((seen.mean(axis=1) - 0.003 * np.abs(first - last)).argmax())
            corners[one, axis] += first[best]
            corners[other, axis] += last[best]
    return corners


def _ridges(frames: GreyFrame, axis: int) -> Shares:
    """Return how much larger the steps at each pixel are than those around, across (0) or down (1)."""
    steps = np.zeros(frames.shape[1:], np.float32)
    inner = steps[:, 1:] if axis == 0 else steps[1:]
    for frame in frames:
        before, after = (frame[:, :-1], frame[:, 1:]) if axis == 0 else (frame[:-1], frame[1:])
        inner += np.minimum(cv2.absdiff(before, after), MOST_STEP)
    steps /= len(frames)
    near, around = ((7, 1), (9, 1)) if axis == 0 else ((1, 7), (1, 9))
    return np.asarray(cv2.GaussianBlur(steps, near, 0.9) - cv2.blur(steps, around), np.float32)


def _cut(frames: GreyFrame, corners: Places, shrunk: float) -> GreyFrame:
    """Return what the frames show between the corners, as a rectangle."""
    middle = corners.mean(axis=0)
    corners = middle + (corners - middle) * (1 - shrunk)
    sides = np.linalg.norm(np.roll(corners, -1, axis=0) - corners, axis=1)
    wide, high = sides[0] + sides[2], sides[1] + sides[3]
    scale = CUT_SIDE / max(wide, high)
    width, height = max(8, round(wide * scale)), max(8, round(high * scale))
    rectangle = np.array([[0, 0], [width, 0], [width, height], [0, height]], np.float32)
    # a pixel's middle is its place
    laid = cv2.getPerspectiveTransform((corners - 0.5).astype(np.float32), rectangle - np.float32(0.5))
    shown: list[GreyFrame] = []
    # as channels of one picture, so many share what is computed of each place
    for first in range(0, len(frames), TOGETHER):
        channels = cv2.merge(list(frames[first : first + TOGETHER]))
        shown += cv2.split(cv2.warpPerspective(channels, laid, (width, height)))  # type: ignore[arg-type]
    return np.array(shown, np.uint8)
