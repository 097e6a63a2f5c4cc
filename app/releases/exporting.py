"""Checks what is stored of a release, and copies it to a directory or another bucket.

Files come one after the other, and of each only a piece is in memory. The manifest is copied last: where it
is, all is.
"""

import os
import re
import tempfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

from app.clients.storage import Storage
from app.datasets.model import BuiltFile
from app.db import db
from app.enums import ReleaseState
from app.errors import Conflict, invalid_field
from app.releases import manifest, places, queries
from app.releases.models import Release
from app.video.download import download
from app.video.ffmpeg import MediaFault

URL_SECONDS = 6 * 3600
MAX_BYTES = 2**40
SHOWN_AT_MOST = 10
HASH = "sha256"

# is told the path of a file and its size when it is done
Tell = Callable[[str, int], None]


@dataclass(frozen=True)
class Problem:
    """What is wrong with a file of a release, or with its manifest."""

    path: str
    reason: str


class Target(Protocol):
    """Where a release is exported to."""

    def has(self, file: BuiltFile) -> bool:
        """Whether it holds the file with these bytes."""

    def put(self, release: str, file: BuiltFile) -> None:
        """Copy the file, all of it or nothing. Raises TransientError, or Conflict if its bytes are others."""


def verify(release: Release, storage: Storage, tell: Tell) -> list[Problem]:
    """Read all that is stored of a complete release, and return what is wrong with it.

    The manifest must have the hash that names the release, and each file the hash that the manifest gives it.
    """
    require_complete(release)
    problems = []
    with _fetched_manifest(release, storage) as (path, wrong):
        if wrong:
            return [Problem(places.MANIFEST, wrong)]
        for file in manifest.read_files(path):
            if reason := _compare(release.name, file, Path(os.devnull), storage):
                problems.append(Problem(file.path, reason))
            tell(file.path, file.bytes)
    return problems


def export(release: Release, target: Target, storage: Storage, tell: Tell) -> int:
    """Copy a complete release to `target`; return how many files were copied and not there already.

    What is there already, from an export that broke off, is not copied again. Raises Conflict if the release
    is not complete, if a film in it was taken down, or if what is stored is not what was written.
    """
    require_complete(release)
    _require_clean(release)
    copied = 0
    with _fetched_manifest(release, storage) as (path, wrong):
        if wrong:
            raise Conflict(f"The manifest of {release.name} in storage cannot be used. {wrong}")
        for file in manifest.read_files(path):
            if not target.has(file):
                target.put(release.name, file)
                copied += 1
            tell(file.path, file.bytes)
        # an export may take days
        _require_clean(release)
        assert release.manifest_sha256 is not None
        target.put(
            release.name,
            BuiltFile(path=places.MANIFEST, sha256=release.manifest_sha256, bytes=path.stat().st_size),
        )
    return copied


class Directory:
    """A directory as a target. Files in it that are not of the release are left alone."""

    def __init__(self, directory: Path, release: Release, storage: Storage):
        self._directory = directory
        self._storage = storage
        directory.mkdir(parents=True, exist_ok=True)
        there = directory / places.MANIFEST
        if there.exists() and places.hash_file(there) != release.manifest_sha256:
            raise Conflict(
                f"{directory} holds another release, or another manifest; choose another directory."
            )

    def has(self, file: BuiltFile) -> bool:
        path = self._directory / file.path
        return path.is_file() and path.stat().st_size == file.bytes and places.hash_file(path) == file.sha256

    def put(self, release: str, file: BuiltFile) -> None:
        path = self._directory / file.path
        path.parent.mkdir(parents=True, exist_ok=True)
        part = path.with_name(f".{path.name}.part")
        if reason := _compare(release, file, part, self._storage):
            part.unlink(missing_ok=True)
            raise Conflict(f"{file.path}: {reason} `kibotos releases verify {release}` checks all files.")
        part.replace(path)


class Bucket:
    """A bucket at the store of the videos as a target, under a prefix. The store copies the objects."""

    def __init__(self, bucket: str, prefix: str, storage: Storage):
        self._bucket = bucket
        self._prefix = f"{prefix.strip('/')}/" if prefix.strip("/") else ""
        self._storage = storage

    def has(self, file: BuiltFile) -> bool:
        found = self._storage.find_metadata(self._bucket, self._prefix + file.path)
        return found is not None and found.get(HASH) == file.sha256

    def put(self, release: str, file: BuiltFile) -> None:
        if reason := _compare(release, file, Path(os.devnull), self._storage):
            raise Conflict(f"{file.path}: {reason} `kibotos releases verify {release}` checks all files.")
        self._storage.copy(
            places.file_key(release, file.path),
            self._prefix + file.path,
            places.content_type(file.path),
            to_bucket=self._bucket,
            metadata={HASH: file.sha256},
        )


def find_target(out: str, release: Release, storage: Storage) -> Target:
    """Return what `out` names: a bucket, as s3://bucket/prefix, or a directory. Raises Invalid, Conflict."""
    if not out.startswith("s3:"):
        return Directory(Path(out), release, storage)
    found = re.fullmatch(r"s3://([a-z0-9][a-z0-9.-]{1,61}[a-z0-9])(?:/(.*))?", out)
    if not found:
        raise invalid_field("out", "an address of a bucket looks like s3://bucket/prefix.")
    return Bucket(found[1], found[2] or "", storage)


def require_complete(release: Release) -> None:
    """Raise Conflict unless a release is complete."""
    if release.state != ReleaseState.COMPLETE:
        raise Conflict(
            f"The release {release.name} is not complete; `kibotos releases show {release.name}` tells how "
            "far it is."
        )


def _require_clean(release: Release) -> None:
    gone = queries.list_taken_down(release.id, SHOWN_AT_MOST)
    db.session.rollback()
    if gone:
        raise Conflict(
            f"{release.name} holds videos that were taken down, such as {gone[0]}, and is given out no more. "
            f"Make its successor without them: kibotos releases create NEW-NAME --from {release.name}"
        )


@contextmanager
def _fetched_manifest(release: Release, storage: Storage) -> Iterator[tuple[Path, str | None]]:
    """The manifest in a temporary file, and what is wrong with it or None."""
    with tempfile.TemporaryDirectory(prefix="release-") as directory:
        path = Path(directory) / places.MANIFEST
        found, wrong = _download(places.file_key(release.name, places.MANIFEST), path, storage)
        if not wrong and found != release.manifest_sha256:
            wrong = f"Its hash is {found}, and {release.manifest_sha256} names the release."
        yield path, wrong


def _compare(release: str, file: BuiltFile, into: Path, storage: Storage) -> str | None:
    """Download a file; return what is wrong with it, or None."""
    found, wrong = _download(places.file_key(release, file.path), into, storage)
    if not wrong and found != file.sha256:
        wrong = f"Its bytes in storage have the hash {found}, and not {file.sha256}."
    return wrong


def _download(key: str, into: Path, storage: Storage) -> tuple[str, str | None]:
    url = storage.presign_get(key, URL_SECONDS, public=False)
    try:
        return download(url, into, MAX_BYTES, lambda: None), None
    except MediaFault:
        return "", "It is not in storage."
