"""Every bad request gets its 4xx and a sentence, and changes nothing."""

import dataclasses
import json
import uuid
from datetime import UTC, datetime, timedelta

import psycopg2
import pytest

from app import create_app
from tests import factories
from tests.api.conftest import (
    ADMIN_TOKEN,
    EVALUATOR_TOKEN,
    PRODUCTION,
    DocumentedClient,
    bearer,
    signed_submission,
)
from tests.conftest import empty_database

MINER = factories.miner()
PROMPT = {"id": "new-1", "category": "household", "task": "wash", "scenario": "Wash a plate"}
PRESIGN = {"filename": "video.mp4"}
SUBMIT = signed_submission(MINER, "open", f"uploads/{uuid.UUID(int=1)}/video.mp4")
RESULT = {
    "submission_id": 1,
    "technical_score": 1,
    "relevance_score": 1,
    "quality_score": 1,
    "final_score": 1,
}
RELEASE = {"submission_id": 1, "claim_token": str(uuid.UUID(int=1)), "reason": "storage was away"}
JUDGE_CALLS = {"submission_id": 1, "claim_token": str(uuid.UUID(int=1)), "calls": 1}

ADMIN, EVALUATOR, OPEN = bearer(ADMIN_TOKEN), bearer(EVALUATOR_TOKEN), {}
# name -> (method, path, credentials, body that would be accepted)
BODIES = {
    "create prompt": ("POST", "/v1/admin/prompts", ADMIN, PROMPT),
    "change prompt": ("PATCH", "/v1/admin/prompts/open", ADMIN, {"weight": 2}),
    "submit": ("POST", "/v1/submissions", OPEN, SUBMIT),
    "fetch": ("POST", "/v1/evaluate/fetch", EVALUATOR, {"limit": 0}),
    "report result": ("POST", "/v1/evaluate/submit", EVALUATOR, RESULT),
    "release": ("POST", "/v1/evaluate/release", EVALUATOR, RELEASE),
    "judge-calls": ("POST", "/v1/evaluate/judge-calls", EVALUATOR, JUDGE_CALLS),
}

NUMBERS = {
    "create prompt": ["weight"],
    "change prompt": ["weight"],
    "submit": ["miner_uid", "duration_sec", "resolution_width", "resolution_height", "fps"],
    "fetch": ["limit"],
    "release": ["submission_id"],
    "judge-calls": ["submission_id"],
    "report result": ["submission_id", "technical_score", "relevance_score", "quality_score", "final_score"],
}
WRONG_NUMBERS = [
    "NaN",
    "Infinity",
    "-Infinity",
    "1e999",
    "true",
    '"1"',
    "[]",
    "{}",
    "-1",
    str(2**63),
    "1" * 400,
]
TEXTS = {
    "create prompt": {"id": 64, "category": 20, "task": 200, "scenario": 2000},
    "submit": {
        "prompt_id": 64, "video_key": 200, "video_hash": 64, "miner_hotkey": 48, "signature": 130,
        "camera_type": 20, "actor_type": 20, "robot_model": 200, "environment": 200,
        "action_description": 2000,
    },
    "report result": {"rejection_reason": 2000},
    "release": {"claim_token": 36, "reason": 1000},
    "judge-calls": {"claim_token": 36},
}  # fmt: skip
OBJECTS = {
    "create prompt": "requirements",
    "change prompt": "requirements",
    "submit": "camera_intrinsics",
    "report result": "metadata",
}
WRONG_OBJECTS = {
    "a string": '"x"',
    "a list": "[]",
    "a number": "1",
    "NaN within": '{"a": NaN}',
    "Infinity within": '{"a": [1e999]}',
    "NUL within": '{"a": "\\u0000"}',
    "NUL in a key": '{"\\u0000": 1}',
    "a lone surrogate": '{"a": "\\ud800"}',
    "too deep": '{"a": ' + "[" * 50 + "]" * 50 + "}",
    **{f"nested {depth} deep": '{"a": ' + "[" * depth + "]" * depth + "}" for depth in range(300, 1001, 20)},
    "a number beyond 64 bits": '{"a": ' + "9" * 30 + "}",
    "a number of 5000 digits": '{"a": -' + "9" * 5000 + "}",
}


