"""Endpoints of appeals."""

from uuid import UUID

from flask import Blueprint, Response, current_app
from spectree import Response as Answers

from app.appeals import models, service
from app.web import shared
from app.web.api import Problem, spec
from app.web.auth import is_open

blueprint = Blueprint("appeals", __name__)

_KEPT_SECONDS = 5


@blueprint.post("/v1/submissions/<uuid:submission_uuid>/appeal")
@spec.validate(
    resp=Answers(
        HTTP_200=models.AppealOut,
        HTTP_201=models.AppealOut,
        HTTP_401=Problem,
        HTTP_403=Problem,
        HTTP_404=Problem,
        HTTP_409=Problem,
        HTTP_429=Problem,
    ),
    tags=["submissions"],
)
def appeal(submission_uuid: UUID, json: models.NewAppeal) -> tuple[models.AppealOut, int]:
    """Appeal against the result of a submission, once, within 24 hours of the result.

    The video is evaluated anew. If the same appeal is sent again, the answer is 200.
    """
    extensions = current_app.extensions
    found, is_new = service.appeal(
        submission_uuid, json, is_open(), extensions["settings"], extensions["redis"]
    )
    return models.show(found), 201 if is_new else 200


@blueprint.get("/v1/submissions/<uuid:submission_uuid>/appeal")
@spec.validate(resp=Answers(HTTP_200=models.AppealOut, HTTP_404=Problem), tags=["submissions"])
def get_appeal(submission_uuid: UUID) -> models.AppealOut:
    """Return the appeal against the result of a submission, with the new evaluation and the decision."""
    return models.show(service.get_appeal(submission_uuid))


@blueprint.get("/v1/appeals/statistics")
@spec.validate(resp=Answers("HTTP_304", HTTP_200=models.StatisticsOut), tags=["submissions"])
def get_statistics() -> Response:
    """Count appeals, and tell the overturn rate: the share of decisions that changed a result.

    The answer may be some seconds old.
    """
    return shared.answer(shared.keep("appeals", _KEPT_SECONDS, _count), f"public, max-age={_KEPT_SECONDS}")


def _count() -> bytes:
    return models.show_statistics(service.count()).model_dump_json().encode()
