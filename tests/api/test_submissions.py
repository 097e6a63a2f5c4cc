"""Submissions: what is let in, what is not, and what is told of them later."""

import time
import uuid
from datetime import UTC, datetime, timedelta

import pytest
import structlog
from sqlalchemy import text

from app.db import db
from app.evaluation import service as evaluation
from app.queue import ENOUGH_QUEUED, LOOK_AGAIN_SECONDS, enqueue_evaluations
from tests import factories
from tests.api.conftest import PRODUCTION, signed_submission, statement_fields

MINER = factories.miner()
URL = "/v1/submissions"


@pytest.fixture
def app(make_app):
    return make_app(**PRODUCTION)


@pytest.fixture
def prompt(app):
    with app.app_context():
        return factories.make_prompt(id="manip-001", weight=2.5)


def rows(app, sql):
    with app.app_context():
        return [tuple(row) for row in db.session.execute(text(sql))]


def count(app):
    return rows(app, "SELECT count(*) FROM submissions")[0][0]


def change(app, sql):
    with app.app_context():
        db.session.execute(text(sql))
        db.session.commit()


def test_a_signed_submission_is_accepted_into_the_active_cycle(app, client, prompt, put_upload, redis):
    with app.app_context():
        factories.make_cycle("COMPLETED")
        active = factories.make_cycle()
    body = signed_submission(MINER, prompt, put_upload(), camera_intrinsics={"fx": 1.5}, task_success=True)
    answer = client.post(URL, json=body)
    assert answer.status_code == 201
    assert answer.json | {"submission_uuid": ""} == {
        "submission_uuid": "",
        "status": "PENDING",
        "cycle_id": active,
    }
    [row] = rows(
        app,
        "SELECT uuid::text, prompt_weight, signature, camera_intrinsics, task_success, robot_model, fps "
        "FROM submissions",
    )
    assert row == (answer.json["submission_uuid"], 2.5, body["signature"], {"fx": 1.5}, True, None, 30)
    assert rows(app, "SELECT prompt_id, sum(n) FROM prompt_submission_counts GROUP BY 1") == [(prompt, 1)]
    assert client.get(f"/v1/prompts/{prompt}").json["total_submissions"] == 1
    assert redis.llen("rq:queue:evaluations") == 1


def test_without_an_active_cycle_it_waits(app, client, prompt, put_upload):
    with app.app_context():
        factories.make_cycle("EVALUATING")
    answer = client.post(URL, json=signed_submission(MINER, prompt, put_upload()))
    assert (answer.status_code, answer.json["cycle_id"]) == (201, None)


def test_the_terms_stay_what_they_were_when_the_submission_was_accepted(app, client, prompt, put_upload):
    change(app, """UPDATE prompts SET requirements = '{"min_fps": 20}'""")
    client.post(URL, json=signed_submission(MINER, prompt, put_upload()))
    change(app, """UPDATE prompts SET weight = 9, requirements = '{"min_fps": 60}'""")
    client.post(URL, json=signed_submission(MINER, prompt, put_upload()))
    terms = rows(app, "SELECT prompt_weight, requirements FROM submissions ORDER BY id")
    assert terms == [(2.5, {"min_fps": 20}), (9, {"min_fps": 60})]
    with app.app_context():
        [claim] = evaluation.claim_due(1, "test", 30)
    assert claim.requirements == {"min_fps": 20}


def test_the_same_statement_again_is_the_same_submission_whatever_has_changed(
    app, client, make_app, prompt, put_upload
):
    body = signed_submission(MINER, prompt, put_upload())
    first = client.post(URL, json=body)
    change(app, "UPDATE prompts SET is_active = false")
    client = make_app(
        **PRODUCTION, max_submissions_per_hour=1, s3_endpoint="http://127.0.0.1:1"
    ).test_client()
    # sr25519 signatures differ each time: it is the statement that counts
    again = client.post(URL, json=signed_submission(MINER, prompt, body["video_key"], duration_sec=99))
    assert again.status_code == 200
    assert again.json["submission_uuid"] == first.json["submission_uuid"]
    assert count(app) == 1
    assert rows(app, "SELECT duration_sec FROM submissions") == [(12.5,)]


