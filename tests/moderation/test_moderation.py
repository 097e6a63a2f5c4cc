"""Corrections by an operator."""

import json

import requests

from app.enums import CorrectionKind, SubmissionStatus
from tests.api.conftest import PRODUCTION, bearer
from tests.appeals.conftest import effective, execute, row, uuid_of
from tests.corrections.conftest import complete
from tests.evaluation.footage import film
from tests.evaluation.test_duplicates import record
from tests.factories import make_cycle, make_prompt, make_result, make_submission, make_upload, miner


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
    assert (done.exit_code, "deleted within 24 hours" in done.output) == (0, True)
    assert execute("SELECT kind, decided_by FROM corrections") == [(CorrectionKind.OPERATOR, "Ada")] * 2
    assert execute("SELECT taken_down_by, by_miner, reason FROM takedowns") == [("Ada", False, "Seen.")]
    assert effective(id) == (SubmissionStatus.REJECTED, 0)
