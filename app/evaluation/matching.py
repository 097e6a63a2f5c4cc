"""Are two videos the same footage? Pure functions over fingerprints, with numpy.

A fingerprint is a row of PDQ hashes (256 bits) with the seconds their frames are shown at. Frames of the
same footage differ by few bits however it was re-encoded, and follow each other in the same order; frames
of different scenes differ by about 128, seldom by less than 90.
"""

from collections.abc import Iterable
from dataclasses import dataclass
from functools import cached_property

import numpy as np
from numpy.typing import NDArray

from app.evaluation.model import FrameHash

# bits that frames of the same footage may differ by: anywhere, and where their neighbours agree
SAME_FRAME = 31
SAME_IN_ORDER = 60
# and the share of its distance to the other moments of that video that it may be away, unless those are
# other pictures: in front of a fixed camera all frames are alike
DISTINCT = 0.4
OTHER_PICTURE = 100
# bits that frames differ by in which the same place is seen
SAME_PLACE = 80
# the same footage goes through a moment at the same time, give or take this many seconds
TOLERANCE = 0.4
# frames as far from a moment are other moments
ELSEWHERE_SECONDS = 2.0
# matching frames that far apart, in seconds, belong to two spans; shorter spans are chance
MAX_GAP = 2.0
MIN_SPAN = 1.0
# speeds of a copy that are looked for; negative ones are played backwards
SPEEDS = np.concatenate([sign * np.geomspace(0.4, 2.5, 31) for sign in (1, -1)])
MAX_PAIRS = 20_000
MAX_SPANS = 12
# frames that are stored: one in so many seconds, and what starts a shot
STORED_INTERVAL = 0.5
# A hash is found again by any of its bands. These lie in the half of the hash that changes least when a
# video is re-encoded (measured over bench/duplicates.py).
BANDS = 4
BAND_BITS = 30

Bits = NDArray[np.float32]
Distances = NDArray[np.float32]


@dataclass(frozen=True)
class Fingerprint:
    """Hashes (n x 32 bytes) of n frames and their times in seconds, ascending."""

    seconds: NDArray[np.float32]
    hashes: NDArray[np.uint8]

    def __len__(self) -> int:
        return len(self.seconds)

    @cached_property
    def bits(self) -> Bits:
        return np.unpackbits(self.hashes, axis=1).astype(np.float32) * 2 - 1

    def thinned(self) -> "Fingerprint":
        """What is stored of it: two frames a second, the first of each shot, and the last."""
        steps = np.diagonal(_distances(self.bits[:-1], self.bits[1:])) if len(self) > 1 else np.zeros(0)
        kept: list[int] = []
        for index, seconds in enumerate(self.seconds):
            if (
                not kept
                or seconds - self.seconds[kept[-1]] >= STORED_INTERVAL - 0.01
                or steps[index - 1] >= OTHER_PICTURE
                or index == len(self) - 1
            ):
                kept.append(index)
        return Fingerprint(self.seconds[kept], self.hashes[kept])

    def sampled(self, count: int) -> "Fingerprint":
        """At most `count` of its frames, spread evenly."""
        kept = np.unique(np.linspace(0, len(self) - 1, min(count, len(self))).round().astype(int))
        return Fingerprint(self.seconds[kept], self.hashes[kept])

    def keys(self) -> list[int]:
        """The bands of its hashes as 32-bit numbers, each once: fingerprints that share one may match."""
        words = self.hashes.view(">u4").astype(np.uint64)
        tail = [words[:, index] for index in range(8 - BANDS, 8)]
        keys = [
            (word & np.uint64(2**BAND_BITS - 1)) | np.uint64(band << BAND_BITS)
            for band, word in enumerate(tail)
        ]
        return np.unique(np.concatenate(keys).astype(np.uint32).view(np.int32)).tolist()


def fingerprints(frames: Iterable[FrameHash]) -> tuple[Fingerprint, Fingerprint]:
    """Return the fingerprint of a video and that of its mirror image."""
    frames = sorted(frames, key=lambda frame: frame.seconds)
    seconds = np.array([frame.seconds for frame in frames], np.float32)

    def packed(hashes: Iterable[bytes]) -> NDArray[np.uint8]:
        return np.frombuffer(b"".join(hashes), np.uint8).reshape(-1, 32)

    return (
        Fingerprint(seconds, packed(frame.pdq for frame in frames)),
        Fingerprint(seconds, packed(frame.mirrored for frame in frames)),
    )


@dataclass(frozen=True)
class Span:
    """A stretch of a video, in seconds, and where another video shows the same."""

    start: float
    end: float
    other_start: float
    other_end: float
    mirrored: bool


@dataclass(frozen=True)
class Match:
    """What of a video is in another one: which of its frames, and in which spans."""

    frames: frozenset[int]
    spans: tuple[Span, ...]