@pytest.mark.parametrize("changes", [{"miner_uid": 8}, {"video_hash": "cd" * 32}, {"prompt_id": "manip-002"}])
def test_another_statement_for_a_submitted_key_is_in_conflict(app, client, prompt, put_upload, changes):
    with app.app_context():
        factories.make_prompt(id="manip-002")
    key = put_upload()
    assert client.post(URL, json=signed_submission(MINER, prompt, key)).status_code == 201
    assert client.post(URL, json=signed_submission(MINER, prompt, key, **changes)).status_code == 409
    assert count(app) == 1


def test_a_hash_in_capitals_is_the_same_hash(app, client, prompt, put_upload):
    body = signed_submission(MINER, prompt, put_upload()) | {"video_hash": "AB" * 32}
    assert client.post(URL, json=body).status_code == 201
    assert rows(app, "SELECT video_hash FROM submissions") == [("ab" * 32,)]


def test_a_signature_may_begin_with_0x(client, prompt, put_upload):
    body = signed_submission(MINER, prompt, put_upload())
    body["signature"] = "0x" + body["signature"].upper()
    assert client.post(URL, json=body).status_code == 201


OTHER = factories.miner("other")


@pytest.mark.parametrize(
    ("abuse", "status"),
    [
        (lambda body: {"signature": OTHER.sign(b"kibotos.submission.v1").hex()}, 401),
        (lambda body: {"signature": "00" * 64}, 401),
        (
            lambda body: {
                "signature": body["signature"][:-1] + ("1" if body["signature"][-1] == "0" else "0")
            },
            401,
        ),
        (lambda body: {"signature": body["signature"][:-2]}, 422),
        (lambda body: {"signature": body["signature"] + "00"}, 422),
        (lambda body: {"signature": "zz" * 64}, 422),
        (lambda body: {"signature": ""}, 422),
        (lambda body: {"miner_uid": 8}, 401),
        (lambda body: {"video_hash": "cd" * 32}, 401),
        (lambda body: {"prompt_id": "manip-002"}, 401),
        (lambda body: {"video_key": body["video_key"].replace("video", "other")}, 401),
        (lambda body: {"miner_hotkey": OTHER.ss58_address}, 401),
        # Polkadot's and the generic Substrate alias of the same key
        (lambda body: {"miner_hotkey": "15Up6B7y6jRc2xqeWuTqeiViBU44wenJvG9MenpsunMsfTZ2"}, 422),
    ],
)
def test_a_statement_that_its_hotkey_did_not_sign_is_refused(app, client, prompt, put_upload, abuse, status):
    body = signed_submission(MINER, prompt, put_upload())
    body |= abuse(body)
    if body["signature"] == signed_submission(MINER, prompt, body["video_key"])["signature"]:
        pytest.fail("nothing was changed")
    assert client.post(URL, json=body).status_code == status
    assert count(app) == 0


def test_an_alias_is_refused_even_with_its_own_good_signature(app, client, prompt, put_upload):
    from bittensor_core import ss58_encode

    body = signed_submission(MINER, prompt, put_upload(), miner_hotkey=ss58_encode(MINER.public_key, 63))
    answer = client.post(URL, json=body)
    assert answer.status_code == 422
    assert [error["field"] for error in answer.json["errors"]] == ["miner_hotkey"]


def test_somebody_elses_upload_is_refused(app, client, prompt, put_upload):
    key = put_upload(miner_hotkey=OTHER.ss58_address)
    assert client.post(URL, json=signed_submission(MINER, prompt, key)).status_code == 403
    assert count(app) == 0


def test_an_upload_without_an_owner_is_nobodys_in_production(app, client, prompt, put_upload):
    key = put_upload(miner_hotkey=None)
    assert client.post(URL, json=signed_submission(MINER, prompt, key)).status_code == 403


def test_a_key_that_was_not_presigned_is_refused(client, prompt):
    key = f"uploads/{uuid.uuid4()}/video.mp4"
    answer = client.post(URL, json=signed_submission(MINER, prompt, key))
    assert answer.status_code == 422
    assert answer.json["errors"][0]["field"] == "video_key"


def test_what_was_not_uploaded_cannot_be_submitted(app, client, prompt):
    with app.app_context():
        key = factories.make_upload()
    answer = client.post(URL, json=signed_submission(MINER, prompt, key))
    assert answer.status_code == 409
    assert count(app) == 0


