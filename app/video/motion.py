"""What moves in a video of itself, and what of it was shown before. Pure functions over numpy arrays.

A still picture may be shaken, zoomed into, or faded into the next one, but nothing moves in it of itself. So
a change does not count if a movement of the whole picture explains it, or a blend of two pictures.
"""

from collections.abc import Sequence
from statistics import fmean

import numpy as np
from numpy.typing import NDArray

from app.video.measures import Found, found

Frames = NDArray[np.uint8]
Picture = NDArray[np.float32]

# triples of moments that are looked at, evenly spread, and how many moments lie between those of a triple
MOST_TRIPLES = 60
SPACING = 2
# pictures are compared in a size of about so many pixels along their long side, in 8 x 8 blocks
COMPARED_SIDE = 96
BLOCKS = 8
# A block in which pixels change by this much moves (root mean square, in grey levels), where edges lie by
# more than this share of them: so far an alignment may be out.
LIVE_CHANGE = 2.5
LIVE_TEXTURE = 0.55
# in so many blocks something moves at full weight, in fewer by their share: a hand far away takes four
LIVE_BLOCKS = 4
# an explanation counts if it leaves no more than this share of the change
EXPLAINED = 0.4
# Gauss-Newton steps that align two pictures
ALIGN_STEPS = 5

# A moment was shown before if an earlier one, at least so many seconds away, differs by less than this
# share of what it differs by from the moments so many seconds around it, which it must do by some levels.
REPEAT_AWAY = 0.6
REPEAT_SHARE = 0.25
REPEAT_AROUND = 0.2
REPEAT_MOTION = 1.2
# and if its neighbours were shown before in the same order, or backwards, give or take these seconds
REPEAT_TOLERANCE = 0.1
REPEAT_RATE = 8
REPEAT_BATCH = 64


def changes(small: Frames, seconds: Sequence[float], cuts: Sequence[float]) -> list[float]:
    """Return how much changes around each moment, of 1; nothing where a shot begins."""
    around = [0.0] * len(small)
    for index in range(1, len(small) - 1):
        if not _cut_within(seconds[index - 1], seconds[index + 1], cuts):
            difference = np.abs(small[index + 1].astype(np.int16) - small[index - 1])
            around[index] = float(difference.mean()) / 255
    return around


def _cut_within(first: float, last: float, cuts: Sequence[float]) -> bool:
    return any(first < cut <= last for cut in cuts)


def frozen(small: Frames, seconds: Sequence[float], cuts: Sequence[float]) -> Found:
    """Return in how much of a video, given by its moments, nothing moves of itself."""
    triples = [
        (index - SPACING, index, index + SPACING)
        for index in range(SPACING, len(small) - SPACING)
        if not _cut_within(seconds[index - SPACING], seconds[index + SPACING], cuts)
    ]
    if not triples:
        return Found(0.0)
    chosen = np.unique(np.linspace(0, len(triples) - 1, min(MOST_TRIPLES, len(triples))).round().astype(int))
    gain = _gain(small)
    still = {}
    for number in chosen:
        pictures = [_reduced(small[index], gain) for index in triples[number]]
        still[seconds[triples[number][0]]] = 1 - min(1.0, live_blocks(*pictures) / LIVE_BLOCKS)
    return Found(fmean(still.values()), next((time for time, value in still.items() if value == 1), None))


