"""What a validator remembers across restarts: a small file, replaced whole at each change."""

import fcntl
import os
from pathlib import Path

from pydantic import AwareDatetime, BaseModel, ValidationError


class UnusableMemory(Exception):
    """The file cannot serve as a validator's memory; the message is a sentence about what to do."""


class Attempt(BaseModel):
    """An attempt to set weights: when the weights were made, and the block at which any were set before."""

    created_at: AwareDatetime
    last_update: int


class Memory(BaseModel):
    """When the last weights that were set had been made, and an attempt with an unknown outcome, if any.

    The time identifies the weights of a cycle, even if a backend starts to count its cycles from 1 again.
    `keys` are the backend's, as it named them itself: what they signed may come from elsewhere.
    """

    created_at: AwareDatetime | None = None
    attempt: Attempt | None = None
    keys: list[str] = []


class MemoryFile:
    """The memory in `file`. Unless `read_only`, no other process can use it until this object is gone.

    Raises UnusableMemory if another process uses it, or if the file is something else.
    """

    def __init__(self, file: Path, read_only: bool = False):
        self._file = file
        self._read_only = read_only
        try:
            if not read_only:
                file.parent.mkdir(parents=True, exist_ok=True)
                self._lock = file.with_suffix(".lock").open("w")
                fcntl.flock(self._lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
            self.memory = self._load()
        except BlockingIOError:
            raise UnusableMemory(f"Another validator uses {file}; stop it first.") from None
        except OSError as error:
            raise UnusableMemory(
                f"{file} cannot be used: {error.strerror}. Name another directory by --state-dir."
            ) from error

    def _load(self) -> Memory:
        try:
            return Memory.model_validate_json(self._file.read_bytes())
        except FileNotFoundError:
            return Memory()
        except ValidationError as error:
            raise UnusableMemory(
                f"{self._file} is not a validator's file; move it away, or name another --state-dir."
            ) from error

    def save(self, memory: Memory) -> None:
        """Replace what is remembered. After a crash or a power cut the file has the old or the new state.

        If the memory is read-only, only this object remembers it.
        """
        if not self._read_only:
            self._replace(memory)
        self.memory = memory

    def _replace(self, memory: Memory) -> None:
        new = self._file.with_suffix(".new")
        with new.open("w") as stream:
            stream.write(memory.model_dump_json())
            stream.flush()
            os.fsync(stream.fileno())
        new.replace(self._file)
        directory = os.open(self._file.parent, os.O_RDONLY)
        try:
            os.fsync(directory)
        finally:
            os.close(directory)
