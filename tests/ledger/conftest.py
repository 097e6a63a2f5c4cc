"""Fixtures of ledgers: cycles that complete by the real tick."""

import pytest

from app.clients.chain import Chain
from app.completion import service as completion
from tests.factories import make_cycle, make_result, miner


@pytest.fixture
def context(app):
    with app.app_context():
        yield app


@pytest.fixture
def complete(settings, context):
    """Completes the EVALUATING cycles whose work is done."""
    return lambda: completion.tick(settings, Chain("ws://127.0.0.1:1"))


@pytest.fixture
def completed(complete):
    """Cycle 1 is completed: a scored submission of each of three miners, and a rejected one."""
    make_cycle("EVALUATING")
    for uid, score in ((1, 0.8), (2, 0.6), (3, 0.1)):
        make_result(score, cycle_id=1, miner_uid=uid, miner_hotkey=miner(f"m{uid}").ss58_address)
    make_result(status="REJECTED", cycle_id=1, miner_uid=3, miner_hotkey=miner("m3").ss58_address)
    complete()
