"""Endpoints of what an operator decides about a submission."""

from uuid import UUID

from flask import Blueprint, current_app
from spectree import Response as Answers

from app.corrections.models import CorrectionOut
from app.corrections.queries import list_corrections
from app.enums import SubmissionStatus
from app.moderation import models, service
from app.submissions.service import get_submission
from app.web.api import Problem, spec
from app.web.auth import is_open, require_admin

blueprint = Blueprint("moderation", __name__)


@blueprint.post("/v1/admin/submissions/<uuid:submission_uuid>/corrections")
@require_admin
@spec.validate(resp=Answers(HTTP_201=models.CorrectedOut, HTTP_404=Problem, HTTP_409=Problem), tags=["admin"])
def correct(submission_uuid: UUID, json: models.CorrectionIn) -> tuple[models.CorrectedOut, int]:
    """Correct the result of a submission. The evaluation stays; the correction is appended and counts."""
    status = SubmissionStatus(json.status)
    service.correct(submission_uuid, status, json.final_score or 0.0, json.reason, json.by, json.evidence)
    return _show(submission_uuid), 201


@blueprint.post("/v1/admin/submissions/<uuid:submission_uuid>/takedown")
@require_admin
@spec.validate(resp=Answers(HTTP_200=models.TakedownOut, HTTP_404=Problem, HTTP_409=Problem), tags=["admin"])
def take_down(submission_uuid: UUID, json: models.TakedownIn) -> models.TakedownOut:
    """Take a video down: nobody sees it from now on, and its object is deleted. This cannot be undone.

    Its result stands; to take the points back, correct it as well. Without a result it is rejected.
    """
    extensions = current_app.extensions
    order = models.Order(json.reason, json.by, evidence=json.evidence)
    taken = service.take_down(submission_uuid, order, extensions["settings"], extensions["storage"])
    shown = dict(_show(submission_uuid))
    return models.TakedownOut(**shown, is_deleted=taken.is_deleted, same_file=taken.same_file)


@blueprint.post("/v1/submissions/<uuid:submission_uuid>/takedown")
@spec.validate(
    resp=Answers(HTTP_200=models.OwnTakedownOut, HTTP_401=Problem, HTTP_403=Problem, HTTP_404=Problem),
    tags=["submissions"],
)
def withdraw(submission_uuid: UUID, json: models.NewTakedown) -> models.OwnTakedownOut:
    """Take a video of your own down: nobody sees it from now on, and it is deleted. This cannot be undone.

    Its result stands. Without a result it is rejected. The footage cannot be submitted again.
    """
    extensions = current_app.extensions
    taken = service.withdraw(submission_uuid, json, is_open(), extensions["settings"], extensions["storage"])
    return models.OwnTakedownOut.model_validate(taken, from_attributes=True)


def _show(uuid: UUID) -> models.CorrectedOut:
    corrections = [
        CorrectionOut.model_validate(each, from_attributes=True) for each in list_corrections(uuid)
    ]
    found = get_submission(uuid)
    return models.CorrectedOut(
        submission_uuid=uuid,
        status=SubmissionStatus(found.status),
        final_score=found.final_score or 0.0,
        corrections=corrections,
    )
