"""The rules of prompts."""

from typing import Any

from app.db import db
from app.errors import Conflict, NotFound
from app.prompts import queries
from app.prompts.models import Prompt


def get_prompt(id: str) -> Prompt:
    """Return the prompt, active or not; raise NotFound if there is none."""
    prompt = queries.find_prompt(id)
    if prompt is None:
        raise NotFound("There is no such prompt; GET /v1/prompts lists them.")
    return prompt


def create_prompt(values: dict[str, Any]) -> Prompt:
    """Publish a prompt; raise Conflict if its id is taken."""
    if not queries.insert_prompt(values):
        raise Conflict(f"The prompt {values['id']} exists already; choose another id, or change that prompt.")
    db.session.commit()
    return get_prompt(values["id"])


def change_prompt(id: str, changes: dict[str, Any]) -> Prompt:
    """Change is_active, weight, requirements or expires_at; raise NotFound if there is no such prompt.

    Without `expires_at` (null) the prompt never expires. Submissions already accepted keep the weight and the
    requirements they were accepted under.
    """
    if not queries.update_prompt(id, changes):
        raise NotFound(f"There is no prompt {id}; look up its id in the list of all prompts.")
    db.session.commit()
    return get_prompt(id)


def load_prompts(prompts: list[dict[str, Any]], update: bool) -> int:
    """Publish all of `prompts` or none, and return how many of them are new.

    Raises Conflict if one exists, unless `update`: then weight, requirements and expiry change, and the
    text too as long as nothing was submitted to it.
    """
    loaded = queries.load_prompts(prompts, update)
    refused = sorted({prompt["id"] for prompt in prompts} - {each.id for each in loaded})
    if refused:
        db.session.rollback()
        names = ", ".join(refused[:10]) + (" and others" if len(refused) > 10 else "")
        raise Conflict(
            f"Nothing was loaded: {names} have submissions, so their text cannot change; give it new ids."
            if update
            else f"Nothing was loaded: {names} exist already; change them with --update, or choose other ids."
        )
    db.session.commit()
    return sum(each.is_new for each in loaded)
