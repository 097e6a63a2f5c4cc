"""Where faces are in every frame of a film, and how they are blurred there."""

from pathlib import Path
from typing import Any

import cv2
import numpy as np
from pydantic import BaseModel, ConfigDict

Pixels = np.ndarray[Any, np.dtype[np.uint8]]
# left, top, right, bottom in thousandths of the frame's sides
Box = tuple[int, int, int, int]

# What is left of a face: so many patches across and down, blended into each other.
PATCHES = 4
# The ellipse that is blurred reaches this much beyond the box, as a share of its sides: so it covers the
# corners but for their tips.
BEYOND = 0.15
# the edge of what is blurred is soft over this share of its smaller side
SOFT = 0.06


class Masks(BaseModel):
    """The boxes that are blurred in each frame of a film, by its index; frames not named have none."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    # what found the faces, with its version
    by: str
    frames: int
    boxes: dict[int, tuple[Box, ...]]

    def blur(self, index: int, frame: Pixels) -> Pixels:
        """Return the frame with its faces beyond recognition; the very same frame if it has none."""
        if not (boxes := self.boxes.get(index)):
            return frame
        blurred = frame.copy()
        for box in boxes:
            _blur(blurred, box)
        return blurred

    def covers(self, index: int, x: float, y: float) -> bool:
        """Whether a point, given in shares of the frame's sides, is blurred beyond recognition."""
        return any(_inside(box, 1000 * x, 1000 * y) >= SOFT for box in self.boxes.get(index, ()))

    def write(self, path: Path) -> None:
        """Write them as JSON, the same bytes each time."""
        path.write_text(self.model_dump_json())

    @classmethod
    def read(cls, path: Path) -> "Masks":
        """Return what was written. Raises pydantic's ValidationError if that is no file of masks."""
        return cls.model_validate_json(path.read_bytes())


def _inside(box: Box, x: Any, y: Any) -> Any:
    """Return how far inside of a box's ellipse points are: 1 in the middle, 0 at its edge, less beyond it."""
    across, down = ((box[past] - box[past - 2]) * (0.5 + BEYOND) for past in (2, 3))
    return 1 - np.hypot((x - (box[0] + box[2]) / 2) / across, (y - (box[1] + box[3]) / 2) / down)


def _blur(frame: Pixels, box: Box) -> None:
    """Blur an ellipse around a box, in place."""
    height, width = frame.shape[:2]
    left, right = box[0] * width / 1000, box[2] * width / 1000
    top, bottom = box[1] * height / 1000, box[3] * height / 1000
    across, down = (right - left) * (0.5 + BEYOND), (bottom - top) * (0.5 + BEYOND)
    x, y = (left + right) / 2, (top + bottom) / 2
    rows = slice(max(int(y - down), 0), min(int(np.ceil(y + down)) + 1, height))
    columns = slice(max(int(x - across), 0), min(int(np.ceil(x + across)) + 1, width))
    part = frame[rows, columns]
    if not part.size:
        return
    patches = cv2.resize(part, (PATCHES, PATCHES), interpolation=cv2.INTER_AREA)
    plain = cv2.resize(patches, part.shape[1::-1], interpolation=cv2.INTER_LINEAR)
    vertical, horizontal = np.ogrid[rows, columns]
    inside = _inside(box, (horizontal + 0.5) * 1000 / width, (vertical + 0.5) * 1000 / height)
    weight = np.clip(inside / SOFT, 0, 1).astype(np.float32)[..., np.newaxis]
    part[:] = (plain * weight + part * (1 - weight) + 0.5).astype(np.uint8)
