"""Endpoints of evaluation: work for remote evaluators, and the verification report."""

from uuid import UUID

from flask import Blueprint, Response, current_app, jsonify, request
from spectree import Response as Answers

from app.api import Problem, spec
from app.auth import require_admin, require_evaluator
from app.evaluation import review_queries, service, wire
from app.evaluation.model import OurFault

blueprint = Blueprint("evaluation", __name__)


@blueprint.post("/v1/evaluate/fetch")
@require_evaluator
@spec.validate(resp=Answers(HTTP_200=wire.FetchOut), tags=["evaluation"])
def fetch(json: wire.FetchIn) -> wire.FetchOut:
    """Claim up to `limit` due submissions for the caller, oldest first; 0 claims nothing and only counts.

    Each is the caller's alone until `lease_expires_at`, and then anybody's again.
    """
    lease_seconds = current_app.extensions["settings"].evaluation_lease_seconds
    storage = current_app.extensions["storage"]
    claims, counts = service.fetch(json.limit, f"evaluator at {request.remote_addr}", lease_seconds)
    return wire.FetchOut(
        submissions=[
            wire.show_claim(claim, storage.presign_get(claim.video_key, lease_seconds)) for claim in claims
        ],
        pending=counts.pending,
        evaluating=counts.evaluating,
    )


@blueprint.post("/v1/evaluate/submit")
@require_evaluator
@spec.validate(resp=Answers(HTTP_200=wire.SubmitOut, HTTP_404=Problem, HTTP_409=Problem), tags=["evaluation"])
def submit(json: wire.SubmitIn) -> wire.SubmitOut:
    """Report the result of a claimed submission. The first result stands.

    Formula and gates are applied here: numbers that contradict the formula are 422, and numbers that
    fail a gate are recorded as REJECTED with final score 0.
    """
    claim = service.get_live_claim(json.submission_id, json.claim_token)
    verdict = service.record_reported(
        claim, wire.read_outcome(json), json.final_score, current_app.extensions["settings"]
    )
    return wire.SubmitOut(
        success=True, submission_uuid=claim.submission_uuid, final_score=verdict.final_score
    )


@blueprint.post("/v1/evaluate/release")
@require_evaluator
@spec.validate(
    resp=Answers(HTTP_200=wire.ReleaseOut, HTTP_404=Problem, HTTP_409=Problem), tags=["evaluation"]
)
def release(json: wire.ReleaseIn) -> wire.ReleaseOut:
    """Give a claimed submission back after a fault that is not its video's; it is tried again later."""
    claim = service.get_live_claim(json.submission_id, json.claim_token)
    service.give_back(claim, OurFault(json.reason))
    return wire.ReleaseOut(success=True, submission_uuid=claim.submission_uuid)


@blueprint.get("/v1/submissions/<uuid:submission_uuid>/report")
@spec.validate(resp=Answers("HTTP_200", HTTP_404=Problem), tags=["submissions"])
def get_report(submission_uuid: UUID) -> Response:
    """Return the verification report: every check with its value, threshold and verdict."""
    return jsonify(service.get_report(submission_uuid))


@blueprint.get("/v1/admin/reviews")
@require_admin
@spec.validate(resp=Answers(HTTP_200=list[wire.ReviewOut]), tags=["admin"])
def list_reviews(query: wire.ReviewQuery) -> list[wire.ReviewOut]:
    """List the submissions that a person should look at, the latest first."""
    reviews = review_queries.list_latest(query.limit)
    return [wire.ReviewOut.model_validate(review, from_attributes=True) for review in reviews]
