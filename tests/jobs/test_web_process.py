"""`kibotos api` as a real process: gunicorn with its workers."""

import json

import pytest
import requests
from prometheus_client.parser import text_string_to_metric_families

from app.local.process import free_ports
from tests.processes import eventually

ADMIN = "a" * 32
PRODUCTION = {"app_env": "production", "admin_token": (ADMIN,), "evaluator_token": ("e" * 32,)}


@pytest.fixture
def web(processes):
    """Two web processes in production; `web.url` is where they answer."""
    (port,) = free_ports(1)
    process = processes("api", "--host", "127.0.0.1", "--port", str(port), web_workers=2, **PRODUCTION)
    process.url = f"http://127.0.0.1:{port}"

    def answers():
        try:
            return requests.get(f"{process.url}/health", timeout=2).ok
        except requests.RequestException:
            return False

    eventually(answers)
    return process


def requests_counted(web):
    answer = requests.get(f"{web.url}/metrics", headers={"Authorization": f"Bearer {ADMIN}"}, timeout=10)
    families = {family.name: family for family in text_string_to_metric_families(answer.text)}
    return sum(
        sample.value
        for sample in families["kibotos_http_requests"].samples
        if sample.name.endswith("_total") and sample.labels["route"] == "/health"
    )


def test_metrics_add_up_over_all_processes(web):
    before = requests_counted(web)
    for _ in range(40):
        # a connection each, so that both processes get some
        requests.get(f"{web.url}/health", timeout=5)
    assert {requests_counted(web) for _ in range(6)} == {before + 40}


def test_every_line_of_its_log_is_one_json_event(web):
    requests.get(f"{web.url}/v1/prompts", headers={"X-Request-ID": "a-request-of-ours"}, timeout=5)
    assert web.stop() < 20
    events = [json.loads(line) for line in web.log.read_text().splitlines()]
    assert all({"event", "level", "logger", "timestamp"} <= event.keys() for event in events)
    assert {"gunicorn.error", "kibotos.http"} <= {event["logger"] for event in events}
    (ours,) = [event for event in events if event.get("request_id") == "a-request-of-ours"]
    assert (ours["method"], ours["path"], ours["status"]) == ("GET", "/v1/prompts", 200)
