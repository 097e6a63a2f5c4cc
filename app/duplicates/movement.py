"""Do two videos show the same though little moves in them? Pure, over their glances.

Before a fixed camera nearly all of a picture is the same in every take. So the pictures of one video are laid
on the mean picture of the other, each as exactly as can be, and what stands still is taken away from both.
What is left must agree at the same moments, and better than at all others: a copy does so moment by moment,
another take only now and then.
"""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

import cv2
import numpy as np
from numpy.typing import NDArray

from app.duplicates.matching import Span

# what is broader than so many pixels of a glance is light, not movement
BROAD = 3.0
# what is slower than so many seconds is too: two takes may drift alike
SLOW = 1.0
# of a video so many glances are laid on another's
MAX_LAID = 120
# each is moved so often to lie better, first blurred by so many pixels; by so many pixels at once
STEPS = 3
COARSE = 2.0
MAX_STEP = 2.5
# What moves in a glance pulls it away. So first all are moved alike, by what so many of them
# say; then evenly in time, as in a picture that is zoomed; at last each for itself, as in one that shakes.
DEGREES = (0, 1, None)
TRACKED = 16
# if the mean pictures then correlate by less than this, one does not lie on the other
LEAST_ALIKE = 0.3
# if fewer than half of them then lie so many pixels off, nothing shakes
LEAST_UNREST = 0.25
# What a mark covers is found in so many steps, and is this many times as far from the other video as most of
# the picture is.
MARK_STEPS = 15
MARK = 4
# what moves at the most must do so by as many grey levels, or it is the rounding of numbers
LEAST_MOVE = 1e-3
# so many pixels must lie on the other picture
LEAST_PIXELS = 60
# moments as far apart are other moments, in seconds
ELSEWHERE_SECONDS = 1.0
# speeds of a copy that are looked for, and the steps in which it may be shifted, in seconds
SPEEDS = (1.0, 0.95, 1.05)
SHIFT = 0.125
# and not more steps than these: they are larger if somebody says that his film lasts for hours
MOST_SHIFTS = 5000
# Moments agree by so many standard deviations better than others. Below the first a span ends; the mean of a
# span must be the second, and the less a span is long the more: the third, by the root of its seconds. No
# moment counts more than the fourth. So many moments tell a span.
ENDING_EXCESS = 0.6
LEAST_EXCESS = 1.2
SURE_EXCESS = 4.2
MOST_EXCESS = 4.0
LEAST_MOMENTS = 9
# A span lasts so many seconds, or is this share of the video. An arm that leaves its home is one event that
# many takes share, but it shows in what moves for some four seconds.
LEAST_SECONDS = 4.4
WHOLE_SHARE = 0.9
# Who stirs in a pot does the same every second. So moved by up to so many seconds, half of it still in the
# video, a span must agree less well than this share of how it agrees in its place.
REPEATED_SECONDS = 12.0
REPEATED_SHARE = 0.7
# In another take something agrees now and then, in a copy all the time. So at full speed, if such a share of
# a video agrees, for LEAST_SECONDS at least, the second does instead of SURE_EXCESS. Then each third of the
# span must agree by the third number, and by this share of how it does where it is moved by some tenths of a
# second: nobody does a thing twice at quite the same pace. Elsewhere the span must agree by less than the
# last share.
EVEN_SHARE = 0.8
EVEN_EXCESS = 3.7
EVEN_THIRD = 0.6
PACE_SHARE = 0.8
PACE_SECONDS = 0.75
EVEN_REPEATED_SHARE = 0.35
# the camera stands still if half of the picture changes by less than this share of its contrast
STILL = 0.25

Picture = NDArray[np.float32]
Pictures = NDArray[np.float32]
Mask = NDArray[np.bool_]
# what moves in two videos, as pixels (n x p), with their rows and columns (2 x p)
_Residuals = tuple[Pictures, Pictures, NDArray[np.intp]]


def moving(pictures: Pictures, inside: Mask | None = None) -> float:
    """Return by how much of its contrast half of a video changes, or half of what is `inside` of it.

    That is less than STILL before a fixed camera.
    """
    if inside is None:
        inside = np.ones(pictures.shape[1:], bool)
    fine = _fine(_blurred(pictures, 0.5), inside, BROAD)[:, inside]
    return float(np.median(fine.std(axis=0)) / max(float(fine.mean(axis=0).std()), 1e-6))


