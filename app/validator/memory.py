"""What a validator remembers across restarts: a small file, replaced whole at each change."""

import os
from pathlib import Path

from pydantic import BaseModel, ValidationError


class UnreadableMemory(Exception):
    """The file is not a validator's memory; the message is a sentence about what to do."""


class Attempt(BaseModel):
    """A submission that was begun: its cycle, and the block at which weights had last been set before."""

    cycle_id: int
    last_update: int


class Memory(BaseModel):
    """The cycle whose weights were set last, and the attempt whose outcome is not known, if any."""

    set_cycle_id: int = 0
    attempt: Attempt | None = None

    @classmethod
    def load(cls, file: Path) -> "Memory":
        """Read `file`, or start anew if there is none; raise UnreadableMemory if it is something else."""
        try:
            return cls.model_validate_json(file.read_bytes())
        except FileNotFoundError:
            return cls()
        except ValidationError as error:
            raise UnreadableMemory(f"{file} is not a validator's memory; move it away.") from error

    def save(self, file: Path) -> None:
        """Replace `file`: after a crash or power cut it holds either the old memory or this one."""
        file.parent.mkdir(parents=True, exist_ok=True)
        new = file.with_suffix(".new")
        with new.open("w") as stream:
            stream.write(self.model_dump_json())
            stream.flush()
            os.fsync(stream.fileno())
        new.replace(file)
