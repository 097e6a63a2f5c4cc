"""What a miner asks of itself: its submissions, its quotas, its share of the running cycle."""

import pytest
from bittensor import http_auth

from tests import factories
from tests.api.conftest import PRODUCTION

MINER = factories.miner()
OTHER = factories.miner("Bob")
HOTKEY = MINER.ss58_address


@pytest.fixture
def app(make_app):
    app = make_app(**PRODUCTION, netuid=1)
    with app.app_context():
        factories.insert("chain_state", metagraph_netuid=1, metagraph_snapshot_at="now")
        for uid, keypair in ((7, MINER), (8, OTHER)):
            hotkey = keypair.ss58_address
            factories.insert("metagraph", "1", uid=uid, hotkey=hotkey, validator_permit=False)
    return app


def get(client, path, keypair=MINER):
    headers = http_auth.sign(keypair, method="GET", path=path, body=b"")
    return client.get(path, headers=headers)


def standing(client, keypair=MINER):
    return get(client, f"/v1/miners/{keypair.ss58_address}/standing", keypair)


def make(keypair, uid, cycle, score, **values):
    factories.make_result(score, miner_hotkey=keypair.ss58_address, miner_uid=uid, cycle_id=cycle, **values)


def test_nothing_yet(client):
    answer = standing(client)
    assert answer.status_code == 200
    assert answer.json == {
        "miner_hotkey": HOTKEY,
        "uid": 7,
        "submissions": {"limit": 4, "used": 0, "seconds_until_room": None},
        "uploads": {"limit": 20, "used": 0, "seconds_until_room": None},
        "open_multiparts": 0,
        "max_open_multiparts": 8,
        "cycle": None,
    }
    assert get(client, f"/v1/miners/{HOTKEY}/submissions").json == []


def test_the_share_is_what_the_completed_cycle_would_give(app, client):
    """Who does not hold the uid any more counts for nothing."""
    with app.app_context():
        cycle = factories.make_cycle()
        make(MINER, 7, cycle, 0.6)
        make(MINER, 7, cycle, 0.9, status="REJECTED")
        make(OTHER, 8, cycle, 0.2)
        make(factories.miner("Eve"), 8, cycle, 0.9)
        factories.make_submission(miner_hotkey=HOTKEY, cycle_id=cycle)
        factories.make_submission(miner_hotkey=HOTKEY, cycle_id=cycle)
    mine = standing(client).json
    assert mine["cycle"] == {
        "cycle_id": cycle,
        "submissions": 4,
        "open": 2,
        "accepted": 1,
        "total_score": 0.6,
        "share": 0.75,
    }
    assert mine["submissions"]["used"] == 4 and 3590 < mine["submissions"]["seconds_until_room"] <= 3600
    assert mine["uploads"]["used"] == 4 and mine["uploads"]["seconds_until_room"] is None
    assert standing(client, OTHER).json["cycle"]["share"] == 0.25
    assert standing(client, factories.miner("Eve")).json["cycle"]["share"] == 0


def test_own_submissions_with_their_effective_results_page_by_page(app, client):
    with app.app_context():
        cycle = factories.make_cycle()
        make(MINER, 7, cycle, 0.6)
        make(MINER, 7, cycle, 0.9, status="REJECTED")
        make(OTHER, 8, cycle, 0.2)
        factories.make_submission(miner_hotkey=HOTKEY, cycle_id=cycle)
    path = f"/v1/miners/{HOTKEY}/submissions"
    first = get(client, f"{path}?limit=2")
    waiting, rejected = first.json
    assert waiting["status"] == "PENDING" and waiting["final_score"] is None
    assert rejected["status"] == "REJECTED" and "does not show" in rejected["rejection_reason"]
    assert rejected["miner_uid"] == 7 and rejected["cycle_id"] == cycle
    following = first.headers["Link"].partition("<")[2].partition(">")[0]
    second = get(client, following)
    (scored,) = second.json
    assert scored["final_score"] == 0.6 and scored["rejection_reason"] is None
    assert "Link" not in second.headers
    assert get(client, f"{path}?limit=201").status_code == 422


def test_others_are_told_nothing(client):
    for what in ("standing", "submissions"):
        path = f"/v1/miners/{HOTKEY}/{what}"
        assert client.get(path).status_code == 401
        assert get(client, path, OTHER).status_code == 403
        assert get(client, f"/v1/miners/nobody/{what}").status_code == 404