def cases():
    """(name, method, path, headers, body as text, expected status, the one field that is wrong or None)"""
    for endpoint, (method, path, headers, good) in BODIES.items():

        def case(
            name, body, status=422, field=None, path=path, method=method, headers=headers, endpoint=endpoint
        ):
            text = body if isinstance(body, str | bytes) else json.dumps(body)
            return f"{endpoint}: {name}", method, path, headers, text, status, field

        for name, body in {
            "no body": "",
            "not JSON": "{",
            "single quotes": "{'limit': 0}",
            "a list": "[]",
            "null": "null",
            "a number": "1",
            "a string": '"x"',
            "not UTF-8": b'{"a": "\xff\xfe"}',
        }.items():
            yield case(name, body, 400)
        yield case("nested a hundred thousand times", '{"a":' * 100_000, 422)
        yield case("over 1 MiB", json.dumps(good | {"padding": "x" * 1024 * 1024}), 413)
        for field in good if method == "POST" and endpoint != "fetch" else ():
            if field in {"weight"}:
                continue
            yield case(f"without {field}", {k: v for k, v in good.items() if k != field}, 422, field)
            yield case(f"{field} null", good | {field: None}, 422, field)
        for field in NUMBERS.get(endpoint, ()):
            for number in WRONG_NUMBERS:
                body = json.dumps(good | {field: "@"}).replace('"@"', number)
                yield case(f"{field} {number[:20]} ({len(number)} characters)", body, 422, field)
        for field, longest in TEXTS.get(endpoint, {}).items():
            for name, text in {
                "NUL": "a\0b",
                "a lone surrogate": "a\ud800",
                "too long": "a" * (longest + 1),
                "a number": 1,
                "true": True,
                "a list": ["a"],
            }.items():
                yield case(f"{field} {name}", good | {field: text}, 422, field)
        if field := OBJECTS.get(endpoint):
            for name, text in WRONG_OBJECTS.items():
                body = json.dumps(good | {field: "@"}).replace('"@"', text)
                yield case(f"{field} {name}", body, 422, field)

    def submit(name, status=422, **changes):
        field = next(iter(changes)) if status == 422 else None
        return f"submit: {name}", "POST", "/v1/submissions", OPEN, json.dumps(SUBMIT | changes), status, field

    unknown = signed_submission(MINER, "open", f"uploads/{uuid.uuid4()}/video.mp4")
    yield submit("video_key of no upload", video_key=unknown["video_key"], signature=unknown["signature"])
    yield submit("video_key with a path", video_key=f"uploads/{uuid.uuid4()}/../../x")
    yield submit("video_key elsewhere", video_key="etc/passwd")
    yield submit("video_hash too short", video_hash="ab" * 31)
    yield submit("video_hash not hex", video_hash="zz" * 32)
    yield submit("miner_uid 65536", miner_uid=65536)
    yield submit("miner_uid 1.5", miner_uid=1.5)
    yield submit("resolution 0", resolution_width=0)
    yield submit("camera unknown", camera_type="drone")
    yield submit("actor unknown", actor_type="cat")
    yield submit("task_success 1", task_success=1)
    yield submit("camera_intrinsics over 16 KiB", camera_intrinsics={"a": "x" * 17_000})
    yield submit("wrong signature", 401, signature="00" * 64)

    def admin(name, body, status=422, path="/v1/admin/prompts", method="POST"):
        field = next(name for name in body if body[name] != PROMPT.get(name, "")) if status == 422 else None
        return f"admin: {name}", method, path, ADMIN, json.dumps(body), status, field

    yield admin("id taken", PROMPT | {"id": "open"}, 409)
    for bad in ("", "-x", "a b", "a/b", "ä", "a\n", "../x"):
        yield admin(f"id {bad!r}", PROMPT | {"id": bad})
    yield admin("category unknown", PROMPT | {"category": "cooking"})
    yield admin("weight 1001", PROMPT | {"weight": 1001})
    for bad in (
        "tomorrow",
        "2026-13-01T00:00:00Z",
        "2026-01-01T00:00:00",
        1767225600,
        True,
        "0001-01-01T00:00:00+23:59",
    ):
        yield admin(f"expires_at {bad}", PROMPT | {"expires_at": bad})
    for limit in (
        {"min_width": -1},
        {"max_duration": 0},
        {"min_fps": "15"},
        {"max_file_size_mb": True},
        {"writing_matters": "yes"},
    ):
        yield admin(f"requirements {limit}", PROMPT | {"requirements": limit})
    change = "/v1/admin/prompts/open"
    yield admin("change is_active to a string", {"is_active": "yes"}, path=change, method="PATCH")
    yield admin("change weight to null", {"weight": None}, path=change, method="PATCH")
    yield admin("change of nothing there", {"weight": 1}, 404, "/v1/admin/prompts/missing", "PATCH")
    yield admin("change of NUL", {"weight": 1}, 404, "/v1/admin/prompts/%00", "PATCH")

    def result(name, status=422, **changes):
        return (
            f"result: {name}",
            "POST",
            "/v1/evaluate/submit",
            EVALUATOR,
            json.dumps(RESULT | changes),
            status,
            list(changes)[-1] if status == 422 else None,
        )

    yield result("unknown submission", 404, submission_id=4040)
    yield result("not claimed", 409)
    yield result("already scored", 409, submission_id=2)
    yield result("submission_id 0", submission_id=0)
    yield result("a million points", final_score=1_000_000)
    yield result("score 1.01", technical_score=1.01)
    yield result("metadata over 64 KiB", metadata={"a": "x" * 70_000})
    yield result("claim_token malformed", claim_token="x")
    yield result("claimed, but contradicts the formula", submission_id=3, final_score=0.9)
    yield result("claimed, but with another's token", 409, submission_id=3, claim_token=str(uuid.UUID(int=9)))
    fetch = ("POST", "/v1/evaluate/fetch", EVALUATOR)
    for limit in (101, 1.5, None):
        yield f"fetch: limit {limit}", *fetch, json.dumps({"limit": limit}), 422, "limit"

    presign = ("POST", "/v1/upload/presign", OPEN)
    for name, body in {"nothing": {}, "what would do": PRESIGN, "not JSON": "{"}.items():
        yield f"presign unsigned: {name}", *presign, json.dumps(body), 401, None

    for path in (
        "/v1/prompts?limit=-1", "/v1/prompts?limit=0", f"/v1/prompts?limit={2**63}", "/v1/prompts?limit=ten",
        "/v1/prompts?limit=1&limit=2", "/v1/prompts?limit=NaN", "/v1/prompts?active_only=maybe",
        "/v1/prompts?after=%00", "/v1/prompts?after=a%20b", "/v1/prompts?after=%ff",
        f"/v1/prompts?after={'a' * 65}",
    ):  # fmt: skip
        yield f"GET {path[:60]}", "GET", path, OPEN, "", 422, path.partition("?")[2].partition("=")[0]
    for limit in (-1, 2**63, "ten", "%00"):
        yield f"GET reviews {limit}", "GET", f"/v1/admin/reviews?limit={limit}", ADMIN, "", 422, "limit"
    for path in (
        "/v1", "/v1/", "/v1//prompts", "/v1/prompts/", "/V1/PROMPTS", "/v1/prompts/missing",
        "/v1/prompts/%00", "/v1/prompts/%ff", "/v1/prompts/%ED%A0%80", f"/v1/prompts/{'a' * 3000}",
        "/v1/prompts/..%2f..%2fetc", "/v1/submissions/x", "/v1/submissions/1", "/v1/submissions/%00",
        f"/v1/submissions/{uuid.UUID(int=7)}", f"/v1/submissions/{'0' * 32}", "/v1/submissions/' OR 1=1",
        "/v1/submissions/x/report", f"/v1/submissions/{uuid.UUID(int=7)}/report",
        "/v1/scores/x", "/v1/scores/-1", "/v1/scores/0", "/v1/scores/404", "/v1/scores/1.5",
        f"/v1/scores/{2**63}", f"/v1/scores/{'9' * 400}", "/v1/scores/%00", "/v1/scores/NaN",
        "/v1/weights/x", "/v1/weights/-1", "/v1/weights/404", f"/v1/weights/{2**63}", "/v1/weights/%00",
        f"/v1/weights/{'9' * 400}", "/openapi.json/x", "/static/x", "/apidoc/swagger",
    ):  # fmt: skip
        yield f"GET {path[:60]}", "GET", path, OPEN, "", 404, None
    for method, path in (
        ("DELETE", "/v1/prompts/open"), ("PUT", "/v1/submissions"), ("GET", "/v1/upload/presign"),
        ("POST", "/v1/prompts"), ("POST", "/health"), ("TRACE", "/v1/status"), ("GET", "/v1/evaluate/fetch"),
        ("NONSENSE", "/v1/status"), ("DELETE", "/v1/cycles/status"), ("PATCH", "/v1/weights/latest"),
    ):  # fmt: skip
        yield f"{method} {path}", method, path, OPEN, "", 405, None


