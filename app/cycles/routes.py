"""Endpoints of cycles."""

from flask import Blueprint
from pydantic import BaseModel
from spectree import Response as Answers

from app.cycles import queries
from app.fields import Timestamp
from app.web.api import spec

blueprint = Blueprint("cycles", __name__)


class CyclesStatus(BaseModel):
    """The current cycles. `evaluating_cycle_id` is the oldest cycle that waits for its evaluations."""

    active_cycle_id: int | None
    active_cycle_started_at: Timestamp | None
    evaluating_cycle_id: int | None
    last_completed_cycle_id: int | None
    total_cycles: int


@blueprint.get("/v1/cycles/status")
@spec.validate(resp=Answers(HTTP_200=CyclesStatus), tags=["cycles"])
def get_cycles_status() -> CyclesStatus:
    """Return which cycle is active, which is being evaluated and which was completed last."""
    return CyclesStatus.model_validate(queries.get_overview(), from_attributes=True)
