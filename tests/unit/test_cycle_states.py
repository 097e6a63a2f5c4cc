from dataclasses import replace
from datetime import UTC, datetime, timedelta

import pytest

from app.cycles.states import Cycle, CycleStatus, Step, next_step

START = datetime(2026, 1, 15, 10, tzinfo=UTC)
HOUR = timedelta(hours=1)
ACTIVE = Cycle(1, CycleStatus.ACTIVE, START, START + HOUR, None, None, None, None)
EVALUATING = replace(ACTIVE, status=CycleStatus.EVALUATING, closed_at=START + HOUR)
COMPLETED = replace(EVALUATING, status=CycleStatus.COMPLETED, completed_at=START + 2 * HOUR)


@pytest.mark.parametrize(
    ("cycle", "has_open", "after", "step"),
    [
        (ACTIVE, True, HOUR - timedelta(microseconds=1), Step.WAIT),
        (ACTIVE, True, HOUR, Step.CLOSE),
        (ACTIVE, False, HOUR, Step.CLOSE),
        (EVALUATING, False, HOUR, Step.COMPLETE),
        (EVALUATING, True, HOUR, Step.WAIT),
        (EVALUATING, True, 3 * HOUR - timedelta(microseconds=1), Step.WAIT),
        (EVALUATING, True, 3 * HOUR, Step.CARRY_OVER),
        (EVALUATING, False, 9 * HOUR, Step.COMPLETE),
        (COMPLETED, False, 9 * HOUR, Step.WAIT),
    ],
)
def test_next_step(cycle, has_open, after, step):
    assert next_step(cycle, has_open, START + after, deadline=2 * HOUR) == step
