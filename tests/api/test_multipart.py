"""Uploads in parts: real signatures, real PostgreSQL, and the parts put into a real SeaweedFS."""

import dataclasses
import json
import uuid

import pytest
import requests
from bittensor import http_auth
from sqlalchemy import text

from app.clients.storage import Storage
from app.db import db
from app.uploads import service
from app.uploads.models import PART_BYTES
from tests import factories
from tests.api.conftest import PRODUCTION, signed_submission

PATH = "/v1/upload/multipart"
SIZE = PART_BYTES + 1000
CONTENT = bytes(range(256)) * (PART_BYTES // 256) + b"k" * 1000


@pytest.fixture
def app(make_app):
    return make_app(**PRODUCTION)


def post(client, path, body, name="miner"):
    """POST a signed request."""
    data = json.dumps(body).encode()
    headers = http_auth.sign(factories.miner(name), method="POST", path=path, body=data)
    return client.post(path, data=data, headers=headers, content_type="application/json")


def start(client, name="miner", **changes):
    body = {"filename": "video.webm", "content_type": "video/webm", "size_bytes": SIZE} | changes
    return post(client, PATH, body, name)


def ask(client, key, numbers, name="miner"):
    return post(client, f"{PATH}/parts", {"video_key": key, "part_numbers": numbers}, name)


def put(part, content, **headers):
    return requests.put(part["upload_url"], data=content, headers=part["headers"] | headers, timeout=20)


def put_all(client, key):
    """Put both parts and return their ETags."""
    first, last = ask(client, key, [1, 2]).json["parts"]
    return [put(first, CONTENT[:PART_BYTES]).headers["ETag"], put(last, CONTENT[PART_BYTES:]).headers["ETag"]]


def complete(client, key, etags, name="miner"):
    return post(client, f"{PATH}/complete", {"video_key": key, "etags": etags}, name)


def abort(client, key, name="miner"):
    return post(client, f"{PATH}/abort", {"video_key": key}, name)


def open_at_store(settings, key):
    client = Storage(settings).client
    found = client.list_multipart_uploads(Bucket=settings.s3_bucket, Prefix=key)
    return [each["Key"] for each in found.get("Uploads", [])]


def change(app, statement, **binds):
    with app.app_context():
        db.session.execute(text(statement), binds)
        db.session.commit()


def test_parts_become_one_video_that_can_be_submitted(app, client, settings):
    begun = start(client)
    assert begun.status_code == 200
    assert begun.json["part_size"] == PART_BYTES and begun.json["part_count"] == 2
    assert begun.json["expires_in"] == 86_400 and begun.json["upload_id"]
    key = begun.json["video_key"]
    body = signed_submission(factories.miner(), "mug", key)
    with app.app_context():
        factories.make_prompt(id="mug")
    assert "upload the video first" in client.post("/v1/submissions", json=body).json["detail"]

    etags = put_all(client, key)
    for _ in range(2):
        done = complete(client, key, etags)
        assert done.json == {"video_key": key, "state": "COMPLETED"}
    stored = Storage(settings).client.get_object(Bucket=settings.s3_bucket, Key=key)
    assert stored["Body"].read() == CONTENT and stored["ContentType"] == "video/webm"
    assert client.post("/v1/submissions", json=body).status_code == 201
    refused = abort(client, key)
    assert refused.status_code == 409 and "complete" in refused.json["detail"]
    assert ask(client, key, [1]).status_code == 409


def test_an_answer_that_was_lost_is_given_again(app, client):
    key = start(client).json["video_key"]
    etags = put_all(client, key)
    assert complete(client, key, etags).status_code == 200
    # as if the web process had died before it wrote that down
    change(app, "UPDATE multipart_uploads SET state = 'OPEN'")
    assert complete(client, key, etags).json["state"] == "COMPLETED"


def test_storage_takes_the_parts_that_were_announced_and_nothing_else(client):
    key = start(client).json["video_key"]
    answer = ask(client, key, [2, 1]).json
    last, first = answer["parts"]
    assert [last["part_number"], first["part_number"]] == [2, 1]
    assert answer["parts_expire_in"] == 3600
    assert first["headers"] == {"Content-Length": str(PART_BYTES)}
    assert last["headers"] == {"Content-Length": "1000"}
    unsized = last | {"headers": {}}
    assert put(unsized, b"k" * 1001).status_code == 403
    assert (
        put(
            unsized | {"upload_url": last["upload_url"].replace("partNumber=2", "partNumber=3")}, b"k" * 1000
        ).status_code
        == 403
    )
    assert put(last, b"k" * 1000, **{"Content-MD5": "AAAAAAAAAAAAAAAAAAAAAA=="}).status_code == 400
    assert put(last, b"k" * 1000).status_code == 200


def test_what_is_missing_or_wrong_is_not_made_a_video(client, settings):
    key = start(client).json["video_key"]
    etags = put_all(client, key)
    too_few = complete(client, key, etags[:1])
    assert too_few.status_code == 422 and "each of the 2 parts" in too_few.json["detail"]
    wrong = complete(client, key, [etags[0], "0" * 32])
    assert wrong.status_code == 409 and "does not have all these parts" in wrong.json["detail"]
    beyond = ask(client, key, [3])
    assert beyond.status_code == 422 and "1 to 2" in beyond.json["detail"]
    assert Storage(settings).head(key) is None


def test_an_aborted_upload_is_gone_from_storage(client, settings):
    key = start(client).json["video_key"]
    put_all(client, key)
    assert open_at_store(settings, key) == [key]
    for _ in range(2):
        assert abort(client, key).json == {"video_key": key, "state": "ABORTED"}
    assert open_at_store(settings, key) == []
    gone = ask(client, key, [1])
    assert gone.status_code == 409 and "aborted" in gone.json["detail"]


def test_nobody_else_touches_an_upload(client):
    key = start(client).json["video_key"]
    for answer in (
        ask(client, key, [1], "Eve"),
        complete(client, key, ["ab"], "Eve"),
        abort(client, key, "Eve"),
    ):
        assert answer.status_code == 403 and "another hotkey" in answer.json["detail"]
    unknown = f"uploads/{uuid.uuid4()}/video.mp4"
    for answer in (ask(client, unknown, [1]), complete(client, unknown, ["ab"]), abort(client, unknown)):
        assert answer.status_code == 404
    whole = post(client, "/v1/upload/presign", {"filename": "video.mp4"}).json["video_key"]
    assert ask(client, whole, [1]).status_code == 404


def test_a_stranger_reaches_no_storage(make_app):
    """Not even for an upload that nothing is put into: without it these answers would be 503."""
    away = make_app(**PRODUCTION, netuid=1, s3_endpoint="http://127.0.0.1:9").test_client()
    with away.application.app_context():
        factories.insert("chain_state", metagraph_netuid=1, metagraph_snapshot_at="now")
        factories.insert(
            "metagraph", "1", uid=7, hotkey=factories.miner("Bob").ss58_address, validator_permit=False
        )
    refused = start(away)
    assert refused.status_code == 403 and "not registered on subnet 1" in refused.json["detail"]
    assert start(away, "Bob").status_code == 503


def test_open_uploads_and_quota_bound_what_a_hotkey_may_begin(make_app, settings):
    client = make_app(**PRODUCTION, max_presigns_per_hour=10).test_client()
    keys = [start(client).json["video_key"] for _ in range(8)]
    ninth = start(client)
    assert ninth.status_code == 429 and "8 uploads in parts" in ninth.json["detail"]
    assert 86_000 < int(ninth.headers["Retry-After"]) <= 86_400
    assert start(client, name="another").status_code == 200
    assert abort(client, keys[0]).status_code == 200
    assert start(client).status_code == 200
    assert post(client, "/v1/upload/presign", {"filename": "video.mp4"}).status_code == 200
    # the tenth of the hour was the one in one piece
    assert abort(client, keys[1]).status_code == 200
    beyond = start(client)
    assert beyond.status_code == 429 and "10 presigned uploads" in beyond.json["detail"]


def test_the_tick_aborts_what_is_open_beyond_its_time(app, client, settings):
    old, new, gone = (start(client).json["video_key"] for _ in range(3))
    put_all(client, old)
    change(
        app,
        "UPDATE uploads SET created_at = now() - interval '25 hours', expires_at = now() - interval '1 s' "
        "WHERE video_key IN (:old, :gone)",
        old=old,
        gone=gone,
    )
    expired = ask(client, old, [1])
    assert expired.status_code == 409
    store = Storage(settings)
    with app.app_context():
        [upload_id] = db.session.execute(
            text("SELECT upload_id FROM multipart_uploads WHERE video_key = :key"), {"key": gone}
        ).scalars()
        store.abort_multipart(gone, upload_id)
        service.abort_stale(store)
        states = db.session.execute(text("SELECT video_key, state FROM multipart_uploads")).all()
    assert dict(map(tuple, states)) == {old: "ABORTED", new: "OPEN", gone: "ABORTED"}
    assert open_at_store(settings, old) == [] and open_at_store(settings, new) == [new]


def test_while_storage_is_away_the_tick_forgets_nothing(app, client, settings):
    key = start(client).json["video_key"]
    change(
        app,
        "UPDATE uploads SET created_at = now() - interval '25 hours', expires_at = now() - interval '1 s'",
    )
    away = Storage(dataclasses.replace(settings, s3_endpoint="http://127.0.0.1:9"))
    with app.app_context():
        with pytest.raises(Exception, match="out of reach"):
            service.abort_stale(away)
        service.abort_stale(Storage(settings))
    assert open_at_store(settings, key) == []


@pytest.mark.parametrize(
    ("path", "body"),
    [
        ("", {"filename": "a.mp4"}),
        ("", {"filename": "a.mp4", "size_bytes": 0}),
        ("", {"filename": "a.mp4", "size_bytes": 5 * 1024**3 + 1}),
        ("", {"filename": "a.mp4", "size_bytes": None}),
        ("/parts", {"video_key": "uploads/../etc", "part_numbers": [1]}),
        ("/parts", {"video_key": f"uploads/{uuid.UUID(int=1)}/a.mp4", "part_numbers": []}),
        ("/parts", {"video_key": f"uploads/{uuid.UUID(int=1)}/a.mp4", "part_numbers": [0]}),
        ("/parts", {"video_key": f"uploads/{uuid.UUID(int=1)}/a.mp4", "part_numbers": [1] * 101}),
        ("/complete", {"video_key": f"uploads/{uuid.UUID(int=1)}/a.mp4", "etags": ["<Part/>"]}),
        ("/complete", {"video_key": f"uploads/{uuid.UUID(int=1)}/a.mp4", "etags": ["a"] * 1025}),
        ("/abort", {"video_key": 7}),
    ],
)
def test_a_bad_body_is_422(client, path, body):
    assert post(client, PATH + path, body).status_code == 422
