"""Endpoints of health."""

from flask import Blueprint, Response, current_app
from spectree import Response as Answers

from app.health import metrics, service
from app.health.models import HealthOut, ReadyOut, StatusOut
from app.version import VERSION
from app.web.api import Problem, spec
from app.web.auth import require_metrics

blueprint = Blueprint("health", __name__)


@blueprint.get("/health")
@spec.validate(resp=Answers(HTTP_200=HealthOut), tags=["health"])
def health() -> HealthOut:
    """Say that the process is alive. Nothing else is checked."""
    return HealthOut(status="ok", version=VERSION)


@blueprint.get("/ready")
@spec.validate(resp=Answers(HTTP_200=ReadyOut, HTTP_503=ReadyOut), tags=["health"])
def ready() -> tuple[ReadyOut, int]:
    """Say whether the database, Redis and storage can be reached. It takes about two seconds at most."""
    checks = service.check_readiness(current_app.extensions["probes"])
    fine = all(verdict == "ok" for verdict in checks.values())
    answer = ReadyOut(status="ready" if fine else "unready", checks=checks)
    return answer, 200 if fine else 503


@blueprint.get("/v1/status")
@spec.validate(resp=Answers(HTTP_200=StatusOut, HTTP_503=Problem), tags=["health"])
def status() -> StatusOut:
    """Return the state of the service: its cycle, its work, and why the work waits, if it does."""
    found = service.get_status(current_app.extensions["settings"], current_app.extensions["redis"])
    return StatusOut.model_validate(found, from_attributes=True)


@blueprint.get("/metrics")
@require_metrics
@spec.validate(resp=Answers("HTTP_200"), tags=["health"])
def show_metrics() -> Response:
    """Return all metrics, in Prometheus's text format."""
    body = metrics.render(current_app.extensions["settings"], current_app.extensions["redis"])
    return Response(body, content_type=metrics.CONTENT_TYPE)
