from dataclasses import replace
from datetime import UTC, datetime, timedelta

import pytest

from app.cycles.states import Cycle, CycleStatus, Step, Waiting, next_step

START = datetime(2026, 1, 15, 10, tzinfo=UTC)
HOUR = timedelta(hours=1)
ACTIVE = Cycle(1, CycleStatus.ACTIVE, START, START + HOUR, None, None, None, None)
EVALUATING = replace(ACTIVE, status=CycleStatus.EVALUATING, closed_at=START + HOUR)
COMPLETED = replace(EVALUATING, status=CycleStatus.COMPLETED, completed_at=START + 2 * HOUR)


@pytest.mark.parametrize(
    ("cycle", "waits_for", "after", "step"),
    [
        (ACTIVE, Waiting.OWN, HOUR - timedelta(microseconds=1), Step.WAIT),
        (ACTIVE, Waiting.OWN, HOUR, Step.CLOSE),
        (ACTIVE, Waiting.NOTHING, HOUR, Step.CLOSE),
        (EVALUATING, Waiting.NOTHING, HOUR, Step.COMPLETE),
        (EVALUATING, Waiting.OWN, HOUR, Step.WAIT),
        (EVALUATING, Waiting.OWN, 3 * HOUR - timedelta(microseconds=1), Step.WAIT),
        (EVALUATING, Waiting.OWN, 3 * HOUR, Step.CARRY_OVER),
        (EVALUATING, Waiting.NOTHING, 9 * HOUR, Step.COMPLETE),
        (EVALUATING, Waiting.EARLIER, HOUR, Step.WAIT),
        (EVALUATING, Waiting.EARLIER, 3 * HOUR, Step.COMPLETE),
        (COMPLETED, Waiting.NOTHING, 9 * HOUR, Step.WAIT),
    ],
)
def test_next_step(cycle, waits_for, after, step):
    assert next_step(cycle, waits_for, START + after, deadline=2 * HOUR) == step
