"""Endpoints of uploads and submissions."""

from uuid import UUID

from flask import Blueprint, current_app, g
from spectree import Response as Answers

from app.corrections.models import CorrectionOut
from app.corrections.queries import list_corrections
from app.submissions import service
from app.submissions.models import (
    ConsentOut,
    EvaluationOut,
    LicencesOut,
    NewSubmission,
    NewUpload,
    ReceiptOut,
    SubmissionOut,
    UploadOut,
)
from app.web.api import Problem, spec
from app.web.auth import is_open, require_miner

blueprint = Blueprint("submissions", __name__)


@blueprint.post("/v1/upload/presign")
@require_miner
@spec.validate(resp=Answers(HTTP_200=UploadOut, HTTP_429=Problem), tags=["submissions"])
def presign(json: NewUpload) -> UploadOut:
    """Return a presigned address, to which one video can be uploaded."""
    extensions = current_app.extensions
    return service.presign(json, g.miner_hotkey, extensions["settings"], extensions["storage"])


@blueprint.post("/v1/submissions")
@spec.validate(
    resp=Answers(
        HTTP_200=ReceiptOut,
        HTTP_201=ReceiptOut,
        HTTP_401=Problem,
        HTTP_403=Problem,
        HTTP_409=Problem,
        HTTP_429=Problem,
    ),
    tags=["submissions"],
)
def submit(json: NewSubmission) -> tuple[ReceiptOut, int]:
    """Submit an uploaded video to a prompt.

    If the same signed statement is sent again, the answer is 200 with the same submission_uuid.
    """
    extensions = current_app.extensions
    receipt, is_new = service.submit(
        json, is_open(), extensions["settings"], extensions["storage"], extensions["redis"]
    )
    return ReceiptOut.model_validate(receipt, from_attributes=True), 201 if is_new else 200


@blueprint.get("/v1/submissions/<uuid:submission_uuid>")
@spec.validate(resp=Answers(HTTP_200=SubmissionOut, HTTP_404=Problem), tags=["submissions"])
def get_submission(submission_uuid: UUID) -> SubmissionOut:
    """Return a submission and, once it has been evaluated, its effective result."""
    submission = service.get_submission(submission_uuid)
    corrections = list_corrections(submission_uuid) if submission.is_corrected else []
    evaluation = None
    if submission.technical_score is not None:
        evaluation = EvaluationOut.model_validate(submission, from_attributes=True)
    consent = None
    if submission.consent_hash and submission.consent_version and submission.consent_date:
        consent = ConsentOut(
            hash=submission.consent_hash, version=submission.consent_version, date=submission.consent_date
        )
    return SubmissionOut(
        **vars(submission),
        evaluation=evaluation,
        corrections=[CorrectionOut(**vars(c)) for c in corrections],
        consent=consent,
    )


@blueprint.get("/v1/licences")
@spec.validate(resp=Answers(HTTP_200=LicencesOut), tags=["submissions"])
def list_licences() -> LicencesOut:
    """Return the licences that a submission may give."""
    settings = current_app.extensions["settings"]
    return LicencesOut(licences=list(settings.licences), default=settings.default_licence)