@pytest.mark.parametrize(
    "upload",
    [
        {"content": b"12345", "size_bytes": 6},
        {"content": b""},
        {"sent_type": "text/plain"},
        {"content_type": "video/webm"},
    ],
)
def test_an_upload_that_is_not_as_announced_is_refused(app, client, prompt, put_upload, upload):
    body = signed_submission(MINER, prompt, put_upload(**upload))
    assert client.post(URL, json=body).status_code == 409
    assert count(app) == 0


def test_an_upload_that_is_too_large_to_be_read_is_refused(app, client, put_upload):
    with app.app_context():
        prompt = factories.make_prompt(requirements={"max_file_size_mb": 0.001})
    answer = client.post(URL, json=signed_submission(MINER, prompt, put_upload(b"x" * 2001)))
    assert answer.status_code == 409
    assert "smaller" in answer.json["detail"]
    assert client.post(URL, json=signed_submission(MINER, prompt, put_upload(b"x" * 2000))).status_code == 201


def test_whole_numbers_may_be_written_as_floats(client, prompt, put_upload):
    whole = {"resolution_width": 640.0, "resolution_height": 480.0}
    body = signed_submission(MINER, prompt, put_upload(), **whole)
    assert client.post(URL, json=body | {"miner_uid": 7.0}).status_code == 201
    assert client.post(URL, json=body | {"resolution_width": 640.5}).status_code == 422


def test_an_upload_of_the_announced_size_is_accepted(client, prompt, put_upload):
    body = signed_submission(MINER, prompt, put_upload(content=b"12345", size_bytes=5))
    assert client.post(URL, json=body).status_code == 201


@pytest.mark.parametrize("closing", ["is_active = false", "expires_at = now() - interval '1 s'"])
def test_a_closed_prompt_takes_nothing(app, client, prompt, put_upload, closing):
    change(app, f"UPDATE prompts SET {closing}")
    body = signed_submission(MINER, prompt, put_upload())
    assert client.post(URL, json=body).status_code == 409
    assert count(app) == 0


def test_an_unknown_prompt_takes_nothing(client, prompt, put_upload):
    answer = client.post(URL, json=signed_submission(MINER, "manip-404", put_upload()))
    assert answer.status_code == 422
    assert answer.json["errors"][0]["field"] == "prompt_id"


@pytest.mark.parametrize(
    ("snapshot", "status"),
    [
        (None, 503),
        ((41, 7, MINER), 503),
        ((42, 7, MINER), 201),
        ((42, 8, MINER), 403),
        ((42, 7, OTHER), 403),
    ],
)
def test_the_hotkey_must_hold_the_uid_once_a_netuid_is_set(make_app, prompt, put_upload, snapshot, status):
    app = make_app(**PRODUCTION, netuid=42)
    if snapshot:
        netuid, uid, holder = snapshot
        with app.app_context():
            factories.insert("chain_state", metagraph_netuid=netuid, metagraph_snapshot_at="now")
            factories.insert("metagraph", uid=uid, hotkey=holder.ss58_address, validator_permit=False)
    answer = app.test_client().post(URL, json=signed_submission(MINER, prompt, put_upload()))
    assert answer.status_code == status
    assert answer.headers.get("Retry-After") == ("60" if status == 503 else None)
    assert count(app) == (status == 201)


def test_with_storage_away_it_is_503_and_nothing_is_written(make_app, prompt, put_upload):
    app = make_app(**PRODUCTION, s3_endpoint="http://127.0.0.1:1")
    answer = app.test_client().post(URL, json=signed_submission(MINER, prompt, put_upload()))
    assert answer.status_code == 503
    assert answer.headers["Retry-After"]
    assert count(app) == 0


def test_nothing_is_queued_where_enough_jobs_wait(client, prompt, put_upload, redis):
    enqueue_evaluations(redis, ENOUGH_QUEUED - 1, 60)
    for _ in range(2):
        body = signed_submission(MINER, prompt, put_upload())
        assert client.post(URL, json=body).status_code == 201
        assert redis.llen("rq:queue:evaluations") == ENOUGH_QUEUED


