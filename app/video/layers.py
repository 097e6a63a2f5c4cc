"""Where a video is a still picture over which others are moved, as stickers are. Pure, over numpy arrays.

Nothing that is filmed moves like that: it turns, is lit otherwise, casts a shadow, and bends. So if all that
moves is the same to the pixel a quarter of a second later, only elsewhere, it was put there.
"""

from collections.abc import Sequence

import cv2
import numpy as np
from numpy.typing import NDArray

from app.video.measures import Found, GreyFrame, found
from app.video.motion import SPACING

Picture = NDArray[np.float32]

# the picture below is the median of so many moments
MOST_PICTURES = 31
# So many pairs are looked at first, and all of them only if enough of these are layers.
FIRST_PAIRS = 12
MOST_PAIRS = 60
# It is filmed unless this share of the pairs between which something moves are layers: a box that is pushed
# may well look like one for a while.
LEAST_SHARE = 0.7
LEAST_LAYERS = 4
# A pixel is not of the picture below if it differs by so many levels, and by so many times the noise.
LEAST_AWAY = 8.0
AWAY_NOISE = 4.0
# what takes more of the picture is no sticker, and in fewer pixels than these nothing can be told
MOST_COVERED = 0.4
LEAST_PIXELS = 60
# of all that covers the picture below, this share must be told
LEAST_TOLD = 0.8
# it moves by no more pixels, nor by fewer
FARTHEST = 40
NEAREST = 0.7
# It is the same if it differs by no more levels than these, times the noise, and this share of its slopes,
# as far as the place is known. It must have so many times as much contrast.
SMOOTH = 1.0
SAME_LEVELS = 1.2
SAME_NOISE = 0.6
SAME_SLOPES = 0.2
LEAST_CONTRAST = 3.0
# it is fitted by steps in x and y (pixels), turned (radians) and made larger, which are halved so many times
STEPS = (0.5, 0.5, 0.06, 0.06)
HALVINGS = 5
TRIES = 6
# What is not the same as it lies is looked for turned by so many steps of a whole turn.
TURNS = 24


def find(small: GreyFrame, seconds: Sequence[float], cuts: Sequence[float]) -> Found:
    """Return in how much of a video, given by its moments, all that moves is moved as a layer."""
    pairs = [
        (index - SPACING, index)
        for index in range(SPACING, len(small))
        if not any(seconds[index - SPACING] < cut <= seconds[index] for cut in cuts)
    ]
    if not pairs:
        return Found(0.0)
    some = np.linspace(0, len(small) - 1, min(MOST_PICTURES, len(small))).round().astype(int)
    below = np.median(small[some], axis=0).astype(np.float32)
    noise = 1.48 * float(np.median(np.abs(small[some] - below)))
    for most in (FIRST_PAIRS, MOST_PAIRS):
        looked_at = _spread(pairs, most)
        told = [_is_moved(small[before], small[after], below, noise) for before, after in looked_at]
        moving = [each for each in told if each is not None]
        if sum(moving) < max(LEAST_LAYERS, LEAST_SHARE * len(moving)):
            return Found(0.0)
    return found([bool(each) for each in told], [seconds[before] for before, _ in looked_at])


def _spread(pairs: Sequence[tuple[int, int]], most: int) -> list[tuple[int, int]]:
    chosen = np.linspace(0, len(pairs) - 1, min(most, len(pairs))).round().astype(int)
    return [pairs[number] for number in chosen]


def _is_moved(before: GreyFrame, after: GreyFrame, below: Picture, noise: float) -> bool | None:
    """Whether all that moves between two moments is moved as a layer; None if nothing moves."""
    if np.count_nonzero(_covered(after, before.astype(np.float32), noise)) < LEAST_PIXELS / 2:
        return None
    covered = _covered(after, below, noise)
    if not 0 < covered.mean() <= MOST_COVERED:
        return False
    count, labels, stats, _ = cv2.connectedComponentsWithStats(covered, connectivity=8)
    told = 0
    for label in range(1, count):
        area = int(stats[label, cv2.CC_STAT_AREA])
        if area < LEAST_PIXELS:
            continue
        if not _is_elsewhere(before, after, (labels == label).astype(np.uint8), noise):
            return False
        told += area
    return told >= LEAST_TOLD * int(np.count_nonzero(covered))


def _covered(frame: GreyFrame, below: Picture, noise: float) -> NDArray[np.uint8]:
    away = cv2.GaussianBlur(np.abs(frame - below), (0, 0), 0.8) > max(LEAST_AWAY, AWAY_NOISE * noise / 2)
    return np.asarray(cv2.morphologyEx(away.astype(np.uint8), cv2.MORPH_CLOSE, np.ones((5, 5), np.uint8)))


