"""Presigned uploads, signed by the real btauth/1 client with a real keypair."""

import hashlib
import json
import re
import time
from pathlib import Path

import pytest
import requests
from bittensor import http_auth
from sqlalchemy import text

from app.db import db
from tests import factories
from tests.api.conftest import PRODUCTION

PATH = "/v1/upload/presign"
BODY = b'{"filename": "video.mp4"}'


def count_uploads(app):
    with app.app_context():
        return db.session.execute(text("SELECT count(*) FROM uploads")).scalar()


@pytest.fixture
def app(make_app):
    return make_app(**PRODUCTION)


def send(client, headers, body=BODY, path=PATH):
    return client.post(path, data=body, headers=headers, content_type="application/json")


def sign(keypair=None, path=PATH, body=BODY, **how):
    return http_auth.sign(keypair or factories.miner(), method="POST", path=path, body=body, **how)


def test_a_signed_request_gets_an_upload_of_its_own(app, client):
    answer = send(client, sign())
    assert answer.status_code == 200
    assert answer.json["expires_in"] == 3600
    with app.app_context():
        [row] = db.session.execute(text("SELECT video_key, miner_hotkey, content_type FROM uploads")).all()
    assert row == (answer.json["video_key"], factories.miner().ss58_address, "video/mp4")


def test_the_query_string_is_signed_too(client):
    target = f"{PATH}?from=caf%C3%A9&x=1"
    assert send(client, sign(path=target), path=target).status_code == 200
    assert send(client, sign(path=PATH), path=target).status_code == 401


def test_a_replay_is_refused_by_every_process(make_app, client):
    headers = sign()
    assert send(client, headers).status_code == 200
    other = make_app(**PRODUCTION).test_client()
    assert send(client, headers).status_code == 401
    assert send(other, headers).status_code == 401


def changed(**headers):
    return {**sign(), **{f"X-Bittensor-{name}": value for name, value in headers.items()}}


def without(name):
    return {key: value for key, value in sign().items() if key != f"X-Bittensor-{name}"}


def alias():
    """The same key's address with Polkadot's prefix 0, signed as if it were canonical."""
    from bittensor_core import ss58_encode

    keypair = factories.miner()
    address = ss58_encode(keypair.public_key, 0)
    nonce = time.time_ns()
    payload = http_auth.build_payload(
        scheme="sr25519", method="POST", path=PATH, body=BODY, nonce_ns=nonce, sender_ss58=address,
        receiver_ss58=None,
    )  # fmt: skip
    return {
        "X-Bittensor-Version": "1",
        "X-Bittensor-Hotkey": address,
        "X-Bittensor-Nonce": str(nonce),
        "X-Bittensor-Signature": keypair.sign(payload).hex(),
    }


REFUSED = {
    "nothing signed": dict,
    "another path": lambda: sign(path="/v1/submissions"),
    "another body": lambda: sign(body=b'{"filename": "other.mp4"}'),
    "a stale nonce": lambda: sign(nonce_ns=time.time_ns() - 11 * 10**9),
    "a nonce of the future": lambda: sign(nonce_ns=time.time_ns() + 60 * 10**9),
    "another key's signature": lambda: changed(Hotkey=factories.miner("other").ss58_address),
    "an alias of the address": alias,
    "a truncated signature": lambda: changed(Signature=sign()["X-Bittensor-Signature"][:-2]),
    "an empty signature": lambda: changed(Signature="0x"),
    "a signature of zeros": lambda: changed(Signature="0x" + "00" * 64),
    "a signature that is not hex": lambda: changed(Signature="0x" + "zz" * 64),
    "another nonce": lambda: changed(Nonce=str(time.time_ns())),
    "a nonce that is not a number": lambda: changed(Nonce="now"),
    "a nonce beyond reason": lambda: changed(Nonce="9" * 5000),
    "a receiver put on afterwards": lambda: changed(Receiver=factories.miner("backend").ss58_address),
    "a request bound to someone else": lambda: sign(receiver_ss58=factories.miner("backend").ss58_address),
    "another scheme": lambda: changed(Crypto="ed25519"),
    "another version": lambda: changed(Version="2"),
    "no version": lambda: without("Version"),
    "no hotkey": lambda: without("Hotkey"),
    "no nonce": lambda: without("Nonce"),
    "no signature": lambda: without("Signature"),
}


@pytest.mark.parametrize("headers", REFUSED.values(), ids=REFUSED)
def test_refused(app, client, headers):
    answer = send(client, headers())
    assert answer.status_code == 401
    assert answer.content_type == "application/problem+json"
    assert count_uploads(app) == 0


@pytest.mark.parametrize("name", ["a stale nonce", "another key's signature"])
def test_development_refuses_bad_signatures_too(make_app, name):
    assert send(make_app().test_client(), REFUSED[name]()).status_code == 401


def test_unsigned_requests_of_development_have_neither_quota_nor_registration(make_app):
    client = make_app(netuid=42, max_presigns_per_hour=1).test_client()
    assert [send(client, {}).status_code for _ in range(2)] == [200, 200]


def test_the_second_upload_over_the_quota_waits(make_app):
    client = make_app(**PRODUCTION, max_presigns_per_hour=1).test_client()
    assert [send(client, sign()).status_code for _ in range(2)] == [200, 429]
    assert send(client, sign(factories.miner("other"))).status_code == 200


def test_no_request_passes_twice_whatever_becomes_of_redis(make_app, redis):
    client = make_app(**PRODUCTION).test_client()
    signed = sign()
    assert send(client, signed).status_code == 200
    redis.flushall()
    assert send(client, signed).status_code == 401
    without_redis = make_app(**PRODUCTION, redis_url="redis://127.0.0.1:1/0").test_client()
    assert send(without_redis, signed).status_code == 401
    assert send(without_redis, sign()).status_code == 200


