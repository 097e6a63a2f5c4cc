"""Endpoints of evaluation: work for remote evaluators, and the verification report."""

from uuid import UUID

from flask import Blueprint, Response, current_app, request
from prometheus_client import Counter
from spectree import Response as Answers

from app.assessment.report import Report
from app.assessment.wire import unpack_fingerprint
from app.enums import EvaluatedBy
from app.errors import ChangingVideo, TransientError
from app.evaluation import models, service
from app.web.api import Problem, spec
from app.web.auth import require_evaluator

blueprint = Blueprint("evaluation", __name__)

FAULTS = Counter(
    "kibotos_evaluator_faults", "Errors of their own that remote evaluators reported", ["evaluator"]
)


@blueprint.post("/v1/evaluate/fetch")
@require_evaluator
@spec.validate(resp=Answers(HTTP_200=models.FetchOut), tags=["evaluation"])
def fetch(json: models.FetchIn) -> models.FetchOut:
    """Claim up to `limit` due submissions for the caller, oldest first; 0 claims nothing and only counts.

    Each is the caller's alone until `lease_expires_at`, and then anybody's again.
    """
    lease_seconds = current_app.extensions["settings"].evaluation_lease_seconds
    storage = current_app.extensions["storage"]
    claims, counts = service.fetch(json.limit, f"evaluator at {request.remote_addr}", lease_seconds)
    return models.FetchOut(
        submissions=[
            models.show_claim(claim, storage.presign_get(claim.video_key, lease_seconds)) for claim in claims
        ],
        pending=counts.pending,
        evaluating=counts.evaluating,
    )


@blueprint.post("/v1/evaluate/precheck")
@require_evaluator
@spec.validate(
    resp=Answers(HTTP_200=models.PrecheckOut, HTTP_404=Problem, HTTP_409=Problem), tags=["evaluation"]
)
def precheck(json: models.PrecheckIn) -> models.PrecheckOut:
    """Tell whether a claimed video will be rejected for known footage, so that the judge need not be paid."""
    claim = service.get_live_claim(json.submission_id, json.claim_token)
    reason = service.find_known_footage(claim, unpack_fingerprint(json.fingerprint))
    return models.PrecheckOut(rejection_reason=reason)


@blueprint.post("/v1/evaluate/submit")
@require_evaluator
@spec.validate(
    resp=Answers(HTTP_200=models.SubmitOut, HTTP_404=Problem, HTTP_409=Problem), tags=["evaluation"]
)
def submit(json: models.SubmitIn) -> models.SubmitOut:
    """Report the result of a claimed submission. The first result stands.

    Formula and gates are applied here: numbers that contradict the formula are 422, and numbers that
    fail a gate are recorded as REJECTED with final score 0. Four zeros with an error of the evaluator's own
    in `rejection_reason` or `metadata.error` are no result: the submission is released, to be tried again.
    """
    claim = service.get_live_claim(json.submission_id, json.claim_token)
    if fault := models.find_own_fault(json):
        FAULTS.labels(request.remote_addr).inc()
        own = TransientError(f"evaluator at {request.remote_addr}: {fault}")
        service.release(claim, own, EvaluatedBy.EVALUATOR)
        return models.SubmitOut(success=True, submission_uuid=claim.submission_uuid, final_score=0.0)
    verdict = service.record_reported(
        claim, models.read_outcome(json), json.final_score, current_app.extensions["settings"]
    )
    return models.SubmitOut(
        success=True, submission_uuid=claim.submission_uuid, final_score=verdict.final_score
    )


@blueprint.post("/v1/evaluate/judge-calls")
@require_evaluator
@spec.validate(
    resp=Answers(HTTP_200=models.JudgeCallsOut, HTTP_404=Problem, HTTP_409=Problem), tags=["evaluation"]
)
def count_judge_calls(json: models.JudgeCallsIn) -> models.JudgeCallsOut:
    """Count calls of a judge about a claimed submission, before they are made; over its limit, make none."""
    claim = service.get_live_claim(json.submission_id, json.claim_token)
    return models.JudgeCallsOut(granted=service.count_judge_calls(claim, json.calls))


@blueprint.post("/v1/evaluate/release")
@require_evaluator
@spec.validate(
    resp=Answers(HTTP_200=models.ReleaseOut, HTTP_404=Problem, HTTP_409=Problem), tags=["evaluation"]
)
def release(json: models.ReleaseIn) -> models.ReleaseOut:
    """Give a claimed submission back after a fault that is not its video's; it is tried again later.

    `suspect_video`: the video alone may have brought it about. After some such attempts a person looks.
    """
    claim = service.get_live_claim(json.submission_id, json.claim_token)
    fault = TransientError(json.reason, suspect_video=json.suspect_video)
    service.release(claim, ChangingVideo(json.reason) if json.video_changes else fault, EvaluatedBy.EVALUATOR)
    return models.ReleaseOut(success=True, submission_uuid=claim.submission_uuid)


@blueprint.get("/v1/submissions/<uuid:submission_uuid>/report")
@spec.validate(resp=Answers(HTTP_200=Report, HTTP_404=Problem), skip_validation=True, tags=["submissions"])
def get_report(submission_uuid: UUID) -> Response:
    """Return the verification report: every check with its value, threshold and verdict."""
    return Response(service.get_report(submission_uuid).dump_json(), mimetype="application/json")
