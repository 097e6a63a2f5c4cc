"""What a single video brings about ends in a review, and each review has an outcome and an end."""

import json
from datetime import UTC, datetime

import pytest
from sqlalchemy import text

from app.assessment.report import DuplicatesPart, QualityPart, Report
from app.cycles import service as cycles
from app.db import db
from app.enums import Dependency
from app.errors import ChangingVideo, Conflict, Deferred, TransientError
from app.evaluation import reconcile, service
from app.reviews import queries
from app.reviews import service as reviews
from tests.corrections.conftest import complete, correct
from tests.evaluation.conftest import FixedJudge
from tests.evaluation.test_duplicates import outcome_of
from tests.factories import insert, make_cycle, make_prompt, make_result, make_submission

SUSPECT = TransientError("The judge's answer makes no sense.", suspect_video=True)
DAY = 86_400


@pytest.fixture(autouse=True)
def in_context(app):
    with app.app_context():
        make_prompt(id="p")
        yield


def execute(statement, **binds):
    result = db.session.execute(text(statement), binds)
    found = result.all() if result.returns_rows else None
    db.session.commit()
    return found


def row(id):
    (found,) = execute("SELECT * FROM submissions WHERE id = :id", id=id)
    return found


def due_again():
    execute("UPDATE submissions SET not_before = now() WHERE status = 'PENDING'")


def fail(id, fault=SUSPECT, times=1):
    """Let attempts at a submission fail."""
    for _ in range(times):
        due_again()
        (claim,) = [claim for claim in service.claim_due(100, "test", 60) if claim.id == id]
        service.release(claim, fault)


def held(**values):
    id = make_submission(prompt_id="p", **values)
    fail(id, times=service.MAX_SUSPECT_ATTEMPTS)
    return id


def effective(id):
    found = queries.find(row(id).uuid)
    db.session.rollback()
    return found.status, found.final_score


def test_a_suspect_video_is_held_after_some_attempts_and_asks_a_person():
    id = make_submission(prompt_id="p", cycle_id=make_cycle())
    fail(id, times=service.MAX_SUSPECT_ATTEMPTS - 1)
    assert row(id).held_at is None
    fail(id)
    after = row(id)
    assert (after.status, after.held_at is not None, after.cycle_id) == ("PENDING", True, None)
    due_again()
    assert service.claim_due(10, "test", 60) == []
    (review,) = queries.list_latest("OPEN", 10)
    assert (review.submission_id, review.is_held) == (id, True)
    assert "makes no sense" in review.reason


@pytest.mark.parametrize(
    "fault",
    [TransientError("storage is away", Dependency.STORAGE), Deferred("stopping", retry_after=0)],
)
def test_what_storage_or_the_judge_is_to_blame_for_holds_nothing_however_often(fault):
    id = make_submission(prompt_id="p")
    fail(id, fault, times=service.MAX_UNEXPLAINED_FAULTS + 2)
    assert row(id).held_at is None


def test_no_other_fault_is_tried_for_ever():
    id = make_submission(prompt_id="p")
    fail(id, TransientError("KeyError: 'x'"), times=service.MAX_UNEXPLAINED_FAULTS - 1)
    assert row(id).held_at is None
    fail(id, TransientError("KeyError: 'x'"))
    assert row(id).held_at is not None
    (review,) = queries.list_latest("OPEN", 10)
    assert "KeyError" in review.reason


def lose(claimed_by, rows=1):
    """Claim rows and let their leases end together."""
    due_again()
    claims = service.claim_due(rows, claimed_by, 60)
    execute("UPDATE submissions SET lease_expires_at = now() WHERE status = 'EVALUATING'")
    assert reconcile.return_expired_claims() == len(claims) > 0


def test_what_kills_evaluators_on_several_machines_is_held():
    id = make_submission(prompt_id="p")
    for number in range(service.MAX_SUSPECT_ATTEMPTS + 1):
        assert row(id).held_at is None
        lose(f"evaluator at 127.0.0.{number % 2}")
    assert (row(id).held_at is not None, row(id).suspect_attempts) == (True, 3)


def test_what_kills_workers_on_several_machines_is_held():
    id = make_submission(prompt_id="p")
    for number in range(service.MAX_SUSPECT_ATTEMPTS + 1):
        assert row(id).held_at is None
        due_again()
        name = f"host{number % 2}-{number}-0123456{number}"
        service.claim_due(1, name, 60)
        service.release_all(name, TransientError("The work horse ended with 9."))
    assert row(id).held_at is not None


