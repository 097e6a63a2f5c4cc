"""Events come about in the transaction that they tell of, for those who want them and may have them."""

import json

import pytest

from app.clients.chain import Chain
from app.completion import service as completion
from app.db import db
from app.evaluation import service as evaluation
from app.reviews import service as reviews
from app.webhooks import service
from app.webhooks.events import Evaluated, messages
from tests.corrections.conftest import correct
from tests.evaluation.test_duplicates import outcome_of
from tests.factories import make_cycle, make_prompt, make_result, make_submission, miner
from tests.webhooks.conftest import execute

HOTKEY = miner().ss58_address
OTHER = miner("other").ss58_address


def recorded(endpoint_id=None):
    return [
        tuple(row)
        for row in execute(
            "SELECT event, subject FROM webhook_deliveries "
            "WHERE CAST(:id AS bigint) IS NULL OR endpoint_id = :id ORDER BY id",
            id=endpoint_id,
        )
    ]


def evaluate(app, id):
    (claim,) = evaluation.claim_due(1, "test", 60)
    assert claim.id == id
    return evaluation.record_result(claim, outcome_of(None, None), "worker", app.extensions["settings"])


def uuid_of(id):
    return str(execute("SELECT uuid FROM submissions WHERE id = :id", id=id)[0].uuid)


def test_a_result_and_its_corrections_are_told_to_the_miner_and_to_admins(app, endpoint):
    his, all_of_them, of_another = endpoint("/his", HOTKEY), endpoint("/all"), endpoint("/other", OTHER)
    id = make_submission(prompt_id=make_prompt(id="p"), cycle_id=make_cycle())
    verdict = evaluate(app, id)
    correct(id, 0.25, kind="operator")
    subject = f"submission {uuid_of(id)}"
    expected = [("submission.evaluated", subject), ("submission.corrected", subject)]
    assert recorded(his.id) == recorded(all_of_them.id) == expected
    assert recorded(of_another.id) == []
    statement = "SELECT data FROM webhook_deliveries WHERE endpoint_id = :id ORDER BY id"
    first, second = (row.data for row in execute(statement, id=his.id))
    assert first == {
        "submission_uuid": uuid_of(id),
        "miner_uid": 7,
        "miner_hotkey": HOTKEY,
        "prompt_id": "p",
        "cycle_id": 1,
        "status": verdict.status,
        "final_score": verdict.final_score,
    }
    assert second | {"kind": "operator", "status": "SCORED", "final_score": 0.25} == second


def test_a_person_who_rejects_what_could_not_be_judged_gives_the_first_result(app, endpoint):
    endpoint()
    id = make_submission()
    reviews.hold(id, "It could not be evaluated.")
    db.session.commit()
    reviews.decide(uuid_of(id), "reject", "Nothing to be seen.", "Ada")
    assert recorded() == [("submission.evaluated", f"submission {uuid_of(id)}")]


def test_a_completed_cycle_and_its_weights_are_told_to_admins_only(app, endpoint):
    endpoint("/his", HOTKEY)
    endpoint("/all")
    cycle = make_cycle("EVALUATING")
    make_result(0.9, cycle_id=cycle)
    completion.tick(app.extensions["settings"], Chain("ws://127.0.0.1:9"))
    subject = f"cycle {cycle}"
    assert recorded() == [("cycle.completed", subject), ("weights.published", subject)]


def test_a_cycle_without_weights_publishes_none(app, endpoint):
    endpoint()
    make_cycle("EVALUATING")
    completion.tick(app.extensions["settings"], Chain("ws://127.0.0.1:9"))
    assert [event for event, _ in recorded()] == ["cycle.completed"]


def test_what_is_rolled_back_is_told_to_nobody(endpoint):
    endpoint()
    id = make_result()
    service.record_submission(id, Evaluated(status="SCORED", final_score=1))
    db.session.rollback()
    assert recorded() == []


@pytest.mark.parametrize("change", [{"is_enabled": False}, {"events": ["weights.published"]}])
def test_who_does_not_want_it_is_not_told(endpoint, change):
    made = endpoint()
    service.change(None, made.uuid, change.get("events"), change.get("is_enabled"))
    service.record_submission(make_result(), Evaluated(status="SCORED", final_score=1))
    db.session.commit()
    service.remove(None, endpoint("/removed").uuid)
    assert recorded() == []


def test_every_message_is_documented_as_it_is_sent(app, client, endpoint):
    endpoint()
    id = make_submission(prompt_id=make_prompt(id="p"), cycle_id=make_cycle())
    evaluate(app, id)
    (row,) = execute("SELECT event, data, created_at FROM webhook_deliveries")
    model = messages()[row.event]
    body = {"type": row.event, "timestamp": row.created_at.isoformat(), "data": row.data}
    dumped = model.model_validate_json(json.dumps(body)).model_dump(mode="json")
    assert dumped["data"] == row.data
    document = client.get("/openapi.json").json
    assert set(document["webhooks"]) == set(messages())
    for event in document["webhooks"].values():
        reference = event["post"]["requestBody"]["content"]["application/json"]["schema"]["$ref"]
        assert reference.rpartition("/")[2] in document["components"]["schemas"]
