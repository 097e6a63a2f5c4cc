"""Follows faces from frame to frame, between the frames in which they were looked for.

A face that was found is followed forwards until it is found again, and for a while longer if it is not: it
may have turned away. It is followed backwards, too: it was there before it was found. Each step makes what is
covered a little larger, since a place is less certain the longer ago a face was seen there.
"""

from collections import deque
from dataclasses import dataclass
from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray

from app.attributes.faces import Faces, overlap
from app.attributes.masks import Box, Masks, Pixels

# left, top, right and bottom in pixels
Edges = NDArray[np.float32]

# A face counts from this sureness on, and one that is followed already from a lower one.
SURE = 0.4
SURE_AGAIN = 0.2
# a face that is found is one that is followed if both overlap by this share
SAME = 0.15
# So many seconds a face is followed after it was last found, and before it was first found.
AFTER = 1.5
BEFORE = 1.0
# points along a side of a face; they are looked for within so many pixels, at so many halved sizes as well
POINTS = 5
WINDOW = (13, 13)
LEVELS = 3
# A point is found again if the way back ends so few pixels beside it. If fewer than this share are, a face is
# lost: it stays where it was, and is covered for so many more seconds at most. So it is after a cut.
BACK = 1.5
LEAST_POINTS = 0.3
LOST = 0.5
# what is covered is larger than the face by this share of its sides, and by this much more each second
MARGIN = 0.12
GROWTH = 0.35
# by how much a face may become larger or smaller from one frame to the next
ZOOM = (0.92, 1.09)
# A frame holds no more faces: what has more is a pattern.
MOST_FACES = 64


@dataclass
class _Face:
    """A face that is followed: its edges in the grey frame, and how many frames ago it was found and lost."""

    edges: Edges
    unseen: int = 0
    lost: int = 0


class Follower:
    """Takes the frames of a film in order, and collects the boxes of the faces in each.

    Its memory holds the grey frames of BEFORE seconds, and the boxes.
    """

    def __init__(self, fps: float) -> None:
        self._fps = fps
        self._earlier: deque[Pixels] = deque(maxlen=round(BEFORE * fps) + 1)
        self._followed: list[_Face] = []
        self._size = (1, 1)
        # how many frames ago faces were looked for
        self._since = 0
        self._boxes: dict[int, list[Box]] = {}
        self.frames = 0

    def add(self, grey: Pixels, found: Faces | None) -> None:
        """Take the next frame, in grey, with the faces that were found in it; None if nobody looked."""
        self._size = grey.shape[1], grey.shape[0]
        if self._followed:
            self._follow(self._followed, self._earlier[-1], grey)
        self._earlier.append(grey)
        self._since += 1
        self.frames += 1
        if found is not None:
            self._see(found)
            self._since = 0
        self._followed = [face for face in self._followed if self._is_there(face)]
        for face in self._followed:
            self._cover(self.frames - 1, face)

    def masks(self, by: str) -> Masks:
        """Return what was collected so far."""
        boxes = {index: _merged(boxes) for index, boxes in sorted(self._boxes.items())}
        return Masks(by=by, frames=self.frames, boxes=boxes)

    def _see(self, found: Faces) -> None:
        """Compare what was found in the last frame with what is followed, and follow it backwards."""
        scale = np.array(self._size * 2, np.float32)
        edges = found[:, :4] * scale
        known = np.array([face.edges for face in self._followed], np.float32).reshape(-1, 4)
        same = overlap(edges, known)
        new, again = [], []
        for number in range(len(found)):
            matches = np.flatnonzero(same[number] >= SAME)
            if len(matches):
                for match in matches:
                    self._followed[match].unseen = self._followed[match].lost = 0
                # of faces that cover each other all stay, the nearest moves to where it was found
                nearest = self._followed[int(same[number].argmax())]
                nearest.edges = edges[number]
                again.append(edges[number])
            elif found[number, 4] >= SURE and len(self._followed) < MOST_FACES:
                self._followed.append(_Face(edges[number]))
                new.append(edges[number])
        self._trace(new, len(self._earlier) - 1)
        self._trace(again, min(self._since, len(self._earlier) - 1))

    def _trace(self, faces: list[Edges], steps: int) -> None:
        """Cover faces that are in the last frame in so many frames before it, too."""
        traced = [_Face(edges) for edges in faces]
        for step in range(1, steps + 1):
            traced = [face for face in traced if self._is_there(face)]
            if not traced:
                return
            self._follow(traced, self._earlier[-step], self._earlier[-step - 1])
            for face in traced:
                self._cover(self.frames - 1 - step, face)

    def _follow(self, faces: list[_Face], before: Pixels, after: Pixels) -> None:
        """Move faces of one frame to where they are in the next, or the one before."""
        moved = _move(before, after, [face.edges for face in faces])
        for face, edges in zip(faces, moved, strict=True):
            face.unseen += 1
            if edges is None or face.lost:
                face.lost += 1
            if edges is not None:
                face.edges = edges

    def _is_there(self, face: _Face) -> bool:
        """Whether a face is still in the picture, and was not found, or lost, too long ago."""
        left, top, right, bottom = face.edges
        width, height = self._size
        inside = right > 0 and bottom > 0 and left < width and top < height
        return bool(inside and face.unseen <= AFTER * self._fps and face.lost <= LOST * self._fps)

    def _cover(self, index: int, face: _Face) -> None:
        growth = MARGIN + GROWTH * face.unseen / self._fps
        sides = np.tile(face.edges[2:] - face.edges[:2], 2)
        grown = face.edges + sides * growth * np.array((-1, -1, 1, 1))
        shares = 1000 * grown / np.array(self._size * 2)
        left, top = np.floor(np.clip(shares[:2], 0, 999)).astype(int).tolist()
        right, bottom = np.ceil(np.clip(shares[2:], 1, 1000)).astype(int).tolist()
        boxes = self._boxes.setdefault(index, [])
        if len(boxes) < 3 * MOST_FACES:
            boxes.append((left, top, right, bottom))


