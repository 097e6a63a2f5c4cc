"""Are two videos the same footage? Pure functions over fingerprints, with numpy.

A fingerprint is a row of PDQ hashes (256 bits) with the seconds their frames are shown at. Frames of the
same footage differ by few bits however it was re-encoded, and follow each other in the same order; frames
of different scenes differ by about 128, seldom by less than 90.
"""

from collections.abc import Callable, Iterable
from dataclasses import dataclass, replace
from functools import cached_property, lru_cache

import numpy as np
from numpy.typing import NDArray

from app.video.frames import FrameHash

# bits that frames of the same footage may differ by: anywhere, and where their neighbours agree
SAME_FRAME = 31
SAME_IN_ORDER = 60
# and the share of its distance to the most alike of the other moments of that video that it may be away,
# unless those are other pictures: in front of a fixed camera all frames are alike
DISTINCT = 0.5
MOST_ALIKE = 0.1
OTHER_PICTURE = 100
# Between the moments of a span so many bits must change on average, in either video, and this share of it may
# differ between the videos. Of a longer span so many moments are compared.
LEAST_CHANGE = 8
FIT = 0.5
MAX_TOLD = 60
# pieces of one recording share a span of so many seconds at least, and of this share
LONG_SPAN = 2.0
LONG_SHARE = 0.2
# frames that follow each other differ by no more bits, or by no more than twice as many as their neighbours
NEXT_FRAME = 16
# bits that frames differ by in which the same place is seen
SAME_PLACE = 80
# the same footage goes through a moment at the same time, give or take this many seconds
TOLERANCE = 0.4
# frames as far from a moment are other moments
ELSEWHERE_SECONDS = 2.0
# matching frames that far apart, in seconds, belong to two spans; shorter spans are chance
MAX_GAP = 2.0
MIN_SPAN = 1.0
# Of a picture inside of a long film fewer frames are known: such a gap is so many times their usual distance.
MAX_GAP_FRAMES = 2.5
# speeds of a copy that are looked for: real time first, then the nearest to it; negative ones run backwards
SPEEDS = np.concatenate([sign * np.geomspace(0.4, 2.5, 31) for sign in (1, -1)])
SPEEDS = SPEEDS[np.argsort(np.abs(np.log(np.abs(SPEEDS))) + (SPEEDS < 0), kind="stable")]
MAX_PAIRS = 4_000
MAX_LINES = 12
# frames that are stored: one in so many seconds, and what starts a shot
STORED_INTERVAL = 0.5
# A hash is found again by any of its bands. These lie in the half of the hash that changes least when a
# video is re-encoded (measured over bench/duplicates.py).
BANDS = 4
BAND_BITS = 30
# frames that are looked up, as they are and mirrored, and in all other orientations
LOOKED_UP = 60
LOOKED_UP_TURNED = 8
# and those of each picture inside of a video's picture
LOOKED_UP_INSET = 20

# the frequencies of a picture that change their sign where it is turned by 180 degrees
_EVERY_OTHER = np.packbits(np.indices((16, 16)).sum(axis=0) % 2)

Hashes = NDArray[np.uint8]
Distances = NDArray[np.float32]


