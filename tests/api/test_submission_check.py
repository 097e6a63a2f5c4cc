"""The question before the upload: the rules of a submission, in their order, and nothing is changed."""

import json

import pytest
from bittensor import http_auth
from sqlalchemy import text

from app.db import db
from tests import factories
from tests.api.conftest import PRODUCTION, signed_submission

PATH = "/v1/submissions/check"
MINER = factories.miner()
UNKNOWN_KEY = "uploads/00000000-0000-0000-0000-000000000001/video.mp4"
TABLES = ("uploads", "submissions", "multipart_uploads", "prompt_submission_counts")


@pytest.fixture
def app(make_app):
    app = make_app(**PRODUCTION, netuid=1)
    with app.app_context():
        factories.insert("chain_state", metagraph_netuid=1, metagraph_snapshot_at="now")
        factories.insert("metagraph", "1", uid=7, hotkey=MINER.ss58_address, validator_permit=False)
        factories.make_prompt(id="mug", requirements={"max_file_size_mb": 1})
    return app


def check(client, signer="miner", **changes):
    body = {"prompt_id": "mug", "miner_uid": 7, "miner_hotkey": MINER.ss58_address} | changes
    data = json.dumps(body).encode()
    headers = http_auth.sign(factories.miner(signer), method="POST", path=PATH, body=data)
    return client.post(PATH, data=data, headers=headers, content_type="application/json")


def obstacles(client, **changes):
    answer = check(client, **changes).json
    assert answer["is_acceptable"] == (not answer["obstacles"])
    return answer["obstacles"]


def count(app):
    with app.app_context():
        return [db.session.execute(text(f"SELECT count(*) FROM {table}")).scalar() for table in TABLES]


def test_what_is_acceptable_has_no_obstacle_and_nothing_is_changed(app, client):
    before = count(app)
    answer = check(client, size_bytes=1_000_000, in_parts=True)
    assert answer.status_code == 200
    assert answer.json == {
        "is_acceptable": True,
        "obstacles": [],
        "max_size_bytes": 2_000_000,
    }
    assert count(app) == before


def test_each_obstacle_is_told_in_the_order_of_the_rules(app, client):
    with app.app_context():
        for _ in range(4):
            factories.make_submission(prompt_id="mug", miner_hotkey=MINER.ss58_address)
    told = obstacles(client, prompt_id="no-such", miner_uid=8, size_bytes=6 * 1024**3)
    assert [each["status"] for each in told] == [422, 403, 429, 409]
    assert "GET /v1/prompts lists them" in told[0]["detail"]
    assert "does not hold miner_uid 8 on subnet 1" in told[1]["detail"]
    assert "used up its 4 submissions an hour" in told[2]["detail"]
    assert 3590 < told[2]["retry_after"] <= 3600
    assert "upload a smaller video" in told[3]["detail"]
    assert [each["retry_after"] for each in told].count(None) == 3


def test_it_says_what_the_submission_itself_then_says(app, client, put_upload):
    """One rule after the other is broken: the first obstacle is the refusal."""
    key = put_upload()
    with app.app_context():
        factories.make_prompt(id="closed", is_active=False)
    for changes in (
        {"prompt_id": "no-such"},
        {"prompt_id": "closed"},
        {"miner_uid": 8},
        {"video_key": UNKNOWN_KEY},
    ):
        stated = {"prompt_id": "mug", "video_key": key, "miner_uid": 7} | changes
        body = signed_submission(
            MINER, stated["prompt_id"], stated["video_key"], miner_uid=stated["miner_uid"]
        )
        refused = client.post("/v1/submissions", json=body)
        told = obstacles(client, **stated, video_hash=body["video_hash"])
        assert told[0]["detail"] == refused.json["detail"]
        assert told[0]["status"] == refused.status_code
    body = signed_submission(MINER, "mug", key)
    assert obstacles(client, video_key=key, video_hash=body["video_hash"]) == []
    (licence,) = obstacles(client, licence="CC-BY-4.0")
    assert licence["status"] == 422 and "GET /v1/licences" in licence["detail"]
    assert client.post("/v1/submissions", json=body).status_code == 201
    # the same statement again is never refused, another one is
    assert obstacles(client, video_key=key, video_hash=body["video_hash"]) == []
    (told,) = obstacles(client, video_key=key, video_hash="cd" * 32)
    assert told["status"] == 409 and "another statement" in told["detail"]


def test_the_quota_of_uploads_counts_until_there_is_one(app, client, make_app):
    few = make_app(**PRODUCTION, netuid=1, max_presigns_per_hour=1).test_client()
    with app.app_context():
        key = factories.make_upload()
    (told,) = obstacles(few)
    assert "1 presigned uploads an hour" in told["detail"]
    assert obstacles(few, video_key=key) == []


def test_only_the_hotkey_itself_may_ask_and_not_all_the_time(app, client):
    stranger = check(client, signer="Eve")
    assert stranger.status_code == 403 and "with the key of miner_hotkey" in stranger.json["detail"]
    body = json.dumps({"prompt_id": "mug", "miner_uid": 7, "miner_hotkey": MINER.ss58_address})
    assert client.post(PATH, data=body, content_type="application/json").status_code == 401
    statuses = [check(client).status_code for _ in range(62)]
    assert statuses[0] == 200 and statuses[-1] == 429


@pytest.mark.parametrize(
    "changes",
    [{"miner_uid": -1}, {"size_bytes": 0}, {"video_key": "video.mp4"}, {"in_parts": 1}, {"prompt_id": None}],
)
def test_a_bad_body_is_422(client, changes):
    assert check(client, **changes).status_code == 422
