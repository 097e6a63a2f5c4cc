import pytest
from sqlalchemy import text

from app.clients.chain import Chain
from app.completion import service
from app.db import db
from tests.api.conftest import heard_statements
from tests.factories import make_cycle, make_prompt, make_result, make_submission, miner

HOTKEYS = [miner(f"miner-{uid}").ss58_address for uid in range(4)]


@pytest.fixture
def completed(app):
    """Cycle 1 of three miners and a rejected one, completed, and cycle 2, active with one result."""
    with app.app_context():
        make_cycle("EVALUATING")
        make_prompt(id="grasp", category="manipulation")
        for uid, score in [(1, 0.9), (1, 0.8), (2, 0.6), (3, 0.1)]:
            make_result(score, cycle_id=1, prompt_id="grasp", miner_uid=uid, miner_hotkey=HOTKEYS[uid])
        make_result(status="REJECTED", cycle_id=1, prompt_id="grasp", miner_uid=0, miner_hotkey=HOTKEYS[0])
        service.tick(app.extensions["settings"], Chain("ws://127.0.0.1:1"))
        make_result(0.5, cycle_id=2, prompt_id="grasp", miner_uid=2, miner_hotkey=HOTKEYS[2])
        make_submission(cycle_id=2, prompt_id="grasp", miner_uid=2, miner_hotkey=HOTKEYS[2])


def score(uid, total, accepted, avg, sum_, holds_uid=True):
    return {
        "miner_uid": uid,
        "miner_hotkey": HOTKEYS[uid],
        "total_submissions": total,
        "accepted_submissions": accepted,
        "avg_score": avg,
        "total_score": sum_,
        "scores_by_category": {"manipulation": sum_},
        "holds_uid": holds_uid,
        "adjustment": 0.0,
    }


def test_scores_best_first(client, completed):
    scores = client.get("/v1/scores/1").json
    assert scores.pop("started_at").endswith("Z") and scores.pop("completed_at").endswith("Z")
    assert scores == {
        "cycle_id": 1,
        "status": "COMPLETED",
        "n_submissions": 5,
        "judge_models": [],
        "miner_scores": [
            score(1, 2, 2, 0.85, 1.7),
            score(2, 1, 1, 0.6, 0.6),
            score(3, 1, 1, 0.1, 0.1),
            score(0, 1, 0, 0.0, 0.0),
        ],
    }
    assert client.get("/v1/scores/latest").json == client.get("/v1/scores/1").json


def test_scores_of_a_running_cycle_as_they_stand(client, completed):
    scores = client.get("/v1/scores/2").json
    assert (scores["status"], scores["completed_at"], scores["n_submissions"]) == ("ACTIVE", None, 2)
    assert scores["miner_scores"] == [score(2, 2, 1, 0.5, 0.5, holds_uid=None)]


def test_weights_by_hand(client, completed):
    """Of 2.4 in all: 65535 x 1.7 / 2.4 = 46420.6, x 0.6 = 16383.75, x 0.1 = 2730.6."""
    weights = client.get("/v1/weights/1").json
    assert weights.pop("created_at").endswith("Z")
    assert len(weights.pop("ledger_root")) == 64
    assert weights.pop("weights") == pytest.approx({"1": 1.7 / 2.4, "2": 0.25, "3": 0.1 / 2.4})
    assert weights == {
        "cycle_id": 1,
        "block_number": None,
        "block_number_is_current": None,
        "judge_models": [],
        "weights_u16": {"uids": [1, 2, 3], "weights": [46421, 16384, 2730]},
        "hotkeys": {str(uid): HOTKEYS[uid] for uid in (1, 2, 3)},
        # the cycle, 5 submissions, 4 miners, 3 weights, the end
        "ledger_lines": 14,
        "ledger_url": "/v1/cycles/1/ledger",
    }
    assert client.get("/v1/weights/latest").json == client.get("/v1/weights/1").json


def test_latest_weights_stay_when_a_cycle_earns_none(app, client, completed):
    with app.app_context():
        # or the cycle would wait for it, since it came before
        db.session.execute(text("DELETE FROM submissions WHERE status = 'PENDING'"))
        make_cycle("EVALUATING")
        make_submission(status="REJECTED", final_score=0, evaluated_at="now", cycle_id=3)
        service.tick(app.extensions["settings"], Chain("ws://127.0.0.1:1"))
    assert client.get("/v1/weights/latest").json["cycle_id"] == 1
    assert client.get("/v1/weights/3").status_code == 404
    assert client.get("/v1/scores/latest").json["cycle_id"] == 3


@pytest.mark.parametrize("noun", ["scores", "weights"])
@pytest.mark.parametrize("id", ["0", "9", "-1", "abc", "1.5", "9" * 40, "%00"])
def test_unknown_cycle_is_not_found(client, completed, noun, id):
    answer = client.get(f"/v1/{noun}/{id}")
    assert answer.status_code == 404
    assert answer.content_type == "application/problem+json"


@pytest.mark.parametrize("noun", ["scores", "weights"])
def test_nothing_completed_yet(client, noun):
    assert client.get(f"/v1/{noun}/latest").status_code == 404


@pytest.mark.parametrize("path", ["/v1/scores/1", "/v1/weights/1"])
def test_completed_cycle_may_be_cached_for_ever(client, completed, path):
    first = client.get(path)
    assert first.headers["Cache-Control"] == "public, max-age=31536000, immutable"
    again = client.get(path, headers={"If-None-Match": first.headers["ETag"]})
    assert (again.status_code, again.data) == (304, b"")
    assert client.get(path, headers={"If-None-Match": '"other"'}).status_code == 200


@pytest.mark.parametrize("path", ["/v1/scores/latest", "/v1/weights/latest"])
def test_latest_is_asked_for_again_each_time(client, completed, path):
    first = client.get(path)
    assert first.headers["Cache-Control"] == "public, no-cache"
    assert client.get(path, headers={"If-None-Match": first.headers["ETag"]}).status_code == 304


@pytest.mark.parametrize(
    ("path", "number"), [("/v1/scores/1", 2), ("/v1/scores/2", 3), ("/v1/weights/latest", 3)]
)
def test_number_of_statements_does_not_grow_with_miners(app, client, completed, path, number):
    statements = heard_statements(app)
    client.get(path)
    assert len(statements) == number


def test_weights_are_read_once_and_the_scores_of_a_running_cycle_each_time(app, client, completed):
    statements = heard_statements(app)
    answers = [client.get("/v1/weights/latest") for _ in range(3)]
    assert len({answer.data for answer in answers}) == 1
    # two of the weights; which cycle is the latest is asked once a second
    assert 3 <= len(statements) <= 5
    with app.app_context():
        make_result(0.9, cycle_id=2, prompt_id="grasp", miner_uid=3, miner_hotkey=HOTKEYS[3])
    assert client.get("/v1/scores/2").json["n_submissions"] == 3


def test_no_hotkey_is_named_where_several_claimed_a_uid(app, client):
    """Without NETUID nobody checks who holds a uid."""
    with app.app_context():
        make_cycle("EVALUATING")
        for uid, hotkey in [(1, HOTKEYS[1]), (1, HOTKEYS[2]), (3, HOTKEYS[3])]:
            make_result(0.5, cycle_id=1, miner_uid=uid, miner_hotkey=hotkey)
        service.tick(app.extensions["settings"], Chain("ws://127.0.0.1:1"))
    weights = client.get("/v1/weights/1").json
    assert weights["weights"] == pytest.approx({"1": 2 / 3, "3": 1 / 3})
    assert weights["hotkeys"] == {"3": HOTKEYS[3]}
