"""Appeals: who may appeal against what, what a new evaluation changes, and that no appeal is a free throw."""

import json
import threading
from uuid import uuid4

import pytest
from sqlalchemy import text

from app.appeals import rule
from app.appeals.rule import Result
from app.assessment.report import Report
from app.db import db
from app.enums import Dependency
from app.errors import Conflict, TransientError
from app.evaluation import reconcile, service
from app.locks import CORRECTIONS
from app.moderation import service as moderation
from app.moderation.models import Order
from app.reviews import queries as review_queries
from app.reviews import service as reviews
from tests.api.conftest import PRODUCTION
from tests.appeals.conftest import OWNER, effective, execute, row, statement, uuid_of
from tests.corrections.conftest import complete, correct
from tests.evaluation.footage import copied, film
from tests.evaluation.test_duplicates import outcome_of, record
from tests.factories import make_cycle, make_prompt, make_result, make_submission, miner

REJECTED = {"status": "REJECTED", "prompt_id": "p", "miner_hotkey": OWNER.ss58_address}
SCORED = REJECTED | {"status": "SCORED", "final_score": 0.5}
# technical 1, relevance 0.8, quality 1 of outcome_of: 0.2 + 0.4 + 0.3
GOOD = 0.9
# 0.2 + 0.5 x 0.05 + 0.3 x 1, but under the gate
POOR = {"relevance_score": 0.05, "action_match": 0.05}


def of(score):
    """An outcome with this final score: 0.5 x 0.8 + 0.3 x its quality."""
    return {"technical_score": 0.0, "quality_score": (score - 0.4) / 0.3}


def shown(client, id):
    return client.get(f"/v1/submissions/{uuid_of(id)}/appeal").json


def test_an_appeal_is_evaluated_anew_beside_the_first_result(client, appeal, evaluate_anew):
    id = make_result(**REJECTED)
    seed = row(id).frame_seed
    answer = appeal(id)
    assert (answer.status_code, answer.json["state"], answer.json["against_status"]) == (
        201,
        "OPEN",
        "REJECTED",
    )
    assert "reason" not in answer.json and answer.json["evaluation"] is None
    (claim,) = service.claim_due(1, "test", 60)
    assert (claim.id, claim.is_appeal, claim.attempt) == (id, True, 1)
    assert claim.frame_seed != seed
    assert row(id).status == "REJECTED"
    assert service.claim_due(10, "other", 60) == []


def test_where_both_agree_the_first_result_stands_to_the_last_digit(client, appeal, evaluate_anew):
    id = make_result(0.85, **{k: v for k, v in SCORED.items() if k != "final_score"})
    appeal(id)
    evaluate_anew(id)
    found = shown(client, id)
    assert (found["state"], found["evaluation"]["final_score"], found["decided_by"]) == (
        "UPHELD",
        GOOD,
        "system",
    )
    assert effective(id) == ("SCORED", 0.85)
    assert execute("SELECT count(*) FROM corrections") == [(0,)]
    assert service.claim_due(10, "test", 60) == []


def test_a_rejection_that_is_confirmed_stands(client, appeal, evaluate_anew):
    id = make_result(**REJECTED)
    appeal(id)
    evaluate_anew(id, **POOR)
    assert shown(client, id)["state"] == "UPHELD"
    assert effective(id) == ("REJECTED", 0)
    assert review_queries.list_latest("OPEN", 10) == []


