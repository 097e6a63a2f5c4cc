"""Builds the files of a release, one at a time."""

import hashlib
import shutil
import tempfile
from collections.abc import Callable, Iterable
from importlib.util import find_spec
from pathlib import Path

from app.datasets import card, croissant, summary, webdataset
from app.datasets.model import BuiltFile, Episode, Header
from app.datasets.plan import Part, PartKind
from app.errors import TransientError

# where the film of an episode lies, and its masks if it has any
FilmOf = Callable[[Episode], Path]
MasksOf = Callable[[Episode], Path | None]


def check() -> None:
    """Raise TransientError, with what to do, if this machine lacks what writes releases."""
    if find_spec("pyarrow") is None:
        raise TransientError("Releases need pyarrow: pip install 'kibotos[releases]'.")


def build(
    part: Part,
    header: Header,
    episodes: Iterable[Episode],
    film: FilmOf,
    into: Path,
    masks: MasksOf = lambda episode: None,
    built: Iterable[BuiltFile] = (),
) -> BuiltFile:
    """Write a part to `into / part.path`, as a whole or not at all.

    `episodes` are those that the part names, in its order, or all of the release if it names none. `film` and
    `masks` are asked for each episode of a part that needs films. `built` are all other files, for the parts
    that are built last. The same episodes and films give the same bytes. Raises TransientError if ffmpeg
    fails, or ValueError if the episodes are not those of a plan.
    """
    check()
    target = into / part.path
    target.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=into, prefix=".building-") as name:
        path = Path(name) / target.name
        _write(part, header, episodes, film, path, masks, built)
        size = path.stat().st_size
        with path.open("rb") as file:
            sha256 = hashlib.file_digest(file, "sha256").hexdigest()
        shutil.move(path, target)
    return BuiltFile(path=part.path, sha256=sha256, bytes=size)


def _write(
    part: Part,
    header: Header,
    episodes: Iterable[Episode],
    film: FilmOf,
    path: Path,
    masks: MasksOf,
    built: Iterable[BuiltFile],
) -> None:
    # they need pyarrow, which not every machine has
    from app.datasets import lerobot, tables

    match part.kind:
        case PartKind.LEROBOT_VIDEO:
            lerobot.write_video(part, episodes, film, path)
        case PartKind.LEROBOT_DATA:
            lerobot.write_data(part, header, episodes, path)
        case PartKind.LEROBOT_EPISODES:
            lerobot.write_episodes(part, header, episodes, path)
        case PartKind.LEROBOT_INFO:
            lerobot.write_info(part, header, episodes, path)
        case PartKind.LEROBOT_STATS:
            lerobot.write_stats(part, header, episodes, path)
        case PartKind.LEROBOT_TASKS:
            lerobot.write_tasks(episodes, path)
        case PartKind.WEBDATASET:
            webdataset.write(episodes, film, masks, path)
        case PartKind.PARQUET:
            tables.write(episodes, path)
        case PartKind.CARD:
            path.write_text(card.render(header, summary.summarise(episodes)))
        case PartKind.CROISSANT:
            path.write_text(croissant.render(header, summary.summarise(episodes), built))
