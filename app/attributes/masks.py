"""Where faces are in every frame of a film, and how they are blurred there."""

from pathlib import Path
from typing import Any

import numpy as np
from pydantic import BaseModel, ConfigDict

Pixels = np.ndarray[Any, np.dtype[np.uint8]]
# left, top, right, bottom in thousandths of the picture's sides; it may reach beyond them
Box = tuple[int, int, int, int]


class Masks(BaseModel):
    """The boxes that are blurred in each frame of a film, by its index; frames that are not named have none."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    # what found the faces, with its version
    by: str
    frames: int
    boxes: dict[int, tuple[Box, ...]]

    def blur(self, index: int, frame: Pixels) -> Pixels:
        """Return the frame with its faces beyond recognition; the frame itself if it has none."""
        raise NotImplementedError

    def write(self, path: Path) -> None:
        """Write them as JSON, the same bytes each time."""
        path.write_text(self.model_dump_json())

    @classmethod
    def read(cls, path: Path) -> "Masks":
        """Raises pydantic's ValidationError if that is no file of masks."""
        return cls.model_validate_json(path.read_bytes())
