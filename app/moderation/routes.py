"""Endpoints of what an operator decides about a submission."""

from uuid import UUID

from flask import Blueprint, current_app
from spectree import Response as Answers

from app.corrections.models import CorrectionOut
from app.corrections.queries import list_corrections
from app.enums import SubmissionStatus
from app.moderation import models, service
from app.web.api import Problem, spec
from app.web.auth import require_admin

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
    """Take a video down: delete its object, and reject the submission for good. This cannot be undone."""
    taken = service.take_down(
        submission_uuid, json.reason, json.by, json.evidence, current_app.extensions["storage"]
    )
    shown = dict(_show(submission_uuid))
    return models.TakedownOut(**shown, is_deleted=taken.is_deleted, same_file=taken.same_file)


def _show(uuid: UUID) -> models.CorrectedOut:
    corrections = [
        CorrectionOut.model_validate(each, from_attributes=True) for each in list_corrections(uuid)
    ]
    last = corrections[-1]
    return models.CorrectedOut(
        submission_uuid=uuid, status=last.status, final_score=last.final_score, corrections=corrections
    )
