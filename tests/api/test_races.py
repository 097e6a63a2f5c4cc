"""What must hold when requests meet: against gunicorn with two processes, and real commits."""

import threading
from collections import Counter
from concurrent.futures import ThreadPoolExecutor

import psycopg2
import pytest
import requests
from bittensor import http_auth

from app.db import db
from app.submissions import queries
from app.submissions.models import NewSubmission
from app.uploads import queries as uploads
from tests import factories
from tests.api.conftest import PRODUCTION, signed_submission, statement_fields
from tests.processes import eventually

MINER = factories.miner()


@pytest.fixture
def url(serve):
    return serve(**PRODUCTION, web_workers=2)


def in_parallel(count, send):
    """Call `send(number)` in `count` threads at the same moment; return the answers."""
    barrier = threading.Barrier(count)

    def run(number):
        barrier.wait()
        return send(number)

    with ThreadPoolExecutor(count) as pool:
        return list(pool.map(run, range(count)))


def statuses(answers):
    return Counter(answer.status_code for answer in answers)


def query(database, sql):
    with psycopg2.connect(database) as connection, connection.cursor() as cursor:
        cursor.execute(sql)
        return cursor.fetchall()


def test_of_twenty_submissions_at_once_four_are_accepted(url, app, database, put_upload):
    with app.app_context():
        prompt = factories.make_prompt()
    bodies = [signed_submission(MINER, prompt, put_upload()) for _ in range(20)]
    answers = in_parallel(20, lambda n: requests.post(f"{url}/v1/submissions", json=bodies[n], timeout=30))
    assert statuses(answers) == {201: 4, 429: 16}
    assert all(
        3580 <= int(answer.headers["Retry-After"]) <= 3600 for answer in answers if answer.status_code == 429
    )
    assert query(database, "SELECT count(*) FROM submissions") == [(4,)]
    assert query(database, "SELECT sum(n) FROM prompt_submission_counts") == [(4,)]


def test_the_same_submission_twenty_times_at_once_is_one(url, app, database, put_upload):
    with app.app_context():
        prompt = factories.make_prompt()
    body = signed_submission(MINER, prompt, put_upload())
    answers = in_parallel(20, lambda _: requests.post(f"{url}/v1/submissions", json=body, timeout=30))
    assert statuses(answers) == {201: 1, 200: 19}
    assert len({answer.json()["submission_uuid"] for answer in answers}) == 1
    assert query(database, "SELECT count(*) FROM submissions") == [(1,)]


def test_of_thirty_presigns_at_once_twenty_are_granted(url, database):
    body = b'{"filename": "video.mp4"}'

    def send(_):
        headers = http_auth.sign(MINER, method="POST", path="/v1/upload/presign", body=body)
        headers["Content-Type"] = "application/json"
        return requests.post(f"{url}/v1/upload/presign", data=body, headers=headers, timeout=30)

    answers = in_parallel(30, send)
    assert statuses(answers) == {200: 20, 429: 10}
    assert query(database, "SELECT count(*) FROM uploads") == [(20,)]


def test_a_presign_waits_for_another_of_its_miner_and_counts_it(make_app, database):
    app = make_app(**PRODUCTION, max_presigns_per_hour=1)
    body = b'{"filename": "video.mp4"}'
    headers = http_auth.sign(MINER, method="POST", path="/v1/upload/presign", body=body)
    with ThreadPoolExecutor(1) as pool, app.app_context():
        uploads.lock_presigns(MINER.ss58_address)
        uploads.insert_upload("uploads/another/video.mp4", MINER.ss58_address, "video/mp4", None, 60)
        answer = pool.submit(
            app.test_client().post,
            "/v1/upload/presign",
            data=body,
            headers=headers,
            content_type="application/json",
        )
        eventually(lambda: query(database, "SELECT 1 FROM pg_stat_activity WHERE wait_event_type = 'Lock'"))
        db.session.commit()
        assert answer.result(10).status_code == 429


