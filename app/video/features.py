"""What a video is recognised by however its pictures were cropped, turned, framed or bent.

Two things are kept of it: small pictures of many moments ("glances"), and the corners of some pictures with
what they look like ("views": ORB features). Corners tell how another video's pictures lie on these; glances
tell whether both then show the same, and at the same time. The hashes of what is shown inside of its picture
("insets", see app/video/insets.py) travel with them.

Glances are kept as what differs from the mean of all, in 16 levels. These are the finer the less moves, so
that a film in which only lips move still tells. Version 1 had 16 levels of each glance's contrast.

Coordinates are in thousandths of the picture's longer side.
"""

import struct
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from itertools import pairwise

import cv2
import numpy as np
from numpy.typing import NDArray

from app.video.frames import FrameHash, Still
from app.video.measures import GreyFrame

# glances: so many pixels on the longer side; 8 a second up to 30 s, then fewer; of known videos 4 a second up
# to 30 s, then fewer
GLANCE_SIDE = 48
MAX_GLANCES = 240
MAX_STORED_GLANCES = 120
STORED_RATE = 4
# views, those of the mirror image, and corners of each
MAX_VIEWS = 12
MAX_MIRRORED = 6
MAX_STORED_VIEWS = 8
MAX_CORNERS = 200
DESCRIPTOR_BYTES = 32
# pictures are brought to this size before corners are looked for
VIEW_SIDE = 640
# and taken by turns from squares of so many pixels
CELL = 80
# insets, and hashed frames of each
MAX_INSETS = 6
MAX_INSET_FRAMES = 90
# and so many seconds the last of them may come after the last glance
INSETS_GO_ON = 3.0
MAX_SECONDS = 86_400.0

_VERSION = 2
_HEADER = struct.Struct("<BBBHBB")
_UNIT = struct.Struct("<f")
_VIEW = struct.Struct("<fH")
_INSET = struct.Struct("<H")
_HASH = struct.Struct("<f32s32s")
_POINT = np.dtype(
    [("x", "<u2"), ("y", "<u2"), ("angle", "u1"), ("octave", "u1"), ("descriptor", "u1", (DESCRIPTOR_BYTES,))]
)
# each octave of corners is found in a picture smaller by this factor
OCTAVE = 1.3
OCTAVES = 8


@dataclass(frozen=True)
class View:
    """The n corners of the picture shown at `seconds`.

    They have places (n x 2), directions in 256ths of a turn, octaves, and descriptors of 32 bytes.
    """

    seconds: float
    places: NDArray[np.float32]
    angles: NDArray[np.uint8]
    octaves: NDArray[np.uint8]
    descriptors: NDArray[np.uint8]


# what the levels stand for: the unit times so much, so that little is told apart as well as much
_SHADES = np.array([np.sign(level) * abs(level) ** 1.5 for level in range(-8, 8)], np.float32)
_HIGHEST = 7
# the unit is such that this share of all pixels fits, and no less than what video coding leaves of such
_FITTING = 0.9995
_LEAST_UNIT = 0.3 / _HIGHEST**1.5


@dataclass(frozen=True)
class Glances:
    """Small pictures (n x height x width) as levels from 0 to 15 of what differs from a `base` picture.

    Those of version 1 have no base. They are levels of each picture's own contrast.
    """

    levels: NDArray[np.uint8]
    base: GreyFrame | None = None
    unit: float = 0.0

    def __len__(self) -> int:
        return len(self.levels)

    @cached_property
    def pictures(self) -> NDArray[np.float32]:
        """The pictures, from 0 to 255."""
        if self.base is None:
            return self.levels * np.float32(17)
        return self.base + _SHADES[self.levels] * np.float32(self.unit)

    @property
    def mirrored(self) -> "Glances":
        base = None if self.base is None else self.base[:, ::-1]
        return Glances(self.levels[:, :, ::-1], base, self.unit)

    def only(self, kept: list[int]) -> "Glances":
        """Return some of them."""
        return Glances(self.levels[kept], self.base, self.unit)


def glances_of(pictures: NDArray[np.float32]) -> Glances:
    """Return small pictures as glances."""
    base = pictures.mean(axis=0).round().astype(np.uint8)
    differences = pictures - base
    unit = max(float(np.quantile(np.abs(differences), _FITTING)) / _HIGHEST**1.5, _LEAST_UNIT)
    unit = float(np.float32(unit))
    steps = np.minimum((np.abs(differences) / unit) ** (1 / 1.5), _HIGHEST).round()
    return Glances((np.sign(differences) * steps + 8).astype(np.uint8), base, unit)


