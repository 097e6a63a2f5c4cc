from app.clients.chain import Chain
from app.completion import service
from tests.factories import make_cycle


def test_status_before_the_first_cycle(client):
    assert client.get("/v1/cycles/status").json == {
        "active_cycle_id": None,
        "active_cycle_started_at": None,
        "evaluating_cycle_id": None,
        "last_completed_cycle_id": None,
        "total_cycles": 0,
    }


def test_status_names_the_oldest_evaluating_and_the_last_completed(app, client):
    with app.app_context():
        for status in ("COMPLETED", "COMPLETED", "EVALUATING", "EVALUATING", "ACTIVE"):
            make_cycle(status)
    status = client.get("/v1/cycles/status").json
    assert status.pop("active_cycle_started_at").endswith("Z")
    assert status == {
        "active_cycle_id": 5,
        "evaluating_cycle_id": 3,
        "last_completed_cycle_id": 2,
        "total_cycles": 5,
    }


def test_status_follows_the_tick(app, client):
    with app.app_context():
        service.tick(app.extensions["settings"], Chain("ws://127.0.0.1:1"))
    assert client.get("/v1/cycles/status").json["active_cycle_id"] == 1
