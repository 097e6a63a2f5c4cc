"""A chat-completions server whose answers a test scripts, as strict with requests as the offline judge."""

import dataclasses
import io
import json
import threading
from collections import deque
from functools import cache
from http import HTTPStatus

import numpy as np
from PIL import Image

from app.assessment import known_pictures
from app.local.chat import ChatServer, ProtocolError
from app.local.judge import complete

# answers of a judge that likes everything
GOOD = {
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
    model's whole reply, or a fault of the functions below; `always(fault, when="mug")` what all get whose
    text holds "mug". `habits` are what this server refuses, by the functions below. Asked for the digits in
    pictures, it looks at them.
    """

    def __init__(self, key=""):
        super().__init__(MODEL, key=key)
        self.requests = []
        self.habits = []
        # models besides MODEL, each with what changes in its answers
        self.others = {}
        self._rules = []
        self._always = []
        self._next = deque()
        self._released = threading.Event()

    def forget(self):
        """Be as new."""
        for told in (self.requests, self.habits, self.others, self._rules, self._always, self._next):
            told.clear()

    def serves(self, model):
        return super().serves(model) or model in self.others

    def answer_with(self, when="", **fields):
        self._rules.insert(0, (when, fields))

    def always(self, reply, when=""):
        self._always.insert(0, (when, reply))

    def then(self, *replies):
        self._next.extend(replies)

    def answer(self, request):
        if "Which digits" in request.text:
            return json.dumps({"digits": "".join(map(read_digit, request.images))})
        fields = next((fields for when, fields in self._rules if when in request.text), {})
        fields = self.others.get(request.body["model"], fields)
        return self.reply(request, **fields)

    def reply(self, request, **fields):
        """The text of an answer as asked for by the request: GOOD, but for `fields`."""
        return json.dumps(complete(request.schema, GOOD | fields) if request.schema else GOOD | fields)

    def respond(self, handler, request):
        self.requests.append(request)
        for habit in self.habits:
            request = habit(request) or request
        always = [reply for when, reply in self._always if when in request.text]
        if not self._next and not always:
            return super().respond(handler, request)
        reply = self._next.popleft() if self._next else always[0]
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


@cache
def _digits():
    """{digit: its known picture, small and grey}"""
    stills = zip("123456789", known_pictures.take("123456789"), strict=True)
    return {digit: _small(Image.open(io.BytesIO(still.jpeg))) for digit, still in stills}


def _small(image):
    return np.asarray(image.convert("L").resize((96, 54)), np.float64)


def read_digit(image):
    """The digit that a known picture shows."""
    shown = _small(image)
    return min(_digits(), key=lambda digit: np.abs(shown - _digits()[digit]).mean())


# what servers refuse, and how they say so


def refuses(parameter, message=None, code=400):
    """Refuses requests that have `parameter`, in the words of OpenAI unless others are given."""

    def habit(request):
        if parameter in request.body:
            raise ProtocolError(
                HTTPStatus(code),
                message or f"Unsupported parameter: '{parameter}' is not supported with this model.",
                parameter,
                "unsupported_parameter",
            )

    return habit


def refuses_when(wrong, message, code=400):
    """Refuses requests of which `wrong(request)` is true, naming no parameter apart from the message."""

    def habit(request):
        if wrong(request):
            raise ProtocolError(HTTPStatus(code), message)

    return habit


def sees_only(count):
    """Shows the model the last `count` pictures and says nothing: a prompt that is cut to fit."""

    def habit(request):
        return dataclasses.replace(request, images=request.images[-count:])

    return habit


def completion(**changes):
    """Status 200 with a completion, parts of which are replaced: message=…, finish_reason=…, usage=…"""

    def reply(server, handler, request):
        whole = server.completion(request, server.answer(request))
        for name, value in changes.items():
            place = whole["choices"][0] if name in whole["choices"][0] else whole
            if value is MISSING:
                del place[name]
            else:
                place[name] = value
        handler.send_json(HTTPStatus.OK, whole)

    return reply


MISSING = object()


def stream(server, handler, request):
    """An answer as a stream of events, which nobody asked for."""
    text = server.answer(request)
    events = [{"model": MODEL, "choices": [{"index": 0, "delta": {"role": "assistant", "content": ""}}]}]
    for start in range(0, len(text), 7):
        events.append(
            {"model": MODEL, "choices": [{"index": 0, "delta": {"content": text[start : start + 7]}}]}
        )
    events.append({"choices": [{"index": 0, "delta": {}, "finish_reason": "stop"}]})
    events.append({"choices": [], "usage": {"prompt_tokens": 70, "completion_tokens": 30}})
    data = "".join(f"data: {json.dumps(event)}\n\n" for event in events) + "data: [DONE]\n\n"
    handler.send_response(200)
    handler.send_header("Content-Type", "text/event-stream")
    handler.end_headers()
    handler.wfile.write(data.encode())


def redirect(server, handler, request):
    """A redirect to elsewhere."""
    handler.send_response(307)
    handler.send_header("Location", "https://elsewhere.example/v2/chat/completions?key=secret")
    handler.send_header("Content-Length", "0")
    handler.end_headers()


def status(code, retry_after=None, message="scripted fault"):
    """An error response of the server itself."""

    def reply(server, handler, request):
        body = json.dumps({"error": ProtocolError(HTTPStatus(code), message).error}).encode()
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