@pytest.mark.parametrize(
    ("verb", "state", "result"),
    [
        ("accept", "OVERTURNED", ("SCORED", GOOD)),
        ("reject", "UPHELD", ("REJECTED", 0)),
        ("uphold", "UPHELD", ("REJECTED", 0)),
    ],
)
def test_where_they_disagree_a_person_decides(client, appeal, evaluate_anew, verb, state, result):
    id = make_result(**REJECTED)
    appeal(id)
    evaluate_anew(id)
    assert shown(client, id)["state"] == "IN_REVIEW"
    assert effective(id) == ("REJECTED", 0)
    review = client.get(f"/v1/admin/reviews/{uuid_of(id)}").json
    assert review["appeal"]["reason"] == "It shows a mug."
    assert review["appeal"]["evaluation"]["final_score"] == GOOD
    decision = {"decision": verb, "reason": "I looked.", "by": "Ada"}
    assert client.post(f"/v1/admin/reviews/{uuid_of(id)}", json=decision).status_code == 200
    found = shown(client, id)
    assert (found["state"], found["decided_by"], found["decision_reason"]) == (state, "Ada", "I looked.")
    assert effective(id) == result
    expected = [("appeal", "Ada")] if state == "OVERTURNED" else []
    assert execute("SELECT kind, decided_by FROM corrections") == expected


@pytest.mark.parametrize(("verb", "result"), [("accept", 0.9), ("uphold", 0.5), ("reject", 0)])
def test_a_score_may_rise_stand_or_fall(client, appeal, evaluate_anew, verb, result):
    id = make_result(**SCORED)
    appeal(id)
    evaluate_anew(id)
    assert shown(client, id)["state"] == "IN_REVIEW"
    reviews.decide(row(id).uuid, verb, "I looked.", "Ada")
    assert effective(id)[1] == result
    assert shown(client, id)["state"] == ("UPHELD" if verb == "uphold" else "OVERTURNED")


@pytest.mark.parametrize(
    ("first", "new", "disagrees"),
    [
        (Result("SCORED", 0.5), Result("SCORED", 0.6), False),
        (Result("SCORED", 0.5), Result("SCORED", 0.6001), True),
        (Result("SCORED", 0.6), Result("SCORED", 0.5), False),
        (Result("SCORED", 0.6001), Result("SCORED", 0.5), True),
        (Result("REJECTED", 0.0), Result("REJECTED", 0.0), False),
        (Result("REJECTED", 0.0), Result("SCORED", 0.05), True),
        (Result("SCORED", 0.05), Result("REJECTED", 0.0), True),
    ],
)
def test_what_disagrees(first, new, disagrees):
    assert rule.disagree(first, new) is disagrees


@pytest.mark.parametrize(
    ("first", "changes", "result"),
    [
        (REJECTED, {}, ("SCORED", 0.45)),
        (SCORED, {}, ("SCORED", 0.7)),
        (SCORED | {"final_score": 0.8}, POOR, ("SCORED", 0.8)),
    ],
)
def test_what_nobody_decides_counts_by_half_and_never_against_the_miner(
    client, settings, appeal, evaluate_anew, first, changes, result
):
    id = make_result(**first)
    appeal(id)
    evaluate_anew(id, **changes)
    assert reviews.decide_overdue(settings) == 0
    execute("UPDATE reviews SET waits_since = now() - interval '22 days'")
    assert reviews.decide_overdue(settings) == 1
    assert effective(id) == result
    assert shown(client, id)["decided_by"] == "system"
    assert reviews.decide_overdue(settings) == 0


def test_an_appeal_is_worth_nothing_where_two_throws_differ_by_noise():
    """A miner who appeals against every result that is below what the video deserves gains nothing."""
    deserved, noise = 0.7, 0.05
    for step in range(-10, 11):
        first = Result("SCORED", deserved + noise * step / 10)
        new = Result("SCORED", deserved + noise)
        assert not rule.disagree(first, new)


# who may appeal


def test_the_same_appeal_again_is_the_same_and_another_is_refused(client, appeal):
    id = make_result(**REJECTED)
    first = appeal(id)
    again = appeal(id)
    assert (again.status_code, again.json) == (200, first.json | {"signature": first.json["signature"]})
    other = appeal(id, reason="It shows two mugs.")
    assert (other.status_code, "one appeal" in other.json["detail"]) == (409, True)