def match(
    mine: Pictures,
    seconds: NDArray[np.float32],
    its: Pictures,
    its_seconds: NDArray[np.float32],
    placements: Sequence[NDArray[np.float64]],
) -> Span | None:
    """Find the span of a video that another one shows too, by what moves in it.

    Given are the glances of both, and how those of the first may lie on those of the second, about.
    """
    if len(mine) > MAX_LAID:
        kept = np.linspace(0, len(mine) - 1, MAX_LAID).round().astype(int)
        mine, seconds = mine[kept], seconds[kept]
    best: Span | None = None
    tried: list[NDArray[np.floating]] = []
    for laid in placements:
        inside = _reached(mine, laid[None], its.shape[1:])
        if inside.sum() < LEAST_PIXELS:
            continue
        overlay = _Overlay(mine, seconds, its, its_seconds, laid, inside)
        for degree in DEGREES:
            if degree is None and overlay.unrest < LEAST_UNREST:
                break
            residuals = overlay.residuals(degree)
            if degree == 0:
                corners = overlay.corners()
                if overlay.alike < LEAST_ALIKE or any(np.abs(corners - each).max() < 1 for each in tried):
                    break
                tried.append(corners)
            span = _told(residuals, seconds, its_seconds)
            if span:
                if best is None or span.end - span.start > best.end - best.start:
                    best = span
                break
    return best


def _told(
    residuals: _Residuals, seconds: NDArray[np.float32], its_seconds: NDArray[np.float32]
) -> Span | None:
    """Return the span in which both move alike so that it is no chance."""
    if min(np.abs(each).max() for each in residuals[:2]) < LEAST_MOVE:
        return None
    parts = [_excess(each, seconds, its_seconds) for each in _agreements(*residuals)]
    excess = np.mean(parts, axis=0)
    for speeds, is_told in ((SPEEDS, _is_sure), (SPEEDS[:1], _is_even)):
        run = _best_run(excess, seconds, its_seconds, speeds)
        if run is None or len(run.seconds) < LEAST_MOMENTS:
            continue
        span = _span_of(run, seconds, its_seconds)
        length = len(run.seconds) * float(np.median(np.diff(its_seconds)))
        share = (span.end - span.start) / max(float(seconds[-1] - seconds[0]), 1e-3)
        if is_told(run, length, share, excess, seconds):
            return span
    return None


class _Overlay:
    """The glances of one video, laid on the mean picture of another ever better."""

    def __init__(
        self,
        mine: Pictures,
        seconds: NDArray[np.float32],
        its: Pictures,
        its_seconds: NDArray[np.float32],
        laid: NDArray[np.float64],
        inside: Mask,
    ) -> None:
        scale = _scale(laid, its.shape[2], its.shape[1])
        # both as sharp as the coarser of the two
        self.its = _blurred(its, max(0.5, 0.45 * max(0.0, scale**2 - 0.6) ** 0.5))
        self.mine = _blurred(mine, 0.45 * max(0.0, scale**-2 - 0.6) ** 0.5)
        self.seconds, self.its_seconds = seconds, its_seconds
        self.mean = self.its.mean(axis=0)
        self.laid = self.placements = np.repeat(laid[None], len(mine), axis=0)
        self.alike, self.unrest = 0.0, 0.0
        self.inside = inside
        shown = self.warped(np.arange(len(mine))).mean(axis=0)
        self.inside = _without(inside, _marked(shown, self.its, inside))

    def warped(self, which: NDArray[np.intp]) -> Pictures:
        height, width = self.its.shape[1:]
        return _warped(self.mine[which], self.placements[which], (width, height))

    def residuals(self, degree: int | None) -> _Residuals:
        """Return what moves in both, once each glance lies as well as it can.

        How they lie changes with time as a polynomial of this degree says, or as each glance does for itself.
        """
        inside, mean = self.inside, self.mean
        looked_at, smooth = self._track(degree)
        if smooth is None:
            self.placements = self.laid
        for coarse, broad in ((COARSE, 2 * BROAD), (0.0, BROAD)):
            fit = _Fit(_blurred(mean[None], coarse), self.its, inside, broad)
            for step in range(STEPS + 1):
                # a mark beside what is compared must not be blurred into it
                laid_on = np.where(inside, self.warped(looked_at), mean)
                pixels = fit.pixels(_blurred(laid_on, coarse))
                if step < STEPS:
                    steps = fit.steps(pixels)
                    self.placements = fit.moved(self.placements, steps if smooth is None else smooth @ steps)
            if degree:
                inside = _without(inside, ~_reached(self.mine, self.placements[[0, -1]], inside.shape))
            inside = _without(inside, fit.covered(pixels))
        self.alike = fit.alike(pixels)
        if smooth is not None:
            steps = fit.steps(pixels)[:, :2]
            self.unrest = float(np.median(np.linalg.norm(steps - smooth[looked_at] @ steps, axis=1)))
        fit = _Fit(mean[None], self.its, inside, BROAD)
        moving = (
            _quick(fit.without_mean(fit.pixels(pictures)), times)
            for pictures, times in (
                (self.warped(np.arange(len(self.mine))), self.seconds),
                (self.its, self.its_seconds),
            )
        )
        one, other = (each[:, inside.reshape(-1)] for each in moving)
        return one, other, np.array(np.nonzero(inside))

    def corners(self) -> NDArray[np.floating]:
        """Where the corners of the first glance lie."""
        height, width = self.mine.shape[1:]
        corners = np.array([[[0, 0], [width, 0], [width, height], [0, height]]], np.float64)
        laid: NDArray[np.floating] = cv2.perspectiveTransform(corners, self.placements[0])[0]
        return laid

    def _track(self, degree: int | None) -> tuple[NDArray[np.intp], NDArray[np.float64] | None]:
        """Which glances tell how all move, and the matrix that says so."""
        every = np.arange(len(self.mine))
        if degree is None:
            return every, None
        few = np.unique(np.linspace(0, len(every) - 1, min(len(every), TRACKED)).round().astype(int))
        middle, half = (self.seconds[0] + self.seconds[-1]) / 2, (self.seconds[-1] - self.seconds[0]) / 2
        powers = np.vander((self.seconds - middle) / max(half, 1e-3), degree + 1).astype(np.float64)
        return few, powers @ np.linalg.pinv(powers[few])


