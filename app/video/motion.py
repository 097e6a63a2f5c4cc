"""What moves in a video of itself, and what of it was shown before. Pure functions over numpy arrays.

A still picture may be shaken, zoomed into, lit otherwise, or faded into the next one, but nothing moves in it
of itself. So a change does not count if a movement of the whole picture explains it, a blend of two pictures,
or both. Noise does not count either: it changes every pixel on its own.
"""

import math
from bisect import bisect_left
from collections.abc import Sequence
from dataclasses import replace
from functools import cache, cached_property
from statistics import fmean

import cv2
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
# A block moves if its pixels change by this much (root mean square, in grey levels of a smoothed picture),
# and by this share of what the pixels of the quietest blocks change by unsmoothed: more than noise leaves.
LIVE_CHANGE = 1.0
LIVE_NOISE = 0.45
# in so many blocks something moves at full weight, in one at half
LIVE_BLOCKS = 2
# a blend of two pictures, or a movement of the whole, explains a change if it leaves no larger share of it
LEFT_BY_BLEND = 0.1
LEFT_BY_MOVE = 0.35
# so far an alignment may be out, as a share of the slopes
UNALIGNED = 0.4
# the whole picture moves if this share of the blocks that have edges changes
WHOLE = 0.7
# Who hardly moves does not move within SPACING. So where much of a video seems still, its moments are
# compared with those so many seconds away, by steps. Something moves of itself if so many blocks are left
# that differ. If that is most of the picture, it may be another one, or not aligned. Then it must differ by a
# small share of its contrast; and the picture between must be no blend of the two, but neither far from both:
# what it differs by from a blend has such a share of the energy of what they differ by.
FAR_STEPS = (0.8, 1.6, 2.5)
SEEMS_STILL = 0.5
FAR_BLOCKS = 3
FAR_MOST_BLOCKS = 22
FAR_SAME = 0.2
FAR_BETWEEN = (0.03, 0.3)
# at so many moments at least: by chance a photo is not aligned now and then
FAR_SHARE = 0.35
# levels that a sensor or a player cuts off tell nothing
CUT_OFF = (16, 235)
# Gauss-Newton steps that align two pictures: at most so many, the last moves nothing by more pixels than
# this, and each needs so many pixels in common
ALIGN_STEPS = 6
ALIGN_END = 0.02
ALIGN_PIXELS = 200
# of pictures that are aligned, every so many pixels of every so many rows are looked at
EVERY = 2
# added to what is solved, which may be of no effect at all
_STEADY = 1e-3 * np.eye(8, dtype=np.float32)
_AS_IT_IS = np.array([0, 0, 0, 0, 0, 0, 1, 0], np.float32)
# A moment was shown before if an earlier one, at least so many seconds away, differs by less than this
# share of what it differs by from the moments so many seconds around it, which it must do by some levels.
REPEAT_AWAY = 0.6
REPEAT_SHARE = 0.25
REPEAT_AROUND = 0.2
REPEAT_MOTION = 0.8
# in the pixels that change by at least this share of what the liveliest change by
REPEAT_LIVELY = 0.25
# and if its neighbours were shown before in the same order, or backwards, give or take these seconds
REPEAT_TOLERANCE = 0.1
REPEAT_RATE = 8
REPEAT_BATCH = 64
# a frame of less contrast, in grey levels, is not given that of the others: it would be noise
LEAST_CONTRAST = 4.0


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
    middles = [
        index
        for index in range(SPACING, len(small) - SPACING)
        if not _cut_within(seconds[index - SPACING], seconds[index + SPACING], cuts)
    ]
    if not middles:
        return Found(0.0)
    chosen = np.linspace(0, len(middles) - 1, min(MOST_TRIPLES, len(middles))).round().astype(int)
    places = [middles[number] for number in np.unique(chosen)]
    eye = _Eye(small, places)
    live = [eye.live_blocks(*small[index - SPACING : index + SPACING + 1 : SPACING]) for index in places]
    weights = [min(1.0, count / LIVE_BLOCKS) for count in live]
    if fmean(weights) < SEEMS_STILL:
        slowly = [float(_moves_slowly(eye, small, seconds, index, cuts)) for index in places]
        if fmean(slowly) >= FAR_SHARE:
            weights = [max(pair) for pair in zip(weights, slowly, strict=True)]
    still = found([not weight for weight in weights], [seconds[index - SPACING] for index in places])
    return replace(still, share=1 - fmean(weights))