def _is_elsewhere(before: GreyFrame, after: GreyFrame, part: NDArray[np.uint8], noise: float) -> bool:
    """Whether the part of one picture is in the picture before as well, in another place."""
    inner = cv2.erode(part, np.ones((5, 5), np.uint8))
    rows, columns = np.flatnonzero(inner.any(axis=1)), np.flatnonzero(inner.any(axis=0))
    if np.count_nonzero(inner) < LEAST_PIXELS / 2 or len(rows) < 4 or len(columns) < 4:
        return False
    top, bottom, left, right = rows[0], rows[-1] + 1, columns[0], columns[-1] + 1
    mask = inner[top:bottom, left:right].astype(np.float32)
    high, low = max(0, top - FARTHEST), max(0, left - FARTHEST)
    # smooth pictures are laid on each other better
    wanted = _smoothed(after)[top:bottom, left:right]
    searched = _smoothed(before)[high : bottom + FARTHEST, low : right + FARTHEST]
    inside = mask > 0
    slopes = np.hypot(*np.gradient(wanted))[inside]
    same = max(SAME_LEVELS, SAME_NOISE * noise) + SAME_SLOPES * float(np.sqrt((slopes**2).mean()))
    if float(wanted[inside].std()) < LEAST_CONTRAST * same:
        return False
    rest, fit = _fitted(wanted, searched, inside, _found(wanted, searched, mask)[1])
    if rest > same:
        rest, fit = _fitted(wanted, searched, inside, _turned(wanted, searched, mask))
    away = np.hypot(fit[0] + low - left, fit[1] + high - top)
    reach = np.hypot(bottom - top, right - left) / 2
    return rest <= same and max(away, abs(np.sin(fit[2] / 2)) * 2 * reach) >= NEAREST


def _found(wanted: Picture, searched: Picture, mask: Picture) -> tuple[float, NDArray[np.float64]]:
    """Return by how much the wanted picture differs, as it lies, where it is most alike, and this fit."""
    distances = cv2.matchTemplate(searched, wanted, cv2.TM_SQDIFF, mask=mask)
    least, _, (x, y), _ = cv2.minMaxLoc(distances)
    return least / np.count_nonzero(mask), np.array([x, y, 0.0, 0.0])


def _turned(wanted: Picture, searched: Picture, mask: Picture) -> NDArray[np.float64]:
    """Return the fit of the wanted picture, turned, to where it is found best."""
    height, width = wanted.shape
    found = []
    for turn in np.arange(1, TURNS) * (2 * np.pi / TURNS):
        # about its middle, in its own frame: what falls out of it is left out
        matrix = cv2.getRotationMatrix2D(((width - 1) / 2, (height - 1) / 2), float(np.degrees(-turn)), 1)
        laid, within = (cv2.warpAffine(each, matrix, (width, height)) for each in (wanted, mask))
        if np.count_nonzero(within) >= np.count_nonzero(mask) / 2:
            least, fit = _found(np.asarray(laid, np.float32), searched, np.asarray(within, np.float32))
            found.append((least, fit + np.array([0, 0, turn, 0])))
    return min(found, key=lambda each: each[0])[1] if found else np.zeros(4)


def _smoothed(frame: GreyFrame) -> Picture:
    return np.asarray(cv2.GaussianBlur(frame.astype(np.float32), (0, 0), SMOOTH), np.float32)


def _fitted(
    wanted: Picture, searched: Picture, inside: NDArray[np.bool_], start: NDArray[np.float64]
) -> tuple[float, NDArray[np.float64]]:
    """Move, turn and resize until it fits best; return by how many levels it differs, and the fit.

    A fit has the place in x and y, the turn in radians, and the logarithm of the size.
    """
    height, width = wanted.shape
    middle = np.array([width / 2, height / 2])

    def rest(fit: NDArray[np.float64]) -> float:
        turn, grow = fit[2:]
        laid = np.array([[np.cos(turn), -np.sin(turn)], [np.sin(turn), np.cos(turn)]]) * np.exp(grow)
        matrix = np.column_stack([laid, fit[:2] + middle - laid @ middle])
        flags = cv2.INTER_CUBIC | cv2.WARP_INVERSE_MAP
        shown = cv2.warpAffine(
            searched, matrix, (width, height), flags=flags, borderMode=cv2.BORDER_REPLICATE
        )
        return float((wanted - shown)[inside].std())

    fit, steps = start, np.array(STEPS)
    least = rest(fit)
    for _ in range(HALVINGS):
        for _ in range(TRIES):
            tried = [fit + way * step for step in np.diag(steps) for way in (-1, 1)]
            rests = [rest(each) for each in tried]
            if min(rests) >= least:
                break
            least, fit = min(rests), tried[int(np.argmin(rests))]
        steps = steps / 2
    return least, fit
