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
# turns and scales that are told apart
TURNS = 16
SCALES = 2 * OCTAVES + 1
# corners agree if both were moved to within so many thousandths of the picture
NEAR = 100
# counted are so many views of a video, those that agree best
VIEWS = 3
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
    pieces: NDArray[np.uint16]


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
        descriptors.view(np.uint64),
        descriptors.view(np.uint16).T[:PIECES],
    )


class Sought:
    """The corners of a video that is looked for among others, sorted by each piece."""

    def __init__(self, features: Features) -> None:
        self._plain = len(features.views)
        self._corners = _corners((*features.views, *features.mirrored))
        self._sorted = [np.argsort(piece, kind="stable") for piece in self._corners.pieces]
        counts = [np.bincount(piece, minlength=2**16) for piece in self._corners.pieces]
        self._starts = [np.cumsum(count) - count for count in counts]
        self._counts = [np.where(count <= MOST_ALIKE, count, 0) for count in counts]

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
        found = []
        for piece, order, starts, counts in zip(
            its.pieces, self._sorted, self._starts, self._counts, strict=True
        ):
            sharing = counts[piece]
            theirs = np.repeat(np.arange(len(piece)), sharing)
            among = np.arange(len(theirs)) - np.repeat(np.cumsum(sharing) - sharing, sharing)
            mine = order[starts[piece[theirs]] + among]
            differing = np.bitwise_count(self._corners.descriptors[mine] ^ its.descriptors[theirs])
            alike = differing.sum(axis=1) <= ALIKE
            found.append(mine[alike] * len(piece) + theirs[alike])
        # each pair once, whatever pieces it shares
        return np.divmod(np.unique(np.concatenate(found)), max(1, len(its.view)))


def _agreeing(
    one: _Corners, other: _Corners, mine: NDArray[np.intp], theirs: NDArray[np.intp]
) -> NDArray[np.int64]:
    """Of these pairs of corners, how many agree on turn, scale and place: for each view of both."""
    count = one.views * other.views
    pair = one.view[mine] * other.views + other.view[theirs]
    turned = (other.angles[theirs] - one.angles[mine]) % 256
    scaled = other.octaves[theirs] - one.octaves[mine]
    turn, scale = turned * TURNS // 256, scaled + OCTAVES
    votes = np.bincount((pair * TURNS + turn) * SCALES + scale, minlength=count * TURNS * SCALES)
    votes = votes.reshape(count, TURNS, SCALES)
    # with their neighbours
    votes = votes + np.roll(votes, 1, 1) + np.roll(votes, -1, 1)
    votes[:, :, 1:-1] = votes[:, :, :-2] + votes[:, :, 1:-1] + votes[:, :, 2:]
    best_turn, best_scale = np.divmod(votes.reshape(count, -1).argmax(axis=1), SCALES)
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
    return most.reshape(one.views, other.views)
