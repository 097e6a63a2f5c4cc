"""What the service tells of its own state, on the wire."""

from typing import Annotated, Literal

from pydantic import BaseModel, Field

from app.fields import Id, Timestamp


class HealthOut(BaseModel):
    status: Literal["ok"]
    version: str


class ReadyOut(BaseModel):
    """`checks` has, for each dependency, `ok` or a few words about what is wrong."""

    status: Literal["ready", "unready"]
    checks: dict[str, str]


class StatusOut(BaseModel):
    """The state of the service. A null value could not be read at the moment."""

    status: Literal["ok", "degraded"]
    version: str
    active_cycle_id: Id | None
    total_prompts: int
    total_submissions: Id
    pending: Annotated[int, Field(description="submissions that wait, counted up to 10,000")]
    evaluating: Annotated[int, Field(description="submissions under evaluation, counted up to 10,000")]
    queue_depth: Annotated[int | None, Field(description="jobs that wait for a worker")]
    workers: Annotated[int | None, Field(description="evaluation workers that are alive")]
    scheduler_last_tick_at: Timestamp | None
    waiting_because: Annotated[
        str | None,
        Field(description="why the workers evaluate nothing, or a cycle does not complete; else null"),
    ]
    judge_model: Annotated[
        str | None,
        Field(description="the model that the workers ask; `offline-judge` does not understand pictures"),
    ]
    registration_checked: Annotated[
        bool, Field(description="whether a miner's hotkey must hold its uid in the subnet")
    ]
