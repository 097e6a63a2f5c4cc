"""Corrections by an operator, and takedowns: what goes, what stays, and what nobody can do afterwards."""

import dataclasses
import json

import pytest
import requests

from app.clients.storage import Storage
from app.db import db
from app.enums import CorrectionKind, SubmissionStatus
from app.errors import Conflict
from app.evaluation import service as evaluation
from app.moderation import service
from app.reviews import queries as review_queries
from app.reviews import service as reviews
from tests.api.conftest import PRODUCTION, bearer
from tests.appeals.conftest import effective, execute, row, uuid_of
from tests.corrections.conftest import complete, correct
from tests.evaluation.footage import copied, film
from tests.evaluation.test_duplicates import outcome_of, record, take_up
from tests.factories import make_cycle, make_prompt, make_result, make_submission, make_upload, miner


@pytest.fixture(autouse=True)
def in_context(app):
    with app.app_context():
        make_prompt(id="p")
        yield


@pytest.fixture
def storage(app):
    return app.extensions["storage"]


@pytest.fixture
def away(settings):
    """A storage that cannot be reached."""
    return Storage(dataclasses.replace(settings, s3_endpoint="http://127.0.0.1:1"))


def uploaded(storage, content=b"a video", **values):
    """The key of an object that is in storage."""
    key = make_upload(**values)
    url, headers = storage.presign_put(key, "video/mp4", None, 600)
    requests.put(url, data=content, headers=headers, timeout=10).raise_for_status()
    return key


def send(client, id, what, **body):
    return client.post(
        f"/v1/admin/submissions/{uuid_of(id)}/{what}", json={"reason": "Seen.", "by": "Ada"} | body
    )


def test_a_correction_is_appended_and_counts(client):
    first, second = make_cycle("EVALUATING"), make_cycle("EVALUATING")
    id = make_result(status="REJECTED", prompt_id="p", cycle_id=first)
    early = send(client, id, "corrections", status="SCORED", final_score=0.43219, evidence={"ticket": 17})
    assert (early.status_code, early.json["final_score"]) == (201, 0.4322)
    complete(first)
    late = send(client, id, "corrections", status="SCORED", final_score=0.5)
    assert [(each["kind"], each["is_late"]) for each in late.json["corrections"]] == [
        ("operator", False),
        ("operator", True),
    ]
    assert late.json["corrections"][0]["evidence"] == {"ticket": 17}
    complete(second)
    assert execute("SELECT total_score FROM miner_scores ORDER BY cycle_id") == [(0.4322,), (0.0678,)]
    assert row(id).status == "REJECTED"


WRONG = [
    ({"status": "SCORED"}, "final_score"),
    ({"status": "REJECTED", "final_score": 0.1}, "final_score"),
    ({"status": "SCORED", "final_score": 1.01}, "final_score"),
    ({"status": "SCORED", "final_score": True}, "final_score"),
    ({"status": "PENDING"}, "status"),
    ({"status": "REJECTED", "reason": " "}, "reason"),
    ({"status": "REJECTED", "reason": "\x1b[1m"}, "reason"),
    ({"status": "REJECTED", "reason": "a" * 1901}, "reason"),
    ({"status": "REJECTED", "by": ""}, "by"),
    ({"status": "REJECTED", "evidence": {"a": "b" * 17_000}}, "evidence"),
    ({"status": "REJECTED", "evidence": {"a": "\0"}}, "evidence"),
    ({"status": "REJECTED", "evidence": [1]}, "evidence"),
]


def test_what_a_correction_must_not_be(client):
    id = make_result(0.9, prompt_id="p")
    for body, field in WRONG:
        answer = send(client, id, "corrections", **body)
        assert (answer.status_code, answer.json["errors"][0]["field"]) == (422, field), body


def test_what_cannot_be_corrected(client):
    pending, scored = make_submission(prompt_id="p"), make_result(0.5, prompt_id="p")
    answer = send(client, pending, "corrections", status="REJECTED")
    assert (answer.status_code, "no result yet" in answer.json["detail"]) == (409, True)
    answer = send(client, scored, "corrections", status="SCORED", final_score=0.50001)
    assert (answer.status_code, "already" in answer.json["detail"]) == (409, True)
    unknown = "/v1/admin/submissions/00000000-0000-0000-0000-000000000000/corrections"
    body = {"status": "REJECTED", "reason": "r", "by": "b"}
    assert client.post(unknown, json=body).status_code == 404