def _gain(small: Frames) -> float:
    """Return by how much the contrast of the whole video can be stretched."""
    low, high = np.percentile(small[:: max(1, len(small) // 16), ::4, ::4], (1, 99))
    return float(np.clip(200 / max(high - low, 1), 1, 4))


def _reduced(frame: Frames, gain: float) -> Picture:
    factor = max(1, max(frame.shape) // COMPARED_SIDE)
    height, width = (side // factor for side in frame.shape)
    cut = frame[: height * factor, : width * factor].astype(np.float32)
    return cut.reshape(height, factor, width, factor).mean(axis=(1, 3)) * np.float32(gain)


def live_blocks(before: Picture, picture: Picture, after: Picture) -> int:
    """Return in how many of 64 blocks something moves of itself."""
    change = picture - before
    energy = float((change**2).mean())
    live = _levels(change) >= LIVE_CHANGE
    # the larger a part of the picture that changes, the likelier all of it does
    if np.count_nonzero(live) <= LIVE_BLOCKS:
        return int(np.count_nonzero(live))
    blended = picture - _blend(before, picture, after)
    if float((blended**2).mean()) <= EXPLAINED * energy:
        live &= _levels(blended) >= LIVE_CHANGE
    moved = _aligned(before, picture)
    rest = np.where(np.isnan(moved), 0, picture - moved).astype(np.float32)
    if float((rest**2).mean()) <= EXPLAINED * energy:
        slopes = np.hypot(*np.gradient(picture)).astype(np.float32)
        live &= _levels(rest) >= np.maximum(LIVE_CHANGE, LIVE_TEXTURE * _levels(slopes))
    return int(np.count_nonzero(live))


def _levels(difference: Picture) -> NDArray[np.float32]:
    """Return the root mean square of each block."""
    height, width = (side // BLOCKS * BLOCKS for side in difference.shape)
    squares = difference[:height, :width] ** 2
    blocks = squares.reshape(BLOCKS, height // BLOCKS, BLOCKS, width // BLOCKS)
    return np.sqrt(blocks.mean(axis=(1, 3)))


def _blend(before: Picture, picture: Picture, after: Picture) -> Picture:
    """Return the part of `picture` that is a blend of the other two, as when one fades into the other."""
    way, gone = after - before, picture - before
    share = float((way * gone).sum()) / max(float((way * way).sum()), 1e-6)
    return before + np.float32(min(max(share, 0.0), 1.0)) * way


def _aligned(before: Picture, picture: Picture) -> Picture:
    """Return `before`, moved, turned, zoomed and sheared as a whole so that it fits; NaN where it ends."""
    height, width = picture.shape
    rows, columns = np.mgrid[:height, :width].astype(np.float32)
    x, y = (columns - width / 2) / width, (rows - height / 2) / width
    down, right = _shift(before, picture)
    # shifts in pixels of x and y, each linear in place
    shift_x, shift_y = np.array([-right, 0, 0], np.float32), np.array([-down, 0, 0], np.float32)
    basis = np.stack([np.ones_like(x), x, y])
    for _ in range(ALIGN_STEPS):
        moved = _sampled(
            before, rows + np.tensordot(shift_y, basis, 1), columns + np.tensordot(shift_x, basis, 1)
        )
        slope_y, slope_x = np.gradient(moved)
        known = ~np.isnan(moved + slope_x + slope_y)
        terms = np.concatenate([basis * slope_x, basis * slope_y])[:, known]
        errors = (picture - moved)[known]
        # what moves of itself must not pull the rest along
        weights = 1 / (1 + (errors / (3 * np.median(np.abs(errors)) + 1)) ** 2) if len(errors) else errors
        normal = (terms * weights) @ terms.T + 1e-3 * np.eye(6, dtype=np.float32)
        step = np.linalg.solve(normal, (terms * weights) @ errors)
        shift_x, shift_y = shift_x + step[:3], shift_y + step[3:]
    return _sampled(before, rows + np.tensordot(shift_y, basis, 1), columns + np.tensordot(shift_x, basis, 1))


def _shift(before: Picture, picture: Picture) -> tuple[float, float]:
    """Return by how many pixels down and right `before` has to be moved to fit best (phase correlation)."""
    window = np.outer(np.hanning(before.shape[0]), np.hanning(before.shape[1]))
    one, other = (np.fft.rfft2((image - image.mean()) * window) for image in (before, picture))
    product = other * one.conj()
    peaks = np.fft.irfft2(product / (np.abs(product) + 1e-3), before.shape)
    found = np.unravel_index(int(peaks.argmax()), peaks.shape)
    down, right = (
        float(place - side if place > side // 2 else place)
        for place, side in zip(found, peaks.shape, strict=True)
    )
    return down, right


def _sampled(image: Picture, rows: Picture, columns: Picture) -> Picture:
    """Return the image at the given places, between its pixels; NaN outside."""
    height, width = image.shape
    inside = (rows >= 0) & (rows <= height - 1) & (columns >= 0) & (columns <= width - 1)
    top = np.clip(rows, 0, height - 1.001).astype(np.intp)
    left = np.clip(columns, 0, width - 1.001).astype(np.intp)
    down, right = rows - top, columns - left
    upper = image[top, left] * (1 - right) + image[top, left + 1] * right
    lower = image[top + 1, left] * (1 - right) + image[top + 1, left + 1] * right
    return np.where(inside, upper * (1 - down) + lower * down, np.nan).astype(np.float32)


def repeated(thumbnails: Frames, seconds: NDArray[np.float64]) -> Found:
    """Return how much of a video was shown before, forwards or backwards, given all frames as rows of pixels.

    What stands still is not meant. A movement that is done twice is not the same twice.
    """
    if len(seconds) < 3:
        return Found(0.0)
    frames = thumbnails.astype(np.float32)
    frames -= frames.mean()
    asked = np.unique(np.searchsorted(seconds, np.arange(seconds[0], seconds[-1], 1 / REPEAT_RATE)))
    sources = np.full(len(asked), -1)
    for first in range(0, len(asked), REPEAT_BATCH):
        batch = asked[first : first + REPEAT_BATCH]
        distances = _distances(frames[batch], frames[: batch[-1] + 1])
        for number, index in enumerate(batch, first):
            around = [
                float(_distances(frames[[index]], frames[[place]])[0, 0])
                for place in np.searchsorted(
                    seconds, seconds[index] + np.array([-REPEAT_AROUND, REPEAT_AROUND])
                )
                if place < len(seconds)
            ]
            if min(around) >= REPEAT_MOTION:
                earlier = np.searchsorted(seconds, seconds[index] - REPEAT_AWAY)
                same = np.flatnonzero(distances[number - first, :earlier] <= REPEAT_SHARE * min(around))
                sources[number] = same[-1] if len(same) else -1
    return found(_in_order(seconds[asked], sources, seconds).tolist(), seconds[asked].tolist())


def _distances(some: Picture, others: Picture) -> Picture:
    """Return the root mean square of the differences of all pairs, in grey levels."""
    squares = (some**2).sum(axis=1)[:, None] + (others**2).sum(axis=1) - 2 * some @ others.T
    return np.sqrt(np.maximum(squares, 0) / some.shape[1])


def _in_order(
    times: NDArray[np.float64], sources: NDArray[np.intp], seconds: NDArray[np.float64]
) -> NDArray[np.bool_]:
    """Return of which moments the sources follow each other as they do, or in reverse."""
    both = (sources[:-1] >= 0) & (sources[1:] >= 0)
    passed, source_passed = np.diff(times), np.diff(seconds[np.maximum(sources, 0)])
    orderly = both & (
        (np.abs(source_passed - passed) <= REPEAT_TOLERANCE)
        | (np.abs(source_passed + passed) <= REPEAT_TOLERANCE)
    )
    return np.append(orderly, False) | np.append(False, orderly)
