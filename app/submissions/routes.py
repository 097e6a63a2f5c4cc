"""Endpoints of submissions."""

from uuid import UUID

from flask import Blueprint, current_app, g
from spectree import Response as Answers

from app.corrections.models import CorrectionOut
from app.corrections.queries import list_corrections
from app.errors import Forbidden
from app.submissions import service
from app.submissions.models import (
    CheckOut,
    ConsentOut,
    EvaluationOut,
    LicencesOut,
    NewSubmission,
    ReceiptOut,
    SubmissionCheck,
    SubmissionOut,
)
from app.web.api import Problem, spec
from app.web.auth import is_open, require_miner

blueprint = Blueprint("submissions", __name__)


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
        json, is_open(), extensions["settings"], extensions["storage"], extensions["hints"]
    )
    return ReceiptOut.model_validate(receipt, from_attributes=True), 201 if is_new else 200


@blueprint.post("/v1/submissions/check")
@require_miner
@spec.validate(resp=Answers(HTTP_200=CheckOut, HTTP_429=Problem), tags=["submissions"])
def check(json: SubmissionCheck) -> CheckOut:
    """Tell whether a submission would be accepted, before its video is uploaded. Nothing is changed.

    Each obstacle is told as the submission's own refusal would tell it, in the same order.
    """
    if g.miner_hotkey not in (None, json.miner_hotkey):
        raise Forbidden("Sign the request with the key of miner_hotkey; others may not ask for it.")
    return service.check(json, g.miner_hotkey is None, current_app.extensions["settings"])


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
