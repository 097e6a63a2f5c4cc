"""Frames of a video as others take them up. Light to import: no numpy."""

from dataclasses import dataclass, field


@dataclass(frozen=True)
class Still:
    """A picture of the video as the judge sees it: a JPEG, and the second it is shown at."""

    seconds: float
    jpeg: bytes = field(repr=False)


@dataclass(frozen=True)
class FrameHash:
    """The perceptual hash (PDQ, 256 bits) of the frame shown at `seconds`, and that of its mirror image."""

    seconds: float
    pdq: bytes
    mirrored: bytes
