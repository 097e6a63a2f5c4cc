"""The OpenAPI document and the page that shows it.

This module adds what spectree cannot know: who may call an endpoint, and the errors that all endpoints of a
kind share (401 where a token is needed, 413 where there is a body, and so on).
"""

import re
from copy import deepcopy
from functools import cache
from typing import Any

from flask import Flask, Response, current_app, jsonify, render_template

from app.web.api import Problem, spec

_SECURITY_SCHEMES = {
    "admin": {"type": "http", "scheme": "bearer", "description": "From ADMIN_TOKEN."},
    "evaluator": {"type": "http", "scheme": "bearer", "description": "From EVALUATOR_TOKEN."},
    "metrics": {"type": "http", "scheme": "bearer", "description": "From METRICS_TOKEN or ADMIN_TOKEN."},
    "miner": {
        "type": "apiKey",
        "in": "header",
        "name": "X-Bittensor-Signature",
        "description": "btauth/1: the X-Bittensor-* headers that bittensor.http_auth.sign makes.",
    },
}

_ERRORS = {
    400: "The body is not a JSON object",
    401: "The credentials are missing or wrong",
    403: "The credentials are right, but the caller may not do this",
    404: "Not found",
    409: "The request contradicts the current state; `detail` says what to do",
    413: "The body is larger than 1 MiB",
    415: "The body is not JSON",
    422: "A field is missing or wrong; `errors` names it",
    429: "The quota is used up; try again after the seconds in Retry-After",
    503: "The database or another service is out of reach; try again after the seconds in Retry-After",
}


def init_app(app: Flask) -> None:
    """Serve GET /openapi.json and GET /docs."""

    # they never change, and to write either takes nearly as long as a request of a stranger may
    @cache
    def written() -> bytes:
        return jsonify(document()).data

    @cache
    def rendered() -> str:
        return render_template("docs.html", document=document())

    @app.get("/openapi.json")
    def openapi() -> Response:
        return Response(written(), mimetype="application/json")

    @app.get("/docs")
    def docs() -> Response:
        response = Response(rendered())
        response.headers["Content-Security-Policy"] = "default-src 'none'; style-src 'unsafe-inline'"
        return response


def document() -> dict[str, Any]:
    """Return the OpenAPI 3.1 document of the current application."""
    if "openapi" not in current_app.extensions:
        current_app.extensions["openapi"] = _build()
    return current_app.extensions["openapi"]


def _build() -> dict[str, Any]:
    result = deepcopy(spec.spec)
    result["components"]["securitySchemes"] = _SECURITY_SCHEMES
    result["components"]["schemas"].setdefault("Problem", Problem.model_json_schema())
    for rule in current_app.url_map.iter_rules():
        path = re.sub(r"<(?:[^<>:]+:)?(\w+)>", r"{\1}", rule.rule)
        for method, operation in result["paths"].get(path, {}).items():
            if method.upper() in (rule.methods or ()):
                _complete(operation, getattr(current_app.view_functions[rule.endpoint], "role", None))
    return result


def _complete(operation: dict[str, Any], role: str | None) -> None:
    """Add the security of `role` and the errors of such an operation; errors are problem+json."""
    answers = operation["responses"]
    if role:
        operation["security"] = [{role: []}]
    has_body = "requestBody" in operation
    if not has_body and all(parameter["in"] == "path" for parameter in operation["parameters"]):
        # a wrong id in a path is 404
        answers.pop("422", None)
    if role == "metrics":
        answers["200"]["content"] = {"text/plain": {"schema": {"type": "string"}}}
    for status in {503} | ({401, 403} if role else set()) | ({400, 413, 415, 422} if has_body else set()):
        answers.setdefault(str(status), _problem("ValidationProblem" if status == 422 else "Problem"))
    for status, answer in answers.items():
        if (text := _ERRORS.get(int(status))) is None:
            continue
        answer["description"] = text
        schema = answer.get("content", {}).get("application/json", {}).get("schema", {})
        if schema.get("$ref", "").endswith("Problem"):
            answers[status] = answer | _problem(schema["$ref"].rpartition("/")[2])


def _problem(model: str) -> dict[str, Any]:
    schema = {"$ref": f"#/components/schemas/{model}"}
    return {"content": {"application/problem+json": {"schema": schema}}}