def _reached(pictures: Pictures, placements: NDArray[np.float64], shape: Sequence[int]) -> Mask:
    """Where pictures lie in all of these placements, without a margin, on a picture of this shape."""
    height, width = shape
    margin = 2 * int(np.ceil(max(_scale(placements[0], width, height), 1.0))) + 1
    whole = np.ones((len(placements), *pictures.shape[1:]), np.uint8)
    reached = [
        cv2.warpPerspective(each, placement, (width, height), flags=cv2.INTER_NEAREST)
        for each, placement in zip(whole, placements, strict=True)
    ]
    eroded = cv2.erode(np.min(reached, axis=0), np.ones((margin, margin), np.uint8), borderValue=1)
    return eroded.astype(bool)


class _Fit:
    """How pictures differ from a mean picture by place, size, turn, contrast and light."""

    def __init__(self, mean: Pictures, its: Pictures, inside: Mask, broad: float) -> None:
        self.inside, self.broad = inside, broad
        self.shape = inside.shape
        height, width = self.shape
        picture = _fine(mean, inside, broad)[0]
        down, across = np.gradient(picture)
        y, x = np.mgrid[:height, :width]
        # in half the side of a glance from the centre
        self.unit = max(height, width) / 2
        y, x = (y - height / 2) / self.unit, (x - width / 2) / self.unit
        parts = (across, down, across * x, across * y, down * x, down * y, picture, picture * x, picture * y)
        self.parts = (np.stack([part.reshape(-1) for part in parts], 1) * inside.reshape(-1, 1)).astype(
            np.float32
        )
        # what moves says nothing of where a picture lies
        varies = _fine(its, inside, broad).var(axis=0)
        weights = (inside / (varies + np.median(varies[inside]) + 1)).reshape(-1, 1)
        normal = (self.parts * weights).T @ self.parts
        normal += np.diag(1e-4 * np.diag(normal) + 1e-9)
        self.solution = np.linalg.solve(normal, (self.parts * weights).T).astype(np.float32)

    def pixels(self, pictures: Pictures) -> Pictures:
        return _fine(pictures, self.inside, self.broad).reshape(len(pictures), -1)

    def steps(self, pixels: Pictures) -> NDArray[np.float64]:
        """Return what brings each picture nearer to the mean: its shift, and how it is turned and sized."""
        found = (self.solution @ pixels.T).T.astype(np.float64)
        contrast = found[:, 6]
        seen = contrast > 0.1
        steps = np.zeros((len(found), 6))
        steps[seen] = np.clip(found[seen, :6] / contrast[seen, None], -MAX_STEP, MAX_STEP)
        return steps

    def moved(self, placements: NDArray[np.float64], steps: NDArray[np.float64]) -> NDArray[np.float64]:
        """Return the placements, each moved by a step."""
        moves = np.repeat(np.eye(3)[None], len(steps), axis=0)
        moves[:, :2, 2] = steps[:, :2]
        moves[:, :2, :2] += steps[:, 2:].reshape(-1, 2, 2) / self.unit
        height, width = self.shape
        to_centre = np.array([[1, 0, -width / 2], [0, 1, -height / 2], [0, 0, 1.0]])
        centred: NDArray[np.float64] = np.linalg.inv(to_centre) @ moves @ to_centre @ placements
        return centred

    def without_mean(self, pixels: Pictures) -> Pictures:
        return np.asarray(pixels - (self.solution @ pixels.T).T @ self.parts.T, np.float32)

    def alike(self, pixels: Pictures) -> float:
        """Return how the mean of the pictures correlates with the mean picture of the other video."""
        inside = self.inside.reshape(-1)
        shown, known = (
            each[inside] - each[inside].mean() for each in (pixels.mean(axis=0), self.parts[:, 6])
        )
        return float(shown @ known / max(float(np.linalg.norm(shown) * np.linalg.norm(known)), 1e-6))

    def covered(self, pixels: Pictures) -> Mask:
        """Where the pictures never show what the mean shows: marks, borders."""
        differs = np.abs(self.without_mean(pixels).mean(axis=0)).reshape(self.shape)
        far = (differs > 4 * np.median(differs[self.inside]) + 2) & self.inside
        return _widened(far)