@pytest.mark.parametrize("name", ["evaluator at 127.0.0.1", "host-{0}-0123456{0}"])
def test_a_machine_that_dies_of_everything_makes_no_video_suspect(name):
    id = make_submission(prompt_id="p")
    for number in range(service.MAX_SUSPECT_ATTEMPTS + 1):
        lose(name.format(number))
        due_again()
        service.claim_due(1, name.format(number), 60)
        service.release_all(name.format(number), TransientError("The work horse ended with 9."))
    assert (row(id).held_at, row(id).suspect_attempts) == (None, 0)
    assert row(id).unexplained_faults == row(id).faults


def test_evaluators_that_lose_many_rows_at_once_make_none_suspect():
    for _ in range(20):
        make_submission(prompt_id="p")
    for number in range(service.MAX_SUSPECT_ATTEMPTS + 2):
        lose(f"evaluator at 127.0.0.{number}", rows=100)
    assert execute("SELECT count(*), count(held_at), max(suspect_attempts) FROM submissions") == [(20, 0, 0)]


def test_a_silent_evaluator_has_an_end_all_the_same():
    id = make_submission(prompt_id="p")
    for _ in range(service.MAX_UNEXPLAINED_FAULTS):
        assert row(id).held_at is None
        lose("evaluator at 127.0.0.1")
    assert row(id).held_at is not None


