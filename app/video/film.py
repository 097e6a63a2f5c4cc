"""Makes a film of a recording: its pictures in one form that all films share, and nothing else of it.

A film has a constant frame rate, square pixels and one of five shapes, so that films of a shape can be joined
without encoding them again. It has no sound, and nothing of the recording's metadata.
"""

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from pydantic import BaseModel, ConfigDict

from app.enums import Codec
from app.video.ffmpeg import ResourceLimits

Pixels = np.ndarray[Any, np.dtype[np.uint8]]
# takes a frame's index and its pixels (height, width, 3; blue, green, red), and returns what is to be shown
Edit = Callable[[int, Pixels], Pixels]

LIMITS = ResourceLimits(cpu_seconds=1500, wall_seconds=3600, file_bytes=2**32)


@dataclass(frozen=True)
class Recipe:
    """How films are made. What is made by one recipe fits together.

    A keyframe stands every `gop` frames. `revision` changes whenever the code below makes other bytes.
    """

    codec: Codec = Codec.H264
    fps: int = 30
    long_side: int = 1280
    gop: int = 10
    revision: int = 1

    @property
    def name(self) -> str:
        """Return the recipe as a word, such as "h264-1280-30fps-gop10-r1"."""
        return f"{self.codec}-{self.long_side}-{self.fps}fps-gop{self.gop}-r{self.revision}"


class Statistics(BaseModel):
    """Of the channels red, green and blue, in [0, 1], over the pixels of `count` frames of a film."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    count: int
    min: tuple[float, float, float]
    max: tuple[float, float, float]
    mean: tuple[float, float, float]
    std: tuple[float, float, float]
    q01: tuple[float, float, float]
    q10: tuple[float, float, float]
    q50: tuple[float, float, float]
    q90: tuple[float, float, float]
    q99: tuple[float, float, float]


class Film(BaseModel):
    """A film that was made. Frame i is shown at i / fps seconds.

    `picture` is where in a frame the recording is shown: left, top, width and height in pixels; the rest is
    black. `parameters` is the hash of what a decoder must know before the first frame: films that are joined
    have the same. `made_by` names the tools.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    sha256: str
    bytes: int
    recipe: str
    codec: Codec
    fps: int
    frames: int
    width: int
    height: int
    picture: tuple[int, int, int, int]
    source_width: int
    source_height: int
    source_fps: float
    parameters: str
    statistics: Statistics
    made_by: str

    @property
    def seconds(self) -> float:
        return self.frames / self.fps


def frames(source: Path, recipe: Recipe, height: int | None = None) -> Iterator[Pixels]:
    """Yield the frames of the film that `recipe` makes of `source`, in constant memory, before it is encoded.

    With `height` they are scaled to that many pixels, which must be even. Raises MediaFault or
    TransientError.
    """
    raise NotImplementedError


def make(
    source: Path,
    into: Path,
    recipe: Recipe,
    edit: Edit | None = None,
    check_lease: Callable[[], None] = lambda: None,
    limits: ResourceLimits = LIMITS,
) -> Film:
    """Write the film of `source` to `into`; `edit` changes its frames before they are encoded.

    The same source, recipe, edits and tools give the same bytes on any number of processors. `check_lease` is
    called every few seconds of video, and what it raises ends the work. `into` must be in a directory of its
    own. Raises MediaFault or TransientError.
    """
    raise NotImplementedError
