"""Endpoints of releases: what anybody may know of them. Their files are exported by the operator."""

from collections.abc import Callable, Hashable
from typing import Annotated

from flask import Blueprint, Response
from pydantic import BaseModel, Field
from spectree import Response as Answers

from app.releases import queries, service
from app.releases.models import ReleaseOut, ReleasesOut
from app.web import shared
from app.web.api import Problem, spec

blueprint = Blueprint("releases", __name__)

# what is answered may be this old: to count what is done of a large release takes a moment
_KEPT_SECONDS = 5


class ReleasesQuery(BaseModel):
    """Which releases are listed: those older than `before`, which is a name."""

    before: Annotated[str, Field(max_length=63)] | None = None
    limit: Annotated[int, Field(ge=1, le=100)] = 50


@blueprint.get("/v1/releases")
@spec.validate(resp=Answers("HTTP_304", HTTP_200=ReleasesOut), tags=["releases"])
def list_releases(query: ReleasesQuery) -> Response:
    """List the releases, the newest first."""

    def write() -> bytes:
        found = queries.list_releases(query.before, query.limit + 1)
        shown = found[: query.limit]
        more = shown[-1].name if len(found) > query.limit else None
        return _dump(ReleasesOut(releases=[ReleaseOut.of(each) for each in shown], next=more))

    return _answer(("v1/releases", query.before, query.limit), write)


@blueprint.get("/v1/releases/<name>")
@spec.validate(resp=Answers("HTTP_304", HTTP_200=ReleaseOut, HTTP_404=Problem), tags=["releases"])
def get_release(name: str) -> Response:
    """Return what a release is, how far it is, and the hash that names it once it is complete."""
    return _answer(("v1/releases", name), lambda: _dump(ReleaseOut.of(service.get(name))))


def _dump(answer: BaseModel) -> bytes:
    return answer.model_dump_json().encode()


def _answer(key: Hashable, write: Callable[[], bytes]) -> Response:
    return shared.answer(shared.keep(key, _KEPT_SECONDS, write), f"public, max-age={_KEPT_SECONDS}")
