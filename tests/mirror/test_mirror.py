"""The mirror in SeaweedFS, read as strangers read it: without a signature."""

import dataclasses
import json

import pytest
import requests
from sqlalchemy import text

from app.clients.storage import Storage
from app.config import ConfigError, Settings
from app.db import db
from app.proofs.sealed import Forged, unseal
from jobs.tick import store_ledgers


def get(url):
    return requests.get(url, timeout=10)


def test_a_completed_cycle_is_there_for_anyone(app, client, complete, mirror_url):
    cycle = complete()
    keys = [key["key"] for key in client.get("/v1/keys").json["keys"]]
    latest, own = get(f"{mirror_url}/weights/latest.json"), get(f"{mirror_url}/weights/{cycle}.json")
    assert latest.content == own.content
    # the very bytes of the API
    assert unseal("weights", latest.content, keys).encode() == client.get("/v1/weights/latest").data
    assert latest.headers["Cache-Control"] == "public, no-cache"
    assert own.headers["Cache-Control"] == "public, max-age=31536000, immutable"
    with app.app_context():
        store_ledgers()
    # it was not written again, or the signature would be another
    assert get(f"{mirror_url}/weights/latest.json").content == latest.content
    assert latest.headers["Content-Type"] == "application/json"
    head = get(f"{mirror_url}/heads/{cycle}.json")
    assert head.json()["root"] == client.get(f"/v1/weights/{cycle}").json["ledger_root"]
    stored = get(client.get(f"/v1/cycles/{cycle}/ledger").headers["Location"])
    ledger = get(f"{mirror_url}/ledgers/{cycle}.jsonl.zst")
    assert ledger.content == stored.content
    assert ledger.headers["Content-Type"] == "application/zstd"
    assert ledger.headers["Cache-Control"] == own.headers["Cache-Control"]


def test_what_an_outage_kept_out_comes_later_and_in_order(app, complete, mirror_settings, mirror_url):
    first = complete()
    away = dataclasses.replace(mirror_settings, s3_endpoint="http://127.0.0.1:1")
    storage, kept = app.extensions["storage"], app.extensions["settings"]
    app.extensions |= {"settings": away, "storage": Storage(away)}
    second, third = complete(), complete()
    with app.app_context():
        error = db.session.execute(text("SELECT last_error FROM ticks WHERE name = 'mirror'")).scalar_one()
    assert "Storage is out of reach" in error
    app.extensions |= {"settings": kept, "storage": storage}
    assert get(f"{mirror_url}/weights/{second}.json").status_code in {403, 404}
    with app.app_context():
        store_ledgers()
    for cycle in (first, second, third):
        for name in (f"weights/{cycle}.json", f"heads/{cycle}.json", f"ledgers/{cycle}.jsonl.zst"):
            assert get(f"{mirror_url}/{name}").status_code == 200
    assert json.loads(get(f"{mirror_url}/weights/latest.json").json()["payload"])["cycle_id"] == third
    assert get(f"{mirror_url}/heads/latest.json").json()["cycle_id"] == third


def test_a_lost_or_foreign_latest_is_written_anew(app, complete, mirror_settings, mirror_url):
    cycle = complete()
    mirror = Storage(dataclasses.replace(mirror_settings, s3_bucket=mirror_settings.mirror_bucket))
    names = ("weights/latest.json", "heads/latest.json")
    for content in (None, b"", b'{"payload":"{}","key":"","signature":""}'):
        for name in names:
            if content is None:
                mirror.client.delete_object(Bucket=mirror_settings.mirror_bucket, Key=f"public/{name}")
            else:
                mirror.put(f"public/{name}", content, "application/json", "no-store")
        with app.app_context():
            store_ledgers()
        for name in names:
            after = get(f"{mirror_url}/{name}")
            assert after.headers["Cache-Control"] == "public, no-cache"
            assert json.dumps({"cycle_id": cycle})[1:-1].replace(" ", "") in after.text.replace("\\", "")


def test_a_cycle_without_weights_has_a_ledger_only(complete, mirror_url):
    first, second = complete(), complete(miners=())
    assert get(f"{mirror_url}/weights/{second}.json").status_code in {403, 404}
    assert get(f"{mirror_url}/ledgers/{second}.jsonl.zst").status_code == 200
    assert json.loads(get(f"{mirror_url}/weights/latest.json").json()["payload"])["cycle_id"] == first


def test_what_is_signed_cannot_be_changed_or_used_for_something_else(client, complete, mirror_url):
    complete()
    content = get(f"{mirror_url}/weights/latest.json").content
    keys = [key["key"] for key in client.get("/v1/keys").json["keys"]]
    sealed = json.loads(content)
    changed = [
        content.replace(b"hotkeys", b"hotkeyz"),
        json.dumps(sealed | {"payload": sealed["payload"] + " "}).encode(),
        json.dumps(sealed | {"signature": "00" * 64}).encode(),
        json.dumps(sealed | {"signature": sealed["signature"][2:]}).encode(),
        json.dumps(sealed | {"signature": "zz" * 64}).encode(),
        json.dumps(sealed | {"more": 1}).encode(),
        b"",
        b"[" * 100_000,
        b"\xff",
    ]
    for each in changed:
        assert each != content
        with pytest.raises(Forged):
            unseal("weights", each, keys)
    with pytest.raises(Forged, match="none of the backend's keys"):
        unseal("weights", content, ["5GrwvaEF5zXb26Fz9rcQpDWS57CtERHpNehXCPcNoHGKutQY"])
    with pytest.raises(Forged, match="must answer once"):
        unseal("weights", content, [])
    with pytest.raises(Forged, match="signature is wrong"):
        unseal("scores", content, keys)


def test_a_mirror_without_a_key_does_not_start(settings):
    with pytest.raises(ConfigError, match="kibotos keys new"):
        dataclasses.replace(settings, mirror_bucket="mirror").require_server()
    assert Settings().mirror_bucket == ""
