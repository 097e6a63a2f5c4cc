"""Who may register what, see what and replay what: over HTTP, and by command."""

import json

import pytest
from bittensor import http_auth

from app.db import db
from app.webhooks import delivery, queries, service
from app.webhooks.events import MINERS_EVENTS, Evaluated
from tests.api.conftest import ADMIN_TOKEN, PRODUCTION, bearer
from tests.factories import insert, make_result, miner
from tests.webhooks.conftest import execute, states

NOBODY = "00000000-0000-0000-0000-000000000000"


class Signed:
    """A client whose requests a miner signs."""

    def __init__(self, client, name="miner"):
        self._client, self._key = client, miner(name)

    def open(self, method, path, body=None):
        data = b"" if body is None else json.dumps(body).encode()
        headers = http_auth.sign(self._key, method=method, path=path, body=data)
        kind = {"Content-Type": "application/json"} if body is not None else {}
        return self._client.open(path, method=method, data=data or None, headers=headers | kind)


@pytest.fixture
def his(client):
    return Signed(client)


def register(signed, url, **body):
    return signed.open("POST", "/v1/webhooks", {"url": url} | body)


def test_a_miner_does_all_of_it_over_http(app, his, receiver, strangers):
    made = register(his, receiver.url("/hook"))
    assert made.status_code == 201
    assert made.json["secret"].startswith("whsec_") and made.json["events"] == list(MINERS_EVENTS)
    uuid, receiver.secrets["/hook"] = made.json["uuid"], made.json["secret"]
    assert his.open("GET", "/v1/webhooks").json == [
        {name: value for name, value in made.json.items() if name != "secret"}
    ]
    for _ in range(3):
        service.record_submission(make_result(), Evaluated(status="SCORED", final_score=0.5))
    db.session.commit()
    receiver.answers["/hook"] = 500
    delivery.deliver_due(strangers, 0.1)
    first = his.open("GET", f"/v1/webhooks/{uuid}/deliveries?limit=2")
    assert len(first.json) == 2
    rest = his.open("GET", first.headers["Link"].partition(">")[0][1:])
    assert (len(rest.json), rest.headers.get("Link")) == (1, None)
    ids = [each["uuid"] for each in first.json + rest.json]
    assert len(set(ids)) == 3
    shown = his.open("GET", f"/v1/webhooks/{uuid}/deliveries/{ids[2]}").json
    assert (shown["state"], shown["log"][0]["status"]) == ("PENDING", 500)
    assert his.open("GET", f"/v1/webhooks/{uuid}").json["failures"] == 1
    # one that waits is not replayed, one that ended is
    replay = {"deliveries": [ids[2]]}
    assert his.open("POST", f"/v1/webhooks/{uuid}/replay", replay).json == {"replayed": 0}
    execute("UPDATE webhook_deliveries SET state = 'FAILED', ended_at = now()")
    assert his.open("POST", f"/v1/webhooks/{uuid}/replay", replay).json == {"replayed": 1}
    since = {"failed_since": "2020-01-01T00:00:00Z"}
    assert his.open("POST", f"/v1/webhooks/{uuid}/replay", since).json == {"replayed": 2}
    receiver.answers.clear()
    assert his.open("PATCH", f"/v1/webhooks/{uuid}", {"is_enabled": True}).json["failures"] == 0
    delivery.deliver_due(strangers, 0.1)
    assert [state for state, _ in states()] == ["DELIVERED"] * 3
    rotated = his.open("POST", f"/v1/webhooks/{uuid}/secret", {"overlap_hours": 1}).json
    assert rotated["secret"] != made.json["secret"] and rotated["old_secret_until"]
    off = his.open("PATCH", f"/v1/webhooks/{uuid}", {"is_enabled": False}).json
    assert "switched it off" in off["disabled_reason"]
    assert his.open("POST", f"/v1/webhooks/{uuid}/replay", since).status_code == 409
    assert his.open("DELETE", f"/v1/webhooks/{uuid}").json["uuid"] == uuid
    assert his.open("GET", "/v1/webhooks").json == []
    assert his.open("GET", f"/v1/webhooks/{uuid}").status_code == 404