def _moves_slowly(
    eye: "_Eye", small: Frames, seconds: Sequence[float], index: int, cuts: Sequence[float]
) -> bool:
    """Whether something of the picture at `index` has moved of itself some seconds earlier, or later."""
    for way in (-1, 1):
        times = [seconds[index] + way * step for step in FAR_STEPS]
        if times[-1] < seconds[0] or times[-1] > seconds[-1]:
            continue
        if not _cut_within(min(seconds[index], times[-1]), max(seconds[index], times[-1]), cuts):
            steps = [small[min(bisect_left(seconds, time), len(small) - 1)] for time in times]
            return eye.has_moved(small[index], steps)
    return False


class _Eye:
    """Looks at the pictures of one video, given by its moments, at those `places` of them."""

    def __init__(self, small: Frames, places: Sequence[int]):
        low, high = np.percentile(small[:: max(1, len(small) // 16), ::4, ::4], (1, 99))
        # by how much the contrast of the whole video can be stretched
        self._gain = np.float32(np.clip(200 / max(high - low, 1), 1, 4))
        self._factor = max(1, max(small.shape[1:]) // COMPARED_SIDE)
        pairs = ((small[index - SPACING].astype(np.float32), small[index]) for index in places)
        noise = self._gain * np.percentile([_levels(picture - before) for before, picture in pairs], 10)
        self._least = max(LIVE_CHANGE, LIVE_NOISE * float(noise))

    def live_blocks(self, *frames: Frames) -> int:
        """Return in how many of 64 blocks of the second of three frames something moves of itself."""
        before, picture, after = (self._reduced(frame) for frame in frames)
        change = picture - before
        live = _levels(change) >= self._least
        if not live.any():
            return 0
        energy = float((change**2).mean())
        blended = picture - _blend(before, picture, after)
        if float((blended**2).mean()) <= LEFT_BY_BLEND * energy:
            live &= _levels(blended) >= self._least
        target = _Target(picture)
        if not live.any() or not self._is_whole(change, target):
            return int(np.count_nonzero(live))
        moved = _aligned(before, target)
        for explained in (lambda: moved, lambda: _blend(moved, picture, _aligned(after, target))):
            rest = _filled(picture - explained())
            if float((rest**2).mean()) <= LEFT_BY_MOVE * energy:
                live &= _levels(rest) >= self._unaligned(target)
            if not live.any():
                break
        return int(np.count_nonzero(live))

    def has_moved(self, frame: Frames, steps: Sequence[Frames]) -> bool:
        """Whether the last of `steps` differs from a frame by more than a movement of the whole picture.

        The steps lead away from the frame in time, since pictures far apart are aligned by those between.
        """
        picture = self._reduced(frame)
        target = _Target(picture)
        fits: list[Picture] = []
        others = [self._reduced(step) for step in steps]
        for other in others:
            # as the step before, or on at the same speed
            near = [fits[-1], 2 * fits[-1] - fits[-2]] if fits else []
            fits = [*(fits or [_AS_IT_IS]), _fit(other, target, near)]
        between, last = (
            fit[6] * self._told(_moved(other, fit)) + fit[7]
            for other, fit in zip(others[-2:], fits[-2:], strict=True)
        )
        rest = self._told(picture) - last
        told = ~np.isnan(rest)
        # a picture that was made larger lacks what is fine in it
        calm = _smoothed(np.where(told, rest, 0).astype(np.float32))
        calm[_smoothed(told.astype(np.float32)) < 1] = 0
        left = np.count_nonzero(_levels(calm) >= self._unaligned(target))
        if left <= FAR_MOST_BLOCKS:
            return bool(left >= FAR_BLOCKS)
        energy = float(np.nanmean(rest**2))
        bent = float(np.nanmean((between - _blend(picture, between, last)) ** 2))
        return bool(
            energy <= FAR_SAME**2 * picture.var() and FAR_BETWEEN[0] <= bent / energy <= FAR_BETWEEN[1]
        )

    def _told(self, picture: Picture) -> Picture:
        """Return the picture, NaN where it is cut off."""
        low, high = (np.float32(level) * self._gain for level in CUT_OFF)
        return np.where((picture > low) & (picture < high), picture, np.nan).astype(np.float32)

    def _reduced(self, frame: Frames) -> Picture:
        height, width = (side // self._factor for side in frame.shape)
        total = np.zeros((height, width), np.float32)
        for down, across in np.ndindex(self._factor, self._factor):
            total += frame[down :: self._factor, across :: self._factor][:height, :width]
        total /= self._factor**2
        total *= self._gain
        # smooth pictures are aligned better, and have less noise
        return _smoothed(total)

    def _unaligned(self, target: "_Target") -> Picture:
        """Return by how much each block may differ though it is the same."""
        return np.maximum(np.float32(self._least), UNALIGNED * target.slopes)

    def _is_whole(self, change: Picture, target: "_Target") -> bool:
        """Whether the picture changes wherever it could, and not just in a part."""
        told = target.slopes >= self._least
        moves = told & (_levels(change) >= self._least / 2)
        return bool(np.count_nonzero(moves) >= WHOLE * np.count_nonzero(told))


class _Target:
    """A picture that others are aligned with, and what is computed of it for that, once."""

    def __init__(self, picture: Picture):
        self.picture = picture
        self.points = picture[::EVERY, ::EVERY].ravel()

    @cached_property
    def _gradient(self) -> tuple[Picture, Picture]:
        """By how much it rises down and across."""
        return _rise(self.picture), np.ascontiguousarray(_rise(self.picture.T).T)

    @cached_property
    def slopes(self) -> Picture:
        """How steep each block is."""
        return _levels(np.hypot(*self._gradient).astype(np.float32))

    @cached_property
    def terms(self) -> Picture:
        """By how much each of the points changes with each of the numbers that move the picture."""
        basis = _grid(self.picture.shape, EVERY)[2]
        down, across = (rise[::EVERY, ::EVERY].ravel() for rise in self._gradient)
        return np.concatenate([basis * across, basis * down])

    @cached_property
    def spectrum(self) -> NDArray[np.complex128]:
        return _spectrum(self.picture)


def _smoothed(picture: Picture) -> Picture:
    padded = cv2.copyMakeBorder(picture, 1, 1, 1, 1, cv2.BORDER_REPLICATE)
    across = padded[:, :-2] + 2 * padded[:, 1:-1] + padded[:, 2:]
    return np.asarray((across[:-2] + 2 * across[1:-1] + across[2:]) / np.float32(16), np.float32)


def _rise(picture: Picture) -> Picture:
    """Return by how much the picture rises from row to row, in the middle of each two."""
    rise = np.empty_like(picture)
    rise[1:-1] = (picture[2:] - picture[:-2]) / 2
    rise[0], rise[-1] = picture[1] - picture[0], picture[-1] - picture[-2]
    return rise


def _filled(picture: Picture) -> Picture:
    """Return the picture, 0 where it is NaN."""
    return np.where(np.isnan(picture), np.float32(0), picture)


def _levels(difference: Picture) -> Picture:
    """Return the root mean square of each block."""
    height, width = (side // BLOCKS * BLOCKS for side in difference.shape)
    squares = difference[:height, :width] ** 2
    blocks = squares.reshape(BLOCKS, height // BLOCKS, BLOCKS, width // BLOCKS)
    return np.sqrt(blocks.mean(axis=(1, 3)))


def _blend(before: Picture, picture: Picture, after: Picture) -> Picture:
    """Return the part of `picture` that is a blend of the other two, as when one fades into the other."""
    way, gone = _filled(after - before), _filled(picture - before)
    share = float((way * gone).sum()) / max(float((way * way).sum()), 1e-6)
    return before + np.float32(min(max(share, 0.0), 1.0)) * (after - before)


def _aligned(other: Picture, target: _Target) -> Picture:
    """Return `other` moved, turned, zoomed, sheared and lit as a whole so that it fits; NaN where it ends."""
    fit = _fit(other, target)
    return fit[6] * _moved(other, fit) + fit[7]


def _fit(other: Picture, target: _Target, near: Sequence[Picture] = ()) -> Picture:
    """Return how `other` has to be moved to fit: from where it fits by a shift, or from one `near` that.

    Six numbers say by how many pixels to the right and down, each linear in place; two are contrast and
    brightness.
    """
    down, right = _shift(other, target)
    fit = np.array([-right, 0, 0, -down, 0, 0, 1, 0], np.float32)
    if near:
        fit = min([fit, *near], key=lambda each: _misfit(other, target, each)).copy()
    for _ in range(ALIGN_STEPS):
        values = _moved(other, fit, EVERY).ravel()
        known = np.flatnonzero(~np.isnan(values))
        if len(known) < ALIGN_PIXELS:
            break
        values = values[known]
        errors = target.points[known] - fit[6] * values - fit[7]
        # what moves of itself must not pull the rest along
        weights = 1 / (1 + (errors / (3 * np.median(np.abs(errors)) + 1)) ** 2)
        terms = np.ones((8, len(known)), np.float32)
        terms[:6] = target.terms.take(known, axis=1)
        terms[6] = values
        weighted = terms * weights
        step = np.linalg.solve(weighted @ terms.T + _STEADY, weighted @ errors)
        fit += step
        if np.abs(step[:6]).max() < ALIGN_END:
            break
    return fit


def _misfit(other: Picture, target: _Target, fit: Picture) -> float:
    rest = np.abs(target.points - fit[6] * _moved(other, fit, EVERY).ravel() - fit[7])
    return math.inf if np.isnan(rest).all() else float(np.nanmedian(rest))


@cache
def _grid(shape: tuple[int, int], every: int) -> tuple[Picture, Picture, Picture]:
    """Return the rows and columns of every so many pixels, and of what linear changes are made there.

    That is 1, across and down, each a row of numbers.
    """
    height, width = shape
    rows, columns = (each[::every, ::every].ravel() for each in np.mgrid[:height, :width].astype(np.float32))
    return (
        rows,
        columns,
        np.stack([np.ones_like(rows), (columns - width / 2) / width, (rows - height / 2) / height]),
    )


def _moved(other: Picture, fit: Picture, every: int = 1) -> Picture:
    """Return every so many pixels of `other`, moved as `fit` says, of its own contrast; NaN where it ends."""
    rows, columns, basis = _grid(other.shape, every)
    across, down = fit[:6].reshape(2, 3) @ basis
    height, width = (-(-side // every) for side in other.shape)
    return _sampled(other, rows + down, columns + across).reshape(height, width)


def _shift(before: Picture, target: _Target) -> tuple[float, float]:
    """Return by how many pixels down and right `before` has to be moved to fit best (phase correlation)."""
    product = target.spectrum * _spectrum(before).conj()
    peaks = np.fft.irfft2(product / (np.abs(product) + 1e-3), before.shape)
    found = np.unravel_index(int(peaks.argmax()), peaks.shape)
    down, right = (
        float(place - side if place > side // 2 else place)
        for place, side in zip(found, peaks.shape, strict=True)
    )
    return down, right


def _spectrum(picture: Picture) -> NDArray[np.complex128]:
    return np.fft.rfft2((picture - picture.mean()) * _window(picture.shape))


@cache
def _window(shape: tuple[int, int]) -> NDArray[np.float64]:
    """Return by how much each pixel counts, so that the edges of a picture are none."""
    return np.outer(np.hanning(shape[0]), np.hanning(shape[1]))


def _sampled(image: Picture, rows: Picture, columns: Picture) -> Picture:
    """Return the image at the given places, between its pixels; NaN outside."""
    height, width = image.shape
    outside = (rows < 0) | (rows > height - 1) | (columns < 0) | (columns > width - 1)
    top = np.minimum(np.maximum(rows, 0), height - 1.001).astype(np.intp)
    left = np.minimum(np.maximum(columns, 0), width - 1.001).astype(np.intp)
    down, right = rows - top, columns - left
    pixels = image.ravel()
    at = top * width + left
    upper = pixels.take(at) * (1 - right) + pixels.take(at + 1) * right
    at += width
    lower = pixels.take(at) * (1 - right) + pixels.take(at + 1) * right
    sampled = (upper * (1 - down) + lower * down).astype(np.float32)
    sampled[outside] = np.nan
    return sampled


def repeated(thumbnails: Frames, seconds: NDArray[np.float64]) -> Found:
    """Return how much of a video was shown before, forwards or backwards, given all frames as rows of pixels.

    What stands still is not meant. A movement that is done twice is not the same twice.
    """
    if len(seconds) < 3:
        return Found(0.0)
    frames = _lit_alike(thumbnails[:, _lively(thumbnails, seconds)].astype(np.float32))
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


def _lively(thumbnails: Frames, seconds: NDArray[np.float64]) -> NDArray[np.bool_]:
    """Return the pixels in which most changes: where all stands still, everything was shown before."""
    later = np.searchsorted(seconds, seconds + REPEAT_AROUND)
    first = np.flatnonzero(later < len(seconds))[:: max(1, len(seconds) // 500)]
    changes = np.abs(thumbnails[later[first]].astype(np.int16) - thumbnails[first]).mean(axis=0)
    return np.asarray(changes >= REPEAT_LIVELY * np.percentile(changes, 98))


def _lit_alike(frames: Picture) -> Picture:
    """Return frames, as rows of pixels, all of one brightness and contrast: a loop may be lit otherwise."""
    frames -= frames.mean(axis=1, keepdims=True)
    contrasts = frames.std(axis=1, keepdims=True)
    frames *= contrasts.mean() / np.maximum(contrasts, LEAST_CONTRAST)
    return frames


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
