"""The endpoint that says whether the judge is still sound."""

from dataclasses import asdict

from flask import Blueprint, current_app
from spectree import Response as Answers

from app.gold import models, queries, service
from app.web.api import spec
from app.web.auth import require_admin

blueprint = Blueprint("gold", __name__)


@blueprint.get("/v1/admin/judge")
@require_admin
@spec.validate(resp=Answers(HTTP_200=models.JudgeOut), tags=["admin"])
def get_judge() -> models.JudgeOut:
    """Say how the answers to gold films agree with people, and which evaluators are blocked for theirs."""
    settings = current_app.extensions["settings"]
    return models.JudgeOut(
        days=service.DAYS,
        min_kappa=settings.gold_min_kappa,
        least_answers=settings.gold_least_answers,
        films=queries.count_films(),
        copies_left=queries.count_copies_left(),
        agreement=[models.show_finding(each) for each in service.list_findings(settings)],
        blocked_evaluators=[models.BlockOut(**asdict(block)) for block in queries.list_blocks()],
    )
