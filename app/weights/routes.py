"""Endpoints of scores and weights."""

from flask import Blueprint, Response
from spectree import Response as Answers

from app.web import shared
from app.web.api import Problem, spec
from app.weights import service
from app.weights.models import MinerScoreOut, ScoredCycle, ScoresOut, WeightedCycle, WeightsOut

blueprint = Blueprint("weights", __name__)

# the largest id a cycle can have; a larger one in the address is not found like any other unknown id
_ID = f"<int(max={2**63 - 1}):cycle_id>"

_FOR_EVER = "public, max-age=31536000, immutable"
_REVALIDATE = "public, no-cache"
_BRIEFLY = "public, max-age=5"

# The answer for a completed cycle never changes. That for another is given to all callers for 5 s.
_DAY_SECONDS = 86_400
_RUNNING_SECONDS = 5


@blueprint.get("/v1/scores/latest")
@spec.validate(resp=Answers("HTTP_304", HTTP_200=ScoresOut, HTTP_404=Problem), tags=["scores"])
def get_latest_scores() -> Response:
    """Return the scores of the last completed cycle."""
    latest = shared.keeper().get(
        "scores/latest", shared.SECONDS, lambda: _keep_scores(service.get_cycle(None))
    )
    return shared.answer(latest, _REVALIDATE)


@blueprint.get(f"/v1/scores/{_ID}")
@spec.validate(resp=Answers("HTTP_304", HTTP_200=ScoresOut, HTTP_404=Problem), tags=["scores"])
def get_scores(cycle_id: int) -> Response:
    """Return the scores of a cycle. They are final once the cycle is completed."""
    cycle = service.get_cycle(cycle_id)
    return shared.answer(_keep_scores(cycle), _FOR_EVER if cycle.completed_at else _BRIEFLY)


@blueprint.get("/v1/weights/latest")
@spec.validate(resp=Answers("HTTP_304", HTTP_200=WeightsOut, HTTP_404=Problem), tags=["weights"])
def get_latest_weights() -> Response:
    """Return the weights of the last completed cycle that has any."""
    latest = shared.keeper().get(
        "weights/latest", shared.SECONDS, lambda: _keep_weights(service.get_weighted_cycle(None))
    )
    return shared.answer(latest, _REVALIDATE)


@blueprint.get(f"/v1/weights/{_ID}")
@spec.validate(resp=Answers("HTTP_304", HTTP_200=WeightsOut, HTTP_404=Problem), tags=["weights"])
def get_weights(cycle_id: int) -> Response:
    """Return a completed cycle's weights."""
    return shared.answer(_keep_weights(service.get_weighted_cycle(cycle_id)), _FOR_EVER)


def _keep_scores(cycle: ScoredCycle) -> shared.Shared:
    seconds = _DAY_SECONDS if cycle.completed_at else _RUNNING_SECONDS
    return shared.keep(("scores", cycle.id, cycle.status), seconds, lambda: _write_scores(cycle))


def _write_scores(cycle: ScoredCycle) -> bytes:
    scores = service.list_scores(cycle)
    return (
        ScoresOut(
            cycle_id=cycle.id,
            status=cycle.status,
            started_at=cycle.started_at,
            completed_at=cycle.completed_at,
            n_submissions=sum(score.total_submissions for score in scores),
            judge_models=list(service.list_judge_models(cycle)),
            miner_scores=[MinerScoreOut(**vars(score)) for score in scores],
        )
        .model_dump_json()
        .encode()
    )


def _keep_weights(cycle: WeightedCycle) -> shared.Shared:
    return shared.keep(
        ("weights", cycle.id),
        _DAY_SECONDS,
        lambda: service.describe_weights(cycle).model_dump_json().encode(),
    )