def test_a_moment_after_enough_jobs_waited_one_is_queued_again(client, prompt, put_upload, redis):
    enqueue_evaluations(redis, ENOUGH_QUEUED, 60)
    assert client.post(URL, json=signed_submission(MINER, prompt, put_upload())).status_code == 201
    redis.delete("rq:queue:evaluations")
    time.sleep(LOOK_AGAIN_SECONDS)
    assert client.post(URL, json=signed_submission(MINER, prompt, put_upload())).status_code == 201
    assert redis.llen("rq:queue:evaluations") == 1


def test_with_redis_away_it_is_accepted_all_the_same(make_app, prompt, put_upload):
    app = make_app(**PRODUCTION, redis_url="redis://127.0.0.1:1/0")
    with structlog.testing.capture_logs() as logs:
        answer = app.test_client().post(URL, json=signed_submission(MINER, prompt, put_upload()))
    assert answer.status_code == 201
    assert [log["submission"] for log in logs if log["event"] == "enqueue_failed"] == [
        answer.json["submission_uuid"]
    ]
    assert count(app) == 1


def test_the_fifth_of_an_hour_waits_until_the_first_has_left_it(app, client, prompt, put_upload):
    moment = datetime.now(UTC)
    with app.app_context():
        factories.make_submission(submitted_at=moment - timedelta(minutes=61))
        for minutes in (50, 40, 30, 20):
            factories.make_submission(submitted_at=moment - timedelta(minutes=minutes))
        factories.make_submission(miner_hotkey=OTHER.ss58_address)
    body = signed_submission(MINER, prompt, put_upload())
    answer = client.post(URL, json=body)
    assert answer.status_code == 429
    assert 590 <= int(answer.headers["Retry-After"]) <= 601
    change(app, "UPDATE submissions SET submitted_at = submitted_at - interval '10 minutes 1 s'")
    assert client.post(URL, json=body).status_code == 201


def test_development_takes_unsigned_submissions_from_this_machine_only(app, make_app, prompt, put_upload):
    client = make_app(max_submissions_per_hour=9).test_client()
    body = statement_fields(prompt_id=prompt, miner_hotkey=MINER.ss58_address)
    unsigned = body | {"video_key": put_upload(miner_hotkey=None)}
    assert client.post(URL, json=unsigned, headers={"Via": "1.1 tunnel"}).status_code == 422
    wrong = unsigned | {"signature": OTHER.sign(b"x").hex()}
    assert client.post(URL, json=wrong).status_code == 401
    assert client.post(URL, json=unsigned).status_code == 201
    for nothing in ("", "ab" * 32, "0x", "not hexadecimal"):
        body = body | {"video_key": put_upload(), "signature": nothing}
        assert client.post(URL, json=body).status_code == 201
    assert rows(app, "SELECT DISTINCT signature FROM submissions") == [(None,)]


def test_in_development_too_somebody_elses_upload_is_refused(make_app, prompt, put_upload):
    key = put_upload(miner_hotkey=OTHER.ss58_address)
    answer = make_app().test_client().post(URL, json=signed_submission(MINER, prompt, key))
    assert answer.status_code == 403


def test_a_submission_is_shown_with_its_evaluation(app, client):
    with app.app_context():
        pending = factories.make_submission()
        scored = factories.make_submission(
            status="SCORED", evaluated_at="2026-01-15T10:00:00Z", final_score=0.74, attempts=1
        )
        factories.insert(
            "evaluations",
            submission_id=scored,
            technical_score=1,
            relevance_score=0.6,
            quality_score=0.8,
            evaluated_by="worker",
        )
    uuids = dict(rows(app, "SELECT id, uuid::text FROM submissions"))
    shown = client.get(f"{URL}/{uuids[pending]}").json
    assert set(shown) == {
        "submission_uuid", "prompt_id", "miner_uid", "video_key", "status", "submitted_at", "evaluated_at",
        "evaluation", "cycle_id", "attempts", "corrections", "licence", "consent", "taken_down_at",
    }  # fmt: skip
    assert (shown["status"], shown["evaluation"], shown["evaluated_at"]) == ("PENDING", None, None)
    assert client.get(f"{URL}/{uuids[scored]}").json["evaluation"] == {
        "technical_score": 1.0,
        "relevance_score": 0.6,
        "quality_score": 0.8,
        "final_score": 0.74,
        "rejection_reason": None,
        "judge_model": None,
        "evaluated_at": "2026-01-15T10:00:00Z",
    }
    assert client.get(f"{URL}/{uuid.uuid4()}").status_code == 404