@dataclass(frozen=True)
class Features:
    """The views of a video, and its glances with their seconds.

    Corners of a mirrored picture look otherwise. What is stored has no mirrored views: a mirrored copy brings
    its own. Nor has it insets: a copy that is shown inside of another picture brings them.
    """

    seconds: NDArray[np.float32]
    glances: Glances
    views: tuple[View, ...]
    mirrored: tuple[View, ...] = ()
    insets: tuple[tuple[FrameHash, ...], ...] = ()


def extract(pictures: Sequence[Still], small: GreyFrame, seconds: Sequence[float]) -> Features:
    """Return the features of a video, from some of its larger pictures and from small ones of all moments."""
    greys = [_sized(pictures[index]) for index in _spread(len(pictures), MAX_VIEWS)]
    times = [pictures[index].seconds for index in _spread(len(pictures), MAX_VIEWS)]
    kept = _spread(len(small), MAX_GLANCES)
    return Features(
        np.asarray(seconds, np.float32)[kept],
        _glances(small, kept),
        tuple(view_of(at, grey) for at, grey in zip(times, greys, strict=True)),
        tuple(
            view_of(times[index], np.ascontiguousarray(greys[index][:, ::-1]))
            for index in _spread(len(greys), MAX_MIRRORED)
        ),
    )


def _spread(length: int, most: int) -> list[int]:
    """At most so many of `length` indexes, spread evenly."""
    return np.linspace(0, length - 1, min(length, most)).round().astype(int).tolist()


def _glances(small: GreyFrame, kept: list[int]) -> Glances:
    height, width = small.shape[1:]
    scale = GLANCE_SIDE / max(height, width)
    size = (max(2, round(width * scale)), max(2, round(height * scale)))
    reduced = [
        cv2.resize(small[index].astype(np.float32), size, interpolation=cv2.INTER_AREA) for index in kept
    ]
    return glances_of(np.array(reduced, np.float32).reshape(-1, size[1], size[0]))


def _sized(picture: Still) -> GreyFrame:
    decoded = cv2.imdecode(np.frombuffer(picture.jpeg, np.uint8), cv2.IMREAD_GRAYSCALE)
    if decoded is None:
        return np.zeros((VIEW_SIDE, VIEW_SIDE), np.uint8)
    scale = VIEW_SIDE / max(decoded.shape)
    return np.asarray(cv2.resize(decoded, None, fx=scale, fy=scale, interpolation=cv2.INTER_AREA), np.uint8)


