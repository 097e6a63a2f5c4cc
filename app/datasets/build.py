"""Builds the files of a release, one at a time."""

from collections.abc import Callable, Iterable
from pathlib import Path

from app.datasets.model import BuiltFile, Episode, Header
from app.datasets.plan import Part

# where the film of an episode lies, and its masks if it has any
FilmOf = Callable[[Episode], Path]
MasksOf = Callable[[Episode], Path | None]


def build(
    part: Part,
    header: Header,
    episodes: Iterable[Episode],
    film: FilmOf,
    into: Path,
    masks: MasksOf = lambda episode: None,
    built: Iterable[BuiltFile] = (),
) -> BuiltFile:
    """Write a part to `into / part.path`.

    `episodes` are those that the part names, in its order, or all of the release if it names none. `film` and
    `masks` are asked for each episode of a part that needs films. `built` are all other files, for the parts
    that are built last. The same episodes and films give the same bytes. Raises TransientError if ffmpeg
    fails.
    """
    raise NotImplementedError
