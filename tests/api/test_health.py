import time
import uuid
from datetime import UTC, datetime, timedelta

import pytest
from prometheus_client.parser import text_string_to_metric_families
from sqlalchemy import text

from app.db import db
from app.health.queries import get_totals
from app.ledger import service as ledger
from app.retention.models import Kind, Tallies, Tally
from app.version import VERSION
from tests import factories
from tests.processes import eventually

NOWHERE = "127.0.0.1:1"


def samples(response):
    return {
        (sample.name, *sorted(sample.labels.items())): sample.value
        for family in text_string_to_metric_families(response.text)
        for sample in family.samples
    }


def settled(client):
    """The answer of /ready once no probe is held up by this machine's other work."""

    def ask():
        answer = client.get("/ready")
        return "no answer" not in answer.json["checks"].values() and answer

    return eventually(ask)


def test_health_touches_nothing(make_app):
    app = make_app(
        database_url=f"postgresql+psycopg2://u:p@{NOWHERE}/k",
        redis_url=f"redis://{NOWHERE}/0",
        s3_endpoint=f"http://{NOWHERE}",
    )
    answer = app.test_client().get("/health")
    assert (answer.status_code, answer.json) == (200, {"status": "ok", "version": VERSION})


def test_ready_when_all_answer(client):
    answer = settled(client)
    assert answer.status_code == 200
    assert answer.json == {
        "status": "ready",
        "checks": {"database": "ok", "redis": "ok", "storage": "ok"},
    }


@pytest.mark.parametrize(
    ("dependency", "change"),
    [
        ("database", {"database_url": f"postgresql+psycopg2://u:p@{NOWHERE}/k"}),
        ("redis", {"redis_url": f"redis://{NOWHERE}/0"}),
        ("storage", {"s3_endpoint": f"http://{NOWHERE}"}),
        ("storage", {"s3_bucket": "kibotos-no-such-bucket"}),
    ],
)
def test_ready_names_what_is_away(make_app, dependency, change):
    answer = settled(make_app(**change).test_client())
    assert answer.status_code == 503
    assert answer.json["status"] == "unready"
    assert {name for name, verdict in answer.json["checks"].items() if verdict != "ok"} == {dependency}


def test_ready_tells_a_database_without_schema(make_app, postgres):
    with_none = postgres.database_url("postgres").replace("postgresql://", "postgresql+psycopg2://")
    answer = settled(make_app(database_url=with_none).test_client())
    assert answer.json["checks"]["database"] == "no schema"


@pytest.mark.parametrize("server", ["valkey", "seaweed"])
def test_ready_is_bounded_while_a_dependency_hangs(client, services, server):
    services[server].pause()
    try:
        began = time.monotonic()
        answers = [client.get("/ready") for _ in range(3)]
        took = time.monotonic() - began
    finally:
        services[server].resume()
    assert [answer.status_code for answer in answers] == [503, 503, 503]
    assert took < 5  # one probe of two seconds, whose verdict the others share


def test_status_of_an_empty_service(client):
    assert client.get("/v1/status").json == {
        "status": "degraded",
        "version": VERSION,
        "active_cycle_id": None,
        "total_prompts": 0,
        "total_submissions": 0,
        "pending": 0,
        "evaluating": 0,
        "queue_depth": 0,
        "workers": 0,
        "scheduler_last_tick_at": None,
        "waiting_because": "No judge is configured: submissions wait until VLM_API_URL is set.",
        "judge_model": None,
        "registration_checked": False,
    }


def test_status_counts_the_work(make_app):
    app = make_app(vlm_api_url="http://127.0.0.1:1/v1", vlm_model="some-model", netuid=7)
    ticked_at = datetime(2026, 1, 15, 10, tzinfo=UTC)
    with app.app_context():
        cycle = factories.make_cycle()
        prompt = factories.make_prompt()
        claimed = {"claim_token": uuid.uuid4(), "lease_expires_at": ticked_at}
        scored = {"final_score": 0.5, "evaluated_at": ticked_at}
        for status, more in (("PENDING", {}), ("PENDING", {}), ("EVALUATING", claimed), ("SCORED", scored)):
            factories.make_submission(prompt_id=prompt, cycle_id=cycle, status=status, **more)
        factories.insert("prompt_submission_counts", prompt_id=prompt, shard=0, n=3)
        factories.insert("prompt_submission_counts", prompt_id=prompt, shard=9, n=1)
        factories.insert("ticks", name="cycles", last_started_at=ticked_at)
    status = app.test_client().get("/v1/status").json
    expected = {
        "status": "ok",
        "active_cycle_id": cycle,
        "total_prompts": 1,
        "total_submissions": 4,
        "pending": 2,
        "evaluating": 1,
        "scheduler_last_tick_at": "2026-01-15T10:00:00Z",
        "waiting_because": None,
        "judge_model": "some-model",
        "registration_checked": True,
    }
    assert expected.items() <= status.items()


