"""Work for evaluators over HTTP: fetch, submit, and the report."""

import json
import re
import threading
import time
import uuid
from collections import Counter

import pytest
from sqlalchemy import text

from app.assessment import wire
from app.assessment.model import MAX_JUDGE_CALLS, Outcome
from app.assessment.report import Report
from app.db import db
from app.enums import Dependency
from app.evaluation import backlog, breaker, models
from app.video.frames import FrameHash
from app.web.auth import token_name
from tests.factories import make_prompt, make_submission

FETCH, SUBMIT = "/v1/evaluate/fetch", "/v1/evaluate/submit"
ZEROS = {"technical_score": 0, "relevance_score": 0, "quality_score": 0, "final_score": 0}


@pytest.fixture
def submit(app):
    """Inserts a submission; requests run in contexts of their own, as in production."""

    def insert(**values):
        with app.app_context():
            return make_submission(**values)

    return insert


@pytest.fixture
def prompt(app):
    with app.app_context():
        return make_prompt(id="manip-1", requirements={"min_duration": 5})


@pytest.fixture
def execute(app):
    """Runs SQL in a transaction of its own."""

    def run(statement, **binds):
        with app.app_context(), db.engine.begin() as connection:
            return connection.execute(text(statement), binds)

    return run


@pytest.fixture
def submission(app):
    """The submission of a fetched row, with its evaluation, as stored now."""

    def find(row):
        with app.app_context(), db.engine.connect() as connection:
            return connection.execute(
                text("SELECT * FROM submissions LEFT JOIN evaluations ON submission_id = id WHERE id = :id"),
                {"id": row["id"]},
            ).one()

    return find


@pytest.fixture
def fetch(client):
    def post(limit=5):
        answer = client.post(FETCH, json={"limit": limit})
        assert answer.status_code == 200, answer.json
        return answer.json

    return post


@pytest.fixture
def claimed(fetch, submit):
    """A row as fetched."""
    submit()
    [row] = fetch()["submissions"]
    return row


def result(row, **changes):
    scores = {"technical_score": 1.0, "relevance_score": 0.8, "quality_score": 0.5, "final_score": 0.75}
    return {"submission_id": row["id"], **scores} | changes


def test_fetch_hands_out_what_the_contract_says(fetch, submit, prompt, submission):
    submit(prompt_id=prompt)
    answer = fetch(1)
    assert (answer["pending"], answer["evaluating"]) == (0, 1)
    [row] = answer["submissions"]
    contract = {
        "id": 1,
        "prompt_id": "manip-1",
        "category": "manipulation",
        "task": "grasp",
        "scenario": "Pick up a mug from a table using one hand",
        "requirements": {"min_duration": 5},
    }
    assert row | contract == row
    assert row["video_key"] in row["video_url"]
    assert row["attempt"] == 1
    assert row["lease_expires_at"].endswith("Z")
    stored = submission(row)
    assert (str(stored.claim_token), str(stored.frame_seed)) == (row["claim_token"], row["frame_seed"])


def test_fetch_of_zero_only_counts(fetch, submit):
    submit()
    assert fetch(0) == {"submissions": [], "pending": 1, "evaluating": 0}


def test_fetch_without_a_body_field_takes_five(client, submit):
    for _ in range(6):
        submit()
    assert len(client.post(FETCH, json={}).json["submissions"]) == 5


@pytest.mark.parametrize("limit", [-1, 101, 2**63, "5", True, 1.5, None])
def test_fetch_refuses_other_limits(client, limit):
    assert client.post(FETCH, json={"limit": limit}).status_code == 422


