"""Are two videos the same footage, though one is cropped, turned or framed? Pure, over their features.

Corners that look alike tell how the pictures of one video might lie on those of another. That alone proves
nothing, since the same desk has the same corners. So the one is laid on the other, and both must show the
same at the same time, as in matching.py. Where little moves, movement.py compares that alone.
"""

from dataclasses import replace
from functools import lru_cache
from pathlib import Path

import cv2
import numpy as np
from numpy.typing import NDArray

from app.duplicates import matching, movement
from app.duplicates.matching import Span
from app.video.features import GLANCE_SIDE, Features, Glances, View

VOCABULARY = Path(__file__).with_name("words.npy")
WORDS = 1024
# corners look alike if their descriptors differ by at most so many of 256 bits
ALIKE = 64
# how pictures lie on others is told by at least so many corners, to so many thousandths of the picture
LEAST_CORNERS = 8
PRECISION = 8.0
# and at most so many such placements are tried for one pair of videos
MAX_PLACEMENTS = 6
# what moves alone is compared for so many of them
MAX_MOVEMENTS = 2
# keys pair each corner with so many neighbours, and tell so many directions apart; so many are stored, and
# looked up
NEIGHBOURS = 3
ANGLES = 8
STORED_KEYS = 1200
WANTED_KEYS = 1800
# a word that more corners of one picture have tells nothing: they lie along an edge, or in a grid
MOST_ALIKE = 5
# glances of which less than this share is on the other's picture say nothing
LEAST_OVERLAP = 0.15
# a video moves that much if it is surely not filmed by a fixed camera, see movement.py
SURELY_MOVES = 0.375
# what both show must be so long, in seconds and as a share of the video
SHORTEST = 2.0
LEAST_SHARE = 0.2
# And it must be apart by less than this share of what it is where it is shifted by so many seconds; at other
# speeds, or backwards, by less than the second share, as of many lines one may fit.
ELSEWHERE_SHARE = 0.6
ELSEWHERE_SHARE_OF_OTHERS = 0.4
ELSEWHERE = (-2.5, -1.5, -1.0, 1.0, 1.5, 2.5)
# nothing more is tried where so much is found
ENOUGH = 0.9

Placement = NDArray[np.float64]


@lru_cache(maxsize=1)
def _vocabulary() -> NDArray[np.uint8]:
    words: NDArray[np.uint8] = np.load(VOCABULARY)
    return words


def nearest_words(descriptors: NDArray[np.uint8], words: NDArray[np.uint8]) -> NDArray[np.intp]:
    """Return for each descriptor which word it is."""
    if not len(descriptors):
        return np.empty(0, np.intp)
    matches = cv2.BFMatcher(cv2.NORM_HAMMING).match(descriptors, words)
    return np.array([match.trainIdx for match in matches], np.intp)


def keys(features: Features, most: int) -> list[int]:
    """At most so many keys of a video as 32-bit numbers: videos that share some may show the same.

    A key is made of the words of two corners near each other and of how they are turned to each other. Words
    that one picture repeats make none: plain edges have the same in every video. Which keys are kept follows
    from their numbers, so that two videos keep the same ones of those that they share.
    """
    found = np.unique(
        np.concatenate(
            [np.empty(0, np.uint32), *(_keys_of(view) for view in (*features.views, *features.mirrored))]
        )
    )
    kept = np.argsort(found * np.uint32(2_654_435_761))[:most]
    return np.sort(found[kept].view(np.int32)).tolist()


