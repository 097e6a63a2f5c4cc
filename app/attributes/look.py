"""Looks at a film once, and tells what is measured of it and where its faces are."""

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

import structlog

from app.attributes.faces import FaceFinder
from app.attributes.hands import HandFinder
from app.attributes.masks import Masks, Pixels
from app.attributes.model import Attributes
from app.attributes.movement import Movement
from app.attributes.reading import Reader
from app.attributes.speech import SILERO, speech_share
from app.attributes.watch import FaceWatch, in_grey
from app.attributes.weights import DIRECTORY, NotInstalled
from app.version import VERSION
from app.video import film
from app.video.ffmpeg import MediaFault
from app.video.film import Recipe

# The optional detectors look at so many frames a second, and at no more of a film.
LOOK_RATE = 1.0
MOST_LOOKS = 300

log = structlog.get_logger(__name__)


class Detector(Protocol):
    """Looks at some frames of a film. Its constructor raises NotInstalled if its model is missing.

    `by` is the model's name and version.
    """

    by: str

    def look(self, seconds: float, frame: Pixels) -> None:
        """Look at a frame (height x width x 3; blue, green, red), which is shown at that time."""

    def attributes(self) -> dict[str, Any]:
        """Return the fields of Attributes that it measures, over all frames it looked at."""


@dataclass(frozen=True)
class Look:
    """What was seen of a film."""

    attributes: Attributes
    masks: Masks


def look(
    source: Path,
    recipe: Recipe,
    check_lease: Callable[[], None] = lambda: None,
    models: Path = DIRECTORY,
) -> Look:
    """Look at the film that `recipe` makes of `source`, and listen to the sound of `source`.

    Its time is bounded by the number of frames, and of each frame it keeps less than a kilobyte.
    `check_lease` is called every second of film, and what it raises ends the work. Raises MediaFault or
    TransientError; NotInstalled only if the model that finds faces is missing: nothing may be released
    unblurred. Without another model its attributes are None. `models` is where those are that come with us.
    """
    finder = FaceFinder(models)
    faces, movement = FaceWatch(recipe.fps, finder), Movement(recipe.fps)
    detectors = _installed(models)
    looks = 0
    for index, frame in enumerate(film.frames(source, recipe)):
        if index % recipe.fps == 0:
            check_lease()
        grey = in_grey(frame)
        faces.add(frame, grey)
        movement.add(grey)
        if index >= looks * recipe.fps / LOOK_RATE and looks < MOST_LOOKS:
            looks += 1
            for detector in detectors:
                detector.look(index / recipe.fps, frame)
    masks = faces.masks()
    own = f"Kibotos {VERSION}"
    told: dict[str, Any] = {}
    by: dict[str, str] = {}
    for name, values in (
        (finder.by, faces.attributes()),
        (own, movement.attributes()),
        *((detector.by, detector.attributes()) for detector in detectors),
        (SILERO.name, _listened(source, models)),
    ):
        told |= values
        by |= dict.fromkeys(values, name)
    return Look(Attributes(**told, by=by), masks)


def _installed(models: Path) -> list[Detector]:
    """Return the detectors that a film can be released without, as far as their models are there."""
    detectors = []
    makers: tuple[Callable[[], Detector], ...] = (lambda: HandFinder(models), Reader)
    for make in makers:
        try:
            detectors.append(make())
        except NotInstalled as error:
            log.warning("attributes_left_out", reason=error.reason)
    return detectors


def _listened(source: Path, models: Path) -> dict[str, Any]:
    """Return the share of speech, or nothing if there is no sound that can be decoded, or no model."""
    try:
        share = speech_share(source, models)
    except MediaFault:
        return {}
    except NotInstalled as error:
        log.warning("attributes_left_out", reason=error.reason)
        return {}
    return {} if share is None else {"speech": share}
