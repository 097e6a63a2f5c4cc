"""Measures how a film moves: its cuts, how much changes, and how steadily the camera is held."""

from statistics import fmean
from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray

from app.video import motion, shots

Pixels = np.ndarray[Any, np.dtype[np.uint8]]

# as the scan of a recording makes them
THUMBNAIL = (32, 18)
# what changes is measured on so many grey pictures a second, of this size
CHANGE_RATE = 4.0
CHANGE_SIZE = (96, 54)
# The camera's path is measured on the inner part of pictures of this size: a film may have black bars.
PATH_SIZE = (192, 108)
INNER = np.s_[10:98, 16:176]
# seconds over which a path is smoothed
SMOOTH = 1.0
# a shift of more than this share of the width from one frame to the next is none of a camera, or not told
FARTHEST = 0.25


class Movement:
    """Takes the frames of a film in order, in grey, and measures them at their end.

    It keeps 600 bytes of each frame, and a small picture for every CHANGE_RATE-th of a second.
    """

    def __init__(self, fps: float) -> None:
        self._fps = fps
        self._thumbnails: list[Pixels] = []
        self._small: list[Pixels] = []
        self._seconds: list[float] = []
        self._shifts: list[tuple[float, float]] = []
        self._before: NDArray[np.float32] | None = None
        self._window = cv2.createHanningWindow((160, 88), cv2.CV_32F)

    def add(self, grey: Pixels) -> None:
        """Take the next frame: height x width."""
        index = len(self._thumbnails)
        self._thumbnails.append(_shrunk(grey, THUMBNAIL).ravel())
        if index >= len(self._small) * self._fps / CHANGE_RATE:
            self._small.append(_shrunk(grey, CHANGE_SIZE))
            self._seconds.append(index / self._fps)
        picture = _shrunk(grey, PATH_SIZE)[INNER].astype(np.float32)
        if self._before is not None:
            shift, _ = cv2.phaseCorrelate(self._before, picture, self._window)
            self._shifts.append((shift[0] / PATH_SIZE[0], shift[1] / PATH_SIZE[0]))
        self._before = picture

    def attributes(self) -> dict[str, Any]:
        """Return how many cuts there are, what changes, and how much the camera shakes.

        What changes is the mean difference of pictures half a second apart, of 1. The camera shakes by how
        far it is from its own path, smoothed over a second: root mean square, as a share of the picture's
        width; None if the film is shorter than that second.
        """
        count = len(self._thumbnails)
        every = np.arange(count) / self._fps
        cuts = shots.find(np.array(self._thumbnails), every, count / self._fps).starts
        changes = motion.changes(np.array(self._small), self._seconds, cuts)
        return {"cuts": len(cuts), "motion": round(fmean(changes), 5), "shake": self._shake(cuts)}

    def _shake(self, cuts: tuple[float, ...]) -> float | None:
        width = round(SMOOTH * self._fps)
        steps = np.array(self._shifts, np.float64).reshape(-1, 2)
        if len(steps) < width:
            return None
        steps[np.abs(steps).max(axis=1) > FARTHEST] = 0
        # a cut is no movement
        steps[[min(round(cut * self._fps) - 1, len(steps) - 1) for cut in cuts]] = 0
        path = np.cumsum(steps, axis=0)
        sums = np.cumsum(np.vstack([np.zeros((1, 2)), path]), axis=0)
        smooth = (sums[width:] - sums[:-width]) / width
        rest = path[width // 2 : width // 2 + len(smooth)] - smooth
        return round(float(np.sqrt((rest**2).sum(axis=1).mean())), 5)


def _shrunk(grey: Pixels, size: tuple[int, int]) -> Pixels:
    return np.asarray(cv2.resize(grey, size, interpolation=cv2.INTER_AREA), np.uint8)
