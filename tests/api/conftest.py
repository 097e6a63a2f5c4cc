import itertools
import re
from contextlib import ExitStack, contextmanager, suppress

import pytest
import requests
from flask import has_request_context
from flask.testing import FlaskClient
from sqlalchemy import event
from werkzeug.exceptions import HTTPException

from app.clients.storage import Storage
from app.db import db
from app.local.process import free_ports
from app.web import openapi
from tests import factories
from tests.processes import Process, environment, eventually

ADMIN_TOKEN = "admin-token-of-the-tests-" + "a" * 16
EVALUATOR_TOKEN = "evaluator-token-of-the-tests-" + "e" * 16
PRODUCTION = {
    "app_env": "production",
    "admin_token": (ADMIN_TOKEN,),
    "evaluator_token": (EVALUATOR_TOKEN,),
}


def heard_statements(app):
    """Return a list that grows with every statement of a GET of `app` from now on.

    Each takes a connection out of the pool for itself. Those of other threads do not count.
    """
    statements = []

    def hear(*checkout):
        if has_request_context():
            statements.append(checkout)

    with app.app_context():
        event.listen(db.engine, "checkout", hear)
        # as if somebody waited for a connection all the time: none is kept for the next statement
        db.engine.pool._waiting.append(None)
        db.engine.pool.put_back()
    return statements


def bearer(token):
    return {"Authorization": f"Bearer {token}"}


def statement_fields(**changes):
    """A submission's body without prompt, key, miner and signature."""
    return {
        "video_hash": "ab" * 32,
        "miner_uid": 7,
        "duration_sec": 12.5,
        "resolution_width": 640,
        "resolution_height": 480,
        "fps": 30,
        "camera_type": "ego_head",
        "actor_type": "human",
    } | changes


def signed_submission(keypair, prompt_id, video_key, /, **changes):
    """The body of a submission, signed by `keypair` as the contract says."""
    body = statement_fields(prompt_id=prompt_id, video_key=video_key, miner_hotkey=keypair.ss58_address)
    body |= changes
    statement = (
        f"kibotos.submission.v1\n{body['miner_hotkey']}\n{body['miner_uid']}\n"
        f"{body['prompt_id']}\n{body['video_key']}\n{body['video_hash']}"
    )
    return {"signature": keypair.sign(statement.encode()).hex()} | body


class DocumentedClient(FlaskClient):
    """Fails the test if an endpoint answers with a status that the OpenAPI document does not name."""

    paths = None

    def open(self, *args, **kwargs):
        answer = super().open(*args, **kwargs)
        path, method = answer.request.path, answer.request.method
        with suppress(HTTPException), self.application.app_context():
            rule, _ = self.application.url_map.bind("").match(path, method, return_rule=True)
            pattern = re.sub(r"<(?:[^<>:]+:)?(\w+)>", r"{\1}", rule.rule)
            # every application has the same, and to write it takes a while
            DocumentedClient.paths = DocumentedClient.paths or openapi.document()["paths"]
            operation = DocumentedClient.paths.get(pattern, {}).get(method.lower())
            assert not operation or str(answer.status_code) in operation["responses"], (
                pattern,
                answer.status,
            )
        return answer


@pytest.fixture
def make_app(make_app):
    def make(**changes):
        app = make_app(**changes)
        app.test_client_class = DocumentedClient
        return app

    return make


@pytest.fixture
def put_upload(settings, app):
    """Presigns a key for a hotkey and really uploads something there: `put_upload(miner_hotkey=…)` → key."""
    serial = itertools.count()

    def put(content=None, sent_type="video/mp4", **values):
        with app.app_context():
            key = factories.make_upload(**values)
        url, headers = Storage(settings).presign_put(key, sent_type, None, 600)
        content = content if content is not None else f"video {next(serial)}".encode()
        requests.put(url, data=content, headers=headers, timeout=10).raise_for_status()
        return key

    return put


@contextmanager
def started(settings, directory, **changes):
    """`kibotos api` on a free port, its log in `directory`; gives the process, its address as `url`."""
    port = free_ports(1)[0]
    log = directory / f"web-{port}.log"
    process = Process(["api", "--port", str(port)], environment(settings, **changes), log, directory).start()
    process.url = f"http://127.0.0.1:{port}"

    def is_up():
        assert process.is_running, log.read_text()
        try:
            return requests.get(f"{process.url}/health", timeout=5).ok
        except requests.RequestException:
            return False

    try:
        eventually(is_up, 60)
        yield process
    finally:
        process.clean_up()


@contextmanager
def running(settings, directory, **changes):
    """Like `started`; gives the address alone."""
    with started(settings, directory, **changes) as process:
        yield process.url


@pytest.fixture
def serve(settings, database, redis, tmp_path):
    """Starts `kibotos api` on the empty database and returns its address: `serve(min_relevance=0.5)`."""
    with ExitStack() as servers:
        yield lambda **changes: servers.enter_context(running(settings, tmp_path, **changes))
