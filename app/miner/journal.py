"""What a miner's command has done for each video, so that the next run continues from there."""

import hashlib
import json
import os
import time
from dataclasses import asdict, dataclass, field
from pathlib import Path


@dataclass
class Entry:
    """Upload and submission of one file by one hotkey to one backend. `expires_at` is in Unix time.

    An upload in parts has no address of its own. `etags` has the ETag of each part that has arrived, and None
    for the others.
    """

    video_key: str
    upload_url: str
    headers: dict[str, str]
    expires_at: float
    is_uploaded: bool = False
    # prompt id -> submission uuid
    submissions: dict[str, str] = field(default_factory=dict)
    # 0: in one piece
    part_bytes: int = 0
    etags: list[str | None] = field(default_factory=list)

    @property
    def is_usable(self) -> bool:
        """Whether its key can still be submitted."""
        return self.is_uploaded or time.time() < self.expires_at


class Journal:
    """A directory with a file per video, readable by its owner only: an upload URL is a credential."""

    def __init__(self, directory: Path):
        self._directory = directory

    def find(self, *names: str) -> Entry | None:
        """The entry of backend, hotkey and video hash, or None."""
        try:
            return Entry(**json.loads(self._path(*names).read_text()))
        except (FileNotFoundError, ValueError, TypeError):
            return None

    def keep(self, entry: Entry, *names: str) -> None:
        """Write the entry, whole or not at all."""
        self._directory.mkdir(parents=True, exist_ok=True, mode=0o700)
        path = self._path(*names)
        partial = path.with_suffix(f".{os.getpid()}")
        partial.touch(mode=0o600)
        partial.write_text(json.dumps(asdict(entry)))
        partial.replace(path)

    def forget(self, *names: str) -> None:
        """Delete the entry; there may be none."""
        self._path(*names).unlink(missing_ok=True)

    def _path(self, *names: str) -> Path:
        return self._directory / (hashlib.sha256("\n".join(names).encode()).hexdigest()[:32] + ".json")
