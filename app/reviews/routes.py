"""Endpoints of reviews."""

from uuid import UUID

from flask import Blueprint
from spectree import Response as Answers

from app.reviews import models, queries, service
from app.web.api import Problem, spec
from app.web.auth import require_admin

blueprint = Blueprint("reviews", __name__)


def _show(review: queries.Review) -> models.ReviewOut:
    return models.ReviewOut.model_validate(review, from_attributes=True)


@blueprint.get("/v1/admin/reviews")
@require_admin
@spec.validate(resp=Answers(HTTP_200=list[models.ReviewOut]), tags=["admin"])
def list_reviews(query: models.ReviewQuery) -> list[models.ReviewOut]:
    """List reviews of one `state`, the latest first. OPEN ones wait for a person."""
    return [_show(review) for review in queries.list_latest(query.state, query.limit)]


@blueprint.get("/v1/admin/reviews/<uuid:submission_uuid>")
@require_admin
@spec.validate(resp=Answers(HTTP_200=models.ReviewOut, HTTP_404=Problem), tags=["admin"])
def get_review(submission_uuid: UUID) -> models.ReviewOut:
    """Return the review of a submission."""
    return _show(service.get_review(submission_uuid))


@blueprint.post("/v1/admin/reviews/<uuid:submission_uuid>")
@require_admin
@spec.validate(resp=Answers(HTTP_200=models.ReviewOut, HTTP_404=Problem, HTTP_409=Problem), tags=["admin"])
def decide_review(submission_uuid: UUID, json: models.ReviewIn) -> models.ReviewOut:
    """Decide an open review. The decision corrects the result."""
    return _show(service.decide(submission_uuid, json.decision, json.reason, json.by))
