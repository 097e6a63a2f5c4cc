from dataclasses import replace

import pytest
from click.testing import CliRunner

from app.clients.chain import Chain
from app.completion import service
from app.cycles.commands import cycles
from app.errors import Conflict, NotFound
from app.weights.commands import recompute
from tests.factories import make_cycle, make_result, tamper


def run(group, settings, *arguments):
    return CliRunner().invoke(group, arguments, obj=settings)


def test_cycles_by_hand(settings, database):
    settings = replace(settings, auto_start_cycles=False)
    assert "active:          none" in run(cycles, settings, "status").output
    assert "Cycle 1 is active until " in run(cycles, settings, "start").output
    assert "active:          1, since " in run(cycles, settings, "status").output
    assert isinstance(run(cycles, settings, "start").exception, Conflict)
    assert "Cycle 1 is closed" in run(cycles, settings, "close").output
    status = run(cycles, settings, "status").output
    assert "active:          none" in status and "evaluating:      1" in status


@pytest.fixture
def completed(app, settings):
    with app.app_context():
        make_cycle("EVALUATING")
        results = [make_result(score, cycle_id=1, miner_uid=uid) for uid, score in ((4, 0.25), (7, 0.75))]
        service.tick(settings, Chain("ws://127.0.0.1:1"))
        yield results


def test_recompute_shows_the_weights(settings, completed):
    shown = run(recompute, settings, "1")
    assert shown.exit_code == 0
    assert shown.output.splitlines() == [
        "    4  0.250000000000  16384",
        "    7  0.750000000000  49151",
        "The recorded scores and weights of cycle 1 match its evaluations.",
    ]


def test_check_fails_when_a_score_was_tampered_with(settings, completed):
    assert run(recompute, settings, "1", "--check").exit_code == 0
    tamper(completed[0], "final_score = 1")
    checked = run(recompute, settings, "1", "--check")
    assert checked.exit_code == 1
    told = f"submission {completed[0]}: SCORED with final score 1.0, by its evaluation SCORED with 0.25"
    assert told in checked.output


def test_cycle_without_results_cannot_be_recomputed(settings, completed):
    assert isinstance(run(recompute, settings, "2").exception, Conflict)
    assert isinstance(run(recompute, settings, "9").exception, NotFound)