@dataclass(frozen=True, eq=False)
class Fingerprint:
    """Hashes (n x 32 bytes) of n frames and their times in seconds, ascending."""

    seconds: NDArray[np.float32]
    hashes: NDArray[np.uint8]

    def __len__(self) -> int:
        return len(self.seconds)

    @cached_property
    def steps(self) -> NDArray[np.uint16]:
        """The distance of each frame but the last to the next."""
        return np.bitwise_count(self.hashes[:-1] ^ self.hashes[1:]).sum(axis=1, dtype=np.uint16)

    def thinned(self) -> "Fingerprint":
        """What is stored of it: two frames a second, the first of each shot, and the last."""
        kept: list[int] = []
        for index, seconds in enumerate(self.seconds):
            if (
                not kept
                or seconds - self.seconds[kept[-1]] >= STORED_INTERVAL - 0.01
                or self.steps[index - 1] >= OTHER_PICTURE
                or index == len(self) - 1
            ):
                kept.append(index)
        return Fingerprint(self.seconds[kept], self.hashes[kept])

    def sampled(self, count: int) -> "Fingerprint":
        """At most `count` of its frames, spread evenly."""
        kept = np.unique(np.linspace(0, len(self) - 1, min(count, len(self))).round().astype(int))
        return Fingerprint(self.seconds[kept], self.hashes[kept])

    @cached_property
    def sample(self) -> "Fingerprint":
        """The frames by which it is told at a glance that two videos have nothing in common."""
        return self.sampled(LOOKED_UP)

    def half_turned(self) -> "Fingerprint":
        """That of the video turned by 180 degrees: the signs of every other frequency change."""
        return Fingerprint(self.seconds, self.hashes ^ _EVERY_OTHER)

    def over_diagonal(self) -> "Fingerprint":
        """That of the video mirrored over its diagonal: the frequencies' rows and columns are swapped."""
        swapped = np.unpackbits(self.hashes, axis=1).reshape(-1, 16, 16).swapaxes(1, 2).reshape(-1, 256)
        return Fingerprint(self.seconds, np.packbits(swapped, axis=1))

    def negative(self) -> "Fingerprint":
        """That of the video with its brightness inverted."""
        return Fingerprint(self.seconds, ~self.hashes)

    def keys(self) -> list[int]:
        """The bands of its hashes as 32-bit numbers, each once: fingerprints that share one may match."""
        return _keys(self.hashes)


