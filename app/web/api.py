"""The validation of requests and responses, and the OpenAPI document.

spectree with pydantic does both. A route names its models in its signature and in `@spec.validate(resp=…)`.
A request reaches the route only after it was checked.
"""

import math
from typing import Any

from flask import Flask, Request, Response, request
from flask.json.provider import DefaultJSONProvider
from flask_cors import CORS
from pydantic import BaseModel, ValidationError
from spectree import Response as Answers
from spectree import SpecTree
from spectree.model_adapter.pydantic_adapter import PydanticModelAdapter
from werkzeug.exceptions import RequestEntityTooLarge

from app.config import Settings
from app.errors import BadRequest, Invalid, NotFound, UnsupportedMediaType, invalid_field
from app.version import VERSION
from app.web.connection import MAX_BODY_BYTES

MAX_ERRORS = 20
# Far above what any of our bodies holds. A value costs up to 0.7 µs of parsing, its bytes next to nothing.
MAX_JSON_VALUES = 10_000


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
    """The error 422: it names the wrong fields, and says what is wrong with each."""

    errors: list[FieldError]


def describe_errors(error: ValidationError) -> list[dict[str, str]]:
    """Tell what is wrong in our words, as {field, message}, and without the input.

    The input may hold a secret, and spectree would write it out once for each missing field: a megabyte of it
    cost a second.
    """
    errors = error.errors(include_url=False, include_input=False, include_context=False)[:MAX_ERRORS]
    return [
        {
            "field": ".".join(str(part)[:64] for part in item["loc"][:8]) or "body",
            "message": item["msg"].removeprefix("Value error, ").removeprefix("Input ")[:300],
        }
        for item in errors
    ]


class _Adapter(PydanticModelAdapter):
    def validation_errors(self, err: Any) -> list[dict[str, str]]:
        return describe_errors(err)


def _refuse(req: Request, _response: Response | None, error: Any, _instance: Any, adapter: Any) -> None:
    """Refuse a body that is not a JSON object, and turn what spectree found wrong into our errors.

    Runs before the route.
    """
    if req.method in {"POST", "PUT", "PATCH"}:
        if not req.is_json:
            raise UnsupportedMediaType("Send JSON with the header Content-Type: application/json.")
        if not isinstance(req.get_json(silent=True), dict):
            raise BadRequest("The body is not a JSON object; check its quotes, commas and braces.")
    if error is not None:
        errors = adapter.validation_errors(error)
        fields = ", ".join(item["field"] for item in errors[:5])
        raise Invalid(f"Correct what is wrong with: {fields}.", errors)


def _check_answer(_req: Request, _response: Response, error: Any, _instance: Any, _adapter: Any) -> None:
    """Let an answer that breaks its own model fail like any other bug."""
    if error is not None:
        raise error


class Unchecked(Answers):
    """Large answers, which are not validated a second time: their models wrote them."""

    def find_model(self, code: int) -> None:
        return None


spec = SpecTree(
    "flask",
    title="Kibotos",
    version=VERSION,
    description="Collects, evaluates and rewards first-person videos of physical tasks.",
    mode="strict",
    model_adapter=_Adapter(),  # type: ignore[arg-type]  # as spectree types its own
    before=_refuse,
    after=_check_answer,
    validation_error_model=ValidationProblem,
    naming_strategy=lambda model: model.__name__,
    nested_naming_strategy=lambda _parent, child: child,
)


def _parse_int(digits: str) -> float:
    """int(), which refuses beyond 4300 digits; so long a number is too large for us as 1e999 is."""
    return int(digits) if len(digits) < 400 else math.inf


class _Request(Request):
    """A request whose JSON is read at a bounded cost."""

    def get_json(self, *args: Any, **kwargs: Any) -> Any:
        # commas inside strings are counted too: this is an upper bound, not an exact count
        if sum(map(self.get_data().count, (b",", b"[", b"{"))) > MAX_JSON_VALUES:
            raise invalid_field("body", f"must not hold more than {MAX_JSON_VALUES:,} values.")
        return super().get_json(*args, **kwargs)


class _Json(DefaultJSONProvider):
    sort_keys = False

    def loads(self, s: str | bytes, **kwargs: Any) -> Any:
        try:
            return super().loads(s, parse_int=_parse_int, **kwargs)
        except RecursionError:
            raise invalid_field("body", "must not be nested this deep.") from None


def init_app(app: Flask, settings: Settings) -> None:
    """Bound what `app` reads, and let browsers on settings.cors_origins use it."""
    app.request_class = _Request
    app.json = _Json(app)
    app.config["MAX_CONTENT_LENGTH"] = MAX_BODY_BYTES
    # no redirects, which would be HTML: an address with doubled slashes is simply not there
    app.url_map.merge_slashes = False
    if settings.cors_origins:
        CORS(app, origins=list(settings.cors_origins), expose_headers=["Link", "Retry-After", "X-Request-ID"])

    @app.before_request
    def bound() -> None:
        if (request.content_length or 0) > MAX_BODY_BYTES:
            raise RequestEntityTooLarge
        if "\0" in request.path:
            raise NotFound("There is nothing at this address; no id holds a NUL character.")
