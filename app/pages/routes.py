"""The pages that anybody may look at."""

from datetime import datetime
from itertools import accumulate
from urllib.parse import quote
from uuid import UUID

from flask import Blueprint, Response, current_app, redirect, render_template, request, url_for
from werkzeug.wrappers import Response as AnyResponse

from app.assessment.report import StageSeconds
from app.enums import Category, ReleaseState
from app.errors import NotFound
from app.health.service import ask_redis, check_readiness, find_waiting
from app.hotkeys import is_canonical
from app.pages import answers, links, queries, submission_page
from app.prompts.models import PromptFilter
from app.prompts.queries import Prompt, list_categories, list_prompts
from app.releases import queries as release_queries
from app.releases import service as release_service
from app.releases.models import Rules
from app.standing.queries import get_miner, list_miner_submissions
from app.weights.models import MinerScore, RecordedScore, ScoredCycle
from app.weights.queries import find_cycle
from app.weights.service import list_scores

blueprint = Blueprint(
    "pages",
    __name__,
    template_folder="templates",
    static_folder="static",
    static_url_path="/static",
)
answers.init_app(blueprint)

_LIVE_SECONDS = 3
_RUNNING_SECONDS = 15
_DAY_SECONDS = 86_400
_PROMPTS_SECONDS = 15
_CYCLES_A_PAGE = 50
_MINERS_A_PAGE = 100
_PROMPTS_A_PAGE = 60
_MOST_ID = 64
_SUBMISSIONS_A_PAGE = 50
_CYCLES_OF_A_MINER = 30
_RELEASES_A_PAGE = 50
# in the order in which an evaluation goes through them
_STAGES = list(StageSeconds.model_fields)


@blueprint.get("/")
def overview() -> Response:
    """How the service does now."""
    return answers.kept_page("overview", _LIVE_SECONDS, _render_overview)


def _render_overview() -> str:
    extensions = current_app.extensions
    overview = queries.get_overview()
    queued, workers = ask_redis(extensions["redis"])
    return render_template(
        "pages/overview.html",
        overview=overview,
        most=queries.COUNT_AT_MOST,
        waiting_because=find_waiting(extensions["settings"]),
        stages=sorted(overview.stages, key=lambda each: _STAGES.index(each["stage"])),
        evaluated=sum(each["count"] for each in overview.outcomes),
        accepted=sum(each["count"] for each in overview.outcomes if each["reason"] is None),
        reasons=[each for each in overview.outcomes if each["reason"] is not None][:8],
        queued=queued,
        workers=workers,
        checks=check_readiness(extensions["probes"]),
    )


@blueprint.get("/cycles")
def cycles() -> Response:
    """All cycles, the newest first."""
    before = request.args.get("before", type=int)
    before = before if before is not None and 0 < before < 2**63 else None
    if before is not None:
        return answers.fresh(_render_cycles(before))
    return answers.kept_page("cycles", _RUNNING_SECONDS, lambda: _render_cycles(None))


def _render_cycles(before: int | None) -> str:
    rows = queries.list_cycles(before, _CYCLES_A_PAGE + 1)
    return render_template(
        "pages/cycles.html",
        cycles=rows[:_CYCLES_A_PAGE],
        has_more=len(rows) > _CYCLES_A_PAGE,
        most=queries.COUNT_AT_MOST,
    )


@blueprint.get("/cycles/<int(max=9223372036854775807):cycle_id>")
def cycle(cycle_id: int) -> Response:
    """A cycle: who earned how much in it."""
    offset = min(max(request.args.get("from", 0, type=int), 0), 65_536) // _MINERS_A_PAGE * _MINERS_A_PAGE
    found = find_cycle(cycle_id)
    if found is None:
        raise NotFound("There is no such cycle; the list of cycles has all there are.")
    if offset:
        return answers.fresh(_render_cycle(found, offset))
    seconds = _DAY_SECONDS if found.completed_at else _RUNNING_SECONDS
    return answers.kept_page(("cycle", cycle_id, found.status), seconds, lambda: _render_cycle(found, 0))


def _render_cycle(cycle: ScoredCycle, offset: int) -> str:
    scores = list_scores(cycle)
    totals = [score.total_score if _counts(score) else 0.0 for score in scores]
    paid = sum(totals)
    categories: dict[str, float] = {}
    for score in scores:
        for category, points in score.scores_by_category.items():
            categories[category] = categories.get(category, 0.0) + points
    details = queries.get_details(cycle.id, cycle.last_correction_id)
    return render_template(
        "pages/cycle.html",
        cycle=cycle,
        rows=list(zip(scores, totals, strict=True))[offset : offset + _MINERS_A_PAGE],
        offset=offset,
        page_size=_MINERS_A_PAGE,
        miners=len(scores),
        submissions=sum(score.total_submissions for score in scores),
        accepted=sum(score.accepted_submissions for score in scores),
        paid=paid,
        best=max(totals, default=0.0),
        half=_holding_half(totals),
        categories=sorted(categories.items(), key=lambda item: -item[1]),
        details=details,
        most=queries.COUNT_AT_MOST,
        tallest=max(details.spread.values(), default=0),
    )


def _counts(score: MinerScore) -> bool:
    """Whether the score counts for weights: the hotkey holds its uid, or the cycle still runs."""
    return score.holds_uid if isinstance(score, RecordedScore) else True


def _holding_half(totals: list[float]) -> int:
    """How many miners, the best first, hold half of all points; 0 if there are no points."""
    half = sum(totals) / 2
    if not half:
        return 0
    return next(n for n, held in enumerate(accumulate(sorted(totals, reverse=True)), 1) if held >= half)