def test_status_says_why_evaluations_wait(make_app):
    app = make_app(vlm_api_url="http://127.0.0.1:1/v1")
    with app.app_context():
        factories.insert(
            "circuit_breakers",
            name="vlm",
            consecutive_failures=5,
            trips=1,
            open_until=datetime.now(UTC) + timedelta(minutes=1),
            last_error="The judge did not answer.",
        )
    status = app.test_client().get("/v1/status").json
    assert status["status"] == "degraded"
    assert status["waiting_because"] == "Evaluations wait for vlm to recover: The judge did not answer."


def test_status_says_that_the_tokens_of_the_day_are_spent(make_app):
    app = make_app(vlm_api_url="http://127.0.0.1:1/v1", vlm_daily_token_budget=1000)
    status = app.test_client().get("/v1/status").json
    assert (status["status"], status["waiting_because"]) == ("ok", None)
    with app.app_context():
        today = datetime.now(UTC).date()
        factories.insert(
            "judge_usage", day=today, model="m", calls=1, prompt_tokens=900, completion_tokens=100
        )
    status = app.test_client().get("/v1/status").json
    assert status["waiting_because"] == (
        "The judge's tokens for today are used up: evaluations continue at 0:00 UTC."
    )


def test_status_without_redis_has_nulls_for_what_only_redis_knows(make_app):
    answer = make_app(redis_url=f"redis://{NOWHERE}/0").test_client().get("/v1/status")
    assert answer.status_code == 200
    assert (answer.json["queue_depth"], answer.json["workers"]) == (None, None)


def test_status_without_database_is_503(make_app):
    app = make_app(database_url=f"postgresql+psycopg2://u:p@{NOWHERE}/k")
    answer = app.test_client().get("/v1/status")
    assert answer.status_code == 503
    assert answer.headers["Retry-After"]
    assert answer.content_type == "application/problem+json"


def test_metrics_tell_the_state_of_the_work(make_app):
    app = make_app(vlm_daily_token_budget=500)
    with app.app_context():
        factories.make_cycle(started_at=datetime.now(UTC) - timedelta(hours=2))
        now = datetime.now(UTC)
        factories.make_submission(not_before=now - timedelta(minutes=5))
        factories.make_submission(not_before=now + timedelta(minutes=5))
        factories.insert("ticks", name="cycles", last_started_at=now - timedelta(minutes=3))
        factories.insert("circuit_breakers", name="storage", consecutive_failures=5, trips=1, open_until=now)
        for day, tokens in ((now, 120), (now - timedelta(days=1), 20)):
            factories.insert(
                "judge_usage",
                day=day.date(),
                model="m",
                calls=2,
                prompt_tokens=tokens,
                completion_tokens=2,
            )
    found = samples(app.test_client().get("/metrics"))
    assert found["kibotos_submissions", ("status", "PENDING")] == 2
    assert found["kibotos_submissions", ("status", "EVALUATING")] == 0
    assert found[("kibotos_submissions_backing_off",)] == 1
    assert found[("kibotos_oldest_due_seconds",)] == pytest.approx(300, abs=10)
    assert found[("kibotos_active_cycle_overdue_seconds",)] == pytest.approx(3600, abs=10)
    assert found["kibotos_tick_age_seconds", ("tick", "cycles")] == pytest.approx(180, abs=10)
    assert found["kibotos_tick_failed", ("tick", "cycles")] == 0
    assert found["kibotos_circuit_open", ("dependency", "storage")] == 1
    assert found["kibotos_circuit_open", ("dependency", "vlm")] == 0
    assert found["kibotos_failures", ("dependency", "storage")] == 5
    assert found["kibotos_failures", ("dependency", "vlm")] == 0
    assert found[("kibotos_judge_tokens_today",)] == 122
    assert found[("kibotos_judge_token_budget",)] == 500
    assert found[("kibotos_redis_up",)] == 1
    assert found[("kibotos_queue_depth",)] == 0
    assert ("kibotos_metagraph_age_seconds",) not in found


