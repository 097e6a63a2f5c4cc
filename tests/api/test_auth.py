"""Who may call what: tokens, and development's open door."""

from itertools import combinations

import pytest

from app.config import ConfigError
from tests.api.conftest import ADMIN_TOKEN, EVALUATOR_TOKEN, PRODUCTION, bearer

PROMPT = {"id": "p-1", "category": "household", "task": "wash", "scenario": "Wash a plate"}
EVALUATE = ("/v1/evaluate/fetch", {"limit": 0})
ADMIN = ("/v1/admin/prompts", PROMPT)


@pytest.fixture
def production(make_app):
    return make_app(**PRODUCTION).test_client()


@pytest.mark.parametrize(
    ("endpoint", "token", "status"),
    [
        (ADMIN, ADMIN_TOKEN, 201),
        (ADMIN, EVALUATOR_TOKEN, 403),
        (ADMIN, "x" * 40, 401),
        (ADMIN, ADMIN_TOKEN + "x", 401),
        (ADMIN, ADMIN_TOKEN[:-1], 401),
        (ADMIN, ADMIN_TOKEN.upper(), 401),
        (EVALUATE, EVALUATOR_TOKEN, 200),
        (EVALUATE, ADMIN_TOKEN, 403),
        (EVALUATE, "", 401),
        (EVALUATE, f"{EVALUATOR_TOKEN},{ADMIN_TOKEN}", 401),
        (EVALUATE, "ÿ" * 40, 401),
    ],
)
def test_a_token_opens_its_role_and_no_other(production, endpoint, token, status):
    path, body = endpoint
    answer = production.post(path, json=body, headers=bearer(token))
    assert answer.status_code == status
    assert ("WWW-Authenticate" in answer.headers) == (status == 401)


@pytest.mark.parametrize("header", [None, "", "Bearer", "Basic YWRtaW46YWRtaW4=", ADMIN_TOKEN])
@pytest.mark.parametrize("endpoint", [ADMIN, EVALUATE])
def test_without_a_bearer_token_it_is_401(production, endpoint, header):
    path, body = endpoint
    headers = {} if header is None else {"Authorization": header}
    assert production.post(path, json=body, headers=headers).status_code == 401


def test_metrics_are_for_admins(production):
    assert production.get("/metrics").status_code == 401
    assert production.get("/metrics", headers=bearer(ADMIN_TOKEN)).status_code == 200


def test_while_rotating_both_tokens_are_good(make_app):
    other = "n" * 32
    client = make_app(**PRODUCTION | {"admin_token": (ADMIN_TOKEN, other)}).test_client()
    for number, token in enumerate((ADMIN_TOKEN, other)):
        answer = client.post("/v1/admin/prompts", json=PROMPT | {"id": f"p-{number}"}, headers=bearer(token))
        assert answer.status_code == 201


def test_development_on_loopback_needs_no_token(client):
    assert client.post("/v1/evaluate/fetch", json={"limit": 0}).status_code == 200


def test_development_still_refuses_a_wrong_token(make_app):
    client = make_app(evaluator_token=(EVALUATOR_TOKEN,)).test_client()
    assert client.post("/v1/evaluate/fetch", json={"limit": 0}).status_code == 200
    answer = client.post("/v1/evaluate/fetch", json={"limit": 0}, headers=bearer("x" * 40))
    assert answer.status_code == 401


@pytest.mark.parametrize("address", ["10.0.0.7", "192.168.1.2", "::ffff:10.0.0.7", "2001:db8::1", ""])
def test_development_is_closed_to_other_machines(client, address):
    answer = client.post("/v1/evaluate/fetch", json={"limit": 0}, environ_overrides={"REMOTE_ADDR": address})
    assert answer.status_code == 401


@pytest.mark.parametrize(
    "headers",
    [
        {"X-Forwarded-For": "127.0.0.1"},
        {"X-Forwarded-Proto": "https"},
        {"X-Real-IP": "127.0.0.1"},
        {"Forwarded": "for=127.0.0.1"},
        {"Via": "1.1 tunnel"},
        {"Host": "kibotos.example"},
        {"Host": "rebound.example:8080"},
        {"Host": "localhost.rebound.example"},
    ],
)
@pytest.mark.parametrize(
    ("path", "body"),
    [EVALUATE, ADMIN, ("/v1/upload/presign", {"filename": "a.mp4"})],
)
def test_development_is_closed_behind_a_proxy_or_tunnel(client, headers, path, body):
    assert client.post(path, json=body, headers=headers).status_code == 401


@pytest.mark.parametrize("host", ["localhost:8080", "127.0.0.1", "[::1]:8080"])
def test_every_name_of_this_machine_is_this_machine(client, host):
    answer = client.post("/v1/evaluate/fetch", json={"limit": 0}, headers={"Host": host})
    assert answer.status_code == 200


def test_a_token_for_metrics_reads_metrics_and_nothing_else(make_app):
    token = "metrics-token-of-the-tests-" + "m" * 16
    client = make_app(**PRODUCTION, metrics_token=(token,)).test_client()
    assert client.get("/metrics", headers=bearer(token)).status_code == 200
    assert client.get("/metrics", headers=bearer(ADMIN_TOKEN)).status_code == 200
    assert client.get("/metrics", headers=bearer(EVALUATOR_TOKEN)).status_code == 403
    assert client.get("/metrics").status_code == 401
    for path in (ADMIN[0], EVALUATE[0]):
        assert client.post(path, json={}, headers=bearer(token)).status_code == 403


@pytest.mark.parametrize(
    ("one", "other"), list(combinations(["admin_token", "evaluator_token", "metrics_token"], 2))
)
def test_no_token_serves_two_roles(make_app, one, other):
    shared = "s" * 40
    with pytest.raises(ConfigError, match="the same token"):
        make_app(**PRODUCTION | {one: (shared,), other: ("o" * 40, shared)})


@pytest.mark.parametrize(
    "name",
    ["CF-Connecting-IP", "True-Client-IP", "Fly-Client-IP", "X-Original-Host", "X-Amzn-Trace-Id",
     "Tailscale-User", "X-Envoy-External-Address", "Ngrok-Anything", "Via", "X-Never-Heard-Of"],
)  # fmt: skip
def test_a_header_that_no_client_sends_takes_away_developments_freedom(client, name):
    answer = client.get("/metrics", headers={name: "1.2.3.4"})
    assert answer.status_code == 401
    assert name.lower() in answer.json["detail"]
    browser = {"Sec-Fetch-Site": "none", "Accept-Language": "en", "Upgrade-Insecure-Requests": "1"}
    assert client.get("/metrics", headers=browser).status_code == 200