def test_eight_evaluators_get_two_hundred_rows_once_each(app, submit, prompt):
    ids = [submit(prompt_id=prompt) for _ in range(200)]
    taken = Counter()

    def pull():
        client = app.test_client()
        while rows := client.post(FETCH, json={"limit": 3}).json["submissions"]:
            taken.update(row["id"] for row in rows)

    threads = [threading.Thread(target=pull) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert taken == Counter(ids)


def test_counts_stop_at_a_thousand_unless_nothing_but_they_are_asked_for(fetch, submit, execute):
    submit()
    execute("""
        INSERT INTO uploads (video_key, miner_hotkey, content_type, expires_at)
        SELECT 'uploads/' || n, miner_hotkey, content_type, expires_at
        FROM uploads, generate_series(1, 1010) n
    """)
    execute("""
        INSERT INTO submissions (
            prompt_id, prompt_weight, video_key, video_hash, miner_uid, miner_hotkey, duration_sec,
            resolution_width, resolution_height, fps, camera_type, actor_type)
        SELECT prompt_id, prompt_weight, 'uploads/' || n, lpad(to_hex(n), 64, '0'), miner_uid, miner_hotkey,
               duration_sec, resolution_width, resolution_height, fps, camera_type, actor_type
        FROM submissions, generate_series(1, 1010) n
    """)
    assert (len(fetch()["submissions"]), fetch(1)["pending"]) == (5, 1000)
    assert fetch(0)["pending"] == 1005
    # where so many wait, they are counted once a second, and where fewer wait, each time
    execute("UPDATE submissions SET held_at = now() WHERE status = 'PENDING' AND video_key > 'uploads/101'")
    time.sleep(backlog.SECONDS)
    waiting = fetch(0)["pending"]
    assert waiting < 1000 and [fetch(1)["pending"] for _ in range(2)] == [waiting - 1, waiting - 2]


def test_submit_records_the_result(client, claimed, submission):
    answer = client.post(SUBMIT, json=result(claimed, metadata={"tool": "mine"}))
    assert answer.status_code == 200
    assert answer.json == {
        "success": True,
        "submission_uuid": claimed["submission_uuid"],
        "final_score": 0.75,
    }
    row = submission(claimed)
    assert (row.status, row.final_score, row.evaluated_by) == ("SCORED", 0.75, "evaluator")
    report = client.get(f"/v1/submissions/{claimed['submission_uuid']}/report")
    assert report.json["metadata"] == {"tool": "mine"}


def test_first_result_stands(client, claimed, submission):
    client.post(SUBMIT, json=result(claimed))
    again = client.post(SUBMIT, json=result(claimed, relevance_score=1.0, final_score=0.85))
    assert (again.status_code, submission(claimed).final_score) == (409, 0.75)


def test_a_hash_that_was_scored_scores_nothing_again(client, fetch, submit, submission):
    for _ in range(2):
        submit(video_hash="ab" * 32)
    finals = []
    # the second is handed out when the first is decided
    while rows := fetch()["submissions"]:
        [row] = rows
        finals.append(client.post(SUBMIT, json=result(row)).json["final_score"])
    assert finals == [0.75, 0]
    assert "The same file" in submission(row).rejection_reason


@pytest.mark.parametrize(
    ("changes", "status", "final"),
    [
        ({"final_score": 0.7509}, "SCORED", 0.75),
        ({"relevance_score": 0.1, "final_score": 0.4}, "REJECTED", 0),
        ({"relevance_score": 0.1, "final_score": 0}, "REJECTED", 0),
        ({"rejection_reason": "It is damaged.", "final_score": 0}, "REJECTED", 0),
        ({"rejection_reason": "It is damaged.", "final_score": 0.75}, "REJECTED", 0),
        ({"metadata": {"kibotos": {"action_match": 0.2}}}, "REJECTED", 0),
    ],
)
def test_submit_applies_gates_itself(client, claimed, submission, changes, status, final):
    answer = client.post(SUBMIT, json=result(claimed, **changes))
    assert (answer.status_code, answer.json.get("final_score")) == (200, final)
    row = submission(claimed)
    assert (row.status, row.final_score, row.rejection_reason is None) == (status, final, status == "SCORED")


@pytest.mark.parametrize(
    "changes",
    [
        {"final_score": 0.76},
        {"final_score": 0.0},
        {"final_score": 1_000_000},
        {"relevance_score": 0.1, "final_score": 0.75},
        {"technical_score": 1.1},
        {"technical_score": -0.1},
        {"quality_score": "0.5"},
        {"quality_score": True},
        {"rejection_reason": ""},
        {"rejection_reason": "x" * 2001},
        {"metadata": []},
        {"metadata": {"x": "x" * 65536}},
        {"metadata": {"kibotos": {"fingerprint": "AAAA"}}},
        {"metadata": {"kibotos": {"action_match": 2}}},
        {"claim_token": "mine"},
        {"submission_id": 0},
        {"submission_id": 2**63},
    ],
)
def test_submit_refuses_what_does_not_add_up(client, claimed, submission, changes):
    answer = client.post(SUBMIT, json=result(claimed, **changes))
    assert answer.status_code == 422, answer.json
    [error] = answer.json["errors"]
    assert error["field"].split(".")[0] == list(changes)[-1]
    assert submission(claimed).status == "EVALUATING"


@pytest.mark.parametrize("number", ["NaN", "Infinity", "-Infinity", "1e999"])
def test_submit_refuses_what_is_no_number(client, claimed, submission, number):
    body = json.dumps(result(claimed, technical_score="@")).replace('"@"', number)
    answer = client.post(SUBMIT, data=body, content_type="application/json")
    assert answer.status_code == 422
    assert [error["field"] for error in answer.json["errors"]] == ["technical_score"]
    assert submission(claimed).status == "EVALUATING"


def test_submit_only_under_a_live_claim_and_with_its_token(client, claimed, submission, execute):
    assert client.post(SUBMIT, json=result({"id": 999})).status_code == 404
    assert client.post(SUBMIT, json=result(claimed, claim_token=str(uuid.uuid4()))).status_code == 409
    execute("UPDATE submissions SET lease_expires_at = now()")
    answer = client.post(SUBMIT, json=result(claimed, claim_token=claimed["claim_token"]))
    assert answer.status_code == 409
    assert submission(claimed).status == "EVALUATING"


def test_submit_without_any_claim_is_refused(client, submit):
    id = submit()
    assert client.post(SUBMIT, json=result({"id": id})).status_code == 409


def test_release_gives_back_under_the_claims_token_only(client, claimed, submission):
    body = {"submission_id": claimed["id"], "reason": "the judge is away"}
    release = "/v1/evaluate/release"
    assert client.post(release, json=body | {"claim_token": str(uuid.uuid4())}).status_code == 409
    assert client.post(release, json=body | {"claim_token": claimed["claim_token"]}).status_code == 200
    row = submission(claimed)
    assert (row.status, row.faults, row.last_fault) == ("PENDING", 1, "the judge is away")


def test_calls_of_a_judge_are_counted_over_the_submissions_life(client, fetch, claimed, submission, execute):
    def count(row, calls, **changes):
        body = {"submission_id": row["id"], "claim_token": row["claim_token"], "calls": calls} | changes
        return client.post("/v1/evaluate/judge-calls", json=body)

    assert count(claimed, 1, claim_token=str(uuid.uuid4())).status_code == 409
    assert count(claimed, MAX_JUDGE_CALLS + 1).status_code == 422
    assert [count(claimed, 1).json["granted"] for _ in range(MAX_JUDGE_CALLS)] == [True] * MAX_JUDGE_CALLS
    assert count(claimed, 1).json == {"granted": False}
    assert submission(claimed).judge_calls == MAX_JUDGE_CALLS
    # another claim begins where this one ended
    body = {"submission_id": claimed["id"], "claim_token": claimed["claim_token"], "reason": "nonsense"}
    assert client.post("/v1/evaluate/release", json=body | {"suspect_video": True}).status_code == 200
    execute("UPDATE submissions SET not_before = now()")
    [again] = fetch(1)["submissions"]
    assert count(again, 1).json == {"granted": False}
    # an outage of the judge gives calls back
    assert count(again, -2).json == {"granted": True}
    assert count(again, MAX_JUDGE_CALLS).json == {"granted": True}
    assert submission(again).judge_calls == MAX_JUDGE_CALLS
    assert count(again, 1).json == {"granted": False}
    assert count(claimed, 1).status_code == 409


def test_a_claim_and_an_outcome_survive_the_wire(client, claimed):
    claim, url = wire.read_claim(claimed)
    assert claim.submission_uuid == uuid.UUID(claimed["submission_uuid"])
    assert url == claimed["video_url"]
    frames = tuple(FrameHash(n / 2, bytes([n % 256]) * 32, bytes([255 - n % 256]) * 32) for n in range(2000))
    scores, judge, report = (1.0, 0.8, 0.5, 0.9), ("model", "judge-v1"), Report(review="Look at it.")
    outcome = Outcome(*scores, None, *judge, report, frames, reasoning="A mug is picked up.")
    body = wire.show_outcome(claim, outcome)
    read = models.read_outcome(models.SubmitIn.model_validate(body))
    assert (read.judge_model, read.action_match, read.report) == ("model", 0.9, report)
    assert read.reasoning == "A mug is picked up."
    step = round(read.fingerprint[1].seconds * 2)
    assert read.fingerprint == frames[::step]
    assert len(read.fingerprint) > 400
    assert client.post(SUBMIT, json=body).status_code == 200


@pytest.mark.parametrize(
    ("part", "field"),
    [
        ({"stage_seconds": {"judge": "n/a"}}, "stage_seconds.judge"),
        ({"technical": {"score": 1.0}}, "technical.checks"),
        ({"judge": "qwen"}, "judge"),
    ],
)
def test_a_report_of_ours_has_its_parts_as_they_are_documented(client, claimed, part, field):
    answer = client.post(SUBMIT, json=result(claimed, metadata={"kibotos": {"report": part}}))
    assert answer.status_code == 422
    assert field in answer.json["errors"][0]["message"] + answer.json["errors"][0]["field"]
    assert client.post(SUBMIT, json=result(claimed, metadata={"kibotos": {}})).status_code == 200


def test_report_of_what_is_not_evaluated_or_unknown_is_404(client, claimed):
    for address in (claimed["submission_uuid"], uuid.uuid4(), "x", "0" * 5000):
        answer = client.get(f"/v1/submissions/{address}/report")
        assert (answer.status_code, answer.content_type) == (404, "application/problem+json")


def test_nothing_is_fetched_while_a_breaker_is_open(app, fetch, submit):
    submit()
    with app.app_context():
        for id in range(breaker.THRESHOLD):
            breaker.count_failure(Dependency.STORAGE, "down", id)
        db.session.commit()
    assert fetch()["submissions"] == []


FORBIDDEN = "403 Client Error: Forbidden for url: https://s3.example/k/v.mp4?X-Amz-Signature=0123456789abcdef"


@pytest.mark.parametrize(
    "said",
    [
        {"rejection_reason": f"Evaluation error: {FORBIDDEN}"},
        {"rejection_reason": "Evaluation error: HTTPSConnectionPool(host='llm', port=443): Read timed out."},
        {"rejection_reason": "rejected", "metadata": {"error": FORBIDDEN}},
        {"metadata": {"error": "judge answered 500", "frames": 0}},
        {"rejection_reason": "ReadTimeout: the judge did not answer"},
        {"rejection_reason": "Error while downloading the video"},
        {"rejection_reason": "503 Service Unavailable"},
        {"rejection_reason": "HTTP 500: Internal Server Error"},
        {"rejection_reason": "Internal server error"},
        {"rejection_reason": "Connection refused"},
    ],
)
def test_an_evaluators_own_error_costs_the_miner_nothing(client, fetch, submit, submission, said):
    submit()
    (row,) = fetch()["submissions"]
    answer = client.post(SUBMIT, json=ZEROS | {"submission_id": row["id"]} | said)
    assert (answer.status_code, answer.json["success"], answer.json["final_score"]) == (200, True, 0)
    stored = submission(row)
    assert (stored.status, stored.attempts, stored.final_score) == ("PENDING", 1, None)
    assert not {"https", "Signature", "0123456789"} & set(re.findall(r"\w+", str(stored)))
    assert re.search(r'kibotos_evaluator_faults_total{evaluator="no token"} \d', client.get("/metrics").text)


@pytest.mark.parametrize(
    "said",
    [
        {"rejection_reason": "The video shows a wall."},
        {"rejection_reason": "The video shows a wall.", "metadata": {"error": None}},
        {"rejection_reason": "Decoding error in frame 3", "metadata": {wire.FINDINGS: {"report": {}}}},
        {"rejection_reason": "A timeout is shown.", "technical_score": 1, "final_score": 0},
        {"rejection_reason": "There is no connection between the video and the task."},
        {"rejection_reason": "The worker makes an error and the tool is unavailable."},
        {"rejection_reason": "Terror on a forbidden road, an exception to the task."},
    ],
)
def test_a_rejection_is_a_result(client, fetch, submit, submission, said):
    submit()
    (row,) = fetch()["submissions"]
    assert client.post(SUBMIT, json=ZEROS | {"submission_id": row["id"]} | said).status_code == 200
    assert submission(row).status == "REJECTED"


def test_no_reason_shows_an_address_or_a_key(client, fetch, submit, submission):
    submit()
    (row,) = fetch()["submissions"]
    said = {"rejection_reason": f"Not a video, see {FORBIDDEN}", "technical_score": 0.2, "final_score": 0}
    assert client.post(SUBMIT, json=ZEROS | {"submission_id": row["id"]} | said).status_code == 200
    reason = client.get(f"/v1/submissions/{row['submission_uuid']}").json["evaluation"]["rejection_reason"]
    assert "Not a video" in reason
    assert "s3.example" not in reason and "Signature" not in reason


def test_no_report_shows_an_address_or_a_key(client, fetch, submit):
    submit()
    (row,) = fetch()["submissions"]
    answer = {"action_match": 0.1, "perspective_correct": 0.1, "demonstration_quality": 0.1}
    answer |= {
        "training_utility": 0.1,
        "on_screen_text": "",
        "addresses_judge": False,
        "model": "Qwen/Qwen2.5-VL",
    }
    answer |= {"prompt_version": "v", "prompt_tokens": 1, "completion_tokens": 1}
    digest = "0123456789abcdef" * 4
    report = {"verified_sha256": digest, "frame_seed": FORBIDDEN, "review": FORBIDDEN}
    report |= {"judge": answer | {"reasoning": FORBIDDEN, "raw": [FORBIDDEN]}, "metadata": {"x": FORBIDDEN}}
    findings = {
        "action_match": 0.1,
        "judge_model": "m",
        "reasoning": f"Not a mug. {FORBIDDEN}",
        "report": report,
    }
    metadata = {"tool": "mine", "log": [{"said": FORBIDDEN}, 3], FORBIDDEN: "sk-proj-AbC123dEf456GhI789jKl"}
    body = result(row, metadata=metadata | {wire.FINDINGS: findings})
    assert client.post(SUBMIT, json=body).status_code == 200
    address = f"/v1/submissions/{row['submission_uuid']}"
    assert "Not a mug" in client.get(address).text
    shown = client.get(f"{address}/report")
    for page in (client.get(address).text, shown.text):
        assert not re.search("s3.example|Signature|v.mp4[?]|sk-proj", page)
    assert shown.json["verified_sha256"] == digest and shown.json["judge"]["model"] == "Qwen/Qwen2.5-VL"
    assert (shown.json["metadata"]["tool"], shown.json["metadata"]["log"][1]) == ("mine", 3)


def test_faults_are_counted_by_token_wherever_they_come_from(make_app):
    tokens = ("e" * 32, "f" * 32)
    app = make_app(app_env="production", admin_token=("a" * 32,), evaluator_token=tokens)
    with app.app_context():
        make_submission()
    client, headers = app.test_client(), {"Authorization": f"Bearer {tokens[1]}"}
    with app.app_context():
        [row] = client.post(FETCH, json={"limit": 1}, headers=headers).json["submissions"]
        claimed_by = db.session.execute(db.text("SELECT claimed_by FROM submissions")).scalar_one()
    assert claimed_by == f"evaluator with {token_name(tokens[1])}"
    body = ZEROS | {"submission_id": row["id"], "metadata": {"error": "x"}}
    for number in (7, 8):
        elsewhere = {"REMOTE_ADDR": f"198.51.100.{number}"}
        client.post(SUBMIT, json=body, headers=headers, environ_overrides=elsewhere)
    metrics = client.get("/metrics", headers={"Authorization": f"Bearer {'a' * 32}"}).text
    assert f'kibotos_evaluator_faults_total{{evaluator="{token_name(tokens[1])}"}} 1.0' in metrics
    assert "198.51" not in metrics


@pytest.mark.parametrize("findings", [{"action_match": 0.9}, {"reasoning": "A mug."}])
def test_production_wants_the_judge_named_that_found_anything(make_app, findings):
    app = make_app(app_env="production", admin_token=("a" * 32,), evaluator_token=("e" * 32,))
    with app.app_context():
        make_submission()
    client, headers = app.test_client(), {"Authorization": f"Bearer {'e' * 32}"}
    [row] = client.post(FETCH, json={"limit": 1}, headers=headers).json["submissions"]
    for named, code in (({}, 422), ({"judge_model": "a-model"}, 200)):
        body = result(row, metadata={"kibotos": findings | named})
        assert client.post(SUBMIT, json=body, headers=headers).status_code == code


def test_production_does_not_take_the_word_of_the_stand_in_for_a_judge(make_app):
    token = "e" * 32
    app = make_app(app_env="production", admin_token=("a" * 32,), evaluator_token=(token,))
    with app.app_context():
        make_submission()
    client, headers = app.test_client(), {"Authorization": f"Bearer {token}"}
    [row] = client.post(FETCH, json={"limit": 1}, headers=headers).json["submissions"]
    for model in ("offline-judge", "a-model"):
        body = result(row, metadata={"kibotos": {"judge_model": model}})
        answer = client.post(SUBMIT, json=body, headers=headers)
        assert answer.status_code == (422 if model == "offline-judge" else 200)
        assert ("development only" in answer.text) == (model == "offline-judge")
