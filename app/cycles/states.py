"""The life of a cycle: ACTIVE -> EVALUATING -> COMPLETED, and when it takes the next step."""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from enum import Enum, auto

from app.enums import CycleStatus


class Step(Enum):
    """What is to be done with a cycle now."""

    WAIT = auto()
    CLOSE = auto()
    COMPLETE = auto()
    # its open submissions move to the next cycle, then it completes without them
    CARRY_OVER = auto()


@dataclass(frozen=True)
class Cycle:
    id: int
    status: CycleStatus
    started_at: datetime
    ends_at: datetime
    closed_at: datetime | None
    completed_at: datetime | None
    block_number: int | None
    block_number_is_current: bool | None
    # of a completed cycle
    judge_models: Sequence[str] = ()


def next_step(
    cycle: Cycle, now: datetime, deadline: timedelta, *, waits: bool = False, has_open: bool = False
) -> Step:
    """Return what `cycle` needs at `now`.

    `waits`: there is work that it waits for, until `deadline` after its close. `has_open`: some of its own
    submissions are open, whether it waits for them or not.
    """
    if cycle.status == CycleStatus.ACTIVE:
        return Step.CLOSE if now >= cycle.ends_at else Step.WAIT
    if cycle.closed_at is None or cycle.status == CycleStatus.COMPLETED:
        return Step.WAIT
    if waits and now < cycle.closed_at + deadline:
        return Step.WAIT
    return Step.CARRY_OVER if has_open else Step.COMPLETE
