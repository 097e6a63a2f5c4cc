"""The pages of admins: prompts, reviews, takedowns, and the log of what was done."""

import json
from typing import Any, TypeVar, cast, get_args
from uuid import UUID

from flask import Blueprint, Response, current_app, g, redirect, request, url_for
from pydantic import BaseModel, ValidationError
from redis import RedisError
from werkzeug.wrappers import Response as AnyResponse

from app.appeals import queries as appeals
from app.assessment.report import Report
from app.enums import Category, ReviewState
from app.errors import Conflict, DomainError, Invalid, NotFound, Unavailable
from app.gold.service import describe_judge
from app.moderation import service as moderation_service
from app.moderation.models import Order, TakedownIn
from app.pages import answers, queries, sessions, submission_page, verdict
from app.pages.sessions import require_session
from app.prompts import service as prompts_service
from app.prompts.models import NewPrompt, Prompt, PromptChange, PromptFilter
from app.prompts.queries import list_prompts
from app.queue import QUEUES, forget_failed, list_failed, list_queues, list_workers, requeue_failed
from app.retention import queries as retention
from app.reviews import service as reviews_service
from app.web.api import describe_errors
from app.web.auth import record

Model = TypeVar("Model", bound=BaseModel)

blueprint = Blueprint("admin", __name__, url_prefix="/admin", template_folder="templates")
answers.init_app(blueprint)

_PROMPTS_A_PAGE = 100
_ACTIONS_A_PAGE = 100
_FAILED_A_QUEUE = 50
_NIGHTS = 14
_MOST_NAME = 100
_REDIS_AWAY = "Redis is out of reach; load the page again in a moment."


@blueprint.context_processor
def _session() -> dict[str, Any]:
    return {"admin": g.get("admin")}


@blueprint.get("/login")
def log_in() -> Response:
    """The form to log in."""
    return answers.page("pages/login.html", next=_own_path(request.args.get("next")), failed=False)


@blueprint.post("/login")
def check_login() -> AnyResponse:
    """Log in and lead to where one wanted to go."""
    wanted = _own_path(request.form.get("next"))
    name = " ".join(request.form.get("name", "").split())[:_MOST_NAME]
    response = redirect(wanted, 303)
    if name and sessions.log_in(request.form.get("token", "").strip(), name, response):
        return response
    return answers.page("pages/login.html", 403, next=wanted, failed=True)


@blueprint.post("/logout")
@require_session
def log_out() -> AnyResponse:
    response = redirect(url_for("pages.overview"), 303)
    sessions.log_out(response)
    return response


@blueprint.get("/")
@require_session
def desk() -> Response:
    """Where an admin begins: what waits, and what was done last."""
    return answers.page(
        "pages/desk.html", waiting=queries.count_open_reviews(), actions=queries.list_actions(None, 10)
    )


@blueprint.get("/log")
@require_session
def actions() -> Response:
    """Who did what."""
    before = request.args.get("before", type=int)
    rows = queries.list_actions(before, _ACTIONS_A_PAGE + 1)
    return answers.page(
        "pages/actions.html", actions=rows[:_ACTIONS_A_PAGE], has_more=len(rows) > _ACTIONS_A_PAGE
    )


@blueprint.get("/queues")
@require_session
def queues() -> Response:
    """RQ's queues and workers.

    Not RQ Dashboard: it reads jobs as pickles, by which whoever can write to Redis runs code in its process.
    """
    redis = current_app.extensions["redis"]
    try:
        return answers.page(
            "pages/queues.html",
            queues=list_queues(redis),
            workers=list_workers(redis),
            failed=list_failed(redis, _FAILED_A_QUEUE),
        )
    except RedisError as error:
        raise Unavailable(_REDIS_AWAY) from error


@blueprint.post("/queues")
@require_session
def decide_failed() -> AnyResponse:
    """Queue a failed job once more, or forget it; without a job all of its queue that the page shows."""
    redis, form = current_app.extensions["redis"], request.form
    queue, verb, job = form.get("queue", ""), form.get("verb"), form.get("job")
    do = {"requeue": requeue_failed, "forget": forget_failed}.get(verb or "")
    if queue not in QUEUES or do is None:
        raise Conflict("Choose one of the buttons.")
    try:
        shown = [each.id for each in list_failed(redis, _FAILED_A_QUEUE) if each.queue == queue]
        count = do(redis, queue, [id for id in shown if job in (None, id)])
    except RedisError as error:
        raise Unavailable(_REDIS_AWAY) from error
    record(g.admin.name, f"{verb} failed jobs", f"{queue}: {count}")
    return redirect(url_for("admin.queues"), 303)


