"""Endpoints of scores and weights."""

from flask import Blueprint, Response, jsonify, request
from pydantic import BaseModel
from spectree import Response as Answers

from app.api import Problem, spec
from app.cycles.states import Cycle, CycleStatus
from app.weights import service
from app.weights.models import MinerScore, MinerScoreOut, ScoresOut, WeightedCycle, WeightsOut, WeightsU16
from app.weights.normalise import Weight

blueprint = Blueprint("weights", __name__)

# the largest id a cycle can have; a larger one in the address is not found like any other unknown id
_ID = f"<int(max={2**63 - 1}):cycle_id>"

_FOR_EVER = "public, max-age=31536000, immutable"
_REVALIDATE = "public, no-cache"
# scores of a running cycle are worked out on each request: let caches take a crowd's requests
_BRIEFLY = "public, max-age=10"


@blueprint.get("/v1/scores/latest")
@spec.validate(resp=Answers(HTTP_200=ScoresOut, HTTP_404=Problem), tags=["scores"])
def get_latest_scores() -> Response:
    """Return the scores of the last completed cycle."""
    return _answer(_show_scores(*service.get_scores(None)), _REVALIDATE)


@blueprint.get(f"/v1/scores/{_ID}")
@spec.validate(resp=Answers(HTTP_200=ScoresOut, HTTP_404=Problem), tags=["scores"])
def get_scores(cycle_id: int) -> Response:
    """Return a cycle's scores: final once it is completed, until then as they stand."""
    cycle, scores = service.get_scores(cycle_id)
    return _answer(
        _show_scores(cycle, scores), _FOR_EVER if cycle.status == CycleStatus.COMPLETED else _BRIEFLY
    )


@blueprint.get("/v1/weights/latest")
@spec.validate(resp=Answers(HTTP_200=WeightsOut, HTTP_404=Problem), tags=["weights"])
def get_latest_weights() -> Response:
    """Return the weights of the last completed cycle that has any."""
    return _answer(_show_weights(*service.get_weights(None)), _REVALIDATE)


@blueprint.get(f"/v1/weights/{_ID}")
@spec.validate(resp=Answers(HTTP_200=WeightsOut, HTTP_404=Problem), tags=["weights"])
def get_weights(cycle_id: int) -> Response:
    """Return a completed cycle's weights."""
    return _answer(_show_weights(*service.get_weights(cycle_id)), _FOR_EVER)


def _show_scores(cycle: Cycle, scores: list[MinerScore]) -> ScoresOut:
    return ScoresOut(
        cycle_id=cycle.id,
        status=cycle.status,
        started_at=cycle.started_at,
        completed_at=cycle.completed_at,
        n_submissions=sum(score.total_submissions for score in scores),
        miner_scores=[MinerScoreOut.model_validate(score, from_attributes=True) for score in scores],
    )


def _show_weights(cycle: WeightedCycle, weights: list[Weight]) -> WeightsOut:
    units = [weight for weight in weights if weight.weight_u16]
    return WeightsOut(
        cycle_id=cycle.id,
        block_number=cycle.block_number,
        block_number_is_current=cycle.block_number_is_current,
        created_at=cycle.completed_at,
        weights={str(weight.uid): weight.weight for weight in weights},
        weights_u16=WeightsU16(
            uids=[weight.uid for weight in units], weights=[weight.weight_u16 for weight in units]
        ),
    )


def _answer(shown: BaseModel, cache_control: str) -> Response:
    """Answer with `shown`, or with 304 to a caller whose If-None-Match says that it has that already."""
    response = jsonify(shown.model_dump(mode="json"))
    response.headers["Cache-Control"] = cache_control
    response.add_etag()
    response.make_conditional(request)
    return response
