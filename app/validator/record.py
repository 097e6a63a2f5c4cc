"""What a validator has set: lines of JSON in a file that only grows."""

import json
import os
from collections.abc import Callable
from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from pathlib import Path

import structlog

from app.clients.chain import Extrinsic
from app.clients.published import Units

log = structlog.get_logger(__name__)


class UnusableRecord(Exception):
    """The file cannot be written; the message is a sentence about what to do."""


@dataclass(frozen=True)
class Entry:
    """What happened to weights: first `sending`, then `set`, `not_set` or `outcome_unknown`.

    `sending` has `weights_u16`: those of the backend, without the uids that were left out. `set` has the
    `extrinsic`, unless it was seen only later that the weights had arrived.
    """

    netuid: int
    hotkey: str
    cycle_id: int
    created_at: datetime
    event: str
    detail: str
    weights_u16: Units | None = None
    extrinsic: Extrinsic | None = None


Record = Callable[[Entry], None]


class RecordFile:
    """Appends entries to `file`. Opens it for each one, so that it can be rotated at any time.

    Raises UnusableRecord if it cannot be written now.
    """

    def __init__(self, file: Path):
        self._file = file
        try:
            file.open("ab").close()
        except OSError as error:
            raise UnusableRecord(
                f"{file} cannot be written: {error.strerror}. Name another file by --log-file."
            ) from error

    def __call__(self, entry: Entry) -> None:
        """Write a line and wait until it is on the disk. If that fails, it is logged: weights matter more."""
        fields = {"time": datetime.now(UTC).isoformat(), **asdict(entry)}
        fields["created_at"] = entry.created_at.isoformat()
        if entry.weights_u16:
            fields["weights_u16"] = entry.weights_u16.model_dump()
        line = json.dumps({name: value for name, value in fields.items() if value is not None})
        try:
            with self._file.open("ab+") as stream:
                if end := stream.seek(0, os.SEEK_END):
                    stream.seek(end - 1)
                    # what a full disk has cut off must not spoil this line, too
                    line = line if stream.read(1) == b"\n" else f"\n{line}"
                stream.write(f"{line}\n".encode())
                stream.flush()
                os.fsync(stream.fileno())
        except OSError as error:
            log.error("record_not_written", file=str(self._file), reason=error.strerror, entry=fields)
