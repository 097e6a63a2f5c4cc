"""Endpoints of cycles."""

from flask import Blueprint, Response
from pydantic import BaseModel
from spectree import Response as Answers

from app.cycles import queries
from app.fields import Timestamp
from app.web import shared
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
@spec.validate(resp=Answers("HTTP_304", HTTP_200=CyclesStatus), tags=["cycles"])
def get_cycles_status() -> Response:
    """Return which cycle is active, which is being evaluated and which was completed last.

    A change shows after a second at most.
    """
    return shared.answer(shared.keep("cycles/status", shared.SECONDS, _show_status), "public, max-age=1")


def _show_status() -> bytes:
    status = CyclesStatus.model_validate(queries.get_overview(), from_attributes=True)
    return status.model_dump_json().encode()