def _keys_of(view: View) -> NDArray[np.uint32]:
    if len(view.places) <= NEIGHBOURS:
        return np.empty(0, np.uint32)
    words = nearest_words(view.descriptors, _vocabulary()).astype(np.int64)
    apart = view.places[None, :] - view.places[:, None]
    away = np.linalg.norm(apart, axis=2)
    # the same spot in another octave is no neighbour
    away[away < 6] = np.inf
    first = np.repeat(np.arange(len(words)), NEIGHBOURS)
    second = np.argsort(away, axis=1)[:, :NEIGHBOURS].reshape(-1)
    alike = np.bincount(words, minlength=WORDS)[words]
    tells = (np.maximum(alike[first], alike[second]) <= MOST_ALIKE) & (words[first] != words[second])
    first, second = first[tells], second[tells]
    # each pair in one order
    swap = words[first] > words[second]
    first, second = np.where(swap, second, first), np.where(swap, first, second)
    direction = np.arctan2(apart[first, second, 1], apart[first, second, 0]) * (256 / (2 * np.pi))
    turned = [
        ((view.angles[each] - direction) % 256 * ANGLES / 256).astype(np.int64) % ANGLES
        for each in (first, second)
    ]
    scale = np.clip(view.octaves[first].astype(np.int64) - view.octaves[second], -3, 3) // 2 + 2
    numbers = words[first] << 22 | words[second] << 12 | turned[0] << 8 | turned[1] << 4 | scale
    return numbers.astype(np.uint32)


def match(one: Features, other: Features) -> tuple[Span, ...]:
    """Find the spans of a video that `other` shows too, however its pictures lie on those of the other."""
    best: tuple[Span, ...] = ()
    if len(one.glances) < 2 or len(other.glances) < 2:
        return best
    duration = float(one.seconds[-1] - one.seconds[0])
    mirrored = replace(one, glances=one.glances.mirrored, views=one.mirrored)
    plainly = [(one, False, placement) for placement in _placements(one.views, other.views)]
    as_mirrored = [(mirrored, True, placement) for placement in _placements(mirrored.views, other.views)]
    # All takes before a fixed camera look alike as wholes. But a mark makes a copy of what moves stand still.
    moves, its_moves = (movement.moving(each.glances.pictures) for each in (one, other))
    is_fixed = its_moves < movement.STILL or (moves < movement.STILL and its_moves < SURELY_MOVES)
    for shown, is_mirrored, placement in [] if is_fixed else [*plainly, *as_mirrored]:
        spans = tuple(
            replace(span, mirrored=is_mirrored)
            for span in _compare(shown, other, placement)
            if span.end - span.start >= min(SHORTEST, duration / 2)
        )
        if _seconds(spans) > _seconds(best):
            best = spans
        if _seconds(best) >= ENOUGH * duration:
            return best
    for shown, is_mirrored, tried in ((one, False, plainly), (mirrored, True, as_mirrored)):
        span = movement.match(
            shown.glances.pictures,
            shown.seconds,
            other.glances.pictures,
            other.seconds,
            [_of_glances(placement) for *_, placement in tried[:MAX_MOVEMENTS]],
        )
        if span and span.end - span.start > _seconds(best):
            best = (replace(span, mirrored=is_mirrored),)
    return best if _seconds(best) >= LEAST_SHARE * duration else ()


def _seconds(spans: tuple[Span, ...]) -> float:
    return sum(span.end - span.start for span in spans)


def _placements(views: tuple[View, ...], known: tuple[View, ...]) -> list[Placement]:
    """How the pictures of one video may lie on those of another: the best supported first."""
    found: list[tuple[int, Placement]] = []
    agreeing: list[tuple[NDArray[np.float32], NDArray[np.float32]]] = []
    matcher = cv2.BFMatcher(cv2.NORM_HAMMING)
    for view in views:
        candidates = []
        for its in known:
            if not len(view.places) or not len(its.places):
                continue
            pairs = [
                (pair.queryIdx, pair.trainIdx)
                for pair in matcher.match(view.descriptors, its.descriptors)
                if pair.distance <= ALIKE
            ]
            mine, theirs = _agreeing(view, its, np.array(pairs, int).reshape(-1, 2))
            candidates.append((len(mine), view.places[mine], its.places[theirs]))
        candidates.sort(key=lambda each: -each[0])
        agreeing += [each[1:] for each in candidates[:2]]
        for count, source, target in candidates[:2]:
            if count < LEAST_CORNERS:
                break
            cv2.setRNGSeed(1)
            laid, inliers = cv2.findHomography(source, target, cv2.RANSAC, PRECISION, maxIters=500)
            if laid is None:
                continue
            placement, support = np.asarray(laid, np.float64), int(inliers.sum())
            if support >= LEAST_CORNERS and _is_sound(placement):
                found.append((support, placement))
    found.sort(key=lambda each: -each[0])
    return _distinct([*_of_all(agreeing), *(placement for _, placement in found)])