def _marked(shown: Picture, its: Pictures, inside: Mask) -> Mask:
    """Where a picture shows something else than the other video: a mark, a border.

    Found before anything is moved, as a sticker pulls the pictures to where they do not lie. The picture may
    differ in contrast, light and a little in its place. So it is fitted, by what most pixels agree on.
    """
    picture, seen = (cv2.GaussianBlur(each, (0, 0), 0.7) for each in (its.mean(axis=0), shown))
    down, across = np.gradient(picture)
    y, x = np.mgrid[: picture.shape[0], : picture.shape[1]] / max(picture.shape) - 0.5
    moves = (across, down, across * x, across * y, down * x, down * y)
    parts = np.stack([picture, np.ones_like(picture), x, y, *moves], axis=-1)[inside].astype(np.float64)
    varies = its.var(axis=0)[inside]
    weights = 1 / (varies + np.median(varies) + 1)
    trust = np.ones_like(weights)
    for _ in range(MARK_STEPS):
        weighed = parts * (weights * trust)[:, None]
        normal = weighed.T @ parts
        normal += np.diag(1e-6 * np.diag(normal) + 1e-9)
        differs = np.abs(seen[inside] - parts @ np.linalg.solve(normal, weighed.T @ seen[inside]))
        usual = 1.5 * np.median(differs) + 0.5
        trust = 1 / (1 + (differs / usual) ** 2)
    far = np.zeros(inside.shape, bool)
    far[inside] = differs > MARK * usual
    # thin lines are edges that are not in their place yet
    opened = cv2.morphologyEx(far.astype(np.uint8), cv2.MORPH_OPEN, np.ones((2, 2), np.uint8))
    return _widened(opened.astype(bool))


def _widened(mask: Mask) -> Mask:
    return cv2.dilate(mask.astype(np.uint8), np.ones((3, 3), np.uint8)).astype(bool)


def _without(inside: Mask, covered: Mask) -> Mask:
    """Return what is inside and not covered; all of it, if too little would be left."""
    left = inside & ~covered
    return left if left.sum() >= LEAST_PIXELS else inside


def _scale(laid: NDArray[np.float64], width: int, height: int) -> float:
    """Return the size of a pixel of the one, in pixels at the middle of the other."""
    middle = cv2.perspectiveTransform(np.array([[[width / 2, height / 2]]]), np.linalg.inv(laid))[0, 0]
    around = cv2.perspectiveTransform((middle + np.array([[0, 0], [1, 0], [0, 1]]))[None], laid)[0]
    area = abs(np.linalg.det(around[1:] - around[0]))
    return float(np.clip(area**0.5, 0.1, 10.0))


def _warped(pictures: Pictures, placements: NDArray[np.float64], size: tuple[int, int]) -> Pictures:
    return np.array(
        [
            cv2.warpPerspective(picture, placement, size, borderMode=cv2.BORDER_REPLICATE)
            for picture, placement in zip(pictures, placements, strict=True)
        ],
        np.float32,
    )