def test_an_upload_in_parts_that_loses_a_race_leaves_nothing_in_storage(make_app, database):
    app = make_app(**PRODUCTION, max_presigns_per_hour=1)
    path, body = "/v1/upload/multipart", b'{"filename": "race.mp4", "size_bytes": 20000000}'
    headers = http_auth.sign(MINER, method="POST", path=path, body=body)
    with ThreadPoolExecutor(1) as pool, app.app_context():
        uploads.lock_presigns(MINER.ss58_address)
        uploads.insert_upload("uploads/another/video.mp4", MINER.ss58_address, "video/mp4", None, 60)
        send = app.test_client().post
        answer = pool.submit(send, path, data=body, headers=headers, content_type="application/json")
        eventually(lambda: query(database, "SELECT 1 FROM pg_stat_activity WHERE wait_event_type = 'Lock'"))
        db.session.commit()
        assert answer.result(20).status_code == 429
    storage, bucket = app.extensions["storage"], app.extensions["settings"].s3_bucket
    found = storage.client.list_multipart_uploads(Bucket=bucket, Prefix="uploads/")
    assert not [each for each in found.get("Uploads", []) if each["Key"].endswith("race.mp4")]


def test_one_signed_request_sent_twenty_times_at_once_passes_once(url):
    body = b'{"filename": "video.mp4"}'
    headers = http_auth.sign(MINER, method="POST", path="/v1/upload/presign", body=body)
    headers["Content-Type"] = "application/json"
    answers = in_parallel(
        20, lambda _: requests.post(f"{url}/v1/upload/presign", data=body, headers=headers, timeout=30)
    )
    assert statuses(answers) == {200: 1, 401: 19}


def test_a_submission_that_meets_the_end_of_a_cycle_goes_into_the_next(app, client, database, put_upload):
    with app.app_context():
        prompt = factories.make_prompt()
        factories.make_cycle()
    body = signed_submission(MINER, prompt, put_upload())
    tick = psycopg2.connect(database)
    with ThreadPoolExecutor(1) as pool, tick, tick.cursor() as cursor:
        cursor.execute("UPDATE cycles SET status = 'EVALUATING', closed_at = now()")
        cursor.execute("INSERT INTO cycles (ends_at) VALUES (now() + interval '1 hour') RETURNING id")
        [following] = cursor.fetchone()
        answer = pool.submit(client.post, "/v1/submissions", json=body)
        waiting = "SELECT 1 FROM pg_stat_activity WHERE wait_event_type = 'Lock'"
        eventually(lambda: query(database, waiting))
        tick.commit()
        assert answer.result(10).json["cycle_id"] == following
    tick.close()


@pytest.mark.parametrize(
    ("change", "status"),
    [
        ("UPDATE prompts SET is_active = false", 409),
        ("DELETE FROM metagraph", 403),
        ("UPDATE chain_state SET metagraph_netuid = 41", 503),
    ],
)
def test_what_changes_while_a_submission_waits_speaks_against_it(
    make_app, database, put_upload, change, status
):
    app = make_app(**PRODUCTION, netuid=42)
    with app.app_context():
        prompt = factories.make_prompt()
        factories.make_cycle()
        factories.insert("chain_state", metagraph_netuid=42, metagraph_snapshot_at="now")
        factories.insert("metagraph", uid=7, hotkey=MINER.ss58_address, validator_permit=False)
    body = signed_submission(MINER, prompt, put_upload())
    other = psycopg2.connect(database)
    with ThreadPoolExecutor(1) as pool, other, other.cursor() as cursor:
        cursor.execute("SELECT FROM cycles FOR UPDATE")
        answer = pool.submit(app.test_client().post, "/v1/submissions", json=body)
        eventually(lambda: query(database, "SELECT 1 FROM pg_stat_activity WHERE wait_event_type = 'Lock'"))
        cursor.execute(change)
        other.commit()
        assert answer.result(10).status_code == status
    other.close()
    assert query(database, "SELECT count(*) FROM submissions") == [(0,)]


def test_a_cycle_cannot_close_around_a_submission_on_its_way_in(app, database):
    with app.app_context():
        cycle = factories.make_cycle()
        fields = statement_fields(
            prompt_id=factories.make_prompt(),
            miner_hotkey=MINER.ss58_address,
            video_key=factories.make_upload(),
        )
        new = NewSubmission(**fields)
        receipt = queries.insert_submission(new.model_dump(), signature=None, quota=1, netuid=None)
        assert receipt.cycle_id == cycle
        tick = psycopg2.connect(database)
        with tick, tick.cursor() as cursor:
            cursor.execute("SET lock_timeout = '200ms'")
            with pytest.raises(psycopg2.errors.LockNotAvailable):
                cursor.execute("UPDATE cycles SET status = 'EVALUATING', closed_at = now()")
        tick.close()
        db.session.rollback()
