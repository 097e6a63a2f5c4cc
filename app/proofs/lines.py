"""The lines of a ledger in their canonical form. docs/ledger.md says what each field means.

The fields of a class are the fields of its line, in their order. Their values are those of the JSON: whole
numbers are integers, all other numbers are strings.
"""

import re
from dataclasses import dataclass
from datetime import UTC, datetime
from decimal import Decimal
from typing import Any, ClassVar, TypeVar

from pydantic import ConfigDict, TypeAdapter, ValidationError

FORMAT = "kibotos.ledger.v1"
# no field more, and none of another type
EXACTLY = ConfigDict(strict=True, extra="forbid")

T = TypeVar("T")


@dataclass(frozen=True)
class Correction:
    __pydantic_config__ = EXACTLY

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
    __pydantic_config__ = EXACTLY

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

_NO_OBJECT = "It is not a JSON object in canonical form."
_KIND = re.compile(rb'\{"kind":"([a-z_]+)",')


def encode(line: Line) -> bytes:
    """Return the canonical bytes of a line, without its newline."""
    return f'{{"kind":"{line.kind}",'.encode() + encode_object(line)[1:]


def decode(line: bytes) -> Line:
    """Return the line that these bytes are; raise ValueError, with a sentence, if they are not canonical."""
    match = _KIND.match(line)
    kind = KINDS.get(match[1].decode()) if match else None
    if match is None or kind is None:
        raise ValueError("It is no object whose first field is a known kind.")
    return decode_object(kind, b"{" + line[match.end() :])


def encode_object(value: Any) -> bytes:
    """Return the canonical bytes of a line without its kind, or of another object of this form."""
    return _adapter(type(value)).dump_json(value, warnings=False)


def decode_object(cls: type[T], text: bytes) -> T:
    """Return the instance of `cls` that these bytes are; raise ValueError if they are not canonical."""
    adapter: TypeAdapter[T] = _adapter(cls)
    try:
        value = adapter.validate_json(text)
    except ValidationError as error:
        first = error.errors()[0]
        if where := ".".join(map(str, first["loc"])):
            raise ValueError(f"Its field {where[:100]!r} is wrong: {first['msg']}.") from None
        raise ValueError(_NO_OBJECT) from None
    if adapter.dump_json(value, warnings=False) != text:
        raise ValueError(_NO_OBJECT)
    return value


_adapters: dict[type[Any], TypeAdapter[Any]] = {}


def _adapter(cls: type[Any]) -> TypeAdapter[Any]:
    if cls not in _adapters:
        _adapters[cls] = TypeAdapter(cls)
    return _adapters[cls]


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