def test_nobody_else_appeals(make_app):
    client = make_app(**PRODUCTION).test_client()
    id = make_result(**REJECTED)
    uuid, path = uuid_of(id), f"/v1/submissions/{uuid_of(id)}/appeal"
    stranger = miner("stranger")
    assert client.post(path, json=statement(uuid, keypair=stranger)).status_code == 403
    assert client.post(path, json=statement(uuid, signer=stranger)).status_code == 401
    # a statement for another submission, or with another reason
    other = make_result(**REJECTED)
    assert client.post(path, json=statement(uuid_of(other))).status_code == 401
    assert client.post(path, json=statement(uuid) | {"reason": "Another one."}).status_code == 401
    assert client.post(path, json=statement(uuid) | {"signature": ""}).status_code == 422
    assert client.post(path, json=statement(uuid)).status_code == 201


def test_an_unknown_submission_and_one_without_a_result(client, appeal):
    unknown = "00000000-0000-0000-0000-000000000000"
    assert client.post(f"/v1/submissions/{unknown}/appeal", json=statement(unknown)).status_code == 404
    assert client.get(f"/v1/submissions/{unknown}/appeal").status_code == 404
    pending = appeal(make_submission(prompt_id="p", miner_hotkey=OWNER.ss58_address))
    assert (pending.status_code, "no result yet" in pending.json["detail"]) == (409, True)


def test_a_day_by_the_databases_clock(appeal):
    for seconds, status in ((86_390, 201), (86_401, 409)):
        id = make_result(**REJECTED)
        execute("ALTER TABLE submissions DISABLE TRIGGER submissions_forward_only")
        execute(f"UPDATE submissions SET evaluated_at = now() - interval '{seconds} s' WHERE id = {id}")
        execute("ALTER TABLE submissions ENABLE TRIGGER submissions_forward_only")
        assert appeal(id).status_code == status
        if status == 409:
            # a copy that is found late is a new result
            correct(id, 0.3, kind="late_copy", by="system")
            assert appeal(id).status_code == 201


def test_the_budget_of_a_hotkey(make_app):
    client = make_app(max_appeals_per_day=2).test_client()

    def send(id):
        return client.post(f"/v1/submissions/{uuid_of(id)}/appeal", json=statement(uuid_of(id)))

    first, *ids = [make_result(**REJECTED) for _ in range(4)]
    assert [send(id).status_code for id in (first, *ids)] == [201, 201, 429, 429]
    # what is there already is no new one
    assert send(first).status_code == 200
    assert int(send(ids[1]).headers["Retry-After"]) > 86_000
    execute(f"UPDATE appeals SET appealed_at = now() - interval '25 hours' WHERE submission_id = {first}")
    assert [send(id).status_code for id in ids[1:]] == [201, 429]


