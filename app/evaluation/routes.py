"""Endpoints of evaluation: work for remote evaluators, and the verification report."""

from uuid import UUID

from flask import Blueprint, Response, current_app, g
from prometheus_client import Counter
from spectree import Response as Answers

from app.assessment.report import Report
from app.assessment.wire import unpack_features, unpack_fingerprint
from app.enums import EvaluatedBy
from app.errors import ChangingVideo, TransientError
from app.evaluation import evaluators, models, service
from app.sheets import service as sheets
from app.web.api import Problem, spec
from app.web.auth import require_evaluator

blueprint = Blueprint("evaluation", __name__)

FAULTS = Counter(
    # which of EVALUATOR_TOKEN: behind a proxy all addresses are one, and elsewhere there is no end of them
    "kibotos_evaluator_faults",
    "Errors of their own that remote evaluators reported",
    ["evaluator"],
)


@blueprint.post("/v1/evaluate/fetch")
@require_evaluator
@spec.validate(resp=Answers(HTTP_200=models.FetchOut), tags=["evaluation"])
def fetch(json: models.FetchIn) -> models.FetchOut:
    """Claim up to `limit` due submissions for the caller, the oldest first. A `limit` of 0 only counts.

    The caller holds each of them alone until `lease_expires_at`. After that anybody can claim it again. An
    evaluator whose scores differ too much from people's gets 403 until the operator allows it again.
    """
    extensions = current_app.extensions
    lease_seconds, storage = extensions["settings"].evaluation_lease_seconds, extensions["storage"]
    claims, counts = service.fetch(json.limit, g.token, lease_seconds, extensions["backlog"])
    if not claims:
        evaluators.check_allowed(g.token)
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
    """Say whether a claimed video will be rejected for known footage. Ask this before you pay the judge."""
    claim = service.get_live_claim(json.submission_id, json.claim_token)
    frames, features = unpack_fingerprint(json.fingerprint), unpack_features(json.features)
    reason = service.find_known_footage(claim, frames, features)
    return models.PrecheckOut(rejection_reason=reason)


@blueprint.post("/v1/evaluate/submit")
@require_evaluator
@spec.validate(
    resp=Answers(HTTP_200=models.SubmitOut, HTTP_404=Problem, HTTP_409=Problem), tags=["evaluation"]
)
def submit(json: models.SubmitIn) -> models.SubmitOut:
    """Report the result of a claimed submission. The first result stands.

    The backend applies the formula and the gates itself. A final score that contradicts the formula is
    answered with 422. Scores that fail a gate are recorded as REJECTED with the final score 0. An evaluator
    may report its own error as four zeros with the error in `rejection_reason` or `metadata.error`. That is
    no result: the submission is released and will be tried again.
    """
    claim = service.get_live_claim(json.submission_id, json.claim_token)
    if fault := models.find_own_fault(json):
        FAULTS.labels(g.token).inc()
        own = TransientError(f"{service.claimant(g.token)}: {fault}")
        service.release(claim, own, EvaluatedBy.EVALUATOR)
        return models.SubmitOut(success=True, submission_uuid=claim.submission_uuid, final_score=0.0)
    settings, storage = current_app.extensions["settings"], current_app.extensions["storage"]
    verdict = service.record_reported(claim, models.read_outcome(json), json.final_score, settings, g.token)
    sheets.keep(claim.submission_uuid, json.contact_sheet, settings, storage)
    return models.SubmitOut(
        success=True, submission_uuid=claim.submission_uuid, final_score=verdict.final_score
    )


@blueprint.post("/v1/evaluate/judge-calls")
@require_evaluator
@spec.validate(
    resp=Answers(HTTP_200=models.JudgeCallsOut, HTTP_404=Problem, HTTP_409=Problem), tags=["evaluation"]
)
def count_judge_calls(json: models.JudgeCallsIn) -> models.JudgeCallsOut:
    """Count requests to a judge about a claimed submission. Ask this before you send them."""
    claim = service.get_live_claim(json.submission_id, json.claim_token)
    return models.JudgeCallsOut(granted=service.count_judge_calls(claim, json.calls))


@blueprint.post("/v1/evaluate/release")
@require_evaluator
@spec.validate(
    resp=Answers(HTTP_200=models.ReleaseOut, HTTP_404=Problem, HTTP_409=Problem), tags=["evaluation"]
)
def release(json: models.ReleaseIn) -> models.ReleaseOut:
    """Release a claimed submission after a transient error. It will be tried again later.

    `suspect_video`: the video is probably the cause of the error. After three such attempts it is held for a
    review by a person. `video_changes`: storage returned other bytes each time. `dependency`: storage or the
    evaluator's judge is the cause. After ten releases without it the submission is held, too.
    """
    claim = service.get_live_claim(json.submission_id, json.claim_token)
    fault = TransientError(json.reason, json.dependency, suspect_video=json.suspect_video)
    service.release(claim, ChangingVideo(json.reason) if json.video_changes else fault, EvaluatedBy.EVALUATOR)
    return models.ReleaseOut(success=True, submission_uuid=claim.submission_uuid)


@blueprint.get("/v1/submissions/<uuid:submission_uuid>/report")
@spec.validate(resp=Answers(HTTP_200=Report, HTTP_404=Problem), tags=["submissions"])
def get_report(submission_uuid: UUID) -> Response:
    """Return the verification report of a submission: each check, the judge's answers and the verdict.

    The SHA-256 of this answer is the `report_hash` in the ledger of the submission's cycle.
    """
    return Response(service.get_report(submission_uuid), mimetype="application/json")
