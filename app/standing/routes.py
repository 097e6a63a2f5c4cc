"""Endpoints of a miner's own submissions and standing."""

from urllib.parse import urlencode

from flask import Blueprint, Response, current_app, g
from pydantic import TypeAdapter
from spectree import Response as Answers

from app.errors import Forbidden, NotFound
from app.fields import show_timestamp
from app.hotkeys import is_canonical
from app.standing import queries, service
from app.standing.models import OwnSubmissionOut, StandingOut, SubmissionsQuery
from app.web.api import Problem, spec
from app.web.auth import require_miner

blueprint = Blueprint("standing", __name__)

_LIST = TypeAdapter(list[OwnSubmissionOut])


@blueprint.get("/v1/miners/<hotkey>/submissions")
@require_miner
@spec.validate(resp=Answers(HTTP_200=list[OwnSubmissionOut], HTTP_404=Problem), tags=["submissions"])
def list_submissions(hotkey: str, query: SubmissionsQuery) -> Response:
    """List your own submissions, the newest first. The header `Link` names the next page."""
    _check_own(hotkey)
    rows = queries.list_miner_submissions(hotkey, query.before, query.limit + 1)
    page = rows[: query.limit]
    shown = [OwnSubmissionOut(submission_uuid=row.uuid, **vars(row)) for row in page]
    response = Response(_LIST.dump_json(shown), mimetype="application/json")
    if len(rows) > len(page):
        wanted = {"limit": query.limit, "before": show_timestamp(page[-1].submitted_at)}
        response.headers["Link"] = f'</v1/miners/{hotkey}/submissions?{urlencode(wanted)}>; rel="next"'
    return response


@blueprint.get("/v1/miners/<hotkey>/standing")
@require_miner
@spec.validate(resp=Answers(HTTP_200=StandingOut, HTTP_404=Problem), tags=["submissions"])
def get_standing(hotkey: str) -> StandingOut:
    """Return your quotas, and how you stand in the active cycle, with the share that you would get now."""
    _check_own(hotkey)
    extensions = current_app.extensions
    return service.get_standing(hotkey, extensions["settings"], extensions["kept"])


def _check_own(hotkey: str) -> None:
    if not is_canonical(hotkey):
        raise NotFound("This is no hotkey: give an SS58 address with prefix 42, spelled canonically.")
    # unsigned requests are let in by the decorator, in development only
    if g.miner_hotkey not in (None, hotkey):
        raise Forbidden("Sign the request with this hotkey; the pages show what everybody may see of it.")
