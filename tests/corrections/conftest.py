"""Fixtures of corrections: cycles that complete when the test says so."""

import pytest

from app.corrections import service
from app.corrections.models import Decision
from app.cycles import queries as cycles
from app.db import db
from app.weights import service as weights


@pytest.fixture
def context(app):
    with app.app_context():
        yield app


def complete(cycle_id, check_registration=False):
    """Complete an EVALUATING cycle as a tick does."""
    recorded = weights.record(cycle_id, check_registration)
    cycles.complete_cycle(cycle_id, cycles.clock(), None, recorded.judge_models, recorded.last_correction_id)
    db.session.commit()


def correct(submission_id, score, kind="operator", reason="Decided anew.", by="tester"):
    """Correct a result to a score, or to a rejection for None."""
    status = "REJECTED" if score is None else "SCORED"
    service.correct(submission_id, Decision(kind, status, score or 0.0, reason, by, {}))
    db.session.commit()