def test_another_miner_sees_nothing_of_it(client, his, receiver):
    uuid = register(his, receiver.url("/hook")).json["uuid"]
    service.record_submission(make_result(), Evaluated(status="SCORED", final_score=0.5))
    db.session.commit()
    (sent,) = his.open("GET", f"/v1/webhooks/{uuid}/deliveries").json
    other = Signed(client, "other")
    own = register(other, receiver.url("/other")).json["uuid"]
    for method, path, body in (
        ("GET", f"/{uuid}", None),
        ("PATCH", f"/{uuid}", {"is_enabled": False}),
        ("DELETE", f"/{uuid}", None),
        ("POST", f"/{uuid}/secret", {}),
        ("GET", f"/{uuid}/deliveries", None),
        ("GET", f"/{uuid}/deliveries/{sent['uuid']}", None),
        ("POST", f"/{uuid}/replay", {"deliveries": [sent["uuid"]]}),
        ("GET", f"/{own}/deliveries/{sent['uuid']}", None),
        ("GET", f"/{NOBODY}", None),
    ):
        assert other.open(method, f"/v1/webhooks{path}", body).status_code == 404, path
    execute("UPDATE webhook_deliveries SET state = 'FAILED', ended_at = now()")
    replay = {"deliveries": [sent["uuid"]]}
    assert other.open("POST", f"/v1/webhooks/{own}/replay", replay).json == {"replayed": 0}
    assert other.open("GET", f"/v1/webhooks/{own}/deliveries?before={sent['uuid']}").json == []
    assert [each["uuid"] for each in other.open("GET", "/v1/webhooks").json] == [own]
    # an admin sees both
    assert len(client.get("/v1/admin/webhooks").json) == 2


def test_an_unsigned_request_is_refused_in_development_too(client):
    assert client.get("/v1/webhooks").status_code == 401
    answer = client.post("/v1/webhooks", json={"url": "http://127.0.0.1:9/"})
    assert (answer.status_code, "Sign the request" in answer.json["detail"]) == (401, True)


def test_an_admin_registers_and_pages(client, receiver):
    for number in range(3):
        answer = client.post("/v1/admin/webhooks", json={"url": receiver.url(f"/{number}")})
        assert answer.status_code == 201 and answer.json["miner_hotkey"] is None
        assert "cycle.completed" in answer.json["events"]
    first = client.get("/v1/admin/webhooks?limit=2")
    rest = client.get(first.headers["Link"].partition(">")[0][1:])
    assert [each["url"][-1] for each in first.json + rest.json] == ["0", "1", "2"]


@pytest.mark.parametrize(
    ("body", "said"),
    [
        ({"url": "http://127.0.0.1:9/", "events": ["cycle.completed"]}, "for admins only"),
        ({"url": "http://127.0.0.1:9/", "events": []}, "events"),
        ({"url": "http://127.0.0.1:9/", "events": ["submission.exploded"]}, "events"),
        ({"url": "http://127.0.0.1:9/" + "x" * 500}, "url"),
        ({"url": "http://127.0.0.1:9/\0"}, "url"),
        ({"url": "javascript:alert(1)"}, "must look like"),
        ({"url": "http://nowhere.invalid/"}, "not known"),
        ({"url": 7}, "url"),
        ({}, "url"),
    ],
)
def test_what_cannot_be_registered(his, body, said):
    answer = his.open("POST", "/v1/webhooks", body)
    assert answer.status_code == 422
    assert said in answer.text


@pytest.mark.parametrize(
    "body",
    [{}, {"deliveries": []}, {"deliveries": [NOBODY], "failed_since": "2020-01-01T00:00:00Z"},
     {"deliveries": [NOBODY] * 101}, {"deliveries": ["x"]}, {"failed_since": "yesterday"}],
)  # fmt: skip
def test_what_cannot_be_replayed(client, receiver, body):
    uuid = client.post("/v1/admin/webhooks", json={"url": receiver.url("/")}).json["uuid"]
    assert client.post(f"/v1/admin/webhooks/{uuid}/replay", json=body).status_code == 422


def test_production_calls_the_public_internet_only(make_app):
    client = make_app(**PRODUCTION).test_client()
    for url in ("http://127.0.0.1/", "http://169.254.169.254/", "https://[::1]/", "https://8.8.8.8:22/"):
        answer = client.post("/v1/admin/webhooks", json={"url": url}, headers=bearer(ADMIN_TOKEN))
        assert (answer.status_code, answer.json["errors"][0]["field"]) == (422, "url"), url