def test_two_at_once_are_one_and_the_budget_is_exact(make_app):
    app = make_app(max_appeals_per_day=3)
    ids = [make_result(**REJECTED) for _ in range(5)]
    uuids = [uuid_of(id) for id in ids]
    answers = []

    def send(uuid):
        answers.append(app.test_client().post(f"/v1/submissions/{uuid}/appeal", json=statement(uuid)))

    threads = [threading.Thread(target=send, args=(uuid,)) for uuid in uuids for _ in range(2)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    codes = [answer.status_code for answer in answers]
    assert (codes.count(201), codes.count(200), codes.count(429)) == (3, 3, 4)
    assert execute("SELECT count(*) FROM appeals") == [(3,)]


def test_reasons_that_are_refused(client):
    id = make_result(**REJECTED)
    path, body = f"/v1/submissions/{uuid_of(id)}/appeal", statement(uuid_of(id))
    for reason in ("", " \n\t ", "a" * 1001, "\0", "\x1b[2J", "a\x9bb", "a\rb", "\ud800", 7, None, ["a"]):
        data = json.dumps(body | {"reason": reason})
        answer = client.post(path, data=data, content_type="application/json")
        assert (answer.status_code, answer.json["errors"][0]["field"]) == (422, "reason"), ascii(reason)


def test_reasons_that_are_taken_and_shown_as_text(appeal, run_kibotos, settings):
    environ = {"DATABASE_URL": settings.database_url, "APP_ENV": "development"}
    for reason in ("é" * 1000, "\u043e\u043d\u043e\n🖐🏽\nstate: ACCEPTED", "\u202egnirts"):
        id = make_result(**REJECTED)
        assert appeal(id, reason=reason).status_code == 201
        reviews.ask_about_appeal(id, "It disagrees.")
        db.session.commit()
        printed = run_kibotos("reviews", "show", uuid_of(id), **environ).output
        assert "\u202e" not in printed
        quoted = [line for line in printed.splitlines() if line.startswith("  the miner: ")]
        assert len(quoted) == reason.count("\n") + 1


def test_a_submission_that_a_person_looks_at_anyway_is_not_appealed(appeal):
    id = make_result(**SCORED)
    reviews.open_review(id, "Look at it.")
    db.session.commit()
    refused = appeal(id)
    assert (refused.status_code, "after that decision" in refused.json["detail"]) == (409, True)
    reviews.decide(row(id).uuid, "reject", "Staged.", "Ada")
    assert appeal(id).status_code == 201


def test_what_a_person_decided_no_machine_changes(client, settings, appeal, evaluate_anew):
    id = make_result(**SCORED)
    correct(id, None, by="Ada")
    appeal(id)
    evaluate_anew(id)
    assert shown(client, id)["state"] == "IN_REVIEW"
    execute("UPDATE reviews SET waits_since = now() - interval '22 days'")
    assert reviews.decide_overdue(settings) == 1
    assert (shown(client, id)["state"], effective(id)) == ("UPHELD", ("REJECTED", 0))


# what goes wrong


def test_a_fault_of_ours_delays_and_loses_nothing(client, appeal, evaluate_anew):
    id = make_result(**REJECTED)
    appeal(id)
    for _ in range(12):
        (claim,) = service.claim_due(1, "test", 60)
        service.release(claim, TransientError("The judge is away.", Dependency.VLM))
        execute("DELETE FROM circuit_breakers")
        after = row(id)
        assert (after.status, after.claim_token) == ("REJECTED", None)
        assert service.claim_due(1, "test", 60) == []
        execute("UPDATE submissions SET not_before = now()")
    assert shown(client, id)["state"] == "OPEN"
    evaluate_anew(id)
    assert shown(client, id)["state"] == "IN_REVIEW"


def test_a_lease_that_expires_and_a_worker_that_is_killed(client, appeal, evaluate_anew):
    id = make_result(**REJECTED)
    appeal(id)
    (late,) = service.claim_due(1, "test", 60)
    execute("UPDATE submissions SET lease_expires_at = now() - interval '1 s'")
    assert reconcile.return_expired_claims() == 1
    service.claim_due(1, "host-1-01234567", 60)
    service.release_all("host-1-01234567", TransientError("The work horse ended with 9."))
    execute("UPDATE submissions SET not_before = now()")
    evaluate_anew(id)
    assert shown(client, id)["state"] == "IN_REVIEW"
    with pytest.raises(service.LeaseLost):
        service.record_result(
            late, outcome_of(None, late.video_hash), "worker", client.application.extensions["settings"]
        )


def test_what_cannot_be_evaluated_again_asks_a_person(client, settings, appeal, evaluate_anew):
    id = make_result(**SCORED)
    appeal(id)
    for _ in range(service.MAX_SUSPECT_ATTEMPTS):
        (claim,) = service.claim_due(1, "test", 60)
        service.release(claim, TransientError("No sense.", suspect_video=True))
        execute("UPDATE submissions SET not_before = now()")
    assert shown(client, id)["state"] == "IN_REVIEW"
    assert service.claim_due(1, "test", 60) == []
    # nobody decides: once more, and then it is held
    for decided in (1, 0):
        execute("UPDATE reviews SET waits_since = now() - interval '22 days'")
        assert reviews.decide_overdue(settings) == decided
        if decided:
            (claim,) = service.claim_due(1, "test", 60)
            execute("UPDATE submissions SET suspect_attempts = 5")
            service.release(claim, TransientError("No sense.", suspect_video=True))
    reviews.decide(row(id).uuid, "judge_again", "The judge was ill.", "Ada")
    assert row(id).judge_calls == 0
    evaluate_anew(id, **of(0.58))
    assert (shown(client, id)["state"], effective(id)) == ("UPHELD", ("SCORED", 0.5))


def test_judging_costs_no_more_than_once_anew(appeal):
    id = make_result(**REJECTED)
    execute("UPDATE submissions SET judge_calls = 20")
    appeal(id)
    (claim,) = service.claim_due(1, "test", 60)
    assert [service.count_judge_calls(claim, 1) for _ in range(21)] == [True] * 20 + [False]


def test_a_taken_down_video_is_not_appealed_and_ends_its_appeal(client, appeal):
    id, later = make_result(**REJECTED), make_result(**REJECTED)
    appeal(id)
    (claim,) = service.claim_due(1, "test", 60)
    extensions = client.application.extensions
    for each in (id, later):
        moderation.take_down(
            row(each).uuid, Order("Asked for.", "Ada"), extensions["settings"], extensions["storage"]
        )
    assert shown(client, id)["state"] == "CLOSED"
    with pytest.raises(service.LeaseLost):
        service.record_result(
            claim, outcome_of(None, claim.video_hash), "worker", client.application.extensions["settings"]
        )
    refused = appeal(later)
    assert (refused.status_code, "taken down" in refused.json["detail"]) == (409, True)


# over the cycle's end


def test_an_appeal_holds_up_no_cycle_and_is_paid_in_the_next(appeal, evaluate_anew):
    first, second = make_cycle("EVALUATING"), make_cycle("EVALUATING")
    id = make_result(cycle_id=first, **REJECTED)
    appeal(id)
    complete(first)
    evaluate_anew(id)
    reviews.decide(row(id).uuid, "accept", "It is a mug.", "Ada")
    complete(second)
    paid = execute("SELECT cycle_id, total_score FROM miner_scores ORDER BY cycle_id")
    assert paid == [(first, 0), (second, GOOD)]


def test_the_overturn_rate_is_public(make_app, client, appeal, evaluate_anew):
    assert client.get("/v1/appeals/statistics").json["overturn_rate"] is None
    ids = [make_result(**REJECTED) for _ in range(3)]
    for id, changes in zip(ids, ({}, POOR, {}), strict=True):
        appeal(id)
        evaluate_anew(id, **changes)
    reviews.decide(row(ids[0]).uuid, "accept", "It is a mug.", "Ada")
    # the answer may be some seconds old, but not in a process that has just begun
    found = make_app().test_client().get("/v1/appeals/statistics").json
    assert (found["overturned"], found["upheld"], found["in_review"]) == (1, 1, 1)
    assert (found["overturn_rate"], found["overturn_rate_of_30_days"]) == (0.5, 0.5)
    metrics = client.get("/metrics").text
    assert 'kibotos_appeals{state="OVERTURNED"} 1.0' in metrics


def test_a_decided_appeal_is_never_changed(appeal, evaluate_anew):
    id = make_result(**REJECTED)
    appeal(id)
    evaluate_anew(id, **POOR)
    with pytest.raises(Exception, match="never changed"):
        db.session.execute(text("UPDATE appeals SET state = 'OPEN', decided_at = NULL"))
    db.session.rollback()


# evaluators in the field


def test_an_evaluator_that_knows_nothing_of_appeals_evaluates_one(client, appeal):
    id = make_result(**REJECTED)
    appeal(id)
    (fetched,) = client.post("/v1/evaluate/fetch", json={"limit": 5}).json["submissions"]
    assert (fetched["id"], fetched["is_appeal"]) == (id, True)
    scores = {"technical_score": 1.0, "relevance_score": 0.8, "quality_score": 1.0, "final_score": 0.9}
    body = {"submission_id": id, **scores}
    answer = client.post("/v1/evaluate/submit", json=body)
    assert (answer.status_code, answer.json["final_score"]) == (200, 0.9)
    assert (shown(client, id)["state"], effective(id)) == ("IN_REVIEW", ("REJECTED", 0))
    again = client.post("/v1/evaluate/submit", json=body)
    assert (again.status_code, "only the first one counts" in again.json["detail"]) == (409, True)


def test_an_appeal_passes_from_evaluator_to_worker(client, appeal, evaluate_anew):
    id = make_result(**REJECTED)
    appeal(id)
    (fetched,) = client.post("/v1/evaluate/fetch", json={"limit": 5}).json["submissions"]
    token = {"submission_id": id, "claim_token": fetched["claim_token"]}
    assert client.post("/v1/evaluate/judge-calls", json=token | {"calls": 1}).json == {"granted": True}
    assert client.post("/v1/evaluate/release", json=token | {"reason": "stopping"}).status_code == 200
    assert client.post("/v1/evaluate/release", json=token | {"reason": "stopping"}).status_code == 409
    execute("UPDATE submissions SET not_before = now()")
    evaluate_anew(id)
    assert shown(client, id)["evaluation"]["evaluated_by"] == "worker"


def test_appeals_come_before_other_work_and_within_the_limit(appeal):
    ids = [make_result(**REJECTED) for _ in range(2)]
    waiting = [make_submission(prompt_id="p") for _ in range(3)]
    for id in ids:
        appeal(id)
    assert [claim.id for claim in service.claim_due(1, "test", 60)] == ids[:1]
    assert [claim.id for claim in service.claim_due(2, "test", 60)] == [ids[1], waiting[0]]
    assert [claim.id for claim in service.claim_due(5, "test", 60)] == waiting[1:]


def test_the_judge_of_appeals_opens_and_closes_no_breaker(appeal, evaluate_anew):
    """It may be another, and wrong settings for appeals must not stop the evaluation of the others."""
    ids = [make_result(**REJECTED) for _ in range(3)]
    for id in ids:
        appeal(id)
    for _ in range(4):
        for claim in service.claim_due(3, "test", 60):
            service.release(claim, TransientError("There is no such model.", Dependency.VLM))
        execute("UPDATE submissions SET not_before = now()")
    assert execute("SELECT count(*) FROM circuit_breakers") == [(0,)]
    execute("INSERT INTO circuit_breakers (name, consecutive_failures) VALUES ('vlm', 4)")
    evaluate_anew(ids[0])
    assert execute("SELECT consecutive_failures FROM circuit_breakers") == [(4,)]
    # nor is it a probe
    execute("UPDATE circuit_breakers SET trips = 1, open_until = now()")
    waiting = make_submission(prompt_id="p")
    assert [claim.id for claim in service.claim_due(3, "test", 60)] == [waiting]


def test_an_open_breaker_stops_appeals_as_well(appeal):
    appeal(make_result(**REJECTED))
    execute("""INSERT INTO circuit_breakers (name, consecutive_failures, trips, open_until)
               VALUES ('vlm', 9, 1, now() + interval '1 minute')""")
    assert service.claim_due(1, "test", 60) == []
    assert len(service.claim_due(1, "test", 60, by="evaluator")) == 1


# footage


def test_copies_of_what_is_accepted_late_are_found(app, appeal, evaluate_anew):
    """A rejected video counts for its own prompt only. Accepted late, it counts for all."""
    make_prompt(id="q")
    bits, bob = film(1, 4), miner("bob").ss58_address
    first = make_submission(prompt_id="p", miner_hotkey=OWNER.ss58_address, miner_uid=1)
    record(app, first, bits, **POOR)
    copy = make_submission(prompt_id="q", miner_hotkey=bob, miner_uid=2)
    record(app, copy, copied(bits))
    assert effective(copy)[0] == "SCORED"
    appeal(first)
    evaluate_anew(first, bits)
    reviews.decide(row(first).uuid, "accept", "It is a mug.", "Ada")
    assert effective(first) == ("SCORED", GOOD)
    assert effective(copy) == ("REJECTED", 0)
    later = make_submission(prompt_id="q", miner_hotkey=bob, miner_uid=2)
    record(app, later, copied(bits, seed=1))
    assert effective(later)[0] == "REJECTED"


def test_a_copy_stays_one_when_it_is_evaluated_anew(app, client, appeal, evaluate_anew):
    bits = film(2, 4)
    record(app, make_submission(prompt_id="p", miner_hotkey=miner("alice").ss58_address), bits)
    id = make_submission(prompt_id="p", miner_hotkey=OWNER.ss58_address)
    record(app, id, copied(bits))
    appeal(id)
    evaluate_anew(id, copied(bits, seed=1))
    found = shown(client, id)
    assert (found["state"], "was submitted before" in found["evaluation"]["rejection_reason"]) == (
        "UPHELD",
        True,
    )


def test_a_late_copy_during_the_appeal_counts(app, client, appeal, evaluate_anew):
    bits = film(3, 4)
    original = make_submission(prompt_id="p", miner_hotkey=miner("alice").ss58_address)
    id = make_submission(prompt_id="p", miner_hotkey=OWNER.ss58_address)
    record(app, id, copied(bits), quality_score=0.2)
    appeal(id)
    (claim,) = service.claim_due(1, "test", 60)
    record(app, original, bits)
    assert effective(id) == ("REJECTED", 0)
    service.record_result(
        claim, outcome_of(copied(bits), claim.video_hash), "worker", app.extensions["settings"]
    )
    assert (shown(client, id)["state"], effective(id)) == ("UPHELD", ("REJECTED", 0))


def test_known_footage_that_is_not_compared_again_stays_rejected(app, client, settings, appeal):
    """An evaluator that reports four scores compares no footage: that makes no original of a copy."""
    bits = film(4, 4)
    record(app, make_submission(prompt_id="p", miner_hotkey=miner("alice").ss58_address), bits)
    scores = {"technical_score": 1.0, "relevance_score": 0.8, "quality_score": 1.0, "final_score": 0.9}
    ids = [make_submission(prompt_id="p", miner_hotkey=OWNER.ss58_address) for _ in range(2)]
    for id in ids:
        record(app, id, copied(bits))
        appeal(id)
        client.post("/v1/evaluate/fetch", json={"limit": 1})
        assert client.post("/v1/evaluate/submit", json={"submission_id": id, **scores}).status_code == 200
        assert shown(client, id)["state"] == "IN_REVIEW"
    with pytest.raises(Conflict, match="duplicate"):
        reviews.decide(row(ids[0]).uuid, "accept", "It is a mug.", "Ada")
    db.session.rollback()
    reviews.decide(row(ids[0]).uuid, "uphold", "It is a copy.", "Ada")
    execute("UPDATE reviews SET waits_since = now() - interval '22 days'")
    assert reviews.decide_overdue(settings) == 1
    assert [effective(id) for id in ids] == [("REJECTED", 0)] * 2


def test_text_that_may_speak_to_the_judge_asks_a_person_although_both_agree(client, appeal, evaluate_anew):
    id = make_result(0.85, **{k: v for k, v in SCORED.items() if k != "final_score"})
    appeal(id)
    evaluate_anew(
        id, report=Report(verified_sha256=row(id).video_hash, review="Text may speak to the judge.")
    )
    assert shown(client, id)["state"] == "UPHELD"
    assert [review.reason for review in review_queries.list_latest("OPEN", 9)] == [
        "Text may speak to the judge."
    ]


def test_who_has_no_such_submission_waits_for_nobody_and_keeps_nobody_waiting(appeal, client):
    """While a cycle completes, say, which holds the lock of corrections."""
    id = make_result(miner_hotkey=OWNER.ss58_address)
    stranger, unknown = miner("stranger"), uuid4()
    with db.engine.connect() as other:
        other.execute(text("SELECT pg_advisory_xact_lock(:key)"), {"key": CORRECTIONS})
        assert appeal(id, keypair=stranger).status_code == 403
        body = statement(unknown, keypair=stranger)
        assert client.post(f"/v1/submissions/{unknown}/appeal", json=body).status_code == 404