def _keys(hashes: Hashes) -> list[int]:
    words = hashes.view(">u4").astype(np.uint64)
    tail = [words[:, index] for index in range(8 - BANDS, 8)]
    keys = [
        (word & np.uint64(2**BAND_BITS - 1)) | np.uint64(band << BAND_BITS) for band, word in enumerate(tail)
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


# of the last videos, since each is compared with many
@lru_cache(maxsize=16)
def orientations(plain: Fingerprint, mirrored: Fingerprint) -> tuple[tuple[Fingerprint, bool], ...]:
    """Return the fingerprints of a video in all orientations and as a negative, and which are mirrored.

    The first two are the given ones. A bit of a hash says whether a frequency of the picture is above the
    median, which hardly changes with the orientation: the others differ from the hashes of a picture that was
    turned by 5 of 256 bits on average, and by 14 at most in real footage.
    """
    upright = [(plain, False), (mirrored, True)]
    quarter = [(each.over_diagonal(), not is_mirrored) for each, is_mirrored in upright]
    turned = [(each.half_turned(), is_mirrored) for each, is_mirrored in [*upright, *quarter]]
    positive = [*upright, *quarter, *turned]
    return (*positive, *((each.negative(), is_mirrored) for each, is_mirrored in positive))


def wanted_keys(plain: Fingerprint, mirrored: Fingerprint) -> list[int]:
    """The keys by which a video's originals are looked up: of fewer frames in the unusual orientations."""
    usual = (plain.sampled(LOOKED_UP), mirrored.sampled(LOOKED_UP))
    few = orientations(plain.sampled(LOOKED_UP_TURNED), mirrored.sampled(LOOKED_UP_TURNED))
    turned = (fingerprint for fingerprint, _ in few[2:])
    return _keys(np.concatenate([each.hashes for each in (*usual, *turned)]))


def keys_of_insets(insets: Iterable[tuple[Fingerprint, Fingerprint]]) -> list[int]:
    """The keys by which the originals of what is shown inside of a video's picture are looked up."""
    frames = [each.sampled(LOOKED_UP_INSET).hashes for inset in insets for each in inset]
    return _keys(np.concatenate(frames)) if frames else []


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
    """What of a video is in another one: which frames, in which spans, and how many lines were tried."""

    frames: frozenset[int]
    spans: tuple[Span, ...]
    lines: int

    def joined(self, other: "Match") -> "Match":
        """Both together, of the same two videos."""
        spans = sorted({*self.spans, *other.spans}, key=lambda span: span.start)
        return Match(self.frames | other.frames, tuple(spans), self.lines)


def match(
    plain: Fingerprint,
    mirrored: Fingerprint,
    other: Fingerprint,
    most_lines: int = 2 * MAX_LINES,
    max_gap: float = MAX_GAP,
) -> Match:
    """Find the spans of a video, given as it is and as its mirror image, that `other` shows too.

    A span is a run of frames that lie on a line of constant speed through the other video, each nearer to
    the frame at its place than SAME_IN_ORDER and clearly nearer than to that video's other moments. Frames
    more than `max_gap` seconds apart are of two spans. At most `most_lines` lines are tried.
    """
    spans: list[Span] = []
    lines = 0
    # frames that no span holds yet: what was found as it is, is not looked for in the mirror image
    open_frames = np.ones(len(plain), bool)
    for number, (fingerprint, is_mirrored) in enumerate(orientations(plain, mirrored)):
        if not open_frames.any() or not len(other):
            break
        if number >= 2 and not _may_match(fingerprint.sample, other):
            continue
        distances = _distances(fingerprint.hashes, other.hashes)

        def is_told(
            run: NDArray[np.intp],
            places: NDArray[np.intp],
            mine: Fingerprint = fingerprint,
            distances: Distances = distances,
        ) -> bool:
            changes = (_distances(hashes, hashes) for hashes in (mine.hashes[run], other.hashes[places]))
            return _is_told(distances[run, places], *changes)

        found, tried = _find_spans(
            distances, plain.seconds, other.seconds, open_frames, most_lines - lines, max_gap, is_told
        )
        lines += tried
        spans += [replace(span, mirrored=is_mirrored) for span in found]
    matched = frozenset(np.flatnonzero(~open_frames).tolist())
    return Match(matched, tuple(sorted(spans, key=lambda span: span.start)), lines)


def match_inset(
    inset: tuple[Fingerprint, Fingerprint], seconds: NDArray[np.float32], other: Fingerprint, most_lines: int
) -> Match:
    """Find what `other` shows inside of a video's picture, as it is or mirrored.

    `seconds` are those of the frames of the video, which tell what of it that is.
    """
    if not any(_may_match(each.sample, other) for each in inset):
        return Match(frozenset(), (), 0)
    usual = float(np.median(np.diff(inset[0].seconds))) if len(inset[0]) > 1 else 0.0
    found = match(*inset, other, most_lines, max(MAX_GAP, MAX_GAP_FRAMES * usual))
    frames = [
        index
        for index, at in enumerate(seconds.tolist())
        if any(span.start <= at <= span.end for span in found.spans)
    ]
    return Match(frozenset(frames), found.spans if frames else (), found.lines)


def find_spans(
    seconds: NDArray[np.float32],
    other_seconds: NDArray[np.float32],
    distances: Distances,
    changes: Distances,
    other_changes: Distances,
) -> tuple[Span, ...]:
    """Find the spans of a video that another one shows too, by how far apart their moments are.

    Given are the distances of all pairs, and those of the moments of each video from each other.
    """

    def is_told(run: NDArray[np.intp], places: NDArray[np.intp]) -> bool:
        return _is_told(
            distances[run, places], changes[np.ix_(run, run)], other_changes[np.ix_(places, places)]
        )

    open_frames = np.ones(len(seconds), bool)
    spans, _ = _find_spans(distances, seconds, other_seconds, open_frames, MAX_LINES, MAX_GAP, is_told)
    return tuple(spans)


def _find_spans(
    distances: Distances,
    seconds: NDArray[np.float32],
    other_seconds: NDArray[np.float32],
    open_frames: NDArray[np.bool_],
    most_lines: int,
    max_gap: float,
    is_told: Callable[[NDArray[np.intp], NDArray[np.intp]], bool],
) -> tuple[list[Span], int]:
    """Find the spans of open frames along at most `most_lines` lines; return also how many were tried.

    The frames found are open no more. Those more than `max_gap` seconds apart are of two spans. `is_told`
    says whether a run of frames, and those at their places, are alike because they are of the same moments.
    """
    spans: list[Span] = []
    lines = 0
    rows, columns = _near_pairs(distances, other_seconds, open_frames)
    while lines < min(MAX_LINES, most_lines):
        line = _best_line(rows, columns, seconds, other_seconds)
        if line is None:
            break
        lines += 1
        speed, offset = line
        candidates = np.flatnonzero(open_frames)
        matching = _matching(distances[candidates], seconds[candidates], other_seconds, line)
        found = 0
        for run in _runs(seconds, candidates[matching], max_gap):
            told_by = run[np.linspace(0, len(run) - 1, min(len(run), MAX_TOLD)).astype(int)]
            if not is_told(told_by, _places(seconds[told_by], other_seconds, line)):
                continue
            found += 1
            start, end = float(seconds[run[0]]), float(seconds[run[-1]])
            places = sorted((speed * start + offset, speed * end + offset))
            spans.append(Span(start, end, places[0], places[1], False))
            open_frames[run[0] : run[-1] + 1] = False
        if not found:
            break
        still_open = open_frames[rows]
        rows, columns = rows[still_open], columns[still_open]
    return spans, lines


def _distances(one: Hashes, other: Hashes) -> Distances:
    """Hamming distances of all pairs."""
    distances = np.zeros((len(one), len(other)), np.uint16)
    for mine, its in zip(one.view(np.uint64).T, other.view(np.uint64).T, strict=True):
        distances += np.bitwise_count(mine[:, None] ^ its[None, :])
    return distances.astype(np.float32)


def _may_match(sample: Fingerprint, other: Fingerprint) -> bool:
    """Whether some frames of a sample are near enough to frames of another video: most often none is."""
    near = _distances(sample.hashes, other.hashes) <= SAME_FRAME
    return int(near.any(axis=1).sum()) >= min(2, len(sample))


def _near_pairs(
    distances: Distances, other_seconds: NDArray[np.float32], open_frames: NDArray[np.bool_]
) -> tuple[NDArray[np.intp], NDArray[np.intp]]:
    """Return the pairs of an open frame and another that are near enough to match on some line.

    In front of a fixed camera almost all pairs are alike, and almost none of them is.
    """
    near = distances <= SAME_FRAME
    some = np.flatnonzero(near.any(axis=1) & open_frames)
    distances = distances[some]
    count = len(other_seconds)
    ends = np.searchsorted(other_seconds, other_seconds + 2 * ELSEWHERE_SECONDS, side="right")
    # the other moments are all but so many frames, wherever the line goes: so the most alike are at most as
    # far away as this one
    rank = int(MOST_ALIKE * count) + int((ends - np.arange(count)).max(initial=0))
    most_usual = np.full((len(some), 1), np.inf, np.float32)
    if rank < count:
        most_usual = np.partition(distances, rank, axis=1)[:, rank, None]
    rows, columns = np.nonzero(near[some] & _is_distinct(distances, most_usual))
    return some[rows], columns


def _is_distinct(distances: Distances, usual: Distances) -> NDArray[np.bool_]:
    """Whether frames this far away are of one moment, by what is `usual` between this frame and others."""
    return (distances <= DISTINCT * usual) | (usual >= OTHER_PICTURE)


def _best_line(
    rows: NDArray[np.intp],
    columns: NDArray[np.intp],
    seconds: NDArray[np.float32],
    other_seconds: NDArray[np.float32],
) -> tuple[float, float] | None:
    """Return speed and offset of the line on which most rows have a pair, or None if none has two.

    The pairs are sorted by row, and each row's by column.
    """
    if len(rows) > MAX_PAIRS:
        chosen = np.linspace(0, len(rows) - 1, MAX_PAIRS).astype(int)
        rows, columns = rows[chosen], columns[chosen]
    best, most = None, 1
    starts_row = np.diff(rows, prepend=-1) != 0
    for speed in SPEEDS:
        if most >= np.count_nonzero(starts_row):
            break
        offsets = other_seconds[columns] - speed * seconds[rows]
        halves = np.floor(offsets / TOLERANCE).astype(np.int32)
        halves -= halves.min() & ~1
        # bins of twice the tolerance, and the same half a bin further
        for bins in (halves >> 1, (halves + 1) >> 1):
            # a row's pairs lie in ascending bins: each bin counts a row once, by the first
            firsts = starts_row.copy()
            firsts[1:] |= bins[1:] != bins[:-1]
            counts = np.bincount(bins[firsts])
            fullest = counts.argmax()
            if counts[fullest] > most:
                most = int(counts[fullest])
                best = (float(speed), float(np.median(offsets[bins == fullest])))
    return best


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
    matching = here <= SAME_IN_ORDER
    usual = _most_alike(np.where(away > ELSEWHERE_SECONDS, distances, np.inf)[matching])
    matching[matching] = _is_distinct(here[matching], usual)
    return matching


def _most_alike(rows: Distances) -> Distances:
    """Return of each row the number that a tenth of its finite numbers lie below; infinity without any."""
    ascending = np.sort(rows, axis=1)
    rank = (MOST_ALIKE * np.isfinite(rows).sum(axis=1)).astype(int)
    return ascending[np.arange(len(rows)), rank]


def _places(
    seconds: NDArray[np.float32], other_seconds: NDArray[np.float32], line: tuple[float, float]
) -> NDArray[np.intp]:
    """Return which of the other frames are nearest to the places on the line."""
    speed, offset = line
    return np.abs(other_seconds[None, :] - (speed * seconds[:, None] + offset)).argmin(axis=1)


def _is_told(distances: Distances, changes: Distances, other_changes: Distances) -> bool:
    """Whether frames, and those at their places on a line, are alike because they are of the same moments.

    In both videos they must differ from the others of the span by more than from each other. Where nothing
    moves they do not: one resting pose is like another.
    """
    apart = np.triu(np.ones(changes.shape, bool), max(1, len(changes) // 2))
    change = min(changes[apart].mean(), other_changes[apart].mean())
    return bool(change >= LEAST_CHANGE and distances.mean() <= FIT * change)


def _runs(seconds: NDArray[np.float32], found: NDArray[np.intp], max_gap: float) -> list[NDArray[np.intp]]:
    """Split the matching frames where they are more than `max_gap` apart, and leave out what is short."""
    runs = np.split(found, np.flatnonzero(np.diff(seconds[found]) > max_gap) + 1)
    # of as many frames wherever they are far apart; and all of a video is a span, however short it is
    shortest = min(MIN_SPAN * max_gap / MAX_GAP, float(seconds[-1] - seconds[0])) - 0.01
    return [run for run in runs if len(run) and seconds[run[-1]] - seconds[run[0]] >= shortest]


def shows_same_place(plain: Fingerprint, other: Fingerprint) -> bool:
    """Whether half of the frames see what some frame of the other video sees."""
    if not len(plain) or not len(other):
        return False
    return bool((_distances(plain.hashes, other.hashes).min(axis=1) <= SAME_PLACE).mean() >= 0.5)


def joint(plain: Fingerprint, other: Fingerprint, found: Match) -> float | None:
    """Return at which second a video goes on from `other`, if both were cut from one recording; or None.

    Either it goes on without a cut where a long span that they share begins or ends; or one begins where the
    other ends, in a view that the other does not have elsewhere (as it would if it returned to its start).
    """
    if len(plain) < 2 or not len(other):
        return None
    if _is_long(found, plain):
        edges = np.array([index in found.frames for index in range(len(plain))], bool)
        outward = np.flatnonzero(edges[:-1] != edges[1:])
        uncut = outward[plain.steps[outward] <= SAME_PLACE]
        if len(uncut):
            return float(plain.seconds[uncut[0]])
    if _adjoins(plain.hashes[:1], plain.steps[0], other, -1):
        return float(plain.seconds[0])
    if _adjoins(plain.hashes[-1:], plain.steps[-1], other, 0):
        return float(plain.seconds[-1])
    return None


def _is_long(found: Match, plain: Fingerprint) -> bool:
    seconds = max((span.end - span.start for span in found.spans), default=0.0)
    return seconds >= LONG_SPAN and len(found.frames) >= LONG_SHARE * len(plain)


def _adjoins(frame: Hashes, step: int, other: Fingerprint, end: int) -> bool:
    """Whether a frame at an end of a video, a `step` from its neighbour, goes on from another one's end."""
    distances = _distances(frame, other.hashes)[0]
    away = np.abs(other.seconds - other.seconds[end]) > ELSEWHERE_SECONDS
    near = min(SAME_IN_ORDER, max(NEXT_FRAME, 2 * int(step)))
    return bool(distances[end] <= near and away.any() and distances[away].min() > SAME_PLACE)
