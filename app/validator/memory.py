"""What a validator remembers across restarts: a small file, replaced whole at each change."""

import fcntl
import os
from pathlib import Path

from pydantic import AwareDatetime, BaseModel, ValidationError


class UnusableMemory(Exception):
    """The file cannot serve as a validator's memory; the message is a sentence about what to do."""


class Attempt(BaseModel):
    """A submission that was begun: when its weights were made, and at which block any had been set before."""

    created_at: AwareDatetime
    last_update: int


class Memory(BaseModel):
    """When the weights that were set last were made, and an attempt whose outcome is not known, if any.

    That time tells one cycle's weights from another's, also where a backend began to count anew.
    """

    created_at: AwareDatetime | None = None
    attempt: Attempt | None = None


class MemoryFile:
    """The memory in `file`; unless `read_only`, nobody else may use it until this object is gone.

    Raises UnusableMemory if another process uses it, or it is something else.
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
            raise UnusableMemory(f"Another validator is running on {file}; stop it first.") from None
        except OSError as error:
            raise UnusableMemory(f"{file} cannot be used: {error.strerror}; choose another place.") from error

    def _load(self) -> Memory:
        try:
            return Memory.model_validate_json(self._file.read_bytes())
        except FileNotFoundError:
            return Memory()
        except ValidationError as error:
            raise UnusableMemory(f"{self._file} is not a validator's memory; move it away.") from error

    def save(self, memory: Memory) -> None:
        """Replace what is remembered: after a crash or power cut it is either the old or this.

        Read only, it is remembered by this object alone.
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
