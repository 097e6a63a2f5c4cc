"""What is told of a film besides its scores. Nothing of it is part of a score."""

from enum import StrEnum
from typing import Annotated

from pydantic import BaseModel, ConfigDict, Field

Share = Annotated[float, Field(ge=0, le=1)]


class FlagKind(StrEnum):
    """What may tell who was filmed, or where."""

    PLATE = "plate"
    SCREEN = "screen"


class Flag(BaseModel):
    """A frame that a person should look at: something in it can be read.

    `box` is where: left, top, right and bottom as shares of the picture's sides.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    kind: FlagKind
    seconds: float
    box: tuple[float, float, float, float]


class Attributes(BaseModel):
    """What was measured of a normalised film. None: nothing here measures it, or there is no sound.

    Shares are of the frames looked at. `by` names what measured each attribute, with its version.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    # frames with no hand, one hand, and two or more
    hands_none: Share | None = None
    hands_one: Share | None = None
    hands_two: Share | None = None
    # how far the camera is from its path smoothed over a second: root mean square, as a share of the width
    shake: float | None = None
    # mean difference of pictures half a second apart, of 1
    motion: float | None = None
    cuts: int | None = None
    # frames with a face, and the most faces in one
    faces: Share | None = None
    faces_most: int | None = None
    # frames with writing
    text: Share | None = None
    # share of the original sound
    speech: Share | None = None
    # frames with what may be a number plate, and with a screen or a page, that can be read
    plates: Share | None = None
    screens: Share | None = None
    flags: tuple[Flag, ...] = ()
    by: dict[str, str]
