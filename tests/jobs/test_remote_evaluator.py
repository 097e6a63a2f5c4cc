"""The remote evaluator against a real backend: its process, over HTTP."""

import time
from http import HTTPStatus

import pytest
import requests
from sqlalchemy import text

from app.db import db
from tests.api.conftest import started
from tests.appeals.conftest import statement
from tests.factories import make_prompt, miner
from tests.processes import eventually
from tests.vlm_server import completion

TOKEN = "e" * 32
SECRETS = {"admin_token": ("a" * 32,), "evaluator_token": (TOKEN,), "app_env": "production"}


@pytest.fixture(autouse=True)
def _context(app):
    with app.app_context():
        yield


@pytest.fixture(scope="module")
def backend(settings, tmp_path_factory):
    """The process of a production backend that has no judge of its own, with its address; for all tests."""
    with started(settings, tmp_path_factory.mktemp("backend"), **SECRETS) as process:
        yield process


@pytest.fixture
def evaluators(processes, backend, vlm):
    """Starts evaluators that know the address and the token, and neither database nor Redis."""

    def start(*options, **changes):
        nothing = {"database_url": "", "redis_url": "redis://127.0.0.1:1/0", "s3_endpoint": ""}
        nothing["vlm_model"] = vlm.model
        arguments = ("evaluator", "--api-url", backend.url, "--poll-interval", "0.2", *options)
        return processes(*arguments, **SECRETS | nothing | changes)

    return start


def late(server, handler, request):
    time.sleep(3)
    handler.send_json(HTTPStatus.OK, server.completion(request, server.answer(request)))


def submission(id):
    with db.engine.connect() as connection:
        return connection.execute(text("SELECT * FROM submissions WHERE id = :id"), {"id": id}).one()


def evaluation(id):
    with db.engine.connect() as connection:
        statement = text("SELECT * FROM evaluations WHERE submission_id = :id")
        return connection.execute(statement, {"id": id}).one_or_none()


def test_a_submission_is_evaluated_with_a_report(vlm, evaluators, backend, submit, videos):
    id = submit(videos.make(seconds=2), duration_sec=2.0, fps=25)
    evaluator = evaluators()
    eventually(lambda: evaluation(id), 60)
    row, result = submission(id), evaluation(id)
    assert (row.status, row.attempts, result.evaluated_by) == ("SCORED", 1, "evaluator")
    assert result.relevance_score == pytest.approx(0.4 * 0.9 + 0.2 * (0.8 + 0.7 + 0.6))
    report = requests.get(f"{backend.url}/v1/submissions/{row.uuid}/report", timeout=5).json()
    assert report["judge"]["model"] == vlm.model
    assert evaluator.stop() < 18
    assert "evaluator_stopped" in evaluator.log.read_text()


def test_several_evaluators_share_the_work(evaluators, submit, videos):
    path = videos.make(seconds=2)
    prompt = make_prompt()
    # equal bytes would wait for one another
    copies = [videos.make(seconds=2, filters=(f"hue=h={10 * n}",)) for n in range(4)]
    ids = [submit(copy, prompt_id=prompt, duration_sec=2.0, fps=25) for copy in [path, *copies]]
    for _ in range(2):
        evaluators("--batch-size", "2")
    eventually(lambda: all(evaluation(id) for id in ids), 90)
    assert [submission(id).attempts for id in ids] == [1] * len(ids)


def test_sigterm_lets_what_is_under_way_finish(vlm, evaluators, submit, videos):
    vlm.then(late)
    id = submit(videos.make(seconds=2), duration_sec=2.0, fps=25)
    evaluator = evaluators()
    eventually(lambda: vlm.requests, 60)
    evaluator.stop()
    assert submission(id).status == "SCORED"


def test_a_fault_gives_the_submission_back_at_once(vlm, evaluators, submit, videos):
    id = submit(videos.make(seconds=2), duration_sec=2.0, fps=25)
    evaluators(vlm_api_url="http://127.0.0.1:1/v1")
    row = eventually(lambda: (row := submission(id)).faults and row, 120)
    assert (row.status, row.attempts) == ("PENDING", 1)
    assert row.not_before > row.submitted_at
    assert evaluation(id) is None


def test_a_video_that_the_judge_cannot_judge_is_suspected_and_its_calls_are_counted(
    vlm, evaluators, submit, videos
):
    """Three tries and a look at known pictures, which it judges: the evaluator does not slow down for it."""
    nonsense = completion(message={"content": "What a nice picture."})
    vlm.always(nonsense, when="Pick up a mug")
    id = submit(videos.make(seconds=2), duration_sec=2.0, fps=25)
    evaluators()
    row = eventually(lambda: (row := submission(id)).faults and row, 120)
    assert (row.status, row.judge_calls, len(vlm.requests)) == ("PENDING", 4, 4)
    assert "no usable answer" in row.last_fault


def test_an_outage_of_the_backend_is_ridden_out(backend, evaluators, submit, videos):
    evaluator = evaluators()
    eventually(lambda: "evaluator_started" in evaluator.log.read_text())
    backend.stop()
    eventually(lambda: "fetch_failed" in evaluator.log.read_text())
    id = submit(videos.make(seconds=2), duration_sec=2.0, fps=25)
    backend.start()
    eventually(lambda: evaluation(id), 60)


def test_a_wrong_token_ends_it_with_a_sentence(evaluators):
    evaluator = evaluators(evaluator_token=("x" * 32,))
    eventually(lambda: not evaluator.is_running)
    last = evaluator.log.read_text().splitlines()[-1]
    assert last.startswith("Error: ")
    assert "token" in last


def test_without_a_judge_it_does_not_start(evaluators):
    evaluator = evaluators(vlm_api_url="")
    eventually(lambda: not evaluator.is_running)
    assert evaluator.log.read_text().splitlines()[-1].startswith("Error: VLM_API_URL is not set")


def test_an_appeal_is_evaluated_by_the_evaluators_other_judge(vlm, evaluators, backend, submit, videos):
    vlm.answer_with(action_match=0.05)
    vlm.others["second-judge"] = {"action_match": 0.9}
    id = submit(videos.make(seconds=2), duration_sec=2.0, fps=25)
    evaluators(vlm_appeal_model="second-judge")
    eventually(lambda: evaluation(id), 60)
    row = submission(id)
    assert row.status == "REJECTED"
    path = f"{backend.url}/v1/submissions/{row.uuid}/appeal"
    assert requests.post(path, json=statement(row.uuid, keypair=miner()), timeout=10).status_code == 201
    found = eventually(lambda: (a := requests.get(path, timeout=10).json())["evaluation"] and a, 60)
    assert (found["state"], found["evaluation"]["judge_model"]) == ("IN_REVIEW", "second-judge")
    assert (found["evaluation"]["status"], found["evaluation"]["evaluated_by"]) == ("SCORED", "evaluator")
    # it looked at other moments, and the judge was not told what the miner says
    assert found["evaluation"]["report"]["frame_seed"] != evaluation_report(backend, row)["frame_seed"]
    assert not any("It shows a mug" in request.text for request in vlm.requests)


def evaluation_report(backend, row):
    return requests.get(f"{backend.url}/v1/submissions/{row.uuid}/report", timeout=10).json()
