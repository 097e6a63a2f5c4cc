"""What endpoints and deliveries of webhooks are, inside and on the wire."""

from dataclasses import dataclass, field
from datetime import datetime
from typing import Annotated, Any, Self
from uuid import UUID

from pydantic import AfterValidator, BaseModel, Field, model_validator

from app.enums import DeliveryState, WebhookEvent
from app.fields import QueryModel, RequestModel, Text, Timestamp

MAX_URL_LENGTH = 500
MAX_ANSWER_LENGTH = 500
MAX_REPLAYED = 100
MAX_OVERLAP_HOURS = 168.0


@dataclass(frozen=True)
class Endpoint:
    """Where events are sent. `miner_hotkey` is None for an admin's endpoint, which gets events of all."""

    id: int
    uuid: UUID
    miner_hotkey: str | None
    url: str
    events: list[str]
    created_at: datetime
    old_secret_until: datetime | None
    disabled_at: datetime | None
    disabled_reason: str | None
    failures: int
    paused_until: datetime | None


@dataclass(frozen=True)
class Delivery:
    """An event for an endpoint, and what has become of it."""

    uuid: UUID
    event: str
    data: dict[str, Any]
    created_at: datetime
    state: str
    attempts: int
    not_before: datetime
    ended_at: datetime | None


@dataclass(frozen=True)
class Attempt:
    """One attempt at a delivery. `answer` is how the answer began, and a stranger wrote it."""

    number: int
    ended_at: datetime
    seconds: float
    status: int | None
    answer: str
    error: str | None


@dataclass(frozen=True)
class ClaimedDelivery:
    """A delivery that this process may attempt until its lease ends, with what the request needs."""

    id: int
    uuid: UUID
    claim_token: UUID
    endpoint_id: int
    url: str
    secrets: list[bytes] = field(repr=False)
    event: str
    created_at: datetime
    data: dict[str, Any]
    tries: int


@dataclass(frozen=True)
class AttemptOutcome:
    """What came of an attempt. `error` is None for a success; `is_gone`: the receiver wants no more."""

    seconds: float
    status: int | None = None
    answer: str = ""
    error: str | None = None
    retry_after: float | None = None
    is_gone: bool = False


def _unique(events: list[WebhookEvent]) -> list[WebhookEvent]:
    return list(dict.fromkeys(events))


Events = Annotated[list[Annotated[WebhookEvent, Field(strict=False)]], Field(min_length=1, max_length=20),
                   AfterValidator(_unique)]  # fmt: skip


# JSON has it as text
LaxUuid = Annotated[UUID, Field(strict=False)]


class NewEndpoint(RequestModel):
    """Without `events`, it gets all that its owner may get: a miner those about his own submissions."""

    url: Annotated[Text, Field(min_length=1, max_length=MAX_URL_LENGTH)]
    events: Events | None = None


class EndpointChange(RequestModel):
    """A field that is left out stays as it is. `is_enabled` true also ends a pause after failures."""

    events: Events | None = None
    is_enabled: bool | None = None


class SecretIn(RequestModel):
    """The old secret signs beside the new one for so many hours."""

    overlap_hours: Annotated[float, Field(ge=0, le=MAX_OVERLAP_HOURS)] = 24.0


class ReplayIn(RequestModel):
    """Ids of ended deliveries; or a time, which means the failed ones of events since, the oldest first."""

    deliveries: Annotated[list[LaxUuid], Field(max_length=MAX_REPLAYED)] | None = None
    failed_since: Timestamp | None = None

    @model_validator(mode="after")
    def _check_one(self) -> Self:
        if bool(self.deliveries) == (self.failed_since is not None):
            raise ValueError("give either deliveries or failed_since")
        return self


class EndpointQuery(QueryModel):
    """`after` is where the page before ended; `Link` has it."""

    after: Annotated[int, Field(ge=0, le=2**63 - 1)] = 0
    limit: Annotated[int, Field(ge=1, le=100)] = 100


class DeliveryQuery(QueryModel):
    """`before` is the id of a delivery: the list goes on with older ones."""

    state: DeliveryState | None = None
    before: UUID | None = None
    limit: Annotated[int, Field(ge=1, le=100)] = 50


class EndpointOut(BaseModel):
    """An endpoint. `failures` are those since its last success; it is not called before `paused_until`.

    `miner_hotkey` is null for an admin's endpoint.
    """

    uuid: UUID
    miner_hotkey: str | None
    url: str
    events: list[WebhookEvent]
    created_at: Timestamp
    old_secret_until: Timestamp | None
    disabled_at: Timestamp | None
    disabled_reason: str | None
    failures: int
    paused_until: Timestamp | None


class EndpointWithSecretOut(EndpointOut):
    """`secret` is shown this once. It verifies the signatures of what is sent."""

    secret: str


class DeliveryOut(BaseModel):
    """An event for an endpoint. `uuid` is the header webhook-id without its `msg_`.

    A PENDING one is not attempted before `not_before`.
    """

    uuid: UUID
    event: WebhookEvent
    data: dict[str, Any]
    created_at: Timestamp
    state: DeliveryState
    attempts: int
    not_before: Timestamp
    ended_at: Timestamp | None


class AttemptOut(BaseModel):
    """An attempt. `status` and `answer` are what the receiver said: of an answer the start only."""

    number: int
    ended_at: Timestamp
    seconds: float
    status: int | None
    answer: str
    error: str | None


class DeliveryWithAttemptsOut(DeliveryOut):
    """The latest attempts come first. An attempt whose process was killed is missing."""

    log: list[AttemptOut]


class ReplayOut(BaseModel):
    """How many deliveries will be sent again, at most 100. Ask again until it is 0."""

    replayed: int
