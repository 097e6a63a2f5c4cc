"""Endpoints of reviews."""

from flask import Blueprint
from spectree import Response as Answers

from app.reviews import models, queries
from app.web.api import spec
from app.web.auth import require_admin

blueprint = Blueprint("reviews", __name__)


@blueprint.get("/v1/admin/reviews")
@require_admin
@spec.validate(resp=Answers(HTTP_200=list[models.ReviewOut]), tags=["admin"])
def list_reviews(query: models.ReviewQuery) -> list[models.ReviewOut]:
    """List the submissions that a person should look at, the latest first."""
    reviews = queries.list_latest(query.limit)
    return [models.ReviewOut.model_validate(review, from_attributes=True) for review in reviews]
