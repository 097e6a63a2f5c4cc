"""Validators beside a real API, its mirror in SeaweedFS, and a chain: they go on, and are not fooled."""

import dataclasses
import json
from datetime import UTC, datetime, timedelta

import bittensor
import pytest
import requests

from app.clients.chain import Chain
from app.clients.storage import Storage
from app.clients.wallet import open_hotkey
from app.proofs.keys import create_key
from app.proofs.sealed import seal
from app.validator.weight_setter import WeightSetter

GONE = "http://127.0.0.1:1"


@pytest.fixture
def make_validator(node, api, mirror_url, tmp_path):
    wallet = bittensor.Wallet("cold", "hot", str(tmp_path))
    wallet.create_new_hotkey(use_password=False, overwrite=True)
    node.subnets[5].hotkeys[0] = wallet.hotkey.ss58_address

    def make(**changes):
        values = {
            "backend_url": api,
            "mirror_url": mirror_url,
            "chain": Chain(node.url, read_timeout_seconds=4),
            "netuid": 5,
            "hotkey": open_hotkey("cold", "hot", str(tmp_path)),
            "directory": tmp_path / "memory",
            "max_age": timedelta(hours=6),
        }
        return WeightSetter(**values | changes)

    return make


@pytest.fixture
def put(mirror_settings):
    """Writes to the mirror, as whoever owns the bucket can."""
    bucket = Storage(dataclasses.replace(mirror_settings, s3_bucket=mirror_settings.mirror_bucket))
    return lambda name, content: bucket.put(f"public/{name}", content, "application/json", "no-store")


def test_it_goes_on_with_the_mirror_and_says_so(make_validator, complete, node):
    complete()
    decision = make_validator().step()
    assert (decision.name, decision.site) == ("set", "backend")
    complete(miners=(2,))
    decision = make_validator(backend_url=GONE).step()
    assert (decision.name, decision.site, decision.settled) == ("set", "mirror", True)
    assert decision.detail.startswith("The backend gave no answer: ")
    assert "The mirror was read instead. Its weights were computed 0:00:" in decision.detail
    assert node.calls[-1]["arguments"]["dests"] == [2]
    # a mirror that nobody brings up to date is not set as if it was new
    complete()
    later = make_validator(backend_url=GONE, clock=lambda: datetime.now(UTC) + timedelta(hours=7))
    decision = later.step()
    assert (decision.name, decision.site) == ("refused", "mirror")
    assert "computed 7:00:" in decision.detail and "The weights are too old" in decision.detail
    assert len(node.calls) == 2


def test_a_mirror_is_not_trusted_before_the_backend_has_named_its_keys(make_validator, complete, node):
    complete()
    decision = make_validator(backend_url=GONE).step()
    assert decision.name == "refused" and "the backend itself must answer once" in decision.detail
    assert make_validator().step().name == "set"


def test_who_owns_the_mirror_alone_sets_nothing(make_validator, complete, node, put, mirror_url, tmp_path):
    complete()
    assert make_validator().step().name == "set"
    old = requests.get(f"{mirror_url}/weights/latest.json", timeout=10).content
    complete()
    assert make_validator().step().name == "set"
    payload = json.loads(old)["payload"].replace('"1":', '"2":')
    forged = seal("weights", payload, create_key(tmp_path / "attacker"))
    for content, sentence in (
        (forged, "none of the backend's keys"),
        (json.dumps(json.loads(old) | {"payload": payload}).encode(), "signature is wrong"),
        (b"[" * 10_000, "no signed file"),
        # truly signed, but of the cycle before
        (old, "were set before; these are older"),
    ):
        put("weights/latest.json", content)
        decision = make_validator(backend_url=GONE).step()
        assert (decision.name, decision.site) == ("refused", "mirror")
        assert sentence in decision.detail
    assert len(node.calls) == 2
    # nor does it stop who reads the backend
    put("heads/latest.json", b"junk")
    cycle = complete()
    put(f"heads/{cycle}.json", b"junk")
    assert make_validator(verify=True).step().name == "set"


def test_weights_are_verified_before_they_are_set(make_validator, complete, node, app):
    complete()
    assert make_validator(verify=True).step().name == "set"
    cycle = complete()
    validator = make_validator(verify=True)
    node.subnets[5].permits[0] = False
    assert validator.step().name == "no_permit"
    node.subnets[5].permits[0] = True
    assert validator.step().name == "set"
    del validator
    complete()
    # the mirror serves for the ledger as well
    decision = make_validator(verify=True, backend_url=GONE).step()
    assert (decision.name, decision.site) == ("set", "mirror"), decision
    assert len(node.calls) == 3
    assert cycle
