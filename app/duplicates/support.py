"""Which of many videos may show the same? A quick look at their corners, before a few are compared in full.

Corners look alike if few bits of their descriptors differ. Then one of a few pieces of both is often the
same, so only corners that share a piece are compared: a thousandth of all pairs. Those of a copy agree on how
its picture was turned, scaled and moved. What looks alike by chance agrees on nothing.
"""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from app.video.features import DESCRIPTOR_BYTES, OCTAVE, OCTAVES, Features, View

# of the pieces of 16 bits that a descriptor has, so many are looked at
PIECES = 4
# a piece that more corners of a video have tells nothing: they lie along plain edges
MOST_ALIKE = 36
# corners look alike if their descriptors differ by at most so many bits
ALIKE = 52
# views in which fewer do have nothing to agree on
LEAST = 4
# turns and scales that are told apart
TURNS = 16
SCALES = 2 * OCTAVES + 1
# corners agree if both were moved to within so many thousandths of the picture
NEAR = 100
# counted are so many views of a video, those that agree best
VIEWS = 3
# the cells of a row, after which they are counted from the first again
_CELLS = 1000


@dataclass(frozen=True)
class _Corners:
    """The corners of some views in one row; `view` says of which view each is. Places are complex numbers."""

    views: int
    view: NDArray[np.intp]
    places: NDArray[np.complex128]
    angles: NDArray[np.int64]
    octaves: NDArray[np.int64]
    descriptors: NDArray[np.uint64]
    # the first pieces of all corners, then the second ones ...
    pieces: NDArray[np.int64]


def _corners(views: tuple[View, ...]) -> _Corners:
    descriptors = np.concatenate(
        [np.empty((0, DESCRIPTOR_BYTES), np.uint8), *(view.descriptors for view in views)]
    )
    return _Corners(
        len(views),
        np.repeat(np.arange(len(views)), [len(view.places) for view in views]),
        np.concatenate([np.empty((0, 2)), *(view.places for view in views)]) @ np.array([1, 1j]),
        np.concatenate([np.empty(0, np.int64), *(view.angles for view in views)]),
        np.concatenate([np.empty(0, np.int64), *(view.octaves for view in views)]),
        np.ascontiguousarray(descriptors.view(np.uint64).T),
        (descriptors.view(np.uint16).T[:PIECES] + (np.arange(PIECES)[:, None] << 16)).reshape(-1),
    )


class Sought:
    """The corners of a video that is looked for among others, sorted by each piece."""

    def __init__(self, features: Features) -> None:
        self._plain = len(features.views)
        self._corners = _corners((*features.views, *features.mirrored))
        self._sorted = np.argsort(self._corners.pieces, kind="stable") % max(1, len(self._corners.view))
        counts = np.bincount(self._corners.pieces, minlength=PIECES << 16)
        # at most 14,400 corners: small numbers stay in the processor's cache
        self._starts = (np.cumsum(counts) - counts).astype(np.uint16)
        self._counts = np.where(counts <= MOST_ALIKE, counts, 0).astype(np.uint8)

    def support(self, known: Features) -> int:
        """How many corners look like those of another video, and agree on how one picture lies on the other.

        Counted are the three views that agree best, as they are or mirrored.
        """
        its = _corners(known.views)
        mine, theirs = self._alike(its)
        if not len(mine):
            return 0
        agreeing = _agreeing(self._corners, its, mine, theirs).max(axis=1)
        plain, mirrored = agreeing[: self._plain], agreeing[self._plain :]
        return max(int(np.sort(each)[-VIEWS:].sum()) for each in (plain, mirrored))

    def _alike(self, its: _Corners) -> tuple[NDArray[np.intp], NDArray[np.intp]]:
        """The pairs of corners that share a piece and look alike."""
        count = len(its.view)
        sharing = self._counts[its.pieces].astype(np.int64)
        theirs = np.repeat(np.tile(np.arange(count), PIECES), sharing)
        first = self._starts[its.pieces] - (np.cumsum(sharing) - sharing)
        mine = self._sorted[np.repeat(first, sharing) + np.arange(len(theirs))]
        differing = np.bitwise_count(self._corners.descriptors[:, mine] ^ its.descriptors[:, theirs])
        alike = differing.sum(axis=0) <= ALIKE
        # each pair once, whatever pieces it shares
        return np.divmod(np.unique(mine[alike] * count + theirs[alike]), max(1, count))


def _agreeing(
    one: _Corners, other: _Corners, mine: NDArray[np.intp], theirs: NDArray[np.intp]
) -> NDArray[np.int64]:
    """Of these pairs of corners, how many agree on turn, scale and place: for each view of both."""
    views = one.view[mine] * other.views + other.view[theirs]
    many = np.bincount(views, minlength=one.views * other.views) >= LEAST
    kept = many[views]
    mine, theirs, pair = mine[kept], theirs[kept], (np.cumsum(many) - 1)[views[kept]]
    count = int(many.sum())
    turned = (other.angles[theirs] - one.angles[mine]) % 256
    scaled = other.octaves[theirs] - one.octaves[mine]
    turn, scale = turned * TURNS // 256, scaled + OCTAVES
    cast = np.bincount((pair * TURNS + turn) * SCALES + scale, minlength=count * TURNS * SCALES)
    votes = cast.astype(np.int16).reshape(count, TURNS, SCALES)
    # with their neighbours
    votes = votes + np.roll(votes, 1, 1) + np.roll(votes, -1, 1)
    votes[:, :, 1:-1] = votes[:, :, :-2] + votes[:, :, 1:-1] + votes[:, :, 2:]
    best_turn, best_scale = np.divmod(votes.reshape(count, TURNS * SCALES).argmax(axis=1), SCALES)
    agree = ((turn - best_turn[pair] + 1) % TURNS <= 2) & (np.abs(scale - best_scale[pair]) <= 1)
    pair, mine, theirs = pair[agree], mine[agree], theirs[agree]
    # the mean of those that agree
    direction, octaves = np.zeros(count, np.complex128), np.zeros(count)
    np.add.at(direction, pair, np.exp(2j * np.pi / 256 * turned[agree]))
    np.add.at(octaves, pair, scaled[agree])
    laid = np.exp(1j * np.angle(direction)) * OCTAVE ** (
        octaves / np.maximum(np.bincount(pair, minlength=count), 1)
    )
    moved = (other.places[theirs] - laid[pair] * one.places[mine]) / NEAR
    most = np.zeros(count, np.int64)
    # in cells that overlap by half
    for right in (0.0, 0.5):
        for down in (0.0, 0.5):
            x, y = (
                np.floor(each).astype(np.int64) % _CELLS for each in (moved.real + right, moved.imag + down)
            )
            cells, corners = np.unique((pair * _CELLS + x) * _CELLS + y, return_counts=True)
            np.maximum.at(most, cells // _CELLS**2, corners)
    agreeing = np.zeros(len(many), np.int64)
    agreeing[many] = most
    return agreeing.reshape(one.views, other.views)


def likeliest(supports: dict[int, int], count: int) -> list[int]:
    """Return the ids of the `count` videos with most support, and of the first of those not far behind.

    Ids are in the order of submission. Decoys that look more like a copy than its original does come after
    the original.
    """
    ranked = sorted(supports, key=lambda id: (-supports[id], id))
    not_far_behind = sorted(id for id in supports if supports[id] >= supports[ranked[0]] / 4)
    return list(dict.fromkeys([*ranked[:count], *not_far_behind[:1]]))
