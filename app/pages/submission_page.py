"""The page of a submission, for everybody and for those who may look at its video."""

from datetime import timedelta
from typing import Any
from uuid import UUID

from flask import Response, current_app

from app.appeals import queries as appeals
from app.appeals.service import HOURS_TO_APPEAL
from app.assessment.formula import FINAL_WEIGHTS
from app.assessment.report import Report
from app.corrections.queries import list_corrections
from app.errors import NotFound
from app.pages import answers, queries, verdict
from app.sheets import service as sheets

# for how long the video on a page can be watched
VIDEO_SECONDS = 900


def show(uuid: UUID) -> Response:
    """Answer with the verdict and how it came about."""
    return answers.page("pages/submission.html", **_describe(_get(uuid)))


def show_with_video(uuid: UUID, sheet_url: str, status: int = 200, **more: Any) -> Response:
    """Answer with the same, with the video and the contact sheet at `sheet_url`. The caller may see them.

    `more` is for the page, too.
    """
    found = _get(uuid)
    video = None
    if not found.is_gone:
        video = current_app.extensions["storage"].presign_get(found.video_key, VIDEO_SECONDS)
    response = answers.page(
        "pages/submission.html",
        status,
        video=video,
        sheet_url=sheet_url if found.has_sheet and video else None,
        **more,
        **_describe(found),
    )
    return answers.with_videos(response, [video] if video else [])


def send_sheet(uuid: UUID) -> Response:
    """Answer with the contact sheet. The caller may see it."""
    sheet = sheets.read(uuid, current_app.extensions["storage"])
    if sheet is None:
        raise NotFound("There is no contact sheet of this submission, or no longer.")
    return answers.private(Response(sheet, mimetype=sheets.CONTENT_TYPE))


def _get(uuid: UUID) -> queries.SubmissionPage:
    found = queries.find_submission(uuid)
    if found is None:
        raise NotFound("There is no such submission; use the UUID that the miner got for it.")
    return found


def _describe(found: queries.SubmissionPage) -> dict[str, Any]:
    appeal = appeals.find(found.uuid)
    appeal_until = None
    if found.result_at and not (appeal or found.is_gone or found.review_state == "OPEN"):
        appeal_until = found.result_at + timedelta(hours=HOURS_TO_APPEAL)
    return {
        "submission": found,
        "appeal": appeal,
        "appeal_until": appeal_until,
        "corrections": list_corrections(found.uuid) if found.is_corrected else [],
        "weights": FINAL_WEIGHTS,
        "default_licence": current_app.extensions["settings"].default_licence,
        **verdict.describe(Report.read(found.report or {})),
    }
