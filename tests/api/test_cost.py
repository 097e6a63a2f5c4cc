"""No request of a stranger costs more processor time than Python takes to parse 250,000 numbers.

That is 10 to 25 ms, as fast as the machine is.
"""

import json
import random
import socket
import time
from contextlib import suppress
from urllib.parse import urlsplit

import pytest

from tests.api.conftest import PRODUCTION, started
from tests.processes import cpu_seconds

MIB = 1024 * 1024
NUMBERS = json.dumps([1] * 250_000)
# The kernel counts in ticks of 10 ms: over so many requests that is 1 ms.
# A busy machine makes work two to three times as dear: one cheap round of so many counts.
ROUNDS = 12
TIMES = 10


def fill(unit, size=MIB - 100):
    return unit * (size // len(unit))


def many(item, count, brackets="[]"):
    return brackets[0] + ",".join(item.format(i) for i in range(count)) + brackets[1]


BODIES = {
    "unknown keys": many('"k{}":0', 70_000, "{}"),
    "duplicate keys": many('"fps":1', 120_000, "{}"),
    "objects": '{"a":' + many('{{"b":1}}', 100_000) + "}",
    "empty lists": '{"a":' + many("[]", 340_000) + "}",
    "numbers": '{"a":' + many("1", 500_000) + "}",
    "just few enough numbers": '{"a":' + many("1.2345678901234567e-300", 9_990) + "}",
    "just few enough keys": many('"key-{}":[]', 4_990, "{}"),
    "objects in a known field": '{"camera_intrinsics":' + many('"k{}":0', 9_990, "{}") + "}",
    "objects without an end": fill('{"a":'),
    "lists without an end": fill("["),
    "lists in a known field": '{"camera_intrinsics":{"a":' + many("[[[[[]]]]]", 1_600) + "}}",
    "a long number": '{"miner_uid":' + fill("9") + "}",
    "a long fraction": '{"fps":1.' + fill("9") + "}",
    "a long exponent": '{"fps":1e' + fill("9") + "}",
    "numbers of 399 digits": '{"a":' + many("9" * 399, 2_600) + "}",
    "a long string": '{"environment":"' + fill("x") + '"}',
    "a long string of commas": '{"environment":"' + fill(",") + '"}',
    "escapes": '{"environment":"' + fill("\\u0041") + '"}',
    "escaped pairs": '{"action_description":"' + fill("\\ud83d\\ude00") + '"}',
    "lone surrogates": '{"environment":"' + fill("\\ud800") + '"}',
    "a long key": '{"' + fill("k") + '":1}',
    "a long hotkey": '{"miner_hotkey":"' + fill("5") + '"}',
    "a long signature": '{"signature":"' + fill("ab") + '"}',
    "spaces": fill(" ") + "{}",
    "four bytes a character": '{"environment":"' + fill("\U0001f600", 250_000) + '"}',
    "invalid UTF-8": b'{"a":"' + fill(b"\xff") + b'"}',
    "UTF-16": ('{"a":' + many("1", 200_000) + "}").encode("utf-16"),
    "UTF-32": ('{"a":"' + fill("x", 250_000) + '"}').encode("utf-32"),
    "no JSON": fill("x"),
    "every field wrong": '{"prompt_id":1,"video_key":1,"video_hash":1,"miner_uid":"x","fps":[]}',
}


def request(method, target, *headers, body=b""):
    return "\r\n".join([f"{method} {target} HTTP/1.1", "Host: here", *headers, "", ""]).encode() + body


def post(body, target="/v1/submissions", *headers):
    body = body if isinstance(body, bytes) else body.encode()
    return request(
        "POST", target, "Content-Type: application/json", f"Content-Length: {len(body)}", *headers, body=body
    )


def chunked(body):
    return request(
        "POST", "/v1/submissions", "Content-Type: application/json", "Transfer-Encoding: chunked", body=body
    )


def random_json(chance, depth=0):
    kind = chance.choice(["number", "text", "list", "object"] if depth < 6 else ["number", "text"])
    if kind == "number":
        return chance.choice(["1", "-0.5e308", "9" * chance.randrange(1, 5000), "NaN", "1e999"])
    if kind == "text":
        return '"' + chance.choice(["x", "\\n", "é", "\\ud800", ","]) * chance.randrange(5000) + '"'
    inner = [random_json(chance, depth + 1) for _ in range(chance.randrange(8))]
    if kind == "list":
        return "[" + ",".join(inner) + "]"
    return "{" + ",".join(f'"{chance.choice(["fps", "a", "é" * 50])}":{each}' for each in inner) + "}"


CHANCE = random.Random(11)
REQUESTS = (
    {f"body: {name}": post(body) for name, body in BODIES.items()}
    | {
        f"body: drawn {number}": post(fill(random_json(CHANCE) + ",", 500_000)[:-1].join("[]"))
        for number in range(5)
    }
    | {
        "unsigned presign": post(BODIES["unknown keys"], "/v1/upload/presign"),
        "presign with a long hotkey": post(
            "{}", "/v1/upload/presign", "X-Bittensor-Version: 1", "X-Bittensor-Hotkey: " + "5" * 30_000
        ),
        "admin without a token": post(BODIES["unknown keys"], "/v1/admin/prompts"),
        "wrong token": post(
            BODIES["unknown keys"], "/v1/evaluate/submit", "Authorization: Bearer " + "a" * 30_000
        ),
        "chunks of a byte": chunked(fill(b"1\r\nx\r\n") + b"0\r\n\r\n"),
        "just few enough chunks": chunked(b"1\r\nx\r\n" * 4000 + b"0\r\n\r\n"),
        "a chunk with a long extension": chunked(b"1;" + fill(b"x") + b"\r\nx\r\n0\r\n\r\n"),
        "trailers": chunked(b"0\r\n" + fill(b"A: b\r\n") + b"\r\n"),
        "a body of 16 MiB": post(b"x" * 16 * MIB),
        "many parameters": request("GET", "/v1/prompts?" + "a=1&" * 2000),
        "one parameter often": request("GET", "/v1/prompts?" + "limit=1&" * 1000),
        "a coded parameter": request("GET", "/v1/prompts?after=" + "%41" * 2700),
        "a deep path": request("GET", "/v1/" + "a/" * 4000),
        "slashes": request("GET", "/" * 8000),
        "a coded path": request("GET", "/v1/prompts/" + "%41" * 2700),
        "a long id": request("GET", "/v1/scores/" + "9" * 8000),
        "many headers": request("GET", "/health", *[f"X-{number}: a" for number in range(95)]),
        "too many headers": request("GET", "/health", *["A: b"] * 5000),
        "a long header": request("GET", "/health", "A: " + "b" * 31_000),
        "a header without an end": b"GET / HTTP/1.1\r\nA: " + fill(b"b"),
        "cookies": request("GET", "/health", "Cookie: " + "a=b; " * 6000),
        "tags": request("GET", "/v1/weights/latest", "If-None-Match: " + '"a", ' * 6000),
        "accepted types": request("GET", "/docs", "Accept: " + "a/b;q=0.5, " * 2800),
        "parameters of a type": request("POST", "/v1/submissions", "Content-Type: a/json" + ";a=b" * 7000),
        "a long origin": request("GET", "/health", "Origin: " + "a." * 15_000),
        "the document": request("GET", "/openapi.json"),
    }
)  # fmt: skip


@pytest.fixture(scope="module")
def web(settings, tmp_path_factory):
    with started(settings, tmp_path_factory.mktemp("web"), web_workers=1, **PRODUCTION) as process:
        yield process


def send(url, sent):
    parts = urlsplit(url)
    with socket.create_connection((parts.hostname, parts.port), timeout=30) as client:
        # it may be refused before it is sent
        with suppress(ConnectionError):
            client.sendall(sent)
            client.shutdown(socket.SHUT_WR)
        answer = b""
        with suppress(ConnectionError):
            while part := client.recv(65536):
                answer += part
    return answer


def milliseconds(web, sent):
    before = cpu_seconds(web.pid)
    for _ in range(TIMES):
        send(web.url, sent)
    return (cpu_seconds(web.pid) - before) / TIMES * 1000


def most_ms():
    """What a request may cost now and here."""
    before = time.process_time()
    json.loads(NUMBERS)
    return (time.process_time() - before) * 1000


@pytest.mark.parametrize("name", REQUESTS)
def test_no_stranger_costs_much(web, database, name):
    answer = send(web.url, REQUESTS[name])
    assert answer[:9] == b"HTTP/1.1 ", answer
    assert int(answer[9:12]) in {200, 400, 401, 404, 413, 415, 422, 431}, answer[:500]
    assert any(milliseconds(web, REQUESTS[name]) < most_ms() for _ in range(ROUNDS))
