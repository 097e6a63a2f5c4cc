"""The lines of a ledger in their canonical form. docs/ledger.md says what each field means.

The fields of a class are the fields of its line, in their order. Their values are those of the JSON: whole
numbers are integers, all other numbers are strings.
"""

import json
import re
from collections.abc import Callable
from dataclasses import dataclass, fields
from datetime import UTC, datetime
from decimal import Decimal
from functools import cache
from types import UnionType
from typing import Any, ClassVar, get_args, get_type_hints

FORMAT = "kibotos.ledger.v1"
STATEMENT = "kibotos.submission.v1"


@dataclass(frozen=True)
class Correction:
    id: int
    kind: str
    status: str
    final_score: str
    points_change: int
    accepted_change: int
    reason: str
    decided_by: str
    decided_at: str


@dataclass(frozen=True)
class Line:
    kind: ClassVar[str]


@dataclass(frozen=True)
class CycleLine(Line):
    kind = "cycle"

    format: str
    cycle_id: int
    started_at: str
    closed_at: str
    completed_at: str
    block_number: int | None
    block_number_is_current: bool | None
    netuid: int | None
    metagraph_at: str | None
    last_correction_id: int | None
    previous_cycle_id: int | None
    previous_root: str | None


@dataclass(frozen=True)
class SubmissionLine(Line):
    kind = "submission"

    uuid: str
    hotkey: str
    uid: int
    prompt_id: str
    prompt_weight: str
    video_key: str
    video_hash: str
    submitted_at: str
    statement: str
    signature: str | None
    technical_score: str
    relevance_score: str
    quality_score: str
    status: str
    final_score: str
    judge_model: str | None
    prompt_version: str | None
    report_hash: str | None
    corrections: list[Correction]
    effective_status: str
    effective_score: str


@dataclass(frozen=True)
class LateCorrectionLine(Line):
    kind = "late_correction"

    uuid: str
    hotkey: str
    uid: int
    prompt_weight: str
    cycle_id: int
    is_paid: bool
    correction: Correction


@dataclass(frozen=True)
class BalanceLine(Line):
    kind = "balance"

    hotkey: str
    carried: str
    settled: str
    left: str


@dataclass(frozen=True)
class NeuronLine(Line):
    kind = "neuron"

    uid: int
    hotkey: str
    validator_permit: bool


@dataclass(frozen=True)
class MinerLine(Line):
    kind = "miner"

    uid: int
    hotkey: str
    total_submissions: int
    accepted_submissions: int
    adjustment: str
    total_score: str
    holds_uid: bool


@dataclass(frozen=True)
class WeightLine(Line):
    kind = "weight"

    uid: int
    weight: str
    weight_u16: int


@dataclass(frozen=True)
class EndLine(Line):
    kind = "end"

    lines: int


# in the order in which they stand in a ledger
KINDS: dict[str, type[Line]] = {
    line.kind: line
    for line in (
        CycleLine, SubmissionLine, LateCorrectionLine, BalanceLine,
        NeuronLine, MinerLine, WeightLine, EndLine,
    )
}  # fmt: skip

write_json = json.JSONEncoder(ensure_ascii=False, separators=(",", ":"), default=vars).encode


def encode(line: Line) -> bytes:
    """Return the canonical bytes of a line, without its newline."""
    return write_json({"kind": line.kind, **vars(line)}).encode()


def decode(line: bytes) -> Line:
    """Return the line that these bytes are; raise ValueError, with a sentence, if they are not canonical."""
    value = read_canonical(line)
    kind = KINDS.get(value["kind"]) if isinstance(value.get("kind"), str) else None
    if kind is None:
        raise ValueError("It has no known kind.")
    if next(iter(value)) != "kind":
        raise ValueError("Its first field is not its kind.")
    del value["kind"]
    return read_fields(kind, value)


def read_canonical(text: bytes) -> dict[str, Any]:
    """Return the JSON object of these bytes; raise ValueError if they are not its canonical form."""
    try:
        value = json.loads(text.decode())
        if isinstance(value, dict) and write_json(value).encode() == text:
            return value
    except (ValueError, RecursionError):
        pass
    raise ValueError("It is not a JSON object in canonical form.")


def read_fields(cls: type, value: Any) -> Any:
    """Return an instance of `cls` with these values; raise ValueError if a field or its type is wrong."""
    readers = _readers(cls)
    if not isinstance(value, dict) or list(readers) != list(value):
        raise ValueError(f"Its fields must be {', '.join(readers)}.")
    # an empty array needs no reading
    shape = cls, *[type(child) if child != [] else None for child in value.values()]
    if shape in _known_shapes:
        return cls(*value.values())
    read = cls(**{name: readers[name](name, child) for name, child in value.items()})
    if list not in shape and dict not in shape:
        _known_shapes.add(shape)
    return read


# The types of objects that were found right. Most lines of a ledger are alike, and read faster by this.
_known_shapes: set[tuple[type | None, ...]] = set()


_Reader = Callable[[str, Any], Any]


@cache
def _readers(cls: type) -> dict[str, _Reader]:
    hints = get_type_hints(cls)
    return {field.name: _reader(hints[field.name]) for field in fields(cls)}


def _reader(hint: Any) -> _Reader:
    if hint is Correction:
        return lambda _, value: read_fields(Correction, value)
    if getattr(hint, "__origin__", None) is list:
        [item] = get_args(hint)
        read_item = _reader(item)

        def read_list(name: str, value: Any) -> Any:
            if not isinstance(value, list):
                raise ValueError(f"{name} must be an array.")
            return [read_item(name, child) for child in value]

        return read_list
    allowed = frozenset(get_args(hint)) if isinstance(hint, UnionType) else frozenset({hint})

    def read(name: str, value: Any) -> Any:
        # not isinstance: a bool is no whole number here
        if type(value) not in allowed:
            raise ValueError(f"{name} has the wrong type.")
        return value

    return read


_AMOUNT = re.compile(r"-?[0-9]{1,100}(\.[0-9]{1,1000})?")


def write_score(score: float) -> str:
    """Return the shortest decimal that reads back as the same float."""
    return repr(score)


def read_score(text: str) -> float:
    """Return the float of a score; raise ValueError if this is not how it is written."""
    try:
        score = float(text)
    except ValueError:
        score = float("nan")
    if not abs(score) < float("inf") or write_score(score) != text:
        raise ValueError(f"{text!r} is not a score in canonical form.")
    return score


def write_amount(amount: Decimal) -> str:
    """Return an exact decimal without exponent and without zeros at its end."""
    text = format(amount, "f")
    if "." in text:
        text = text.rstrip("0").rstrip(".")
    return "0" if text in {"-0", ""} else text


def read_amount(text: str) -> Decimal:
    """Return the decimal of an amount; raise ValueError if this is not how it is written."""
    if not _AMOUNT.fullmatch(text) or write_amount(amount := Decimal(text)) != text:
        raise ValueError(f"{text[:100]!r} is not an amount in canonical form.")
    return amount


def write_time(moment: datetime) -> str:
    return moment.astimezone(UTC).strftime("%Y-%m-%dT%H:%M:%S.%fZ")


def read_time(text: str) -> datetime:
    """Return the moment of a time; raise ValueError if this is not how it is written."""
    moment = datetime.strptime(text, "%Y-%m-%dT%H:%M:%S.%fZ").replace(tzinfo=UTC)
    if write_time(moment) != text:
        raise ValueError(f"{text[:100]!r} is not a time in canonical form.")
    return moment
