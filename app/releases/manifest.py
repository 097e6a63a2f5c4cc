"""The manifest of a release: JSON Lines that name all that is in it. Its SHA-256 names the release.

The first line tells what the release is. A line follows for each episode, for each submission that was
chosen and left out, and for each file, in this order. Keys are sorted and nothing is spaced, so the same
release gives the same bytes. Neither writing nor reading holds more than a line.
"""

import json
from collections.abc import Iterable, Iterator, Mapping
from hashlib import sha256
from pathlib import Path
from typing import Any

from app.datasets.model import BuiltFile, Episode
from app.releases.models import LeftOut

VERSION = 1
MAX_LINE_BYTES = 2**20


class BrokenManifest(Exception):
    """A file is no manifest that we can read. The message says why."""


def write(
    path: Path,
    head: Mapping[str, Any],
    episodes: Iterable[Episode],
    left_out: Iterable[LeftOut],
    files: Iterable[BuiltFile],
) -> str:
    """Write a manifest and return its SHA-256 in hex."""
    digest = sha256()
    with path.open("wb") as file:

        def put(line: Mapping[str, Any]) -> None:
            text = json.dumps(line, sort_keys=True, separators=(",", ":"), ensure_ascii=False) + "\n"
            digest.update(text.encode())
            file.write(text.encode())

        put({"manifest": VERSION, **head})
        for episode in episodes:
            put(
                {
                    "episode": episode.index,
                    "submission": episode.uuid,
                    "split": episode.split,
                    "licence": episode.licence,
                    "final_score": episode.final_score,
                    "source_sha256": episode.source_sha256,
                    "film_sha256": episode.film.sha256,
                    "film_made_by": episode.film.made_by,
                    "judge": episode.judged.model,
                    "prompt_version": episode.judged.prompt_version,
                    "judged_by_software": episode.judged.software,
                }
            )
        for each in left_out:
            put({"left_out": str(each.submission_uuid), "reason": each.reason})
        for built in files:
            put({"file": built.path, "sha256": built.sha256, "bytes": built.bytes})
    return digest.hexdigest()


def read_files(path: Path) -> Iterator[BuiltFile]:
    """Yield the files that a manifest names. Raises BrokenManifest."""
    with path.open("rb") as file:
        first = _decode(file.readline(MAX_LINE_BYTES))
        if first.get("manifest") != VERSION:
            raise BrokenManifest(
                f"It is of the version {first.get('manifest')}, and this software reads {VERSION}."
            )
        while line := file.readline(MAX_LINE_BYTES):
            fields = _decode(line)
            if "file" in fields:
                yield _file(fields)


def _file(fields: Mapping[str, Any]) -> BuiltFile:
    built = BuiltFile(path=fields["file"], sha256=fields["sha256"], bytes=fields["bytes"])
    # it becomes the name of a file on the disk of who exports it
    parts = built.path.split("/")
    if any(part in ("", ".", "..") for part in parts) or "\\" in built.path or "\0" in built.path:
        raise BrokenManifest(f"It names the file {built.path!r}, which could lie anywhere.")
    return built


def _decode(line: bytes) -> dict[str, Any]:
    try:
        fields = json.loads(line)
    except ValueError as error:
        raise BrokenManifest("A line of it is not JSON.") from error
    if not isinstance(fields, dict):
        raise BrokenManifest("A line of it is not an object.")
    return fields