def test_metrics_tell_what_fills_up(make_app):
    client = make_app(storage_limit_gb=2.5).test_client()
    found = samples(client.get("/metrics"))
    assert found[("kibotos_storage_limit_bytes",)] == 2.5e9
    assert found[("kibotos_sweep_unfinished_seconds",)] == 0
    assert found["kibotos_releases", ("state", "complete")] == 0
    assert not [name for name, *_ in found if name == "kibotos_storage_bytes"]
    with client.application.app_context():
        now = datetime.now(UTC)
        for size, finished_at in ((1, now), (900, now), (5, None)):
            tallies = Tallies({Kind.REJECTED: Tally(size_bytes=size, deleted_bytes=size // 3)}, aborted=1)
            factories.insert(
                "storage_sweeps",
                started_at=now - timedelta(hours=13),
                finished_at=finished_at,
                found=tallies.to_json(),
            )
        # of no scheduler, which is told of in /v1/status
        factories.insert("ticks", name="backup", last_started_at=now)
        assert get_totals().scheduler_last_tick_at is None
    found = samples(client.get("/metrics"))
    assert found["kibotos_storage_bytes", ("class", "rejected")] == 600
    assert found["kibotos_storage_deleted_bytes", ("class", "rejected")] == 300
    assert found[("kibotos_sweep_unfinished_seconds",)] == pytest.approx(13 * 3600, abs=100)


def test_metrics_tell_what_alerts_wait_for(make_app):
    """Each has a sample while all is well, or an alert on it would be silent for the wrong reason."""
    client = make_app(netuid=1).test_client()
    found = samples(client.get("/metrics"))
    assert found[("kibotos_oldest_due_seconds",)] == 0
    assert found[("kibotos_cycles_without_weights",)] == 0
    assert found["kibotos_webhooks_failing", ("owner", "operator")] == 0
    with client.application.app_context():
        snapshot = datetime.now(UTC) - timedelta(hours=3)
        factories.insert("chain_state", metagraph_netuid=1, metagraph_snapshot_at=snapshot)
        weighted = factories.make_cycle("COMPLETED")
        factories.insert("computed_weights", cycle_id=weighted, miner_uid=1, weight=1.0, weight_u16=65535)
        factories.make_cycle("COMPLETED")
        factories.make_cycle("COMPLETED")
        for hotkey in (None, factories.miner().ss58_address):
            factories.insert(
                "webhook_endpoints",
                miner_hotkey=hotkey,
                url="https://example.org",
                events=["submission.evaluated"],
                secret=b"s" * 24,
                failures=2,
            )
    found = samples(client.get("/metrics"))
    assert found[("kibotos_metagraph_age_seconds",)] == pytest.approx(3 * 3600, abs=60)
    assert found[("kibotos_cycles_without_weights",)] == 2
    assert found["kibotos_webhooks_failing", ("owner", "operator")] == 1
    assert found["kibotos_webhooks_failing", ("owner", "miner")] == 1


def test_metrics_tell_of_ledgers_that_are_late(client, app):
    name = ("kibotos_oldest_ledger_seconds",)
    with app.app_context():
        # one that was completed before there were ledgers has none
        factories.make_cycle("COMPLETED")
        assert samples(client.get("/metrics"))[name] == 0
        ledger.record(factories.make_cycle("COMPLETED"), None, None)
        db.session.commit()
        assert samples(client.get("/metrics"))[name] == pytest.approx(3600, abs=60)
        db.session.execute(text("UPDATE ledgers SET stored_at = now()"))
        db.session.commit()
        assert samples(client.get("/metrics"))[name] == 0
        # a later one must have a ledger
        factories.make_cycle("COMPLETED")
        found = samples(client.get("/metrics"))
    assert found[name] == pytest.approx(3600, abs=60)
    assert found[("kibotos_ledgers_different",)] == 0


def test_metrics_tell_how_evaluations_go(client, app):
    with app.app_context():
        active, completed = factories.make_cycle(), factories.make_cycle("COMPLETED")
        factories.make_submission(cycle_id=active)
        factories.insert(
            "miner_scores",
            cycle_id=completed,
            miner_uid=1,
            miner_hotkey="m",
            total_submissions=5,
            accepted_submissions=3,
            avg_score=0.5,
            total_score=1.5,
            holds_uid=True,
            scores_by_category={},
        )
        for seconds in (1.0, 2.0, 9.0):
            done = {"status": "SCORED", "final_score": 0.5, "evaluated_at": datetime.now(UTC)}
            id = factories.make_submission(cycle_id=active, **done)
            scores = {"technical_score": 1, "relevance_score": 1, "quality_score": 1}
            factories.insert("evaluations", submission_id=id, evaluated_by="worker", **scores)
            report = {"stage_seconds": {"judge": seconds, "probe": 0.1}}
            factories.insert("verification_reports", submission_id=id, report=report)
        # what release 0.1 took from anybody
        for stages in ({"judge": "n/a", "x" * 99: 1}, "n/a", [1], {"probe": None, "judge": {"s": 1}}, None):
            id = factories.make_submission(cycle_id=active, **done)
            factories.insert("evaluations", submission_id=id, evaluated_by="evaluator", **scores)
            factories.insert("verification_reports", submission_id=id, report={"stage_seconds": stages})
        for day in ("2026-01-01", "2026-01-02"):
            used = {"calls": 2, "prompt_tokens": 50, "completion_tokens": 7}
            factories.insert("judge_usage", day=day, model="m", **used)
    found = samples(client.get("/metrics"))
    assert found["kibotos_cycle_submissions", ("cycle", "active"), ("status", "PENDING")] == 1
    assert found["kibotos_cycle_submissions", ("cycle", "active"), ("status", "SCORED")] == 8
    assert found["kibotos_cycle_submissions", ("cycle", "completed"), ("status", "SCORED")] == 3
    assert found["kibotos_cycle_submissions", ("cycle", "completed"), ("status", "REJECTED")] == 2
    assert found["kibotos_stage_seconds", ("quantile", "0.5"), ("stage", "judge")] == 2.0
    assert found["kibotos_stage_seconds", ("quantile", "0.5"), ("stage", "probe")] == 0.1
    assert {dict(key[1:])["stage"] for key in found if key[0] == "kibotos_stage_seconds"} == {
        "judge",
        "probe",
    }
    assert found["kibotos_judge_calls_total", ("model", "m")] == 4
    assert found["kibotos_judge_tokens_total", ("kind", "completion"), ("model", "m")] == 14


def test_metrics_without_redis_say_so(make_app):
    answer = make_app(redis_url=f"redis://{NOWHERE}/0").test_client().get("/metrics")
    found = samples(answer)
    assert found[("kibotos_redis_up",)] == 0
    assert ("kibotos_queue_depth",) not in found


def test_metrics_without_database_say_so(make_app):
    app = make_app(database_url=f"postgresql+psycopg2://u:p@{NOWHERE}/k")
    found = samples(app.test_client().get("/metrics"))
    assert found[("kibotos_database_up",)] == 0
    assert found[("kibotos_redis_up",)] == 1


def test_requests_are_counted_by_route_not_by_path(client):
    key = (
        "kibotos_http_requests_total",
        ("method", "GET"),
        ("route", "/v1/prompts/<prompt_id>"),
        ("status", "404"),
    )
    before = samples(client.get("/metrics")).get(key, 0)
    for name in ("no-such-1", "no-such-2"):
        assert client.get(f"/v1/prompts/{name}").status_code == 404
    assert samples(client.get("/metrics"))[key] == before + 2


def test_metrics_are_for_the_admin(make_app):
    app = make_app(app_env="production", admin_token=("a" * 32,), evaluator_token=("e" * 32,))
    client = app.test_client()
    assert client.get("/metrics").status_code == 401
    assert client.get("/metrics", headers={"Authorization": f"Bearer {'a' * 32}"}).status_code == 200