def _blurred(pictures: Pictures, by: float) -> Pictures:
    if by < 0.05:
        return pictures
    return np.array([cv2.GaussianBlur(picture, (0, 0), by) for picture in pictures], np.float32)


def _fine(pictures: Pictures, inside: Mask, broad: float) -> Pictures:
    """Return pictures without what is broad in them, and 0 where nothing is compared."""
    weights = cv2.GaussianBlur(inside.astype(np.float32), (0, 0), broad) + np.float32(1e-3)
    within = pictures * inside
    return (within - _blurred(within, broad) / weights) * inside


def _quick(pixels: Pictures, seconds: NDArray[np.float32]) -> Pictures:
    """Return pixels without what stays, or changes slowly."""
    pixels = pixels - pixels.mean(axis=0)
    near = np.exp(-((seconds[:, None] - seconds) ** 2) / np.float32(2 * SLOW**2))
    smooth: Pictures = pixels - (near / near.sum(axis=1, keepdims=True)) @ pixels
    return smooth


def _agreements(mine: Pictures, its: Pictures, places: NDArray[np.intp]) -> list[Pictures]:
    """Return how well all pairs of moments agree, from -1 to 1, in each of four parts of the picture.

    What moves in both counts, however little, and as much of it lies in each part. Given are the pixels, and
    their rows and columns.
    """
    moves = [pixels.std(axis=0) for pixels in (mine, its)]
    noise = [each + np.median(each) + np.float32(0.02) for each in moves]
    both = np.sqrt(moves[0] / noise[0] * moves[1] / noise[1])
    one, other = (pixels * (both / level) for pixels, level in zip((mine, its), noise, strict=True))
    agreements = []
    for part in _parts(both**4, places):
        lengths = [np.linalg.norm(each[:, part], axis=1, keepdims=True) for each in (one, other)]
        product = one[:, part] @ other[:, part].T
        agreements.append(product / np.maximum(lengths[0] * lengths[1].T, 1e-6))
    return agreements


def _parts(counts: Pictures, places: NDArray[np.intp]) -> list[NDArray[np.intp]]:
    """Split pixels into four parts that count as much: left and right, and each of them above and below."""

    def halves(pixels: NDArray[np.intp], axis: int) -> list[NDArray[np.intp]]:
        ordered = pixels[np.argsort(places[axis, pixels], kind="stable")]
        if not len(ordered):
            return [ordered, ordered]
        sums = np.cumsum(counts[ordered])
        return np.split(ordered, [int(np.searchsorted(sums, sums[-1] / 2))])

    return [part for half in halves(np.arange(len(counts)), 1) for part in halves(half, 0)]


def _excess(agreement: Pictures, seconds: NDArray[np.float32], its_seconds: NDArray[np.float32]) -> Pictures:
    """Return by how many standard deviations each pair of moments agrees better than others of either do."""
    far, its_far = (
        (np.abs(times[:, None] - times) > ELSEWHERE_SECONDS).astype(np.float32)
        for times in (seconds, its_seconds)
    )
    others = np.maximum(far.sum(axis=1)[:, None] + its_far.sum(axis=1), 1)
    mean = (far @ agreement + agreement @ its_far) / others
    square = (far @ agreement**2 + agreement**2 @ its_far) / others
    deviation = np.sqrt(np.maximum(square - mean**2, 1e-6))
    excess: Pictures = np.minimum((agreement - mean) / deviation, MOST_EXCESS)
    return excess


@dataclass(frozen=True)
class _Run:
    """Moments of the other video, where they are in this one, and the mean of their excess."""

    speed: float
    moments: NDArray[np.intp]
    seconds: NDArray[np.floating]
    excess: float


