"""What pydantic models are made of, on the wire and in reports: base models and field types."""

import json
import unicodedata
from collections.abc import Callable
from datetime import UTC, datetime
from typing import Annotated, Any

from pydantic import (
    AfterValidator,
    BaseModel,
    BeforeValidator,
    ConfigDict,
    Field,
    WithJsonSchema,
)

MAX_JSON_DEPTH = 8


class RequestModel(BaseModel):
    """Base of what callers send: no coercion between types, no NaN or Infinity, unknown fields ignored."""

    model_config = ConfigDict(strict=True, allow_inf_nan=False, extra="ignore")


class QueryModel(BaseModel):
    """Base of query strings, where every value arrives as text and is converted."""

    model_config = ConfigDict(extra="ignore")


def check_text(value: str) -> str:
    """Return `value` unless PostgreSQL could not store it: NUL and lone surrogates raise ValueError."""
    if "\0" in value:
        raise ValueError("must not contain a NUL character")
    try:
        value.encode()
    except UnicodeEncodeError:
        raise ValueError("must not contain lone surrogates") from None
    return value


def check_prose(value: str) -> str:
    """Return a text for people unless it is blank, or holds control characters other than tabs and newlines.

    A terminal would obey those.
    """
    if any(unicodedata.category(letter) == "Cc" and letter not in "\t\n" for letter in value):
        raise ValueError("must not contain control characters other than tabs and newlines")
    if not value.strip():
        raise ValueError("must not be blank")
    return check_text(value)


def storable(text: str) -> str:
    """Return `text` without what PostgreSQL could not store."""
    return text.replace("\0", "").encode("utf-8", "replace").decode()


def _check_object(value: dict[str, Any]) -> dict[str, Any]:
    def walk(node: Any, depth: int) -> None:
        if depth > MAX_JSON_DEPTH:
            raise ValueError(f"must not be nested deeper than {MAX_JSON_DEPTH} levels")
        if isinstance(node, str):
            check_text(node)
        elif isinstance(node, float) and not -1e308 <= node <= 1e308:
            raise ValueError("must not contain NaN or Infinity")
        elif isinstance(node, int) and not -(2**63) <= node < 2**63:
            raise ValueError("must not contain whole numbers beyond 64 bits")
        elif isinstance(node, dict):
            for key, child in node.items():
                check_text(key)
                walk(child, depth + 1)
        elif isinstance(node, list):
            for child in node:
                walk(child, depth + 1)

    walk(value, 1)
    return value


def _parse_timestamp(value: Any) -> Any:
    if isinstance(value, datetime):
        return value.astimezone(UTC)
    if not isinstance(value, str):
        raise ValueError("must be an RFC 3339 timestamp, e.g. 2026-01-15T10:00:00Z")
    try:
        moment = datetime.fromisoformat(value)
    except ValueError:
        raise ValueError("must be an RFC 3339 timestamp, e.g. 2026-01-15T10:00:00Z") from None
    if moment.tzinfo is None:
        raise ValueError("must name its time zone, e.g. end in Z")
    try:
        return moment.astimezone(UTC)
    except OverflowError:
        raise ValueError("must lie between the years 1 and 9999 in UTC") from None


def show_timestamp(value: datetime) -> str:
    """As RFC 3339 has it, in UTC."""
    return value.astimezone(UTC).isoformat().replace("+00:00", "Z")


def _whole(value: Any) -> Any:
    return int(value) if isinstance(value, float) and value.is_integer() else value


# as JSON Schema has it, 640.0 is an integer
Whole = Annotated[int, BeforeValidator(_whole)]
Text = Annotated[str, AfterValidator(check_text)]
Prose = Annotated[str, AfterValidator(check_prose)]
ShortText = Annotated[str, Field(min_length=1, max_length=200), AfterValidator(check_text)]
LongText = Annotated[str, Field(min_length=1, max_length=2000), AfterValidator(check_text)]
# Free-form JSON object: bounded in depth; the body cap bounds its size.
JsonObject = Annotated[dict[str, Any], AfterValidator(_check_object)]
# In UTC from then on, and so pydantic writes it as show_timestamp() does.
Timestamp = Annotated[
    datetime,
    BeforeValidator(_parse_timestamp),
    WithJsonSchema({"type": "string", "format": "date-time"}),
]
# an id that the database counts up
Id = Annotated[int, Field(json_schema_extra={"format": "int64"})]


def at_most_kib(kib: int, besides: Callable[[Any], Any] = lambda value: value) -> BeforeValidator:
    """A validator of JSON: no larger than `kib` KiB when written out in UTF-8. Runs before all others.

    What `besides` leaves out of it does not count.
    """

    def check(value: Any) -> Any:
        try:
            text = json.dumps(besides(value), ensure_ascii=False)
        except RecursionError:
            raise ValueError(f"must not be nested deeper than {MAX_JSON_DEPTH} levels") from None
        if len(text.encode(errors="surrogatepass")) > kib * 1024:
            raise ValueError(f"must not be larger than {kib} KiB as JSON")
        return value

    return BeforeValidator(check)
