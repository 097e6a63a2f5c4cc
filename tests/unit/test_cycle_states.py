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
    ("cycle", "waits", "has_open", "after", "step"),
    [
        (ACTIVE, True, True, HOUR - timedelta(microseconds=1), Step.WAIT),
        (ACTIVE, True, True, HOUR, Step.CLOSE),
        (ACTIVE, False, False, HOUR, Step.CLOSE),
        # a scheduler that was down comes late
        (ACTIVE, True, True, 9 * HOUR, Step.CLOSE),
        (EVALUATING, False, False, HOUR, Step.COMPLETE),
        (EVALUATING, True, True, HOUR, Step.WAIT),
        (EVALUATING, True, True, 3 * HOUR - timedelta(microseconds=1), Step.WAIT),
        (EVALUATING, True, True, 3 * HOUR, Step.CARRY_OVER),
        (EVALUATING, True, True, 9 * HOUR, Step.CARRY_OVER),
        (EVALUATING, False, True, HOUR, Step.CARRY_OVER),
        (EVALUATING, False, False, 9 * HOUR, Step.COMPLETE),
        (EVALUATING, True, False, HOUR, Step.WAIT),
        (EVALUATING, True, False, 3 * HOUR, Step.COMPLETE),
        (COMPLETED, False, False, 9 * HOUR, Step.WAIT),
    ],
)
def test_next_step(cycle, waits, has_open, after, step):
    assert next_step(cycle, START + after, 2 * HOUR, waits=waits, has_open=has_open) == step
