"""Counts the hands in a picture, by their palms."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray

from app.attributes.weights import DIRECTORY, Weights

Pixels = np.ndarray[Any, np.dtype[np.uint8]]

PALMS = Weights(
    "palm.onnx",
    "5a0ab8b23ef8af633166accf4990d3d61e485ce455c585b5ec0e64c54fa935a2",
    "MediaPipe palm detection, full (of mediapipe 0.10.14, in ONNX)",
)
SIDE = 192
# The model answers twice for each square of 8 pixels, and six times for each of 16.
ANSWERS = ((8, 2), (16, 6))
SURE = 0.6


class HandFinder:
    """Counts hands by MediaPipe's palm detector. Raises NotInstalled if its weights are not installed."""

    by = PALMS.name

    def __init__(self, directory: Path = DIRECTORY) -> None:
        self._model = PALMS.load(directory)
        self._input = self._model.get_inputs()[0].name
        self._centres = _centres()
        # how many frames had no hand, one, and two or more
        self._frames = [0, 0, 0]

    def look(self, seconds: float, frame: Pixels) -> None:
        self._frames[min(self.count(frame), 2)] += 1

    def attributes(self) -> dict[str, Any]:
        shares = [round(count / max(sum(self._frames), 1), 4) for count in self._frames]
        return dict(zip(("hands_none", "hands_one", "hands_two"), shares, strict=True))

    def count(self, picture: Pixels) -> int:
        """Return how many palms are seen in the picture as a whole and in the squares at its ends."""
        found = np.concatenate([self._look(picture, *square) for square in _squares(picture)])
        hands: list[NDArray[np.float32]] = []
        for palm in found[np.argsort(-found[:, 4], kind="stable")]:
            if not any(_is_same(palm, hand) for hand in hands):
                hands.append(palm)
        return len(hands)

    def _look(self, picture: Pixels, left: int, top: int, side: int) -> NDArray[np.float32]:
        """Return the palms in a square of the picture: their edges in pixels, and how sure the model is."""
        height, width = picture.shape[:2]
        part = picture[max(top, 0) : top + side, max(left, 0) : left + side]
        padded = cv2.copyMakeBorder(
            part,
            max(-top, 0),
            max(top + side - height, 0),
            max(-left, 0),
            max(left + side - width, 0),
            cv2.BORDER_CONSTANT,
        )
        shown = cv2.resize(padded, (SIDE, SIDE), interpolation=cv2.INTER_AREA)
        batch = (shown[np.newaxis, ..., ::-1] / np.float32(255)).astype(np.float32)
        places, marks = self._model.run(None, {self._input: batch})
        sure = 1 / (1 + np.exp(-np.clip(marks[0, :, 0], -50, 50)))
        seen = sure >= SURE
        centres = self._centres[seen] + places[0, seen, :2] / SIDE
        half = places[0, seen, 2:4] / SIDE / 2
        edges = np.concatenate([centres - half, centres + half], axis=1) * side + (left, top, left, top)
        return np.column_stack([edges, sure[seen]]).astype(np.float32)


def _is_same(one: NDArray[np.float32], other: NDArray[np.float32]) -> bool:
    """Whether two answers mean one hand: their middles lie closer than the larger palm is wide."""
    away = np.abs((one[:2] + one[2:4]) - (other[:2] + other[2:4])).max() / 2
    return bool(away < max((one[2:4] - one[:2]).max(), (other[2:4] - other[:2]).max()))


def _squares(picture: Pixels) -> Iterator[tuple[int, int, int]]:
    """Yield the square around the picture, and the two at its ends if it is no square itself."""
    height, width = picture.shape[:2]
    side = max(height, width)
    yield (width - side) // 2, (height - side) // 2, side
    least = min(height, width)
    if side >= 1.2 * least:
        yield 0, 0, least
        yield width - least, height - least, least


def _centres() -> NDArray[np.float32]:
    """Return the point of the square that each answer of the model is relative to, in shares of its side."""
    centres = []
    for cell, answers in ANSWERS:
        count = SIDE // cell
        middles = (np.arange(count) + 0.5) / count
        grid = np.stack(np.meshgrid(middles, middles), axis=-1).reshape(-1, 2)
        centres.append(np.repeat(grid, answers, axis=0))
    return np.concatenate(centres).astype(np.float32)
