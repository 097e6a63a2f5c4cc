"""Answers that are the same for all who ask."""

import gzip
import time

import pytest

from tests import factories


@pytest.fixture
def prompts(app):
    with app.app_context():
        for number in range(20):
            factories.make_prompt(id=f"prompt-{number:02}")


def test_a_list_of_prompts_is_sent_in_gzip_to_those_who_take_it(client, prompts):
    plain = client.get("/v1/prompts")
    packed = client.get("/v1/prompts", headers={"Accept-Encoding": "br, gzip;q=0.5"})
    refused = client.get("/v1/prompts", headers={"Accept-Encoding": "gzip;q=0"})
    assert packed.headers["Content-Encoding"] == "gzip"
    assert gzip.decompress(packed.data) == plain.data == refused.data
    # other bytes have another strong tag, and only who has these bytes is told so
    assert packed.headers["ETag"] != plain.headers["ETag"] == refused.headers["ETag"]
    for accepted, status in (("gzip", 304), ("identity", 200)):
        asked = {"Accept-Encoding": accepted, "If-None-Match": packed.headers["ETag"]}
        assert client.get("/v1/prompts", headers=asked).status_code == status
    assert "Content-Encoding" not in plain.headers
    assert {answer.headers["Vary"] for answer in (plain, packed, refused)} == {"Accept-Encoding"}


@pytest.mark.parametrize("path", ["/v1/prompts", "/v1/prompts/categories"])
def test_who_has_the_answer_already_is_told_so(client, prompts, path):
    first = client.get(path)
    again = client.get(path, headers={"If-None-Match": first.headers["ETag"]})
    assert (again.status_code, again.data) == (304, b"")
    assert again.headers.get("Vary") == first.headers.get("Vary")
    through_a_proxy = client.get(path, headers={"If-None-Match": f"W/{first.headers['ETag']}"})
    assert through_a_proxy.status_code == 304
    client.patch("/v1/admin/prompts/prompt-07", json={"is_active": False})
    changed = client.get(path, headers={"If-None-Match": first.headers["ETag"]})
    assert changed.status_code == 200
    assert changed.headers["ETag"] != first.headers["ETag"]


def test_another_process_tells_the_same_and_sees_a_change_within_seconds(client, make_app, prompts):
    other = make_app().test_client()
    tag = client.get("/v1/prompts").headers["ETag"]
    assert other.get("/v1/prompts").headers["ETag"] == tag
    client.patch("/v1/admin/prompts/prompt-07", json={"weight": 3})
    while (seen := other.get("/v1/prompts")).headers["ETag"] == tag:
        time.sleep(0.1)
    assert seen.data == client.get("/v1/prompts").data
