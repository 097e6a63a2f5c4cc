"""Endpoints of cycles."""

from flask import Blueprint
from pydantic import BaseModel
from spectree import Response as Answers

from app.cycles import queries
from app.fields import Timestamp
from app.web.api import spec

blueprint = Blueprint("cycles", __name__)


class CyclesStatus(BaseModel):
    """Where the cycles stand; `evaluating_cycle_id` is the oldest one that waits for its evaluations."""

    active_cycle_id: int | None
    active_cycle_started_at: Timestamp | None
    evaluating_cycle_id: int | None
    last_completed_cycle_id: int | None
    total_cycles: int


@blueprint.get("/v1/cycles/status")
@spec.validate(resp=Answers(HTTP_200=CyclesStatus), tags=["cycles"])
def get_cycles_status() -> CyclesStatus:
    """Tell which cycle is active, being evaluated and last completed."""
    return CyclesStatus.model_validate(queries.get_overview(), from_attributes=True)