def test_a_miner_has_so_many_such_attempts_a_day():
    for _ in range(service.MAX_SUSPECT_ATTEMPTS_A_DAY // 2):
        fail(make_submission(prompt_id="p"), times=2)
        execute("UPDATE submissions SET held_at = now() WHERE status = 'PENDING'")
    last = make_submission(prompt_id="p")
    fail(last)
    assert row(last).held_at is not None
    other = make_submission(prompt_id="p", miner_hotkey="5" * 48)
    fail(other)
    assert row(other).held_at is None


def test_an_object_that_keeps_changing_loses_its_place():
    id = make_submission(prompt_id="p")
    fail(id, ChangingVideo("other bytes"), times=service.MAX_SUSPECT_ATTEMPTS - 1)
    assert not row(id).demoted
    fail(id, ChangingVideo("other bytes"))
    assert row(id).demoted


def test_a_held_submission_holds_up_no_cycle_and_no_equal_hash(settings):
    cycle = make_cycle("EVALUATING")
    id = held(cycle_id=cycle, video_hash="ab" * 32)
    later = make_submission(prompt_id="p", cycle_id=make_cycle(), video_hash="ab" * 32)
    assert [claim.id for claim in service.claim_due(10, "test", 60)] == [later]
    _, step = cycles.find_due(settings, cycles.queries.clock())
    assert step.name == "COMPLETE"
    cycles.queries.adopt_waiting(2)
    db.session.commit()
    assert row(id).cycle_id is None


def test_a_held_one_is_rejected_by_a_person():
    id = held()
    review = reviews.decide(row(id).uuid, "reject", "Nothing to be seen.", "Ada")
    assert (review.state, review.status, review.final_score) == ("REJECTED", "REJECTED", 0)
    cycle = make_cycle("EVALUATING")
    assert cycles.queries.adopt_waiting(cycle) == 1
    db.session.commit()
    complete(cycle)
    assert execute("SELECT accepted_submissions FROM miner_scores") == [(0,)]


def test_a_held_one_is_judged_again_once_more_and_then_asks_again():
    id = held()
    with pytest.raises(Conflict, match="no score to accept"):
        reviews.decide(row(id).uuid, "accept", "r", "Ada")
    db.session.rollback()
    execute("UPDATE submissions SET judge_calls = 20 WHERE id = :id", id=id)
    reviews.decide(row(id).uuid, "judge_again", "The judge was ill.", "Ada")
    assert (row(id).held_at, row(id).judge_calls) == (None, 0)
    fail(id)
    assert row(id).held_at is not None
    (review,) = queries.list_latest("OPEN", 10)
    assert (review.submission_id, review.decided_by) == (id, None)


def rejected(reason, quality_score=0.0):
    """A submission that its evaluation rejected for this reason."""
    id = make_submission(
        prompt_id="p", status="REJECTED", final_score=0.0, evaluated_at=datetime.now(UTC), attempts=1
    )
    insert("evaluations", submission_id=id, technical_score=0.0, relevance_score=0.0,
           quality_score=quality_score, rejection_reason=reason, evaluated_by="worker")  # fmt: skip
    return id


def with_report(id, **parts):
    report = Report(**parts).dump_json()
    insert("verification_reports", submission_id=id, report=json.loads(report))


def test_accepting_restores_what_was_found_without_what_was_held_against_it():
    # after duplicates
    id = rejected("Text in the video speaks to the judge.", quality_score=0.5)
    with_report(id, judge=FixedJudge().answer, quality=QualityPart(score=0.9, deductions=[]))
    reviews.open_review(id, "Text in the video speaks to the judge.")
    db.session.commit()
    review = reviews.decide(row(id).uuid, "accept", "It is a poster.", "Ada")
    # technical 0, relevance 0.4 x 0.9 + 0.2 x (0.8 + 0.7 + 0.6) = 0.78, quality 0.5
    assert (review.state, review.status, review.final_score) == ("ACCEPTED", "SCORED", 0.54)
    assert execute("SELECT kind, decided_by, reason FROM corrections") == [
        ("review", "Ada", "It is a poster.")
    ]
    with pytest.raises(Conflict, match="closed by Ada"):
        reviews.decide(row(id).uuid, "reject", "r", "Bob")


def test_rejecting_takes_the_score():
    id = make_result(0.9, prompt_id="p")
    reviews.open_review(id, "Look at it.")
    db.session.commit()
    reviews.decide(row(id).uuid, "reject", "Staged.", "Ada")
    assert effective(id) == ("REJECTED", 0)


def test_what_nobody_decides_goes_in_the_miners_favour(settings):
    scored = make_result(0.9, prompt_id="p")
    good = make_result(status="REJECTED", prompt_id="p")
    with_report(good, judge=FixedJudge().answer)
    poor = make_result(status="REJECTED", prompt_id="p")
    with_report(poor, judge=FixedJudge(action_match=0.1).answer)
    young = make_result(0.9, prompt_id="p")
    for id in (scored, good, poor, young):
        reviews.open_review(id, "Look at it.")
        db.session.commit()
    execute(f"UPDATE reviews SET waits_since = now() - interval '22 days' WHERE submission_id <> {young}")
    assert reviews.decide_overdue(settings) == 3
    assert [effective(id)[0] for id in (scored, good, poor)] == ["SCORED", "SCORED", "REJECTED"]
    assert effective(scored) == ("SCORED", 0.9)
    assert [review.submission_id for review in queries.list_latest("OPEN", 10)] == [young]
    assert reviews.decide_overdue(settings) == 0


def test_what_was_taken_down_stops_no_overdue_review_and_keeps_its_result(settings):
    gone, rejected = make_result(0.9, prompt_id="p"), make_result(status="REJECTED", prompt_id="p")
    for id in (gone, rejected, make_result(0.9, prompt_id="p")):
        reviews.open_review(id, "Look at it.")
        db.session.commit()
    execute(f"INSERT INTO takedowns (submission_id) VALUES ({gone}), ({rejected})")
    execute("UPDATE reviews SET waits_since = now() - interval '22 days'")
    assert reviews.decide_overdue(settings) == 2
    assert effective(gone) == ("SCORED", 0.9)
    assert effective(rejected) == ("REJECTED", 0)
    # a takedown by a person ends it; nothing else does
    assert [review.submission_id for review in queries.list_latest("OPEN", 10)] == [rejected]


def test_what_has_no_score_is_judged_again_and_stays_open(settings):
    id = held()
    execute("UPDATE reviews SET waits_since = now() - interval '22 days'")
    assert reviews.decide_overdue(settings) == 1
    assert row(id).held_at is None
    assert [review.submission_id for review in queries.list_latest("OPEN", 10)] == [id]
    with pytest.raises(Conflict, match="being judged again"):
        reviews.decide(row(id).uuid, "reject", "r", "Ada")
    db.session.rollback()
    fail(id)
    assert reviews.decide_overdue(settings) == 0
    assert row(id).held_at is not None


def test_it_is_judged_again_once_without_a_person_and_pays_the_judge_no_more(settings):
    id = held()
    execute("UPDATE submissions SET judge_calls = 20")
    for decided in (1, 0, 0):
        execute("UPDATE reviews SET waits_since = now() - interval '22 days'")
        assert reviews.decide_overdue(settings) == decided
        assert row(id).judge_calls == 20
        if decided:
            fail(id)
    assert [review.submission_id for review in queries.list_latest("OPEN", 10)] == [id]
    reviews.decide(row(id).uuid, "judge_again", "The judge was ill.", "Ada")
    assert (row(id).held_at, row(id).judge_calls) == (None, 0)
    # not even after a person had it judged again
    fail(id)
    execute("UPDATE reviews SET waits_since = now() - interval '22 days'")
    assert reviews.decide_overdue(settings) == 0


def test_what_is_let_go_and_evaluated_is_decided_by_its_result(settings):
    id = held()
    execute("UPDATE reviews SET waits_since = now() - interval '22 days'")
    reviews.decide_overdue(settings)
    (claim,) = service.claim_due(1, "test", 60)
    service.record_result(claim, outcome_of(None, None), "worker", settings)
    assert reviews.decide_overdue(settings) == 0
    execute("UPDATE reviews SET waits_since = now() - interval '22 days'")
    assert reviews.decide_overdue(settings) == 1
    assert (effective(id)[0], queries.list_latest("OPEN", 10)) == ("SCORED", [])


SPEAKS = "Text in the video speaks to the judge; the submission is put up for review."


def test_text_that_speaks_to_the_judge_is_not_scored_because_nobody_looked(settings):
    id = rejected(SPEAKS)
    with_report(id, judge=FixedJudge().answer.model_copy(update={"addresses_judge": True}))
    reviews.open_review(id, SPEAKS)
    db.session.commit()
    execute("UPDATE reviews SET waits_since = now() - interval '22 days'")
    assert reviews.decide_overdue(settings) == 1
    assert effective(id) == ("REJECTED", 0)
    assert execute("SELECT reason FROM corrections") == [(f"{SPEAKS} No person decided within 21 days.",)]
    assert [review.submission_id for review in queries.list_latest("REJECTED", 10)] == [id]


def test_nobody_undoes_what_a_person_decided(settings):
    id = make_result(0.9, prompt_id="p")
    with_report(id, judge=FixedJudge().answer)
    for reason in ("Look at it.", "Shows footage of another."):
        reviews.open_review(id, reason)
        db.session.commit()
        if reason == "Look at it.":
            reviews.decide(row(id).uuid, "reject", "Staged.", "Ada")
    execute("UPDATE reviews SET waits_since = now() - interval '22 days'")
    assert reviews.decide_overdue(settings) == 1
    assert effective(id) == ("REJECTED", 0)


FOUND = {
    "of the same file": DuplicatesPart(compared=True, same_file="a"),
    "of one recording": DuplicatesPart(compared=True, one_recording_with="a", matched_share=0.0),
    "of known footage": DuplicatesPart(compared=True, matched_share=0.8001),
}


@pytest.mark.parametrize("duplicates", FOUND.values(), ids=FOUND)
def test_a_duplicate_stays_rejected_whatever_is_decided_of_its_text(settings, duplicates):
    id = rejected("It was submitted before.")
    with_report(id, judge=FixedJudge().answer, duplicates=duplicates)
    reviews.open_review(id, "Text in the video may speak to the judge, who did not think so.")
    db.session.commit()
    with pytest.raises(Conflict, match="It was submitted before"):
        reviews.decide(row(id).uuid, "accept", "It is a poster.", "Ada")
    db.session.rollback()
    assert effective(id) == ("REJECTED", 0)
    execute("UPDATE reviews SET waits_since = now() - interval '22 days'")
    assert reviews.decide_overdue(settings) == 1
    assert effective(id) == ("REJECTED", 0)


def test_a_late_copy_stays_rejected_whatever_is_decided_of_its_text(settings):
    id = make_result(0.9, prompt_id="p")
    with_report(id, judge=FixedJudge().answer)
    reviews.open_review(id, "Text in the video may speak to the judge, who did not think so.")
    db.session.commit()
    correct(id, None, kind="late_copy", reason="It was submitted before.", by="system")
    with pytest.raises(Conflict, match="It was submitted before"):
        reviews.decide(row(id).uuid, "accept", "It is a poster.", "Ada")
    db.session.rollback()
    execute("UPDATE reviews SET waits_since = now() - interval '22 days'")
    assert reviews.decide_overdue(settings) == 1
    assert effective(id) == ("REJECTED", 0)


def test_accepting_gives_what_a_late_copy_of_a_part_left():
    id = make_result(0.9, prompt_id="p")
    correct(id, 0.6, kind="late_copy", by="system")
    for verb in ("reject", "accept"):
        reviews.open_review(id, "Look at it.")
        db.session.commit()
        reviews.decide(row(id).uuid, verb, "r", "Ada")
    assert effective(id) == ("SCORED", 0.6)


def test_a_remote_evaluator_says_what_was_away(client):
    id = make_submission(prompt_id="p")
    for _ in range(service.MAX_UNEXPLAINED_FAULTS + 1):
        due_again()
        (claim,) = client.post("/v1/evaluate/fetch", json={"limit": 1}).json["submissions"]
        body = {"submission_id": id, "claim_token": claim["claim_token"], "reason": "503"}
        assert client.post("/v1/evaluate/release", json=body | {"dependency": "vlm"}).status_code == 200
    assert (row(id).held_at, row(id).unexplained_faults) == (None, 0)
    assert execute("SELECT name FROM circuit_breakers") == []


def test_the_error_of_an_evaluator_of_others_has_an_end(client):
    id = make_submission(prompt_id="p")
    zeros = dict.fromkeys(("technical_score", "relevance_score", "quality_score", "final_score"), 0)
    for _ in range(service.MAX_UNEXPLAINED_FAULTS):
        assert row(id).held_at is None
        due_again()
        client.post("/v1/evaluate/fetch", json={"limit": 1})
        body = zeros | {"submission_id": id, "rejection_reason": "Evaluation error: boom"}
        assert client.post("/v1/evaluate/submit", json=body).status_code == 200
    assert row(id).held_at is not None


def test_over_http_and_by_command(client, app, run_kibotos):
    id = make_result(0.9, prompt_id="p")
    uuid = str(row(id).uuid)
    reviews.open_review(id, "Look at it.")
    db.session.commit()
    (listed,) = client.get("/v1/admin/reviews").json
    assert (listed["submission_uuid"], listed["state"], listed["final_score"]) == (uuid, "OPEN", 0.9)
    shown = client.get(f"/v1/admin/reviews/{uuid}").json
    assert shown == listed | {"appeal": None, "video_url": shown["video_url"]}
    assert row(id).video_key in shown["video_url"]
    environ = {"DATABASE_URL": app.extensions["settings"].database_url, "APP_ENV": "development"}
    assert uuid in run_kibotos("reviews", "list", **environ).output
    result = run_kibotos("reviews", "reject", uuid, "--reason", "Staged.", "--by", "Ada", **environ)
    assert "REJECTED by Ada: Staged." in result.output
    body = {"decision": "accept", "reason": "r", "by": "Bob"}
    assert client.post(f"/v1/admin/reviews/{uuid}", json=body).status_code == 409
    assert client.get("/v1/admin/reviews").json == []
    assert client.get("/v1/admin/reviews?state=REJECTED").json[0]["decided_by"] == "Ada"
    assert client.post(f"/v1/admin/reviews/{uuid}", json={"decision": "maybe"}).status_code == 422
    unknown = "00000000-0000-0000-0000-000000000000"
    assert client.post(f"/v1/admin/reviews/{unknown}", json=body).status_code == 404
    shown = client.get(f"/v1/submissions/{uuid}").json
    assert (shown["status"], shown["corrections"][0]["decided_by"]) == ("REJECTED", "Ada")


def test_a_remote_evaluator_tells_a_suspect_video(client):
    id = make_submission(prompt_id="p")
    for _ in range(service.MAX_SUSPECT_ATTEMPTS):
        due_again()
        (claim,) = client.post("/v1/evaluate/fetch", json={"limit": 1}).json["submissions"]
        body = {"submission_id": id, "claim_token": claim["claim_token"], "reason": "no sense"}
        answer = client.post("/v1/evaluate/release", json=body | {"suspect_video": True})
        assert answer.status_code == 200
    assert row(id).held_at is not None
    assert client.post("/v1/evaluate/fetch", json={"limit": 0}).json["pending"] == 0
    assert client.get(f"/v1/submissions/{row(id).uuid}").json["status"] == "PENDING"


def test_the_oldest_open_review_shows_in_the_metrics(client):
    held()
    execute(f"UPDATE reviews SET opened_at = now() - make_interval(secs => {20 * DAY})")
    lines = client.get("/metrics").text.splitlines()
    metrics = dict(line.split(" ", 1) for line in lines if line.startswith("kibotos_"))
    assert float(metrics["kibotos_reviews_open"]) == 1
    assert float(metrics["kibotos_oldest_review_seconds"]) > 19 * DAY
