"""Gold films of the tests, and evaluators that ask for work over HTTP."""

import hashlib
import uuid
from itertools import count

import pytest
from sqlalchemy import text

from app.db import db
from app.gold import service
from app.web.auth import token_name
from tests.api.conftest import PRODUCTION
from tests.factories import insert, make_prompt, make_submission

TOKENS = ("evaluator-one-" + "1" * 24, "evaluator-two-" + "2" * 24)
ONE, TWO = map(token_name, TOKENS)
SCORES = {
    "action_match": 0.9,
    "perspective_correct": 0.8,
    "demonstration_quality": 0.7,
    "training_utility": 0.6,
}

_serial = count(1)


def execute(statement, **binds):
    result = db.session.execute(text(statement), binds)
    found = result.all() if result.returns_rows else None
    db.session.commit()
    return found


def make_film(
    storage, tmp_path, copies=3, prompt_id="p", relevance=0.78, accepted=True, stored=True, **values
):
    """Insert a gold film with copies of some bytes in storage, and return its id."""
    film = insert(
        "gold_films",
        "id",
        prompt_id=prompt_id,
        video_hash=uuid.uuid4().hex * 2,
        relevance_score=relevance,
        accepted=accepted,
        scored_by="Ada",
        **SCORES | values,
    )
    for _ in range(copies):
        path = tmp_path / "bytes"
        path.write_text(f"film {film}, copy {next(_serial)}")
        key = f"gold/{uuid.uuid4()}"
        if stored:
            storage.put_file(key, path, "video/mp4")
        insert(
            "gold_copies",
            film_id=film,
            object_key=key,
            content_type="video/mp4",
            video_hash=hashlib.sha256(path.read_bytes()).hexdigest(),
            duration_sec=9.967,
            resolution_width=640,
            resolution_height=480,
            fps=30.0,
        )
    return film


@pytest.fixture
def app(make_app):
    return make_app(**PRODUCTION | {"evaluator_token": TOKENS}, gold_rate=0.5)


@pytest.fixture
def context(app):
    with app.app_context():
        make_prompt(id="p")
        insert("prompt_submission_counts", prompt_id="p", shard=0, n=1)
        yield app


@pytest.fixture
def storage(app):
    return app.extensions["storage"]


@pytest.fixture
def film(context, storage, tmp_path):
    """Makes gold films: `film(copies=1)`."""

    def make(**values):
        return make_film(storage, tmp_path, **values)

    return make


@pytest.fixture
def show(context, storage):
    """Lets submissions come until a film stands in the queue; returns the showing."""

    def plan(**values):
        while True:
            make_submission(prompt_id="p", **values)
            before = execute("SELECT count(*) AS n FROM gold_showings")[0].n
            service.plan(context.extensions["settings"], storage)
            if execute("SELECT count(*) AS n FROM gold_showings")[0].n > before:
                return execute("SELECT * FROM gold_showings ORDER BY id DESC LIMIT 1")[0]

    return plan


class Evaluator:
    """An evaluator of somebody else, at the API with a token of its own."""

    def __init__(self, app, token):
        self._client = app.test_client()
        self._headers = {"Authorization": f"Bearer {token}"}

    def post(self, path, **body):
        return self._client.post(f"/v1/evaluate/{path}", json=body, headers=self._headers)

    def get(self, path):
        return self._client.get(path)

    def fetch(self, limit=100):
        answer = self.post("fetch", limit=limit)
        assert answer.status_code == 200, answer.json
        return answer.json["submissions"]

    def submit(self, row, relevance=0.78, **changes):
        final = round(0.2 + 0.5 * relevance + 0.3 * 0.9, 4) if relevance >= 0.3 else 0.0
        scores = {"technical_score": 1.0, "relevance_score": relevance, "quality_score": 0.9}
        body = {"submission_id": row["id"], "claim_token": row["claim_token"], "final_score": final}
        return self.post("submit", **body | scores | changes)


@pytest.fixture
def one(app):
    return Evaluator(app, TOKENS[0])


@pytest.fixture
def two(app):
    return Evaluator(app, TOKENS[1])