@blueprint.get("/storage")
@require_session
def storage() -> Response:
    """What is in the bucket, and what the last nights deleted."""
    settings = current_app.extensions["settings"]
    return answers.page(
        "pages/storage.html",
        sweep=retention.find_latest(),
        nights=retention.list_finished(_NIGHTS),
        reports=retention.measure_reports(),
        settings=settings,
    )


@blueprint.get("/judge")
@require_session
def judge() -> Response:
    """Whether the judge is still sound."""
    return answers.page("pages/judge.html", judge=describe_judge(current_app.extensions["settings"]))


@blueprint.get("/prompts")
@require_session
def prompts() -> Response:
    """All prompts, retired ones as well."""
    after = request.args.get("after")
    rows = list_prompts(PromptFilter(active_only=False, after=after), _PROMPTS_A_PAGE + 1)
    return answers.page(
        "pages/admin_prompts.html", prompts=rows[:_PROMPTS_A_PAGE], has_more=len(rows) > _PROMPTS_A_PAGE
    )


@blueprint.get("/prompts/new")
@require_session
def new_prompt() -> Response:
    return _show_form(None, {})


@blueprint.post("/prompts/new")
@require_session
def create_prompt() -> AnyResponse:
    """Publish a prompt; if something is wrong, show the form again with what is wrong."""
    given = request.form.to_dict()
    try:
        new = _read(
            NewPrompt,
            {name: given.get(name, "") for name in ("id", "category", "task", "scenario")} | _terms(),
        )
        prompts_service.create_prompt(new.model_dump())
    except (Invalid, Conflict) as error:
        return _show_form(None, given, error)
    record(g.admin.name, "create prompt", new.id)
    return redirect(url_for("admin.prompts"), 303)


@blueprint.get("/prompts/<prompt_id>")
@require_session
def prompt(prompt_id: str) -> Response:
    found = prompts_service.get_prompt(prompt_id)
    return _show_form(found, _given(found))


@blueprint.post("/prompts/<prompt_id>")
@require_session
def change_prompt(prompt_id: str) -> AnyResponse:
    """Change or retire a prompt; if something is wrong, show the form again with what is wrong."""
    found = prompts_service.get_prompt(prompt_id)
    try:
        change = _read(PromptChange, _terms() | {"is_active": "is_active" in request.form})
        prompts_service.change_prompt(prompt_id, change.model_dump(exclude_unset=True))
    except Invalid as error:
        return _show_form(found, request.form.to_dict(), error)
    record(g.admin.name, "change prompt", prompt_id)
    return redirect(url_for("admin.prompts"), 303)


@blueprint.get("/reviews")
@require_session
def reviews() -> AnyResponse:
    """Lead to the review that waits longest, behind the one given by `after`."""
    uuid = queries.find_next_review(request.args.get("after", type=UUID))
    if uuid is None:
        return answers.page("pages/no_review.html")
    return redirect(url_for("admin.review", uuid=uuid), 303)


@blueprint.get("/reviews/<uuid:uuid>")
@require_session
def review(uuid: UUID) -> Response:
    return _show_review(uuid)


@blueprint.post("/reviews/<uuid:uuid>")
@require_session
def decide_review(uuid: UUID) -> AnyResponse:
    """Decide a review and lead to the next."""
    verb, reason = request.form.get("verb"), " ".join(request.form.get("reason", "").split())
    try:
        if verb not in get_args(reviews_service.Verb):
            raise Conflict("Choose one of the buttons.")
        if not 1 <= len(reason) <= 2000:
            raise Conflict("Write a reason of 1 to 2000 characters; the miner can read it.")
        reviews_service.decide(uuid, cast(reviews_service.Verb, verb), reason, g.admin.name)
    except Conflict as error:
        return _show_review(uuid, str(error), reason, 409)
    record(g.admin.name, f"review: {verb}", str(uuid))
    return redirect(url_for("admin.reviews"), 303)


@blueprint.get("/submissions/<uuid:uuid>")
@require_session
def submission(uuid: UUID) -> Response:
    """A submission with its video."""
    return _show_submission(uuid)


