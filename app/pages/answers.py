"""How a page is answered: its headers, its tag, and how long it is kept for all who ask."""

import math
from collections.abc import Callable, Hashable, Iterable
from datetime import UTC, datetime
from typing import Any
from urllib.parse import urlsplit
from uuid import UUID

from flask import Blueprint, Response, render_template, request
from flask.sansio.blueprints import BlueprintSetupState

from app.errors import DomainError, Forbidden, NotFound
from app.version import VERSION
from app.web import shared

# Nothing inline, nothing from elsewhere: what a miner or a judge wrote cannot become a program here.
POLICY = (
    "default-src 'none'; style-src 'self'; script-src 'self'; img-src 'self'; connect-src 'self'; "
    "form-action 'self'; base-uri 'none'; frame-ancestors 'none'"
)
_YEAR = "public, max-age=31536000, immutable"
# embeddings, overrides and isolates of directions, and control characters but tabs and newlines
_TURNING = dict.fromkeys(
    [*range(0x202A, 0x202F), *range(0x2066, 0x206A)]
    + [code for code in [*range(0x20), *range(0x7F, 0xA0)] if chr(code) not in "\t\n"]
)
# of a number and of a text that a report tells
_MOST_SHOWN = 10**9
_MOST_CHARACTERS = 120


def init_app(blueprint: Blueprint) -> None:
    """Give the pages of `blueprint` their filters, their headers and their errors."""
    for name, function in (
        ("when", when), ("iso", iso), ("lasting", lasting), ("share", share), ("told", told)
    ):  # fmt: skip
        blueprint.add_app_template_filter(function, name)
    blueprint.add_app_template_test(is_uuid, "uuid")

    @blueprint.record_once
    def finish(state: BlueprintSetupState) -> None:
        state.app.jinja_env.finalize = _in_its_place

    @blueprint.context_processor
    def common() -> dict[str, Any]:
        return {"version": VERSION, "now": datetime.now(UTC)}

    @blueprint.after_request
    def harden(response: Response) -> Response:
        response.headers.setdefault("Content-Security-Policy", POLICY)
        response.headers.setdefault("Referrer-Policy", "same-origin")
        if request.endpoint == f"{blueprint.name}.static" and "v" in request.args:
            response.headers["Cache-Control"] = _YEAR
        return response

    @blueprint.errorhandler(DomainError)
    def show_error(error: DomainError) -> Response:
        title = {NotFound: "Not found", Forbidden: "Not allowed"}.get(type(error), "Not possible now")
        response = page("pages/error.html", error.status, title=title, detail=str(error))
        if error.retry_after is not None:
            response.headers["Retry-After"] = str(math.ceil(error.retry_after))
        return response


def _in_its_place(value: Any) -> Any:
    """What a template shows, without the characters that would turn what follows it around.

    To isolate a text is not enough: the end of its element would close what it has left open, and not itself.
    """
    return value.translate(_TURNING) if isinstance(value, str) else value


def page(template: str, status: int = 200, **values: Any) -> Response:
    """Answer with a page that is rendered for this request alone. What an admin sees is never stored."""
    return fresh(render_template(template, **values), status)


def fresh(body: str, status: int = 200) -> Response:
    """Answer with a rendered page that is not kept here."""
    cache_control = "no-store" if request.blueprint == "admin" else "no-cache"
    return shared.answer(shared.Shared.of(body.encode()), cache_control, "text/html", status)


def with_videos(response: Response, urls: Iterable[str]) -> Response:
    """Let a page show videos out of storage. Such a page is private."""
    sources = sorted({f"{parts.scheme}://{parts.netloc}" for parts in map(urlsplit, urls)})
    media = f"; media-src {' '.join(sources)}" if sources else ""
    response.headers["Content-Security-Policy"] = POLICY + media
    return private(response)


def private(response: Response) -> Response:
    """Let nobody keep the answer, and tell no other site its address."""
    response.headers["Cache-Control"] = "no-store"
    response.headers["Referrer-Policy"] = "no-referrer"
    response.headers["X-Robots-Tag"] = "noindex"
    return response


def kept_page(key: Hashable, seconds: float, render: Callable[[], str]) -> Response:
    """Answer with a page that is rendered once for all who ask within `seconds`.

    Only for pages that are few: whoever asks for all of many would fill the memory.
    """
    kept = shared.keep(("page", key), seconds, lambda: render().encode())
    cache_control = f"public, max-age={int(seconds)}" if seconds < 60 else "public, no-cache"
    return shared.answer(kept, cache_control, "text/html")


def when(moment: datetime | str) -> str:
    """A moment for people, such as "26 Nov 2026, 16:34 UTC"; JSON has it as text."""
    return f"{_moment(moment):%-d %b %Y, %H:%M} UTC"


def iso(moment: datetime | str) -> str:
    """A moment for machines, in seconds."""
    return f"{_moment(moment):%Y-%m-%dT%H:%M:%SZ}"


def _moment(moment: datetime | str) -> datetime:
    if isinstance(moment, str):
        moment = datetime.fromisoformat(moment)
    return moment.astimezone(UTC)


def lasting(seconds: float) -> str:
    """A length of time in its largest unit, such as "12 min"."""
    seconds = max(seconds, 0)
    for unit, size in (("days", 86_400), ("h", 3600), ("min", 60)):
        if seconds >= 2 * size:
            return f"{seconds / size:.0f} {unit}"
    return f"{seconds:.0f} s"


def share(value: float, digits: int = 0) -> str:
    """A share of 1 as a percentage."""
    return f"{value:.{digits}%}" if abs(value) < _MOST_SHOWN else told(value)


def told(value: object, digits: int | None = None) -> str:
    """What a report says, in few characters: evaluators of other people may write anything.

    A number has `digits` behind the point, or six in all.
    """
    if isinstance(value, int | float) and not isinstance(value, bool):
        if abs(value) >= _MOST_SHOWN:
            return "too large to show"
        return f"{value:.6g}" if digits is None else f"{value:.{digits}f}"
    text = str(value)
    return text if len(text) <= _MOST_CHARACTERS else f"{text[:_MOST_CHARACTERS]}…"


def is_uuid(text: str) -> bool:
    """Whether a link to a submission can be made of it."""
    try:
        return str(UUID(text)) == text
    except ValueError:
        return False