def match(plain: Fingerprint, mirrored: Fingerprint, other: Fingerprint) -> Match:
    """Find the spans of a video, given as it is and as its mirror image, that `other` shows too.

    A span is a run of frames that lie on a line of constant speed through the other video, each nearer to
    the frame at its place than SAME_IN_ORDER and clearly nearer than to that video's other moments.
    """
    frames: set[int] = set()
    spans: list[Span] = []
    for fingerprint in (plain, mirrored):
        distances = _distances(fingerprint.bits, other.bits)
        open_frames = np.ones(len(plain), bool)
        for _ in range(MAX_SPANS):
            line = _best_line(distances, plain.seconds, other.seconds, open_frames)
            if line is None:
                break
            matching = _matching(distances, plain.seconds, other.seconds, line) & open_frames
            runs = _runs(plain.seconds, matching)
            if not runs:
                break
            for run in runs:
                frames.update(range(run[0], run[-1] + 1))
                start, end = float(plain.seconds[run[0]]), float(plain.seconds[run[-1]])
                speed, offset = line
                places = sorted((speed * start + offset, speed * end + offset))
                spans.append(Span(start, end, places[0], places[1], fingerprint is mirrored))
                open_frames[run[0] : run[-1] + 1] = False
    return Match(frozenset(frames), tuple(sorted(spans, key=lambda span: span.start)))


def _distances(one: Bits, other: Bits) -> Distances:
    """Hamming distances of all pairs."""
    return (one.shape[1] - one @ other.T) / 2


def _best_line(
    distances: Distances,
    seconds: NDArray[np.float32],
    other_seconds: NDArray[np.float32],
    open_frames: NDArray[np.bool_],
) -> tuple[float, float] | None:
    """Return speed and offset of the line through the most frames, or None if none goes through two."""
    rows, columns = np.nonzero((distances <= SAME_FRAME) & open_frames[:, None])
    if len(rows) > MAX_PAIRS:
        chosen = np.linspace(0, len(rows) - 1, MAX_PAIRS).astype(int)
        rows, columns = rows[chosen], columns[chosen]
    best, most = None, 1
    for speed in SPEEDS:
        offsets = other_seconds[columns] - speed * seconds[rows]
        # bins of twice the tolerance, and the same half a bin further
        for shift in (0.0, TOLERANCE):
            bins = np.floor((offsets + shift) / (2 * TOLERANCE)).astype(np.int64)
            cells = np.unique(bins * len(seconds) + rows)
            values, counts = np.unique(cells // len(seconds), return_counts=True)
            # the true speed first among equals: real time, then the nearest to it
            if len(counts) and (
                counts.max() > most
                or (counts.max() == most and best is not None and _oddity(speed) < _oddity(best[0]))
            ):
                most = int(counts.max())
                inside = bins == values[counts.argmax()]
                best = (float(speed), float(np.median(offsets[inside])))
    return best


def _oddity(speed: float) -> float:
    return abs(float(np.log(abs(speed)))) + (speed < 0)


def _matching(
    distances: Distances,
    seconds: NDArray[np.float32],
    other_seconds: NDArray[np.float32],
    line: tuple[float, float],
) -> NDArray[np.bool_]:
    """Return which frames match the frame at their place on the line, and it alone."""
    speed, offset = line
    away = np.abs(other_seconds[None, :] - (speed * seconds[:, None] + offset))
    here = np.where(away <= TOLERANCE * max(1.0, abs(speed)), distances, np.inf).min(axis=1)
    elsewhere = np.where(away > ELSEWHERE_SECONDS, distances, np.nan)
    usual = np.full(len(seconds), np.inf)
    some = ~np.isnan(elsewhere).all(axis=1)
    usual[some] = np.nanmedian(elsewhere[some], axis=1)
    return (here <= SAME_IN_ORDER) & ((here <= DISTINCT * usual) | (usual >= OTHER_PICTURE))


def _runs(seconds: NDArray[np.float32], matching: NDArray[np.bool_]) -> list[NDArray[np.intp]]:
    """Split the matching frames where they are more than MAX_GAP apart, and leave out what is short."""
    found = np.flatnonzero(matching)
    runs = np.split(found, np.flatnonzero(np.diff(seconds[found]) > MAX_GAP) + 1)
    # all of a video is a span, however short it is
    shortest = min(MIN_SPAN, float(seconds[-1] - seconds[0])) - 0.01
    return [run for run in runs if len(run) and seconds[run[-1]] - seconds[run[0]] >= shortest]


def shows_same_place(plain: Fingerprint, other: Fingerprint) -> bool:
    """Whether half of the frames see what some frame of the other video sees."""
    if not len(plain) or not len(other):
        return False
    return bool((_distances(plain.bits, other.bits).min(axis=1) <= SAME_PLACE).mean() >= 0.5)


def one_recording(plain: Fingerprint, other: Fingerprint, found: Match) -> bool:
    """Whether a video and `other` were cut from one recording.

    Either it goes on without a cut where a span that they share begins or ends; or one begins where the
    other ends, in a view that the other does not have elsewhere (as it would if it returned to its start).
    """
    steps = np.diagonal(_distances(plain.bits[:-1], plain.bits[1:])) if len(plain) > 1 else np.zeros(0)
    edges = np.array([index in found.frames for index in range(len(plain))], bool)
    outward = np.flatnonzero(edges[:-1] != edges[1:])
    if (steps[outward] <= SAME_PLACE).any():
        return True
    if not len(plain) or not len(other):
        return False
    return _adjoins(plain.bits[:1], other, -1) or _adjoins(plain.bits[-1:], other, 0)


def _adjoins(frame: Bits, other: Fingerprint, end: int) -> bool:
    distances = _distances(frame, other.bits)[0]
    away = np.abs(other.seconds - other.seconds[end]) > ELSEWHERE_SECONDS
    return bool(distances[end] <= SAME_IN_ORDER and away.any() and distances[away].min() > SAME_PLACE)
