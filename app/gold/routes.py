"""The endpoint that says whether the judge is still sound."""

from flask import Blueprint, current_app
from spectree import Response as Answers

from app.gold import models, service
from app.web.api import spec
from app.web.auth import require_admin

blueprint = Blueprint("gold", __name__)


@blueprint.get("/v1/admin/judge")
@require_admin
@spec.validate(resp=Answers(HTTP_200=models.JudgeOut), tags=["admin"])
def get_judge() -> models.JudgeOut:
    """Say how the answers to gold films agree with people, and which evaluators are blocked for theirs."""
    return service.describe_judge(current_app.extensions["settings"])
