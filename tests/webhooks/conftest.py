"""A receiver that verifies what it gets by the package `standardwebhooks`, and endpoints that lead there."""

import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import pytest
from sqlalchemy import text
from standardwebhooks import Webhook

from app.clients.strangers import Strangers
from app.db import db
from app.webhooks import service
from tests.api.conftest import serve  # noqa: F401
from tests.jobs.conftest import processes  # noqa: F401


class Receiver(ThreadingHTTPServer):
    """Keeps every verified message as (path, id, body). `answers` maps a path to a status or a function."""

    daemon_threads = True

    def __init__(self, port=0):
        super().__init__(("127.0.0.1", port), _Handler)
        self.secrets = {}
        self.messages = []
        self.answers = {}
        self.calls = 0
        threading.Thread(target=self.serve_forever, kwargs={"poll_interval": 0.02}, daemon=True).start()

    def url(self, path):
        return f"http://127.0.0.1:{self.server_port}{path}"

    def types(self, path):
        return [body["type"] for where, _, body in self.messages if where == path]

    def close(self):
        self.shutdown()
        self.server_close()


class _Handler(BaseHTTPRequestHandler):
    def do_POST(self):
        body = self.rfile.read(int(self.headers["Content-Length"]))
        self.server.calls += 1
        answer = self.server.answers.get(self.path, 204)
        if callable(answer):
            answer = answer(self)
        if answer is None:
            return
        if answer < 300:
            verified = Webhook(self.server.secrets[self.path]).verify(body, dict(self.headers))
            self.server.messages.append((self.path, self.headers["webhook-id"], verified))
        self.send_response(answer)
        self.send_header("Content-Length", "0")
        self.end_headers()

    def log_message(self, *_):
        pass


@pytest.fixture
def receiver():
    receiver = Receiver()
    yield receiver
    receiver.close()


@pytest.fixture
def app(make_app):
    app = make_app(webhook_allow_private=True)
    with app.app_context():
        yield app


@pytest.fixture
def strangers():
    return Strangers(True)


@pytest.fixture
def endpoint(app, receiver, strangers):
    """Registers an address of the receiver: `endpoint("/path", hotkey=None, events=None)`."""

    def make(path="/hook", hotkey=None, events=None, at=receiver):
        made, secret = service.register(hotkey, at.url(path), events, app.extensions["settings"], strangers)
        at.secrets[path] = secret
        return made

    return make


def execute(statement, **binds):
    result = db.session.execute(text(statement), binds)
    found = result.all() if result.returns_rows else None
    db.session.commit()
    return found


def states():
    """State and tries of each delivery, in the order of their ids."""
    return [tuple(row) for row in execute("SELECT state, tries FROM webhook_deliveries ORDER BY id")]


def due_now():
    """No delivery and no endpoint waits any longer."""
    execute("UPDATE webhook_deliveries SET not_before = created_at WHERE state = 'PENDING'")
    execute("UPDATE webhook_endpoints SET paused_until = NULL")