CASES = {name: rest for name, *rest in cases()}


@pytest.fixture(scope="module")
def furnished(settings, postgres):
    """The application in production, on a database with a row of everything that could be changed."""
    empty_database(postgres.url)
    app = create_app(dataclasses.replace(settings, **PRODUCTION))
    app.test_client_class = DocumentedClient
    with app.app_context():
        factories.make_cycle("COMPLETED")
        cycle = factories.make_cycle()
        factories.make_prompt(id="open")
        factories.make_upload(video_key=SUBMIT["video_key"])
        factories.make_submission(cycle_id=cycle, prompt_id="open")
        scored = factories.make_submission(
            cycle_id=cycle, prompt_id="open", status="SCORED", evaluated_at="now", final_score=0.5, attempts=1
        )
        factories.make_submission(
            cycle_id=cycle, prompt_id="open", status="EVALUATING", attempts=1, claimed_by="an evaluator",
            claim_token=str(uuid.uuid4()), lease_expires_at=datetime.now(UTC) + timedelta(hours=1),
        )  # fmt: skip
        factories.insert(
            "evaluations", submission_id=scored, technical_score=1, relevance_score=0.6, quality_score=0,
            evaluated_by="worker",
        )  # fmt: skip
    return app


@pytest.fixture(scope="module")
def fingerprint(postgres):
    """Gives row count and checksum of every table."""
    connection = psycopg2.connect(postgres.url)
    connection.autocommit = True
    with connection.cursor() as cursor:
        cursor.execute("SELECT tablename FROM pg_tables WHERE schemaname = 'public' ORDER BY 1")
        sums = [
            f"SELECT '{table}', count(*), md5(string_agg(t::text, '|' ORDER BY t::text)) FROM {table} t"
            for (table,) in cursor.fetchall()
        ]

    def take():
        with connection.cursor() as cursor:
            cursor.execute(" UNION ALL ".join(sums) + " ORDER BY 1")
            return cursor.fetchall()

    yield take
    connection.close()


