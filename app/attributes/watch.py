"""Decides in which frames of a film faces are looked for, and has them followed through all others."""

from typing import Any

import cv2
import numpy as np

from app.attributes.faces import FaceFinder, Faces
from app.attributes.follower import SURE, Follower
from app.attributes.masks import Masks, Pixels

GREY_SIDE = 480
# Faces that stand upright are looked for so often a second, and all faces so often.
QUICK_RATE = 4.0
THOROUGH_RATE = 1.0
# If a frame shows something else than the last that was looked at, it is looked at, too; but no more often
# than this a second, and never thoroughly, which bounds the time that a film takes.
MOST_RATE = 10.0
# by how many grey levels a thumbnail differs then, of this many pixels
OTHER = 18.0
THUMBNAIL = (32, 18)


def in_grey(frame: Pixels) -> Pixels:
    """Return a frame as faces and the camera are followed in it: in grey, its longer side GREY_SIDE."""
    scale = min(GREY_SIDE / max(frame.shape[:2]), 1.0)
    small = cv2.resize(frame, None, fx=scale, fy=scale, interpolation=cv2.INTER_AREA)
    return np.asarray(cv2.cvtColor(small, cv2.COLOR_BGR2GRAY), np.uint8)


class FaceWatch:
    """Takes the frames of a film in order; afterwards `masks` tells where faces are in every one of them."""

    def __init__(self, fps: float, finder: FaceFinder) -> None:
        self._finder = finder
        self._fps = fps
        self._follower = Follower(fps)
        self._quick = self._thorough = -1e9
        self._seen = np.zeros(THUMBNAIL[::-1], np.float32)
        self._last: tuple[Pixels, Pixels] | None = None
        # how many faces were found in each frame that was looked at thoroughly
        self._counts: list[int] = []

    def add(self, frame: Pixels, grey: Pixels) -> None:
        """Take the next frame: height x width x 3, blue, green and red; and the same in grey, in small."""
        if self._last:
            self._take(*self._last, last=False)
        self._last = frame, grey

    def masks(self) -> Masks:
        """Return where the faces are. No frame can be added after that."""
        if self._last:
            self._take(*self._last, last=True)
            self._last = None
        return self._follower.masks(self._finder.by)

    def attributes(self) -> dict[str, Any]:
        """Return the share of the frames looked at thoroughly that have a face, and the most faces of one."""
        share = sum(count > 0 for count in self._counts) / max(len(self._counts), 1)
        return {"faces": round(share, 4), "faces_most": max(self._counts, default=0)}

    def _take(self, frame: Pixels, grey: Pixels, last: bool) -> None:
        now = self._follower.frames
        thumbnail = cv2.resize(grey, THUMBNAIL, interpolation=cv2.INTER_AREA).astype(np.float32)
        waited = now - self._quick
        is_other = np.abs(thumbnail - self._seen).mean() >= OTHER
        found: Faces | None = None
        if last or now - self._thorough >= self._fps / THOROUGH_RATE:
            found = self._finder.thorough(frame)
            self._thorough = self._quick = now
            self._counts.append(int((found[:, 4] >= SURE).sum()))
        elif waited >= self._fps / QUICK_RATE or (is_other and waited >= self._fps / MOST_RATE):
            found = self._finder.quick(frame)
            self._quick = now
        if found is not None:
            self._seen = thumbnail
        self._follower.add(grey, found)