def test_only_an_admin_decides(make_app):
    client, uuid = make_app(**PRODUCTION).test_client(), uuid_of(make_result(0.5, prompt_id="p"))
    for what in ("corrections", "takedown"):
        path = f"/v1/admin/submissions/{uuid}/{what}"
        assert client.post(path, json={}).status_code == 401
        assert client.post(path, json={}, headers=bearer(PRODUCTION["evaluator_token"][0])).status_code == 403


def test_a_takedown_deletes_the_object_and_keeps_what_can_be_verified(client, storage):
    key = uploaded(storage)
    id = make_result(0.8, prompt_id="p", video_key=key, cycle_id=make_cycle("EVALUATING"))
    before = row(id)
    report = execute("SELECT * FROM evaluations")
    answer = send(client, id, "takedown", evidence={"request": "T-1"})
    assert (answer.status_code, answer.json["is_deleted"], answer.json["status"]) == (200, True, "REJECTED")
    assert storage.head(key) is None
    assert (row(id).video_hash, row(id).signature) == (before.video_hash, before.signature)
    assert (row(id).status, row(id).final_score) == ("SCORED", 0.8)
    assert execute("SELECT * FROM evaluations") == report
    shown = client.get(f"/v1/submissions/{uuid_of(id)}").json
    assert (shown["status"], shown["evaluation"]["rejection_reason"]) == ("REJECTED", "Seen.")
    assert client.get("/v1/scores/1").json["miner_scores"][0]["total_score"] == 0
    again = send(client, id, "takedown")
    assert (again.status_code, len(again.json["corrections"])) == (200, 1)


def test_a_takedown_is_final(client, storage):
    id = make_result(0.8, prompt_id="p")
    reviews.open_review(id, "Look at it.")
    db.session.commit()
    send(client, id, "takedown")
    assert review_queries.find(row(id).uuid).state == "REJECTED"
    answer = send(client, id, "corrections", status="SCORED", final_score=0.8)
    assert (answer.status_code, "final" in answer.json["detail"]) == (409, True)
    # nor by a review that opens later, which no tick stumbles over
    reviews.open_review(id, "Look at it.")
    db.session.commit()
    with pytest.raises(Conflict, match="final"):
        reviews.decide(row(id).uuid, "accept", "r", "Ada")
    db.session.rollback()
    with pytest.raises(Conflict, match="final"):
        correct(id, 0.5)


def test_a_video_that_is_not_evaluated_yet_is_taken_down(client, settings):
    pending, claimed = make_submission(prompt_id="p"), make_submission(prompt_id="p")
    held = make_submission(prompt_id="p")
    reviews.hold(held, "It could not be evaluated.")
    db.session.commit()
    claim = take_up(claimed)
    for id in (pending, claimed, held):
        assert send(client, id, "takedown").status_code == 200
        assert (effective(id), row(id).held_at) == (("REJECTED", 0), None)
    with pytest.raises(evaluation.LeaseLost):
        evaluation.record_result(claim, outcome_of(None, claim.video_hash), "worker", settings)
    assert evaluation.claim_due(10, "test", 60) == []


def test_storage_that_is_away_delays_a_takedown(client, storage, away):
    key = uploaded(storage)
    id = make_result(0.8, prompt_id="p", video_key=key)
    taken = service.take_down(row(id).uuid, "Seen.", "Ada", {}, away)
    assert (taken.is_deleted, effective(id)) == (False, ("REJECTED", 0))
    assert "kibotos_oldest_takedown_seconds 0.0\n" not in client.get("/metrics").text
    service.delete_objects(away)
    assert storage.head(key)
    service.delete_objects(storage)
    assert storage.head(key) is None
    assert "kibotos_oldest_takedown_seconds 0.0\n" in client.get("/metrics").text


