"""Endpoints of prompts."""

from urllib.parse import urlencode

from flask import Blueprint, Response
from pydantic import TypeAdapter
from spectree import Response as Answers

from app.enums import Category
from app.prompts import queries, service
from app.prompts.models import (
    CategoryCountOut,
    NewPrompt,
    Prompt,
    PromptChange,
    PromptFilter,
    PromptOut,
    PromptQuery,
)
from app.web import shared
from app.web.api import Problem, spec
from app.web.auth import require_admin

blueprint = Blueprint("prompts", __name__)


# the counts of submissions in the whole list may be this old
_COUNTS_SECONDS = 5

_BRIEFLY = "public, max-age=1"

_LIST = TypeAdapter(list[PromptOut])
_CATEGORIES = TypeAdapter(list[CategoryCountOut])


def _show(prompt: Prompt) -> PromptOut:
    return PromptOut.model_validate(prompt, from_attributes=True)


def _show_all(prompts: list[Prompt]) -> bytes:
    return _LIST.dump_json(_LIST.validate_python(prompts, from_attributes=True))


@blueprint.get("/v1/prompts")
@spec.validate(resp=Answers("HTTP_304", HTTP_200=list[PromptOut]), tags=["prompts"])
def list_prompts(query: PromptQuery) -> Response:
    """List prompts in the order of their ids.

    Without `limit` the list has all of them. Without `after`, too, a change shows after a second at most, and
    `total_submissions` may be some seconds old. With `limit` the header `Link` names the next page.
    """
    if query.category and query.category not in set(Category):
        return Response(b"[]", mimetype="application/json")
    which = PromptFilter(query.category or None, query.active_only, query.after)
    if query.limit is None and query.after is None:
        kept = shared.keeper().get(("prompts", which), shared.SECONDS, lambda: _keep_list(which))
        return shared.answer(kept, _BRIEFLY)
    limit = query.limit
    prompts = queries.list_prompts(which, None if limit is None else limit + 1)
    page = prompts[:limit]
    response = Response(_show_all(page), mimetype="application/json")
    if len(prompts) > len(page):
        wanted = query.model_dump(mode="json", exclude_none=True) | {"after": page[-1].id}
        response.headers["Link"] = f'</v1/prompts?{urlencode(wanted)}>; rel="next"'
    return response


def _keep_list(which: PromptFilter) -> shared.Shared:
    """The list of all prompts, which is written anew if a prompt was changed or the counts are old."""
    key = ("prompts", which, queries.get_list_version(which))
    return shared.keep(key, _COUNTS_SECONDS, lambda: _show_all(queries.list_prompts(which)))


@blueprint.get("/v1/prompts/categories")
@spec.validate(resp=Answers("HTTP_304", HTTP_200=list[CategoryCountOut]), tags=["prompts"])
def list_categories() -> Response:
    """Count the active prompts of each category. A change shows after a second at most."""
    kept = shared.keep(("prompts", "categories"), shared.SECONDS, _count_categories)
    return shared.answer(kept, _BRIEFLY)


def _count_categories() -> bytes:
    return _CATEGORIES.dump_json([CategoryCountOut(**vars(count)) for count in queries.list_categories()])


@blueprint.get("/v1/prompts/<prompt_id>")
@spec.validate(resp=Answers(HTTP_200=PromptOut, HTTP_404=Problem), tags=["prompts"])
def get_prompt(prompt_id: str) -> PromptOut:
    """Return one prompt."""
    return _show(service.get_prompt(prompt_id))


@blueprint.post("/v1/admin/prompts")
@require_admin
@spec.validate(resp=Answers(HTTP_201=PromptOut, HTTP_409=Problem), tags=["admin"])
def create_prompt(json: NewPrompt) -> tuple[PromptOut, int]:
    """Publish a prompt."""
    prompt = service.create_prompt(json.model_dump())
    shared.keeper().forget("prompts")
    return _show(prompt), 201


@blueprint.patch("/v1/admin/prompts/<prompt_id>")
@require_admin
@spec.validate(resp=Answers(HTTP_200=PromptOut, HTTP_404=Problem), tags=["admin"])
def change_prompt(prompt_id: str, json: PromptChange) -> PromptOut:
    """Change a prompt. A field that is left out stays as it is."""
    prompt = service.change_prompt(prompt_id, json.model_dump(exclude_unset=True))
    shared.keeper().forget("prompts")
    return _show(prompt)
