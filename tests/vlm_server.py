"""A chat-completions server whose answers a test scripts, as strict with requests as the offline judge."""

import json
import threading
from collections import deque
from http import HTTPStatus

from app.local.chat import ChatServer, ProtocolError
from app.local.judge import complete

# answers of a judge that likes everything
GOOD = {
    "on_screen_text": "",
    "text_addresses_judge": False,
    "reasoning": "A hand picks up a mug.",
    "action_match": 0.9,
    "perspective_correct": 0.8,
    "demonstration_quality": 0.7,
    "training_utility": 0.6,
}
MODEL = "scripted-judge"


class VlmServer(ChatServer):
    """Answers GOOD to every request until told otherwise. In `requests` stand the valid requests it saw.

    `answer_with(when="mug", action_match=0.2)` changes the answer to requests whose text holds "mug" (later
    calls go first); `then(…)` says what the very next requests get: a dict of fields, a str as the
    model's whole reply, or a fault of the functions below.
    """

    def __init__(self, key=""):
        super().__init__(MODEL, key=key)
        self.requests = []
        self._rules = []
        self._next = deque()
        self._released = threading.Event()

    def answer_with(self, when="", **fields):
        self._rules.insert(0, (when, fields))

    def then(self, *replies):
        self._next.extend(replies)

    def answer(self, request):
        fields = next((fields for when, fields in self._rules if when in request.text), {})
        return self.reply(request, **fields)

    def reply(self, request, **fields):
        """The text of an answer as asked for by the request: GOOD, but for `fields`."""
        return json.dumps(complete(request.schema, GOOD | fields))

    def respond(self, handler, request):
        self.requests.append(request)
        try:
            reply = self._next.popleft()
        except IndexError:
            return super().respond(handler, request)
        if callable(reply):
            return reply(self, handler, request)
        if isinstance(reply, dict):
            reply = self.reply(request, **reply)
        handler.send_json(HTTPStatus.OK, self.completion(request, reply))

    def __enter__(self):
        threading.Thread(target=self.serve_forever, kwargs={"poll_interval": 0.02}, daemon=True).start()
        return self

    def __exit__(self, *exception):
        self._released.set()
        self.shutdown()
        self.server_close()


def status(code, retry_after=None):
    """An error response of the server itself."""

    def reply(server, handler, request):
        body = json.dumps({"error": ProtocolError(HTTPStatus(code), "scripted fault").error}).encode()
        handler.send_response(code)
        handler.send_header("Content-Length", str(len(body)))
        if retry_after is not None:
            handler.send_header("Retry-After", str(retry_after))
        handler.end_headers()
        handler.wfile.write(body)

    return reply


def body(data):
    """Status 200 with `data` (bytes) for a body: empty, or not even JSON."""

    def reply(server, handler, request):
        handler.send_response(200)
        handler.send_header("Content-Length", str(len(data)))
        handler.end_headers()
        handler.wfile.write(data)

    return reply


def half_a_body(server, handler, request):
    """A response that breaks off in the middle of its body."""
    data = json.dumps(server.completion(request, server.answer(request))).encode()
    handler.send_response(200)
    handler.send_header("Content-Length", str(len(data)))
    handler.end_headers()
    handler.wfile.write(data[: len(data) // 2])


def hang(seconds):
    """No response for `seconds`, or until the server is closed; then the connection is dropped."""

    def reply(server, handler, request):
        server._released.wait(seconds)

    return reply
