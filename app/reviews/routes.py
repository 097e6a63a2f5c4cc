"""Endpoints of reviews."""

from urllib.parse import urlencode
from uuid import UUID

from flask import Blueprint, Response, current_app
from pydantic import TypeAdapter
from spectree import Response as Answers

from app.appeals import queries as appeals
from app.reviews import models, queries, service
from app.web.api import Problem, spec
from app.web.auth import require_admin

blueprint = Blueprint("reviews", __name__)

_LIST = TypeAdapter(list[models.ReviewOut])


@blueprint.get("/v1/admin/reviews")
@require_admin
@spec.validate(resp=Answers(HTTP_200=list[models.ReviewOut]), tags=["admin"])
def list_reviews(query: models.ReviewQuery) -> Response:
    """List reviews of one `state`, the latest first. OPEN ones wait for a person.

    The header `Link` names the next page. `after` is the submission_uuid of the last review of a page.
    """
    found = queries.list_latest(query.state, query.limit + 1, query.after)
    page = [models.show(review) for review in found[: query.limit]]
    response = Response(_LIST.dump_json(page), mimetype="application/json")
    if len(found) > len(page):
        wanted = query.model_dump(mode="json", exclude_none=True) | {"after": page[-1].submission_uuid}
        response.headers["Link"] = f'</v1/admin/reviews?{urlencode(wanted)}>; rel="next"'
    return response


def _show_detail(review: queries.Review) -> models.ReviewDetailOut:
    storage, uuid = current_app.extensions["storage"], review.submission_uuid
    url = (
        None if queries.is_taken_down(uuid) else storage.presign_get(review.video_key, service.VIDEO_SECONDS)
    )
    return models.show_detail(review, url, appeals.find(uuid))


@blueprint.get("/v1/admin/reviews/<uuid:submission_uuid>")
@require_admin
@spec.validate(resp=Answers(HTTP_200=models.ReviewDetailOut, HTTP_404=Problem), tags=["admin"])
def get_review(submission_uuid: UUID) -> models.ReviewDetailOut:
    """Return the review of a submission, with the video and the miner's appeal."""
    return _show_detail(service.get_review(submission_uuid))


@blueprint.post("/v1/admin/reviews/<uuid:submission_uuid>")
@require_admin
@spec.validate(
    resp=Answers(HTTP_200=models.ReviewDetailOut, HTTP_404=Problem, HTTP_409=Problem), tags=["admin"]
)
def decide_review(submission_uuid: UUID, json: models.ReviewIn) -> models.ReviewDetailOut:
    """Decide an open review. The decision corrects the result."""
    return _show_detail(service.decide(submission_uuid, json.decision, json.reason, json.by))