def _best_run(
    excess: Pictures,
    seconds: NDArray[np.float32],
    its_seconds: NDArray[np.float32],
    speeds: Sequence[float],
) -> _Run | None:
    """Find the run of moments on a line of one of the speeds in which most agree."""
    tolerance = max(SHIFT, float(np.median(np.diff(seconds))) / 2) + 0.01
    columns = np.arange(len(its_seconds))
    best, found = 0.0, None
    for speed in speeds:
        first = float(its_seconds[0] - speed * seconds[-1])
        reach = float(its_seconds[-1] - speed * seconds[0]) - first
        if reach <= 0:
            break
        shifts = np.arange(first, first + reach, max(SHIFT, reach / MOST_SHIFTS))
        places = (its_seconds - shifts[:, None]) / speed
        rows = nearest(seconds, places)
        shown = np.abs(seconds[rows] - places) <= tolerance
        gains = np.where(shown, excess[rows, columns] - ENDING_EXCESS, -1)
        # of each line the run with the largest sum
        sums = np.cumsum(np.pad(gains, ((0, 0), (1, 0))), axis=1)
        lowest = np.minimum.accumulate(sums, axis=1)
        line, end = np.unravel_index((sums - lowest).argmax(), sums.shape)
        if sums[line, end] - lowest[line, end] > best:
            best = float(sums[line, end] - lowest[line, end])
            run = slice(int(sums[line, :end].argmin()), int(end))
            mean = float(gains[line, run].mean()) + ENDING_EXCESS
            found = _Run(speed, columns[run], places[line, run], mean)
    return found


def _elsewhere(run: _Run, excess: Pictures, seconds: NDArray[np.float32]) -> float:
    """Return the mean excess of a run where it agrees best among other places in the video."""
    shifts = np.arange(ELSEWHERE_SECONDS, REPEATED_SECONDS, SHIFT)
    return _best_moved(run.moments, run.seconds, (*-shifts, *shifts), excess, seconds)


def _is_sure(run: _Run, length: float, share: float, excess: Pictures, seconds: NDArray[np.float32]) -> bool:
    """Whether a run of so many seconds, and such a share of a video, agrees so well that it is no chance."""
    return (
        (length >= LEAST_SECONDS or share >= WHOLE_SHARE)
        and run.excess >= _least_excess(SURE_EXCESS, length)
        and _elsewhere(run, excess, seconds) <= REPEATED_SHARE * run.excess
    )


def _is_even(run: _Run, length: float, share: float, excess: Pictures, seconds: NDArray[np.float32]) -> bool:
    """Whether nearly all of a video agrees, each third of it, and better than a little earlier or later."""
    if length < LEAST_SECONDS or share < EVEN_SHARE or run.excess < _least_excess(EVEN_EXCESS, length):
        return False
    shifts = np.arange(-PACE_SECONDS, PACE_SECONDS + SHIFT, SHIFT)
    for moments, places in zip(np.array_split(run.moments, 3), np.array_split(run.seconds, 3), strict=True):
        here = float(excess[nearest(seconds, places), moments].mean())
        if here < max(EVEN_THIRD, PACE_SHARE * _best_moved(moments, places, shifts, excess, seconds)):
            return False
    return _elsewhere(run, excess, seconds) <= EVEN_REPEATED_SHARE * run.excess


def _least_excess(of_a_second: float, length: float) -> float:
    """Return by how much a run of so many seconds must agree."""
    return max(LEAST_EXCESS, of_a_second / max(length, 1e-3) ** 0.5)


def _best_moved(
    moments: NDArray[np.intp],
    places: NDArray[np.floating],
    shifts: Iterable[float],
    excess: Pictures,
    seconds: NDArray[np.float32],
) -> float:
    """Return the mean excess of moments where they agree best if moved, half of them still in the video."""
    best = 0.0
    for shift in shifts:
        moved = places + shift
        shown = (moved >= seconds[0]) & (moved <= seconds[-1])
        if shown.sum() >= len(places) / 2:
            best = max(best, float(excess[nearest(seconds, moved[shown]), moments[shown]].mean()))
    return best


def nearest(seconds: NDArray[np.float32], places: NDArray[np.floating]) -> NDArray[np.intp]:
    """Return which of the ascending `seconds` are nearest to the places."""
    after = np.clip(np.searchsorted(seconds, places), 1, len(seconds) - 1)
    return after - (places - seconds[after - 1] < seconds[after] - places)


def _span_of(run: _Run, seconds: NDArray[np.float32], its_seconds: NDArray[np.float32]) -> Span:
    """Return what a run says of a video: as far around its moments as no other was looked at."""
    half = float(np.median(np.diff(its_seconds))) / 2
    places = sorted(float(run.seconds[index]) for index in (0, -1))
    start, end = (
        max(places[0] - half / abs(run.speed), float(seconds[0])),
        min(places[1] + half / abs(run.speed), float(seconds[-1])),
    )
    its_start, its_end = (float(its_seconds[run.moments[index]]) for index in (0, -1))
    return Span(start, end, its_start, its_end, False)