def _move(before: Pixels, after: Pixels, faces: list[Edges]) -> list[Edges | None]:
    """Return where faces of one frame are in another: each moved and zoomed as most of its points are.

    None: too few of its points are found again.
    """
    inner = np.linspace(0.15, 0.85, POINTS, dtype=np.float32)
    grid = np.stack(np.meshgrid(inner, inner), axis=-1).reshape(-1, 2)
    edges = np.array(faces, np.float32)
    points = edges[:, None, :2] + grid * (edges[:, None, 2:] - edges[:, None, :2])
    start = points.reshape(-1, 1, 2)
    there, is_found = _find(before, after, start)
    back, is_back = _find(after, before, there)
    error = np.abs(back - start).max(axis=(1, 2))
    good = ((is_found & is_back)[:, 0] > 0) & (error < BACK)
    ends = there.reshape(points.shape)
    moved: list[Edges | None] = []
    for face, begin, end, kept in zip(edges, points, ends, good.reshape(len(faces), -1), strict=True):
        if kept.mean() < LEAST_POINTS:
            moved.append(None)
            continue
        shift = np.median(end[kept] - begin[kept], axis=0)
        spread = [np.abs(each[kept] - np.median(each[kept], axis=0)).sum() for each in (begin, end)]
        zoom = float(np.clip(spread[1] / max(spread[0], 1e-3), *ZOOM))
        centre, half = (face[:2] + face[2:]) / 2 + shift, (face[2:] - face[:2]) / 2 * zoom
        moved.append(np.concatenate([centre - half, centre + half]).astype(np.float32))
    return moved


def _find(before: Pixels, after: Pixels, points: Edges) -> tuple[Edges, NDArray[np.uint8]]:
    """Return where the points are in the frame `after`, and whether each was found (Lucas and Kanade)."""
    there: Any = np.empty_like(points)
    there, found, _ = cv2.calcOpticalFlowPyrLK(before, after, points, there, winSize=WINDOW, maxLevel=LEVELS)
    return there, np.asarray(found, np.uint8)


def _merged(boxes: list[Box]) -> tuple[Box, ...]:
    """Return the boxes, those that mostly cover each other as one that covers both; in order."""
    merged: list[Box] = []
    for box in sorted(set(boxes)):
        for number, other in enumerate(merged):
            if _mostly(box, other):
                merged[number] = (
                    min(box[0], other[0]),
                    min(box[1], other[1]),
                    max(box[2], other[2]),
                    max(box[3], other[3]),
                )
                break
        else:
            merged.append(box)
    return tuple(merged)


def _mostly(one: Box, other: Box) -> bool:
    """Whether half of the smaller box lies in the other one."""
    wide = min(one[2], other[2]) - max(one[0], other[0])
    high = min(one[3], other[3]) - max(one[1], other[1])
    least = min((box[2] - box[0]) * (box[3] - box[1]) for box in (one, other))
    return wide > 0 and high > 0 and wide * high >= 0.6 * least