def test_a_hotkey_has_few_and_must_hold_a_uid_where_that_is_checked(make_app, receiver):
    app = make_app(webhook_allow_private=True, netuid=1)
    his = Signed(app.test_client())
    assert register(his, receiver.url("/")).status_code == 403
    with app.app_context():
        insert("metagraph", uid=7, hotkey=miner().ss58_address, validator_permit=False)
        db.session.rollback()
        for number in range(service.MAX_ENDPOINTS_OF_A_MINER):
            assert register(his, receiver.url(f"/{number}")).status_code == 201
        refused = register(his, receiver.url("/more"))
        assert (refused.status_code, "delete one first" in refused.json["detail"]) == (409, True)
        service.remove(None, queries.list_endpoints(None, 0, 1)[0].uuid)
        assert register(his, receiver.url("/more")).status_code == 201


def test_by_command(app, receiver, run_kibotos, strangers):
    environ = {
        "DATABASE_URL": app.extensions["settings"].database_url,
        "APP_ENV": "development",
        "WEBHOOK_ALLOW_PRIVATE": "true",
    }

    def run(*arguments):
        result = run_kibotos("webhooks", *arguments, **environ)
        assert result.exit_code == 0, result.output
        return result.output

    assert run("list") == "There are no webhooks.\n"
    output = run("add", receiver.url("/hook"), "--event", "submission.evaluated")
    receiver.secrets["/hook"] = output.rpartition("secret:")[2].strip()
    (row,) = execute("SELECT uuid, events FROM webhook_endpoints")
    uuid = str(row.uuid)
    assert row.events == ["submission.evaluated"] and uuid in run("list")
    service.record_submission(make_result(), Evaluated(status="SCORED", final_score=0.5))
    db.session.commit()
    receiver.answers["/hook"] = 500
    delivery.deliver_due(strangers, 0.1)
    execute("UPDATE webhook_attempts SET answer = :answer", answer="\x1b[31m no")
    assert r"It answered 500. '\x1b[31m no'" in run("deliveries", uuid)
    assert "1 in a row" in run("show", uuid)
    assert "disabled: Its owner" in run("disable", uuid)
    assert "state:     well" in run("enable", uuid)
    execute("UPDATE webhook_deliveries SET state = 'FAILED', ended_at = now()")
    assert run("replay", uuid, "--failed-since", "2020-01-01") == "Deliveries that are sent again: 1.\n"
    receiver.answers.clear()
    delivery.deliver_due(strangers, 0.1)
    (sent,) = execute("SELECT uuid FROM webhook_deliveries WHERE state = 'DELIVERED'")
    assert run("replay", uuid, str(sent.uuid)) == "Deliveries that are sent again: 1.\n"
    receiver.secrets["/hook"] = run("rotate", uuid, "--overlap-hours", "0").strip()
    delivery.deliver_due(strangers, 0.1)
    assert len(receiver.messages) == 2
    assert "deleted" in run("delete", uuid)
    assert run_kibotos("webhooks", "show", uuid, **environ).exit_code == 1
    assert run_kibotos("webhooks", "replay", uuid, **environ).exit_code == 2


def test_what_waits_shows_in_the_metrics(client, endpoint):
    made = endpoint()
    service.record_submission(make_result(), Evaluated(status="SCORED", final_score=0.5))
    db.session.commit()
    execute("UPDATE webhook_deliveries SET not_before = now() - interval '10 minutes'")

    def metrics():
        lines = client.get("/metrics").text.splitlines()
        return dict(line.split(" ", 1) for line in lines if line.startswith("kibotos_webhooks"))

    assert float(metrics()["kibotos_webhooks_due_seconds"]) >= 600
    # a miner's receiver that fails is no reason to wake an operator
    execute("UPDATE webhook_endpoints SET failures = 1")
    assert float(metrics()["kibotos_webhooks_due_seconds"]) == 0
    service.change(None, made.uuid, None, False)
    assert float(metrics()["kibotos_webhooks_disabled"]) == 1
