"""Footage that is known does not reach the judge: for workers and for remote evaluators."""

import threading
from functools import partial
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer

import pytest
from sqlalchemy import text

from app.assessment import pipeline, wire
from app.db import db
from app.evaluation import service
from app.evaluator.runner import EvaluatorRunner
from tests.evaluation.conftest import make_claim
from tests.evaluation.footage import copied, film, hashes
from tests.evaluation.test_duplicates import ALICE, BOB, record, take_up, uuid_of
from tests.factories import make_prompt, make_submission


@pytest.fixture(autouse=True)
def in_context(app):
    with app.app_context():
        make_prompt(id="p")
        yield


@pytest.fixture
def serve():
    """Serves a file over HTTP: `serve(path)` returns its address."""
    servers = []

    def serve(path):
        handler = partial(SimpleHTTPRequestHandler, directory=path.parent)
        servers.append(ThreadingHTTPServer(("127.0.0.1", 0), handler))
        threading.Thread(target=servers[-1].serve_forever, daemon=True).start()
        return f"http://127.0.0.1:{servers[-1].server_port}/{path.name}"

    yield serve
    for server in servers:
        server.shutdown()
        server.server_close()


def submit(hotkey=ALICE, **values):
    return make_submission(prompt_id="p", miner_hotkey=hotkey, **values)


def test_the_judge_is_not_asked_about_what_is_known(videos, judge, workdir, serve):
    path = videos.make("bikes", seconds=3)
    url, asked = serve(path), []

    def find_known(frames, features):
        asked.append(frames)
        return "It was submitted before."

    claim = make_claim(path)
    outcome = pipeline.evaluate(claim, lambda: url, judge, workdir, lambda: None, find_known, None)
    assert outcome.rejection_reason == "It was submitted before."
    assert judge.questions == [] and asked == [outcome.fingerprint]


def test_a_worker_knows_it_from_the_database(app):
    first, copy, new = submit(ALICE), submit(BOB), submit(BOB)
    record(app, first, film(1, 6))
    reason = service.find_known_footage(take_up(copy), hashes(copied(film(1, 6))), b"")
    assert uuid_of(first) in reason
    db.session.rollback()
    assert service.find_known_footage(take_up(new), hashes(film(2, 6)), b"") is None


def test_what_the_judge_rejected_is_known(app):
    first, again = submit(ALICE), submit(BOB)
    record(app, first, film(1, 6), relevance_score=0.1)
    assert uuid_of(first) in service.find_known_footage(take_up(again), hashes(copied(film(1, 6))), b"")


def test_what_comes_later_is_not_known(app):
    first, copy = submit(ALICE), submit(BOB)
    record(app, copy, copied(film(1, 6)))
    assert service.find_known_footage(take_up(first), hashes(film(1, 6)), b"") is None


class ClientBackend:
    """The backend as the evaluator's HTTP client gives it, by Flask's test client."""

    def __init__(self, client):
        self._client = client

    def post(self, path, body, once=False):
        return self._client.post(path, json=body).json


def test_a_remote_evaluator_asks_under_its_claim(app, client):
    first, copy = submit(ALICE), submit(BOB)
    record(app, first, film(1, 6))
    claim = take_up(copy)
    frames = hashes(copied(film(1, 6)))
    evaluator = EvaluatorRunner(ClientBackend(client), lambda claim: None, None, 1, 1)
    assert uuid_of(first) in evaluator._find_known(claim, frames, b"")
    body = {
        "submission_id": copy,
        "claim_token": str(claim.submission_uuid),
        "fingerprint": wire.pack_fingerprint(frames, 10_000),
    }
    assert client.post("/v1/evaluate/precheck", json=body).status_code == 409
    body |= {"claim_token": str(claim.claim_token), "fingerprint": "AAAA"}
    assert client.post("/v1/evaluate/precheck", json=body).status_code == 422


@pytest.mark.parametrize("answer", [{}, [], {"rejection_reason": 7}, None])
def test_an_answer_that_makes_no_sense_leaves_it_to_the_judge(answer):
    class Backend:
        def post(self, path, body, once=False):
            return answer

    evaluator = EvaluatorRunner(Backend(), lambda claim: None, None, 1, 1)
    assert evaluator._find_known(take_up(submit()), hashes(film(1, 6)), b"") is None


def test_a_known_video_is_remembered_though_nobody_judged_it(app):
    first, copy = submit(ALICE), submit(BOB)
    record(app, first, film(1, 6))
    unjudged = {"rejection_reason": "known", "judge_model": None, "relevance_score": 0.0}
    verdict, report = record(app, copy, copied(film(1, 6)), **unjudged)
    assert verdict.status == "REJECTED" and report["matched_share"] > 0.8
    assert db.session.execute(text("SELECT count(*) FROM fingerprints")).scalar() == 2