@blueprint.get("/miners")
def find_miner() -> AnyResponse:
    """Lead from a hotkey or a uid to its miner's page."""
    wanted = request.args.get("q", "").strip()
    if is_canonical(wanted):
        return redirect(url_for("pages.miner", hotkey=wanted), 303)
    if wanted.isascii() and wanted.isdigit() and len(wanted) <= 5 and int(wanted) <= 65_535:
        if hotkey := queries.find_hotkey(int(wanted)):
            return redirect(url_for("pages.miner", hotkey=hotkey), 303)
        raise NotFound(f"Nobody holds the uid {wanted}; search for a hotkey, or for another uid.")
    if wanted:
        raise NotFound("Search for a hotkey (it has 47 or 48 letters and digits) or a uid (0 to 65535).")
    return answers.page("pages/miners.html")


@blueprint.get("/miners/<hotkey>")
def miner(hotkey: str) -> Response:
    """A miner: its standing, its cycles, its submissions."""
    if not is_canonical(hotkey):
        raise NotFound("This is no hotkey; a hotkey has 47 or 48 letters and digits.")
    before = request.args.get("before", type=_moment)
    submissions = list_miner_submissions(hotkey, before, _SUBMISSIONS_A_PAGE + 1)
    settings = current_app.extensions["settings"]
    return answers.page(
        "pages/miner.html",
        hotkey=hotkey,
        miner=get_miner(hotkey),
        cycles=queries.list_miner_cycles(hotkey, _CYCLES_OF_A_MINER),
        submissions=submissions[:_SUBMISSIONS_A_PAGE],
        next=quote(submissions[_SUBMISSIONS_A_PAGE - 1].submitted_at.isoformat())
        if len(submissions) > _SUBMISSIONS_A_PAGE
        else None,
        is_first=before is None,
        most_submissions=settings.max_submissions_per_hour,
    )


def _moment(text: str) -> datetime:
    moment = datetime.fromisoformat(text)
    if moment.tzinfo is None:
        raise ValueError(text)
    return moment


@blueprint.get("/submissions/<uuid:uuid>")
def submission(uuid: UUID) -> Response:
    """A submission: its verdict and how it came about."""
    return submission_page.show(uuid)


@blueprint.get("/submissions/<uuid:uuid>/video")
def video(uuid: UUID) -> Response:
    """The same with its video, by a link of links.make_link()."""
    token = request.args.get("token", "")
    links.check(uuid, token)
    return submission_page.show_with_video(uuid, url_for("pages.contact_sheet", uuid=uuid, token=token))


@blueprint.get("/submissions/<uuid:uuid>/contact-sheet")
def contact_sheet(uuid: UUID) -> Response:
    links.check(uuid, request.args.get("token", ""))
    return submission_page.send_sheet(uuid)


@blueprint.get("/prompts")
def prompts() -> Response:
    """What is wanted, by category."""
    category, after = request.args.get("category"), request.args.get("after")
    if category not in (None, *Category):
        raise NotFound("There is no such category; choose one of those on the page of prompts.")
    if after is not None:
        return answers.fresh(_render_prompts(category, after[:_MOST_ID]))
    return answers.kept_page(("prompts", category), _PROMPTS_SECONDS, lambda: _render_prompts(category, None))


def _render_prompts(category: str | None, after: str | None) -> str:
    rows = list_prompts(PromptFilter(category=category, after=after), _PROMPTS_A_PAGE + 1)
    by_category: dict[str, list[Prompt]] = {}
    for prompt in rows[:_PROMPTS_A_PAGE]:
        by_category.setdefault(prompt.category, []).append(prompt)
    return render_template(
        "pages/prompts.html",
        by_category=dict(sorted(by_category.items())),
        categories=list_categories(),
        category=category,
        next=rows[_PROMPTS_A_PAGE - 1].id if len(rows) > _PROMPTS_A_PAGE else None,
        acceptance={each.prompt_id: each for each in queries.list_acceptance()},
    )


@blueprint.get("/releases")
def releases() -> Response:
    """The data sets, the newest first."""
    before = request.args.get("before")
    if before is not None:
        return answers.fresh(_render_releases(before[:_MOST_ID]))
    return answers.kept_page("releases", _RUNNING_SECONDS, lambda: _render_releases(None))


def _render_releases(before: str | None) -> str:
    rows = release_queries.list_releases(before, _RELEASES_A_PAGE + 1)
    return render_template(
        "pages/releases.html", releases=rows[:_RELEASES_A_PAGE], has_more=len(rows) > _RELEASES_A_PAGE
    )


@blueprint.get("/releases/<name>")
def release(name: str) -> Response:
    """A data set: what is in it, how far it is, and what names it."""
    return answers.kept_page(("release", name), _RUNNING_SECONDS, lambda: _render_release(name))


def _render_release(name: str) -> str:
    release = release_service.get(name)
    card = release_queries.find_card(release.id) if release.state == ReleaseState.COMPLETE else None
    if card and card.startswith("---\n"):
        # what it says to programs
        card = card.partition("\n---\n")[2].strip()
    figures = release.figures or {}
    hours = figures.get("hours_by_category", {})
    return render_template(
        "pages/release.html",
        release=release,
        rules=Rules.model_validate(release.rules),
        figures=figures,
        categories=sorted(figures.get("by_category", {}).items(), key=lambda item: -hours[item[0]]),
        hours=hours,
        card=card,
    )