def _of_all(pairs: list[tuple[NDArray[np.float32], NDArray[np.float32]]]) -> list[Placement]:
    """How the pictures lie if they do so in the same way all the time, by the corners of all views.

    That is nearer to the truth than what one view says, and takes fewer corners of each.
    """
    if sum(len(source) for source, _ in pairs) < LEAST_CORNERS:
        return []
    source, target = (np.concatenate(each) for each in zip(*pairs, strict=True))
    cv2.setRNGSeed(1)
    laid, inliers = cv2.estimateAffinePartial2D(
        source, target, method=cv2.RANSAC, ransacReprojThreshold=PRECISION, maxIters=1000
    )
    if laid is None or inliers.sum() < LEAST_CORNERS:
        return []
    placement = np.vstack([laid, [0.0, 0.0, 1.0]])
    return [placement] if _is_sound(placement) else []


def _agreeing(view: View, its: View, pairs: NDArray[np.intp]) -> tuple[NDArray[np.intp], NDArray[np.intp]]:
    """Of pairs of corners, those that agree on by how much the picture was turned and scaled."""
    mine, theirs = pairs.T
    turned = (its.angles[theirs] - view.angles[mine]).astype(np.int64) % 256
    scaled = its.octaves[theirs].astype(np.int64) - view.octaves[mine] + 8
    votes = np.zeros((16, 18))
    np.add.at(votes, (turned // 16, scaled), 1)
    # with their neighbours
    votes = votes + np.roll(votes, 1, 0) + np.roll(votes, -1, 0)
    votes[:, 1:-1] = votes[:, :-2] + votes[:, 1:-1] + votes[:, 2:]
    turn, scale = np.unravel_index(votes.argmax(), votes.shape)
    agree = ((turned // 16 - turn + 1) % 16 <= 2) & (np.abs(scaled - scale) <= 1)
    return mine[agree], theirs[agree]


def _is_sound(placement: Placement) -> bool:
    """Whether a picture stays one: not folded, mirrored, or made a speck."""
    corners = _laid(placement)
    if not np.isfinite(corners).all() or np.abs(corners).max() > 20_000:
        return False
    area = cv2.contourArea(corners)
    return cv2.isContourConvex(corners) and 15_000 <= area <= 30_000_000


def _laid(placement: Placement) -> NDArray[np.float32]:
    corners = np.array([[[0, 0], [1000, 0], [1000, 560], [0, 560]]], np.float32)
    return cv2.perspectiveTransform(corners, placement)[0].astype(np.float32)


def _distinct(placements: list[Placement]) -> list[Placement]:
    kept: list[Placement] = []
    for placement in placements:
        if all(np.abs(_laid(placement) - _laid(each)).max() > 15 for each in kept):
            kept.append(placement)
        if len(kept) == MAX_PLACEMENTS:
            break
    return kept


def _compare(one: Features, other: Features, placement: Placement) -> tuple[Span, ...]:
    """Lay the glances of one video on those of the other, and find what they show at the same time."""
    shown, known = _levels(one.glances), _levels(other.glances)
    height, width = known.shape[1:]
    laid = _of_glances(placement)
    whole = np.ones(shown.shape[1:], np.uint8)
    reached = cv2.warpPerspective(whole, laid, (width, height), flags=cv2.INTER_NEAREST)
    inside = np.asarray(cv2.erode(reached, np.ones((3, 3), np.uint8), borderValue=1), bool)
    if inside.mean() < LEAST_OVERLAP:
        return ()
    mine = np.array(
        [
            cv2.warpPerspective(np.ascontiguousarray(glance), laid, (width, height), flags=cv2.INTER_AREA)
            for glance in shown
        ]
    )
    inside = inside & ~_covered(mine, known)
    if inside.mean() < LEAST_OVERLAP or movement.moving(mine.astype(np.float32), inside) < movement.STILL:
        return ()
    rows, its = (_normalised(glances, inside) for glances in (mine, known))
    distances = _apart(rows, its)
    spans = matching.find_spans(one.seconds, other.seconds, distances, _apart(rows, rows), _apart(its, its))
    return tuple(span for span in spans if _is_only_here(span, distances, one.seconds, other.seconds))


def _is_only_here(
    span: Span,
    distances: matching.Distances,
    seconds: NDArray[np.float32],
    its_seconds: NDArray[np.float32],
) -> bool:
    """Whether a span fits clearly better in its place than a second or two away.

    A head that fills the picture moves all of it, and is in the same pose again in another take.
    """
    rows = np.flatnonzero((seconds >= span.start) & (seconds <= span.end))
    share = (seconds[rows] - span.start) / (span.end - span.start)
    forward = span.other_start + share * (span.other_end - span.other_start)

    def apart(places: NDArray[np.floating]) -> float:
        shown = (places >= its_seconds[0]) & (places <= its_seconds[-1])
        if shown.sum() < len(places) / 3:
            return np.inf
        return float(distances[rows[shown], movement.nearest(its_seconds, places[shown])].mean())

    places = min((forward, span.other_start + span.other_end - forward), key=apart)
    speed = (places[-1] - places[0]) / (span.end - span.start)
    most = ELSEWHERE_SHARE if abs(speed - 1) < 0.1 else ELSEWHERE_SHARE_OF_OTHERS
    return apart(places) < most * min(apart(places + shift) for shift in ELSEWHERE)


def _of_glances(placement: Placement) -> Placement:
    """Return how glances lie on others, in their pixels."""
    scale = np.diag([1000 / GLANCE_SIDE, 1000 / GLANCE_SIDE, 1.0])
    laid: Placement = np.linalg.inv(scale) @ placement @ scale
    return laid


def _levels(glances: Glances) -> NDArray[np.uint8]:
    """Return the glances in 16 levels of their contrast, of which each has a copy's."""
    if glances.base is None:
        return glances.levels
    low, high = np.percentile(glances.pictures, (1, 99), axis=(1, 2))
    contrast = 15 / np.maximum(high - low, 8.0)
    levels = (glances.pictures - low[:, None, None]) * contrast[:, None, None] + 0.5
    return np.clip(levels, 0, 15).astype(np.uint8)


def _covered(mine: NDArray[np.uint8], its: NDArray[np.uint8]) -> NDArray[np.bool_]:
    """Where something that never moves hides what the other video shows: a mark, a border."""
    still = mine.std(axis=0) < 0.6
    moves = its.std(axis=0) > 1.2
    differs = np.abs(mine.mean(axis=0) - its.mean(axis=0)) > 3
    covered = (still & (moves | differs)).astype(np.uint8)
    return cv2.dilate(covered, np.ones((3, 3), np.uint8)).astype(bool)


def _normalised(glances: NDArray[np.uint8], inside: NDArray[np.bool_]) -> NDArray[np.float32]:
    """Each glance's pixels inside, without what is broad in it, as a vector of length 1."""
    weights = cv2.GaussianBlur(inside.astype(np.float32), (0, 0), 5) + 1e-3
    vectors = []
    for glance in glances:
        fine = cv2.GaussianBlur(glance.astype(np.float32), (0, 0), 0.7)
        broad = cv2.GaussianBlur(np.where(inside, fine, 0), (0, 0), 5) / weights
        pixels = (fine - broad)[inside]
        pixels -= pixels.mean()
        vectors.append(pixels / max(float(np.linalg.norm(pixels)), 1.0))
    return np.array(vectors, np.float32)


def _apart(one: NDArray[np.float32], other: NDArray[np.float32]) -> NDArray[np.float32]:
    """How far glances are apart, as bits of hashes are: 0 the same, 128 nothing in common."""
    return (128 * (1 - one @ other.T)).astype(np.float32)
