"""What is told of a film besides its scores. Nothing of it is part of a score."""

from typing import Annotated

from pydantic import BaseModel, ConfigDict, Field

Share = Annotated[float, Field(ge=0, le=1)]


class Flag(BaseModel):
    """Something that may tell who was filmed or where, to be looked at: a number plate or a screen that is read.

    `seconds` of the film, and where: left, top, right and bottom as shares of the picture's sides.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    kind: str
    seconds: float
    box: tuple[float, float, float, float]


class Attributes(BaseModel):
    """What was measured of a normalised film. None: nothing here measures it, or there is no sound.

    Shares are of the frames looked at. `by` names for each attribute what measured it, with its version.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    # how many frames the detectors looked at
    looked_at: int
    # frames with no hand, one hand, and two or more
    hands_none: Share | None = None
    hands_one: Share | None = None
    hands_two: Share | None = None
    # How far the camera is from its own path smoothed over a second: root mean square, of the picture's width.
    shake: float | None = None
    # mean change around each moment, as in the measures of quality
    motion: float | None = None
    cuts: int | None = None
    # frames with a face, and the most faces in one
    faces: Share | None = None
    faces_most: int | None = None
    # frames with writing
    text: Share | None = None
    # share of the original sound
    speech: Share | None = None
    # frames with a number plate, or with a lit screen with writing
    plates: Share | None = None
    screens: Share | None = None
    flags: tuple[Flag, ...] = ()
    by: dict[str, str]
