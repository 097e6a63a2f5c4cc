"""What is kept of a ledger, and what stands in one."""

from dataclasses import dataclass, field
from datetime import datetime

from pydantic import BaseModel

from app.fields import Timestamp
from app.proofs.lines import NeuronLine


@dataclass(frozen=True)
class Basis:
    """What a ledger names that no other table keeps: the ledger before it, and the metagraph that was used.

    `netuid`, `metagraph_at` and `neurons` are None and empty if registration was not checked.
    """

    previous_cycle_id: int | None
    previous_root: str | None
    netuid: int | None
    metagraph_at: datetime | None
    neurons: list[NeuronLine]


@dataclass(frozen=True)
class Ledger:
    """A recorded ledger: its root, the number of its lines, and the roots of its chunks.

    `first_ids` are the submissions that the chunks begin with, as far as they have any. `difference` is what
    the last comparison with the database has found, None: nothing. One that is going on has found
    `compared_chunks` right.
    """

    cycle_id: int
    root: str
    lines: int
    chunk_roots: list[bytes]
    first_ids: list[int]
    basis: Basis
    difference: str | None = None
    compared_chunks: int = 0


@dataclass(frozen=True)
class Part:
    """What is kept of some lines in a row: their root, their number, and the first submission among them."""

    root: bytes
    lines: int
    first_id: int | None


@dataclass
class Draft:
    """The roots of parts that were read before their cycle completed, with the first submission of each.

    They are right but for what was corrected after `last_correction_id`. `last_id` is the last submission.
    """

    last_correction_id: int = 0
    roots: list[bytes] = field(default_factory=list)
    first_ids: list[int] = field(default_factory=list)
    last_id: int = 0


@dataclass(frozen=True)
class Place:
    """Where a submission counts. `is_completed`: its cycle is."""

    id: int
    cycle_id: int | None
    is_completed: bool


@dataclass(frozen=True)
class KeyPeriod:
    key: str
    valid_from: datetime
    retired_at: datetime | None


class KeyOut(BaseModel):
    """The SS58 address of a key, and when it was valid. `retired_at` is null while it is."""

    key: str
    valid_from: Timestamp
    retired_at: Timestamp | None


class KeysOut(BaseModel):
    """The keys that have signed receipts, the latest first."""

    keys: list[KeyOut]


class ReceiptOut(BaseModel):
    """A line of a ledger with the proof that it stands there. docs/ledger.md says what each field is.

    `key`, `signed_at` and `signature` are null if the backend has no key.
    """

    format: str
    cycle_id: int
    root: str
    lines: int
    index: int
    proof: list[str]
    line: str
    key: str | None
    signed_at: Timestamp | None
    signature: str | None