def view_of(seconds: float, grey: GreyFrame) -> View:
    """Find the corners of a picture: the strongest of each part of it, so that no text or grid takes all."""
    detector = cv2.ORB.create(nfeatures=5 * MAX_CORNERS, scaleFactor=OCTAVE, nlevels=OCTAVES, fastThreshold=8)
    cells: dict[tuple[int, int, int], list[cv2.KeyPoint]] = {}
    for point in sorted(detector.detect(grey), key=lambda point: -point.response):
        cell = (int(point.pt[0] // CELL), int(point.pt[1] // CELL), point.octave // 3)
        cells.setdefault(cell, []).append(point)
    # by turns from all cells
    ranked = sorted(
        ((rank, -point.response, point) for cell in cells.values() for rank, point in enumerate(cell)),
        key=lambda each: each[:2],
    )
    points, descriptors = detector.compute(grey, [point for *_, point in ranked[:MAX_CORNERS]])
    # reshaped for a picture without any
    return View(
        round(seconds, 3),
        np.array([point.pt for point in points], np.float32).reshape(-1, 2)
        * np.float32(1000 / max(grey.shape)),
        np.array([int(point.angle * 256 / 360) % 256 for point in points], np.uint8),
        np.array([point.octave for point in points], np.uint8),
        np.array([] if descriptors is None else descriptors, np.uint8).reshape(-1, DESCRIPTOR_BYTES),
    )


def stored(features: Features) -> Features:
    """What is stored of them: fewer views and glances."""
    seconds = float(features.seconds[-1] - features.seconds[0]) if len(features.seconds) else 0.0
    kept = _spread(len(features.glances), min(MAX_STORED_GLANCES, 2 + int(STORED_RATE * seconds)))
    views = tuple(features.views[index] for index in _spread(len(features.views), MAX_STORED_VIEWS))
    return Features(features.seconds[kept], features.glances.only(kept), views)


def pack(features: Features) -> bytes:
    """Return the features as bytes, in the version that they are of."""
    glances = features.glances
    height, width = glances.levels.shape[1:]
    version = 1 if glances.base is None else _VERSION
    parts = [
        _HEADER.pack(version, width, height, len(glances), len(features.views), len(features.mirrored)),
        features.seconds.astype("<f4").tobytes(),
    ]
    if glances.base is not None:
        parts += [_UNIT.pack(glances.unit), glances.base.tobytes()]
    parts.append(_nibbles(glances.levels.reshape(-1)))
    for view in (*features.views, *features.mirrored):
        points = np.zeros(len(view.places), _POINT)
        points["x"], points["y"] = np.clip(view.places * 10, 0, 10_000).round().T
        points["angle"], points["octave"] = view.angles, view.octaves
        points["descriptor"] = view.descriptors
        parts += [_VIEW.pack(view.seconds, len(points)), points.tobytes()]
    # last, so that videos without any are packed as they always were
    for inset in features.insets:
        parts.append(_INSET.pack(len(inset)))
        parts += [_HASH.pack(frame.seconds, frame.pdq, frame.mirrored) for frame in inset]
    return b"".join(parts)


def _nibbles(levels: NDArray[np.uint8]) -> bytes:
    even = np.append(levels, np.zeros(len(levels) % 2, np.uint8))
    return (even[::2] << 4 | even[1::2]).tobytes()


def unpack(packed: bytes) -> Features:
    """Read what `pack` wrote. Raises ValueError if it is anything else, or more than that may hold."""
    reader = _Reader(packed)
    version, width, height, count, view_count, mirrored_count = _HEADER.unpack(reader.take(_HEADER.size))
    if version not in (1, _VERSION) or max(width, height) != GLANCE_SIDE or min(width, height) < 2:
        raise ValueError("must be the features of a video, version 1 or 2")
    if count > MAX_GLANCES or view_count > MAX_VIEWS or mirrored_count > MAX_MIRRORED:
        raise ValueError(f"must hold at most {MAX_GLANCES} glances and {MAX_VIEWS} views")
    seconds = np.frombuffer(reader.take(4 * count), "<f4").astype(np.float32)
    _check_times(seconds.tolist())
    base, unit = None, 0.0
    if version == _VERSION:
        (unit,) = _UNIT.unpack(reader.take(_UNIT.size))
        if not 0 <= unit <= 255:
            raise ValueError("must have glances of at most 255 levels of grey")
        base = np.frombuffer(reader.take(width * height), np.uint8).reshape(height, width)
    pixels = count * width * height
    bytes_ = np.frombuffer(reader.take((pixels + 1) // 2), np.uint8)
    levels = np.stack([bytes_ >> 4, bytes_ & 15], axis=1).reshape(-1)[:pixels]
    views = []
    for _ in range(view_count + mirrored_count):
        at, corners = _VIEW.unpack(reader.take(_VIEW.size))
        if corners > MAX_CORNERS:
            raise ValueError(f"must hold at most {MAX_CORNERS} corners a view")
        points = np.frombuffer(reader.take(corners * _POINT.itemsize), _POINT)
        places = np.stack([points["x"], points["y"]], axis=1).astype(np.float32) / np.float32(10)
        octaves = np.minimum(points["octave"], OCTAVES - 1)
        views.append(View(at, places, points["angle"], octaves, points["descriptor"]))
    _check_times([view.seconds for view in views[:view_count]])
    _check_times([view.seconds for view in views[view_count:]])
    insets: list[tuple[FrameHash, ...]] = []
    while reader.left:
        (frames,) = _INSET.unpack(reader.take(_INSET.size))
        if len(insets) == MAX_INSETS or not 0 < frames <= MAX_INSET_FRAMES:
            raise ValueError(f"must hold at most {MAX_INSETS} insets of at most {MAX_INSET_FRAMES} frames")
        hashes = _HASH.iter_unpack(reader.take(frames * _HASH.size))
        insets.append(tuple(FrameHash(*fields) for fields in hashes))
        _check_times([frame.seconds for frame in insets[-1]])
        if not count or insets[-1][-1].seconds > seconds[-1] + INSETS_GO_ON:
            raise ValueError("must hold insets that end with its glances")
    glances = Glances(levels.reshape(count, height, width), base, unit)
    return Features(seconds, glances, tuple(views[:view_count]), tuple(views[view_count:]), tuple(insets))


def _check_times(times: list[float]) -> None:
    inside = all(0 <= time <= MAX_SECONDS for time in times)
    if not inside or any(later < earlier for earlier, later in pairwise(times)):
        raise ValueError("must have ascending times between 0 and 86400 seconds")


class _Reader:
    def __init__(self, packed: bytes) -> None:
        self._packed, self._at = packed, 0

    @property
    def left(self) -> int:
        return len(self._packed) - self._at

    def take(self, size: int) -> bytes:
        if size > self.left:
            raise ValueError("must not end early")
        self._at += size
        return self._packed[self._at - size : self._at]
