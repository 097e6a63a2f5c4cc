"""Appeals and takedowns are told to those who want it, once each and in their order."""

import pytest

from app.moderation import service as moderation
from app.moderation.models import Order
from app.reviews import service as reviews
from tests.appeals.conftest import OWNER, appeal, evaluate_anew, uuid_of  # noqa: F401
from tests.factories import make_prompt, make_result, make_submission
from tests.webhooks.conftest import execute

HIS = {"miner_hotkey": OWNER.ss58_address, "prompt_id": "p"}


@pytest.fixture(autouse=True)
def prompt(app):
    make_prompt(id="p")


def told():
    return [
        (row.event, row.data["final_score"], row.data.get("is_overturned"))
        for row in execute("SELECT event, data FROM webhook_deliveries ORDER BY id")
    ]


@pytest.mark.parametrize(
    ("verb", "expected"),
    [
        ("accept", [("submission.corrected", 0.9, None), ("appeal.decided", 0.9, True)]),
        ("uphold", [("appeal.decided", 0, False)]),
    ],
)
def test_an_appeal(endpoint, appeal, evaluate_anew, verb, expected):  # noqa: F811
    endpoint("/hook", OWNER.ss58_address)
    id = make_result(status="REJECTED", **HIS)
    appeal(id)
    evaluate_anew(id)
    assert told() == [], "it has its result already, and a person decides"
    reviews.decide(uuid_of(id), verb, "I looked.", "Ada")
    assert told() == expected


def test_a_takedown(app, endpoint, appeal):  # noqa: F811
    endpoint("/hook", OWNER.ss58_address)
    appealed, pending = make_result(status="REJECTED", **HIS), make_submission(**HIS)
    appeal(appealed)
    for id in (appealed, pending):
        order = Order("Asked for.", "Ada")
        moderation.take_down(uuid_of(id), order, app.extensions["settings"], app.extensions["storage"])
    down = ("submission.taken_down", 0, None)
    assert told() == [down, ("submission.evaluated", 0, None), down]
