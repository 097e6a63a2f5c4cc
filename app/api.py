"""Request and response models' base types, their validation, and the OpenAPI document.

One library, spectree with pydantic, does all three. A route names its models in its signature and in
`@spec.validate(resp=…)`; what reaches the route has been checked.
"""

import json
import math
from datetime import UTC, datetime
from typing import Annotated, Any

from flask import Flask, Request, Response, request
from flask.json.provider import DefaultJSONProvider
from flask_cors import CORS
from pydantic import AfterValidator, BaseModel, BeforeValidator, ConfigDict, Field, PlainSerializer
from spectree import SpecTree
from werkzeug.exceptions import RequestEntityTooLarge

from app.config import Settings
from app.errors import BadRequest, Invalid, NotFound, UnsupportedMediaType, invalid_field
from app.version import VERSION

MAX_BODY_BYTES = 1024 * 1024
MAX_JSON_DEPTH = 8


class RequestModel(BaseModel):
    """Base of what callers send: no coercion between types, no NaN or Infinity, unknown fields ignored."""

    model_config = ConfigDict(strict=True, allow_inf_nan=False, extra="ignore")


class QueryModel(BaseModel):
    """Base of query strings, where every value arrives as text and is converted."""

    model_config = ConfigDict(extra="ignore")


class Problem(BaseModel):
    """An error, as RFC 9457 has it."""

    type: str
    title: str
    status: int
    detail: str
    request_id: str


class FieldError(BaseModel):
    field: str
    message: str


class ValidationProblem(Problem):
    """A 422: which fields are wrong, and how."""

    errors: list[FieldError]


def check_text(value: str) -> str:
    """Return `value` unless PostgreSQL could not store it: NUL and lone surrogates raise ValueError."""
    if "\0" in value:
        raise ValueError("must not contain a NUL character")
    try:
        value.encode()
    except UnicodeEncodeError:
        raise ValueError("must not contain lone surrogates") from None
    return value


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
        return value
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


def _show_timestamp(value: datetime) -> str:
    return value.astimezone(UTC).isoformat().replace("+00:00", "Z")


Text = Annotated[str, AfterValidator(check_text)]
ShortText = Annotated[str, Field(min_length=1, max_length=200), AfterValidator(check_text)]
LongText = Annotated[str, Field(min_length=1, max_length=2000), AfterValidator(check_text)]
# Free-form JSON object: bounded in depth; the body cap bounds its size.
JsonObject = Annotated[dict[str, Any], AfterValidator(_check_object)]
Timestamp = Annotated[
    datetime, BeforeValidator(_parse_timestamp), PlainSerializer(_show_timestamp, return_type=str)
]


def at_most_kib(kib: int) -> AfterValidator:
    """A validator, to follow JsonObject: no larger than `kib` KiB when written out in UTF-8."""

    def check(value: Any) -> Any:
        if len(json.dumps(value, ensure_ascii=False).encode()) > kib * 1024:
            raise ValueError(f"must not be larger than {kib} KiB as JSON")
        return value

    return AfterValidator(check)


def _message(error: dict[str, Any]) -> str:
    return error["msg"].removeprefix("Value error, ").removeprefix("Input ")


def _refuse(req: Request, response: Response | None, error: Any, _instance: Any, _adapter: Any) -> None:
    """Refuse a body that is not a JSON object, and turn what spectree found wrong into our errors.

    Runs before the route. The input itself is never echoed: it may be a megabyte or hold a secret.
    """
    if req.method in {"POST", "PUT", "PATCH"}:
        if not req.is_json:
            raise UnsupportedMediaType("Send JSON with the header Content-Type: application/json.")
        if not isinstance(req.get_json(silent=True), dict):
            raise BadRequest("The body is not a JSON object; check its quotes, commas and braces.")
    if error is None:
        return
    errors = [
        {
            "field": ".".join(str(part)[:64] for part in item["loc"][:8]) or "body",
            "message": _message(item)[:300],
        }
        for item in error.errors(include_url=False, include_input=False, include_context=False)[:20]
    ]
    fields = ", ".join(item["field"] for item in errors[:5])
    raise Invalid(f"Correct what is wrong with: {fields}.", errors)


def _check_answer(_req: Request, _response: Response, error: Any, _instance: Any, _adapter: Any) -> None:
    """Let an answer that breaks its own model fail like any other bug."""
    if error is not None:
        raise error


spec = SpecTree(
    "flask",
    title="Kibotos",
    version=VERSION,
    description="Collects, evaluates and rewards first-person videos of physical tasks.",
    mode="strict",
    before=_refuse,
    after=_check_answer,
    validation_error_model=ValidationProblem,
    naming_strategy=lambda model: model.__name__,
    nested_naming_strategy=lambda _parent, child: child,
)


def _parse_int(digits: str) -> float:
    """int(), which refuses beyond 4300 digits; so long a number is too large for us as 1e999 is."""
    return int(digits) if len(digits) < 400 else math.inf


class _Json(DefaultJSONProvider):
    sort_keys = False

    def loads(self, s: str | bytes, **kwargs: Any) -> Any:
        try:
            return super().loads(s, parse_int=_parse_int, **kwargs)
        except RecursionError:
            raise invalid_field("body", "must not be nested this deep.") from None


def init_app(app: Flask, settings: Settings) -> None:
    """Bound what `app` reads, and let browsers on settings.cors_origins use it."""
    app.json = _Json(app)
    # one more than is let through: werkzeug cuts a chunked body here without a word
    app.config["MAX_CONTENT_LENGTH"] = MAX_BODY_BYTES + 1
    # no redirects, which would be HTML: an address with doubled slashes is simply not there
    app.url_map.merge_slashes = False
    if settings.cors_origins:
        CORS(app, origins=list(settings.cors_origins), expose_headers=["Link", "Retry-After", "X-Request-ID"])

    @app.before_request
    def bound() -> None:
        length = request.content_length
        if length is None:
            length = len(request.get_data())
        if length > MAX_BODY_BYTES:
            raise RequestEntityTooLarge
        if "\0" in request.path:
            raise NotFound("There is nothing at this address; no id holds a NUL character.")
