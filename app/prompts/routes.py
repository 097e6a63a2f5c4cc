"""Endpoints of prompts."""

from urllib.parse import urlencode

from flask import Blueprint
from spectree import Response as Answers

from app.prompts import queries, service
from app.prompts.models import CategoryCountOut, NewPrompt, Prompt, PromptChange, PromptOut, PromptQuery
from app.web.api import Problem, spec
from app.web.auth import require_admin

blueprint = Blueprint("prompts", __name__)


def _show(prompt: Prompt) -> PromptOut:
    return PromptOut.model_validate(prompt, from_attributes=True)


@blueprint.get("/v1/prompts")
@spec.validate(resp=Answers(HTTP_200=list[PromptOut]), tags=["prompts"])
def list_prompts(query: PromptQuery) -> tuple[list[PromptOut], int, dict[str, str]]:
    """List prompts in the order of their ids; where more follow, `Link` names the next page."""
    prompts = queries.list_prompts(query.category, query.active_only, query.limit + 1, query.after)
    page = prompts[: query.limit]
    headers = {}
    if len(prompts) > len(page):
        wanted = query.model_dump(mode="json", exclude_none=True) | {"after": page[-1].id}
        headers["Link"] = f'</v1/prompts?{urlencode(wanted)}>; rel="next"'
    return [_show(prompt) for prompt in page], 200, headers


@blueprint.get("/v1/prompts/categories")
@spec.validate(resp=Answers(HTTP_200=list[CategoryCountOut]), tags=["prompts"])
def list_categories() -> list[CategoryCountOut]:
    """Count the active prompts of each category."""
    return [CategoryCountOut(**vars(count)) for count in queries.list_categories()]


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
    return _show(service.create_prompt(json.model_dump())), 201


@blueprint.patch("/v1/admin/prompts/<prompt_id>")
@require_admin
@spec.validate(resp=Answers(HTTP_200=PromptOut, HTTP_404=Problem), tags=["admin"])
def change_prompt(prompt_id: str, json: PromptChange) -> PromptOut:
    """Change a prompt; fields left out stay as they are."""
    return _show(service.change_prompt(prompt_id, json.model_dump(exclude_unset=True)))
