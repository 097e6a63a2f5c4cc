"""What a webhook tells: an envelope, and the few facts that a receiver needs to ask the API for the rest.

Whoever writes an event gives its facts. What is known of the submission is added in SQL.
"""

from functools import cache
from typing import ClassVar, Literal
from uuid import UUID

from pydantic import BaseModel, create_model

from app.enums import CorrectionKind, SubmissionStatus, WebhookEvent
from app.fields import Id, Timestamp


class Facts(BaseModel):
    """Base of what is given about an event; `event` is its type."""

    event: ClassVar[WebhookEvent]


class SubmissionFacts(Facts):
    """The effective result of a submission after the event."""

    status: SubmissionStatus
    final_score: float


class CycleFacts(Facts):
    """`block_number` is the chain's block when the weights were computed; null if no block was ever known."""

    block_number: int | None


class Evaluated(SubmissionFacts):
    """A submission has its first result."""

    event = WebhookEvent.SUBMISSION_EVALUATED


class Corrected(SubmissionFacts):
    """A later decision is the effective result now; `kind` is what it comes from."""

    event = WebhookEvent.SUBMISSION_CORRECTED
    kind: CorrectionKind


class TakenDown(SubmissionFacts):
    """The video was taken down and may not be used any longer."""

    event = WebhookEvent.SUBMISSION_TAKEN_DOWN


class AppealDecided(SubmissionFacts):
    """A miner's appeal has its outcome; `is_overturned`: it changed the result."""

    event = WebhookEvent.APPEAL_DECIDED
    is_overturned: bool


class CycleCompleted(CycleFacts):
    """A cycle is completed: its scores are final."""

    event = WebhookEvent.CYCLE_COMPLETED


class WeightsPublished(CycleFacts):
    """A completed cycle has weights, which validators can set."""

    event = WebhookEvent.WEIGHTS_PUBLISHED


class OfSubmission(BaseModel):
    """What is added to the facts about a submission."""

    submission_uuid: UUID
    miner_uid: int
    miner_hotkey: str
    prompt_id: str
    cycle_id: Id | None


class OfCycle(BaseModel):
    """What is added to the facts about a cycle."""

    cycle_id: Id


_OF: dict[type[BaseModel], tuple[type[Facts], ...]] = {
    OfSubmission: (Evaluated, Corrected, TakenDown, AppealDecided),
    OfCycle: (CycleCompleted, WeightsPublished),
}
# a miner's endpoint gets these only
MINERS_EVENTS = tuple(facts.event for facts in _OF[OfSubmission])


@cache
def messages() -> dict[str, type[BaseModel]]:
    """The body that is sent for each event, for its documentation."""
    result = {}
    for added, all_facts in _OF.items():
        for facts in all_facts:
            data = create_model(f"{facts.__name__}Data", __base__=(facts, added))
            result[facts.event.value] = create_model(
                f"{facts.__name__}Message",
                __doc__=facts.__doc__,
                type=(Literal[facts.event.value], ...),  # type: ignore[arg-type]
                timestamp=(Timestamp, ...),
                data=(data, ...),
            )
    return result
