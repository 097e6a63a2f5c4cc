"""Where releases lie in storage, and what their files are told apart by."""

import hashlib
from pathlib import Path

PREFIX = "releases/"
# the films of all releases
FILMS_PREFIX = f"{PREFIX}films/"
MANIFEST = "manifest.jsonl"


def film_key(source_sha256: str, recipe: str, ending: str = ".mp4") -> str:
    """The key of a film, or of a sidecar with another `ending`."""
    return f"{FILMS_PREFIX}{source_sha256}/{recipe}{ending}"


FILM_ENDINGS = {".mp4": "video/mp4", ".json": "application/json", ".masks.json": "application/json"}


def file_key(release: str, path: str) -> str:
    return f"{PREFIX}{release}/{path}"


def content_type(path: str) -> str:
    """What storage is told of a file of a release."""
    types = {
        "mp4": "video/mp4",
        "json": "application/json",
        "jsonl": "application/jsonl",
        "md": "text/markdown; charset=utf-8",
        "tar": "application/x-tar",
        "parquet": "application/vnd.apache.parquet",
    }
    return types.get(path.rpartition(".")[2], "application/octet-stream")


def hash_file(path: Path) -> str:
    """Return the SHA-256 of a file in hex."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