def test_what_is_uploaded_again_by_the_old_address_is_deleted_again(storage):
    """The upload address outlives the submission by some minutes."""
    key = uploaded(storage)
    url, headers = storage.presign_put(key, "video/mp4", None, 600)
    id = make_result(0.8, prompt_id="p", video_key=key)
    service.take_down(row(id).uuid, "Seen.", "Ada", {}, storage)
    requests.put(url, data=b"again", headers=headers, timeout=10).raise_for_status()
    service.delete_objects(storage)
    assert storage.head(key)
    execute("UPDATE takedowns SET delete_at = delete_at - interval '1 hour 1 minute'")
    execute(
        "UPDATE uploads SET expires_at = now() - interval '1 minute', created_at = now() - interval '1 hour'"
    )
    service.delete_objects(storage)
    assert storage.head(key) is None
    assert execute("SELECT delete_at FROM takedowns") == [(None,)]


def test_the_same_file_is_named_and_never_scored_again(app, client, storage):
    hash = "ab" * 32
    first = make_result(status="REJECTED", prompt_id="p", video_hash=hash)
    other = make_result(0.5, prompt_id="p", video_hash=hash)
    answer = send(client, first, "takedown")
    assert answer.json["same_file"] == [uuid_of(other)]
    make_prompt(id="q")
    for bits in (film(7, 4), None):
        later = make_submission(prompt_id="q", video_hash=hash, miner_hotkey=miner("bob").ss58_address)
        verdict, _ = record(app, later, bits)
        assert "was taken down" in verdict.rejection_reason


def test_footage_that_was_taken_down_counts_for_every_prompt(app, client):
    make_prompt(id="q")
    bits = film(8, 4)
    first = make_submission(prompt_id="p", miner_hotkey=miner("alice").ss58_address)
    record(app, first, bits, relevance_score=0.05, action_match=0.05)
    send(client, first, "takedown")
    copy = make_submission(prompt_id="q", miner_hotkey=miner("bob").ss58_address)
    verdict, _ = record(app, copy, copied(bits))
    assert verdict.status == "REJECTED"


def test_an_operators_decision_about_footage_is_followed(app, client):
    make_prompt(id="q")
    bits = film(9, 4)
    first = make_submission(prompt_id="p", miner_hotkey=miner("alice").ss58_address)
    record(app, first, bits)
    assert send(client, first, "corrections", status="REJECTED").status_code == 201
    assert execute("SELECT content_hash FROM fingerprints") == [(None,)]
    assert send(client, first, "corrections", status="SCORED", final_score=0.7).status_code == 201
    assert execute("SELECT content_hash FROM fingerprints") == [(row(first).video_hash,)]


def test_by_command(run_kibotos, settings, storage):
    id = make_result(0.5, prompt_id="p", video_key=uploaded(storage))
    environ = {name.upper(): str(getattr(settings, name)) for name in (
        "database_url", "app_env", "s3_endpoint", "s3_bucket", "aws_access_key_id", "aws_secret_access_key"
    )}  # fmt: skip

    def run(*arguments, **options):
        return run_kibotos("submissions", *arguments, **environ, **options)

    because = ("--reason", "Seen.", "--by", "Ada")
    evidence = json.dumps({"ticket": 17})
    done = run("correct", uuid_of(id), "--score", "0.7", *because, "--evidence", evidence)
    assert (done.exit_code, "SCORED, final score 0.7" in done.output) == (0, True)
    assert run("correct", uuid_of(id), "--reject", *because).exit_code == 0
    for wrong in (
        ("correct", uuid_of(id), *because),
        ("correct", uuid_of(id), "--reject", "--score", "1", *because),
        ("correct", uuid_of(id), "--score", "nan", *because),
        ("correct", uuid_of(id), "--reject", "--reason", "\x1b[2J"),
        ("correct", uuid_of(id), "--reject", *because, "--evidence", "[1]"),
        ("correct", uuid_of(id), "--reject", *because, "--evidence", "{"),
        ("correct", uuid_of(id), "--reject", *because),
    ):
        done = run(*wrong)
        assert (done.exit_code != 0, "Error: " in done.output) == (True, True), wrong
    assert run("takedown", uuid_of(id), *because, input="n\n").exit_code == 1
    done = run("takedown", uuid_of(id), *because, input="y\n")
    assert (done.exit_code, "the object is deleted" in done.output) == (0, True)
    kinds = [CorrectionKind.OPERATOR, CorrectionKind.OPERATOR, CorrectionKind.TAKEDOWN]
    assert execute("SELECT kind, decided_by FROM corrections ORDER BY id") == [
        (kind, "Ada") for kind in kinds
    ]
    assert effective(id) == (SubmissionStatus.REJECTED, 0)