def test_the_eight_lines_of_the_guide_are_what_is_signed(client):
    guide = (Path(__file__).parents[2] / "docs" / "miners.md").read_text()
    (block,) = re.findall(r"```text\n( *btauth/1\n.*?)\n *```", guide, re.DOTALL)
    values = {
        "METHOD": "POST",
        "target": PATH,
        "SHA-256 of the body, in lower-case hex": hashlib.sha256(BODY).hexdigest(),
        "nonce": str(time.time_ns()),
        "hotkey": factories.miner().ss58_address,
    }
    lines = [line.strip() for line in block.splitlines()]
    assert len(lines) == 8
    signed = re.sub(r"{(.*?)}", lambda name: values[name[1]], "\n".join(lines)).encode()
    headers = {
        "X-Bittensor-Version": "1",
        "X-Bittensor-Hotkey": values["hotkey"],
        "X-Bittensor-Nonce": values["nonce"],
        "X-Bittensor-Signature": factories.miner().sign(signed).hex(),
    }
    assert send(client, headers).status_code == 200


def test_old_nonces_are_forgotten(app, client):
    assert send(client, sign()).status_code == 200
    with app.app_context():
        db.session.execute(text("UPDATE nonces SET used_at = now() - interval '61 seconds'"))
        db.session.commit()
        assert send(client, sign()).status_code == 200
        assert db.session.execute(text("SELECT count(*) FROM nonces")).scalar() == 1


def test_only_registered_hotkeys_get_uploads_once_a_netuid_is_set(make_app):
    app = make_app(**PRODUCTION, netuid=42)
    client = app.test_client()
    answer = send(client, sign())
    assert answer.status_code == 503  # no snapshot yet: our fault
    with app.app_context():
        factories.insert("chain_state", metagraph_netuid=42, metagraph_snapshot_at="now")
        factories.insert("metagraph", uid=7, hotkey=factories.miner().ss58_address, validator_permit=False)
    assert send(client, sign()).status_code == 200
    assert send(client, sign(factories.miner("stranger"))).status_code == 403


@pytest.mark.parametrize(
    ("filename", "kept"),
    [
        ("video.mp4", "video.mp4"),
        ("../../etc/passwd", "etc_passwd"),
        ("..\\..\\boot.ini", "boot.ini"),
        ("my video (1).MOV", "my_video_1.MOV"),
        ("视频.mp4", "ShiPin.mp4"),
        ("видео.mp4", "video.mp4"),
        ("ビデオ１.MOV", "bideo1.MOV"),
        ("Ελλάδα é ß.webm", "Ellada_e_ss.webm"),
        ("🎥.mp4", "movie_camera.mp4"),
        ("Приве́т", "Privet"),
        ("...", "video"),
        ("a" * 1000 + ".webm", "a" * 95 + ".webm"),
        ("a." + "b" * 1000, "a." + "b" * 98),
        # an ending has up to ten characters
        ("a" * 1000 + "." + "b" * 10, "a" * 89 + "." + "b" * 10),
        ("a" * 1000 + "." + "b" * 11, "a" * 100),
        ("new\nline\r.mp4", "new_line_.mp4"),
        ("?X-Amz-Signature=1&a=b#c.mp4", "X-Amz-Signature1abc.mp4"),
    ],
)
def test_file_names_are_reduced_to_a_safe_form(client, filename, kept):
    body = json.dumps({"filename": filename}).encode()
    answer = send(client, sign(body=body), body)
    prefix, key_uuid, name = answer.json["video_key"].split("/")
    assert (prefix, len(key_uuid)) == ("uploads", 36)
    assert name == kept


def put(upload, content, **headers):
    return requests.put(
        upload["upload_url"], data=content, headers=upload["headers"] | headers, timeout=10
    ).status_code


def test_storage_takes_what_was_announced_and_nothing_else(client):
    body = json.dumps({"filename": "v.webm", "content_type": "video/webm", "size_bytes": 5}).encode()
    upload = send(client, sign(body=body), body).json
    assert upload["headers"] == {"Content-Type": "video/webm", "Content-Length": "5"}
    assert put(upload, b"12345", **{"Content-Type": "video/mp4"}) == 403
    del upload["headers"]["Content-Length"]
    assert put(upload, b"123456") == 403
    assert put(upload, b"12345") == 200


@pytest.mark.parametrize(
    "body",
    [
        "{}",
        '{"filename": null}',
        '{"filename": ""}',
        '{"filename": 7}',
        '{"filename": ["a.mp4"]}',
        '{"filename": "a\\u0000.mp4"}',
        '{"filename": "\\ud800.mp4"}',
        json.dumps({"filename": "a" * 1025}),
        '{"filename": "a.mp4", "content_type": "video/ogg"}',
        '{"filename": "a.mp4", "content_type": "VIDEO/MP4"}',
        '{"filename": "a.mp4", "content_type": null}',
        '{"filename": "a.mp4", "content_type": "video/mp4\\r\\nX-A: b"}',
        *(
            f'{{"filename": "a.mp4", "size_bytes": {size}}}'
            for size in (
                "0",
                "-1",
                "1.5",
                '"5"',
                "true",
                "NaN",
                "Infinity",
                "1e999",
                str(5 * 1024**3 + 1),
                "9" * 5000,
            )
        ),
    ],
)
def test_a_bad_body_is_422_however_well_it_is_signed(app, client, body):
    answer = send(client, sign(body=body.encode()), body.encode())
    assert answer.status_code == 422
    assert answer.content_type == "application/problem+json"
    assert answer.json["errors"]
    assert count_uploads(app) == 0