@blueprint.post("/submissions/<uuid:uuid>/takedown")
@require_session
def take_down(uuid: UUID) -> AnyResponse:
    """Take the video of a submission down, if the box is ticked that confirms it."""
    reason = " ".join(request.form.get("reason", "").split())
    try:
        if "is_sure" not in request.form:
            raise Conflict("Tick the box: the video is deleted for good.")
        wish = _read(TakedownIn, {"reason": reason, "by": g.admin.name})
    except (Conflict, Invalid) as error:
        return _show_submission(uuid, 409, refused=" ".join(_told(error)), reason=reason)
    extensions = current_app.extensions
    order = Order(wish.reason, wish.by)
    moderation_service.take_down(uuid, order, extensions["settings"], extensions["storage"])
    record(g.admin.name, "take down", str(uuid))
    return redirect(url_for("admin.submission", uuid=uuid), 303)


@blueprint.get("/submissions/<uuid:uuid>/contact-sheet")
@require_session
def contact_sheet(uuid: UUID) -> Response:
    return submission_page.send_sheet(uuid)


def _show_submission(uuid: UUID, status: int = 200, **takedown: str) -> Response:
    """The page of a submission; `takedown` is what was refused, and the reason that was written."""
    sheet = url_for("admin.contact_sheet", uuid=uuid)
    hours = current_app.extensions["settings"].raw_delete_hours
    return submission_page.show_with_video(uuid, sheet, status, delete_hours=hours, **takedown)


def _show_review(uuid: UUID, refused: str | None = None, reason: str = "", status: int = 200) -> Response:
    found, own = queries.find_submission(uuid), reviews_service.get_review(uuid)
    if found is None:
        raise NotFound("There is no such submission.")
    report = Report.read(found.report or {})
    matches = (report.duplicates.matches if report.duplicates else None) or []
    other = _find_other(matches[0].submission_uuid) if matches else None
    storage = current_app.extensions["storage"]
    keys = () if found.is_gone else (found.video_key, other)
    videos = [storage.presign_get(key, submission_page.VIDEO_SECONDS) for key in keys if key]
    response = answers.page(
        "pages/review.html",
        status,
        submission=found,
        review=own,
        appeal=appeals.find(uuid),
        matches=matches,
        videos=videos,
        refused=refused,
        reason=reason,
        is_open=own.state == ReviewState.OPEN,
        **verdict.describe(report),
    )
    return answers.with_videos(response, videos)


def _find_other(uuid: str) -> str | None:
    """The key of the video that a report names. Other people's evaluators may have written anything."""
    try:
        return queries.find_video_key(UUID(uuid))
    except ValueError:
        return None


def _own_path(path: str | None) -> str:
    """`path` if it is one of the admins' pages, else where they begin: no link may lead to another site."""
    is_own = path is not None and path.startswith("/admin/") and "\\" not in path and "//" not in path
    return path if is_own and path else url_for("admin.desk")


def _show_form(prompt: Prompt | None, given: dict[str, Any], error: DomainError | None = None) -> Response:
    """The form of a prompt, None for a new one, with what is `given` and, if it was refused, the error."""
    return answers.page(
        "pages/admin_prompt.html",
        422 if error else 200,
        prompt=prompt,
        given=given,
        errors=_told(error) if error else [],
        categories=list(Category),
    )


def _given(prompt: Prompt) -> dict[str, Any]:
    """What stands in the form of a prompt that is to be changed."""
    return {
        "weight": f"{prompt.weight:g}",
        "requirements": json.dumps(prompt.requirements, indent=1, ensure_ascii=False)
        if prompt.requirements
        else "",
        "expires_at": answers.iso(prompt.expires_at) if prompt.expires_at else "",
        "is_active": prompt.is_active,
    }


def _terms() -> dict[str, Any]:
    """The fields of a form that create and change a prompt alike; an empty one counts as left out."""
    form = request.form
    try:
        weight = float(form.get("weight") or 1.0)
        requirements = json.loads(form.get("requirements") or "{}")
    except (ValueError, RecursionError) as error:
        raise Invalid(
            "Correct the form.",
            [{"field": "weight or requirements", "message": f"is no number, or no JSON object: {error}"}],
        ) from error
    return {"weight": weight, "requirements": requirements, "expires_at": form.get("expires_at") or None}


def _read(model: type[Model], values: dict[str, Any]) -> Model:
    try:
        return model.model_validate(values)
    except ValidationError as error:
        raise Invalid("Correct the form.", describe_errors(error)) from error


def _told(error: DomainError) -> list[str]:
    if isinstance(error, Invalid) and error.errors:
        return [f"{each['field']}: {each['message']}" for each in error.errors]
    return [str(error)]