def test_there_are_enough_of_them():
    assert len(CASES) >= 120


@pytest.mark.parametrize("name", CASES)
def test_bad_request(furnished, fingerprint, name):
    method, path, headers, body, status, field = CASES[name]
    before = fingerprint()
    answer = furnished.test_client().open(
        path, method=method, data=body or None, headers=headers, content_type="application/json"
    )
    assert answer.status_code == status, answer.text[:500]
    assert answer.content_type == "application/problem+json"
    problem = json.loads(answer.text)
    assert problem["status"] == status
    assert problem["request_id"] == answer.headers["X-Request-ID"]
    assert problem["detail"].endswith(".")
    assert (status == 422) == ("errors" in problem)
    if field is not None:
        wrong = {error["field"].partition(".")[0] for error in problem["errors"]}
        # what is nested so deep that it cannot be parsed has no fields
        assert wrong == {field} or (wrong == {"body"} and "nested" in name)
    assert len(answer.data) < 4096
    assert fingerprint() == before


@pytest.mark.parametrize(
    "content_type",
    [
        None,
        "text/plain",
        "application/x-www-form-urlencoded",
        "multipart/form-data",
        "application/json" + "; a=b" * 100,
    ],
)
@pytest.mark.parametrize("endpoint", BODIES)
def test_what_is_not_json_is_415(furnished, fingerprint, endpoint, content_type):
    method, path, headers, body = BODIES[endpoint]
    before = fingerprint()
    answer = furnished.test_client().open(
        path, method=method, data=json.dumps(body), headers=headers, content_type=content_type
    )
    assert answer.status_code == 415
    assert answer.content_type == "application/problem+json"
    assert fingerprint() == before


def test_the_bodies_that_the_cases_spoil_are_good_otherwise(furnished):
    """Else a case could be refused for another reason than its own."""
    client = furnished.test_client()
    for name, status in {
        "create prompt": 201,
        "change prompt": 200,
        "fetch": 200,
        "report result": 409,
        "release": 409,
        "judge-calls": 409,
        "submit": 409,
    }.items():
        method, path, headers, body = BODIES[name]
        answer = client.open(path, method=method, json=body, headers=headers)
        assert answer.status_code == status, answer.text
    assert "There is no upload" in answer.text


def test_an_answer_never_echoes_what_was_sent(furnished):
    secret = "echo" * 5000
    answer = furnished.test_client().post("/v1/submissions", json=SUBMIT | {"robot_model": secret, secret: 1})
    assert answer.status_code == 422
    assert "echoecho" not in answer.text
