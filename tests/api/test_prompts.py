"""Prompts: published by admins, read by everybody."""

import pytest
from sqlalchemy import text

from app.db import db
from tests import factories

# the operator guide's own example
GUIDE = {
    "id": "manip-001",
    "category": "manipulation",
    "task": "grasp",
    "scenario": "Pick up a mug from a table using one hand",
    "requirements": {"min_duration": 5, "max_duration": 60},
    "weight": 1.0,
}


def ids(answer):
    assert answer.status_code == 200
    return [prompt["id"] for prompt in answer.json]


def test_the_guides_prompt_is_published_and_read_back(client):
    answer = client.post("/v1/admin/prompts", json=GUIDE)
    assert answer.status_code == 201
    added = {
        "created_at": answer.json["created_at"],
        "expires_at": None,
        "total_submissions": 0,
        "is_active": True,
    }
    assert answer.json == GUIDE | added
    assert answer.json["created_at"].endswith("Z")
    assert client.get("/v1/prompts/manip-001").json == answer.json
    assert client.get("/v1/prompts").json == [answer.json]
    assert client.post("/v1/admin/prompts", json=GUIDE | {"task": "other"}).status_code == 409
    assert client.get("/v1/prompts/manip-001").json["task"] == "grasp"


def test_what_may_be_left_out_has_the_contracts_defaults(client):
    required = {name: GUIDE[name] for name in ("id", "category", "task", "scenario")}
    answer = client.post("/v1/admin/prompts", json=required)
    assert (answer.json["requirements"], answer.json["weight"], answer.json["expires_at"]) == ({}, 1.0, None)


def test_unknown_fields_are_ignored(client):
    assert client.post("/v1/admin/prompts", json=GUIDE | {"colour": "red"}).status_code == 201


@pytest.fixture
def prompts(app):
    with app.app_context():
        factories.make_prompt(id="a", category="household")
        factories.make_prompt(id="b", category="household")
        factories.make_prompt(id="c")
        factories.make_prompt(id="expired", expires_at="2020-01-01T00:00:00Z")
        factories.make_prompt(id="retired", is_active=False)


def test_closed_prompts_are_listed_only_when_asked_for(client, prompts):
    assert ids(client.get("/v1/prompts")) == ["a", "b", "c"]
    assert ids(client.get("/v1/prompts?active_only=false")) == ["a", "b", "c", "expired", "retired"]
    assert ids(client.get("/v1/prompts?category=household")) == ["a", "b"]
    assert client.get("/v1/prompts/retired").json["is_active"] is False


@pytest.mark.parametrize("unknown", ["cooking", "Household", "%00", "%ff", "x" * 1000])
def test_an_unknown_category_has_no_prompts(client, prompts, unknown):
    assert ids(client.get(f"/v1/prompts?category={unknown}")) == []


def test_an_empty_category_is_none(client, prompts):
    assert ids(client.get("/v1/prompts?category=")) == ["a", "b", "c"]


def test_without_a_limit_all_are_listed(app, client, prompts):
    with app.app_context():
        db.session.execute(
            text(
                "INSERT INTO prompts (id, category, task, scenario)"
                " SELECT 'd-' || lpad(i::text, 5, '0'), 'household', 'a', 'b' FROM generate_series(1, 2500) i"
            )
        )
        db.session.commit()
    answer = client.get("/v1/prompts")
    assert len(ids(answer)) == 2503
    assert "Link" not in answer.headers
    assert len(ids(client.get("/v1/prompts?after=d-02000"))) == 500


def test_a_change_shows_in_the_list_at_once(client, prompts):
    def weights():
        return {prompt["id"]: prompt["weight"] for prompt in client.get("/v1/prompts").json}

    assert weights() == {"a": 1, "b": 1, "c": 1}
    client.patch("/v1/admin/prompts/a", json={"weight": 2})
    client.patch("/v1/admin/prompts/b", json={"is_active": False})
    assert weights() == {"a": 2, "c": 1}
    client.post("/v1/admin/prompts", json=GUIDE)
    assert weights().keys() == {"a", "c", GUIDE["id"]}


def test_link_leads_through_all_pages(client, prompts):
    seen, address = [], "/v1/prompts?active_only=false&limit=2"
    while address:
        answer = client.get(address)
        seen.append(ids(answer))
        address = answer.headers.get("Link", "").partition(";")[0].strip("<>")
    assert seen == [["a", "b"], ["c", "expired"], ["retired"]]


def test_categories_count_open_prompts(client, prompts):
    assert client.get("/v1/prompts/categories").json == [
        {"category": "household", "count": 2},
        {"category": "manipulation", "count": 1},
    ]


def test_a_change_touches_what_it_names(client, prompts):
    answer = client.patch(
        "/v1/admin/prompts/a", json={"weight": 3, "expires_at": "2030-01-01T02:00:00+02:00"}
    )
    assert answer.status_code == 200
    assert (answer.json["weight"], answer.json["expires_at"]) == (3.0, "2030-01-01T00:00:00Z")
    assert answer.json["is_active"] is True
    answer = client.patch("/v1/admin/prompts/a", json={"expires_at": None, "is_active": False})
    assert (answer.json["weight"], answer.json["expires_at"], answer.json["is_active"]) == (3.0, None, False)
    assert client.patch("/v1/admin/prompts/a", json={}).json == answer.json
