"""WebDataset shards: a tar in which the files of an episode follow one another under its UUID."""

import io
import tarfile
from collections.abc import Callable, Iterable
from pathlib import Path

from app.datasets.columns import canonical_json, json_record
from app.datasets.model import Episode


def write(
    episodes: Iterable[Episode],
    film: Callable[[Episode], Path],
    masks: Callable[[Episode], Path | None],
    path: Path,
) -> None:
    """Write a film, what is known of it and, if there are any, its masks for each episode."""
    with tarfile.open(path, "w", format=tarfile.USTAR_FORMAT) as tar:
        for episode in episodes:
            _add(tar, f"{episode.uuid}.mp4", film(episode))
            if sidecar := masks(episode):
                _add(tar, f"{episode.uuid}.masks.json", sidecar)
            text = canonical_json(json_record(episode)).encode()
            tar.addfile(_entry(f"{episode.uuid}.json", len(text)), io.BytesIO(text))


def _add(tar: tarfile.TarFile, name: str, path: Path) -> None:
    with path.open("rb") as file:
        tar.addfile(_entry(name, path.stat().st_size), file)


def _entry(name: str, size: int) -> tarfile.TarInfo:
    """Return a header that says nothing of the machine or the time."""
    entry = tarfile.TarInfo(name)
    entry.size = size
    entry.mode = 0o644
    return entry
