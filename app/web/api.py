"""The validation of requests and responses, and the OpenAPI document.

spectree with pydantic does both. A route names its models in its signature and in `@spec.validate(resp=…)`.
A request reaches the route only after it was checked.
"""

import math
from collections.abc import Callable
from functools import cached_property
from typing import Any

from flask import Flask, Request, Response, request
from flask.json.provider import DefaultJSONProvider
from flask.sessions import NullSession, SessionInterface
from flask_cors import CORS
from pydantic import BaseModel, ValidationError
from spectree import Response as Answers
from spectree import SpecTree
from spectree.plugins.flask_plugin import FlaskPlugin
from spectree.utils import get_multidict_items
from werkzeug.exceptions import RequestEntityTooLarge
from werkzeug.routing import MapAdapter
from werkzeug.wsgi import get_host

from app.config import Settings
from app.errors import BadRequest, Invalid, NotFound, UnsupportedMediaType, invalid_field
from app.version import VERSION
from app.web.connection import MAX_BODY_BYTES

MAX_ERRORS = 20
# Far above what any of our bodies holds. A value costs up to 0.7 µs of parsing, its bytes next to nothing.
MAX_JSON_VALUES = 10_000
# Each parameter of a media type costs 3 µs of parsing. Real ones have one or two.
MAX_MEDIA_TYPE = 200


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


class _Plugin(FlaskPlugin):
    """Checks what is asked against the models in a route's signature, and writes its answer.

    spectree's own also reads headers and cookies for each request, which no route asks for.
    """

    def validate(  # type: ignore[override]
        self,
        func: Callable,
        query: type[BaseModel] | None,
        json: type[BaseModel] | None,
        _form: None,
        _headers: None,
        _cookies: None,
        answers: Answers,
        *_settings: Any,
        **arguments: Any,
    ) -> Response:
        if query:
            given = get_multidict_items(request.args, query) if request.query_string else {}
            arguments["query"] = _check(query, given)
        if request.method in {"POST", "PUT", "PATCH"}:
            body = _read_object()
            if json:
                arguments["json"] = _check(json, body)
        return _write(func(**arguments), answers)


def _read_object() -> dict[str, Any]:
    if len(request.content_type or "") > MAX_MEDIA_TYPE or not request.is_json:
        raise UnsupportedMediaType("Send JSON with the header Content-Type: application/json.")
    body = request.get_json(silent=True)
    if not isinstance(body, dict):
        raise BadRequest("The body is not a JSON object; check its quotes, commas and braces.")
    return body


def _check(model: type[BaseModel], given: dict[str, Any]) -> BaseModel:
    try:
        return model.model_validate(given)
    except ValidationError as error:
        errors = describe_errors(error)
        fields = ", ".join(item["field"] for item in errors[:5])
        raise Invalid(f"Correct what is wrong with: {fields}.", errors) from None


def _write(answer: Any, answers: Answers) -> Response:
    """Write what a route returned: a response as it is, otherwise a model, maybe with a status.

    A model was checked when it was made. An answer that is not of the model that the document names for its
    status fails like any other bug.
    """
    if isinstance(answer, Response):
        return answer
    body, status = answer if isinstance(answer, tuple) else (answer, 200)
    model: Any = answers.find_model(status)
    if isinstance(body, list):
        body = model.model_validate(body)
    if not isinstance(body, model):
        raise TypeError(f"{request.endpoint} answered {type(body).__name__}, not {model.__name__}")
    return Ready(body.model_dump_json(), status, content_type="application/json")


spec = SpecTree(
    "flask",
    _Plugin,
    title="Kibotos",
    version=VERSION,
    description="Collects, evaluates and rewards first-person videos of physical tasks.",
    mode="strict",
    validation_error_model=ValidationProblem,
    naming_strategy=lambda model: model.__name__,
    nested_naming_strategy=lambda _parent, child: child,
)


def _parse_int(digits: str) -> float:
    """int(), which refuses beyond 4300 digits; so long a number is too large for us as 1e999 is."""
    return int(digits) if len(digits) < 400 else math.inf


class _NoSessions(SessionInterface):
    """No session of Flask's in any request; admins' logins are our own."""

    _NONE = NullSession()

    def open_session(self, app: Flask, request: Request) -> NullSession:
        return self._NONE


class Application(Flask):
    """Flask without what no request of ours needs, which takes an eighth of a small one.

    These are coroutines, sessions, and different routes for the different names of this server.
    """

    session_interface = _NoSessions()

    def ensure_sync(self, func: Callable) -> Callable:
        return func

    def create_url_adapter(self, request: Request | None) -> MapAdapter | None:
        if request is None:
            return super().create_url_adapter(request)
        # refuses what no host can be called
        request.host = get_host(request.environ)
        return MapAdapter(
            self.url_map, request.host, request.root_path, "", request.scheme, request.path, request.method
        )


class Ready(Response):
    """An answer that is sent as it stands: bytes of which it knows the length, and no redirect."""

    def __call__(self, environ: dict[str, Any], start_response: Callable) -> list[bytes]:
        start_response(self.status, self.headers.to_wsgi_list())
        return [] if environ["REQUEST_METHOD"] == "HEAD" else self.response  # type: ignore[return-value]


class _Request(Request):
    """A request whose JSON is read at a bounded cost."""

    # Flask asks for it four times
    blueprints = cached_property(Request.blueprints.fget)  # type: ignore[attr-defined]

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
        environ = request.environ
        if environ.get("CONTENT_LENGTH", "0") != "0" and (request.content_length or 0) > MAX_BODY_BYTES:
            raise RequestEntityTooLarge
        if "\0" in environ["PATH_INFO"]:
            raise NotFound("There is nothing at this address; no id holds a NUL character.")
