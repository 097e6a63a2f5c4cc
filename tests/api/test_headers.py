"""What every answer carries."""

import pytest
import structlog
from structlog.contextvars import merge_contextvars
from structlog.testing import CapturingLogger

from app.errors import RETRY_AFTER_SECONDS
from app.web import problems

ORIGIN = {"Origin": "https://kibotos.example"}


@pytest.mark.parametrize("given", ["abcdefgh", "a.b-c_d-12345678", "A" * 64])
def test_a_sane_request_id_is_kept(client, given):
    assert client.get("/health", headers={"X-Request-ID": given}).headers["X-Request-ID"] == given


@pytest.mark.parametrize(
    "given", ["", "short", "a" * 65, "with space in it", "ä" * 10, "<script>alert(1)</script>"]
)
def test_any_other_is_replaced(client, given):
    kept = client.get("/health", headers={"X-Request-ID": given}).headers["X-Request-ID"]
    assert kept != given
    assert len(kept) == 32


def test_no_browser_may_read_the_api_unless_its_origin_is_configured(client, make_app):
    assert "Access-Control-Allow-Origin" not in client.get("/health", headers=ORIGIN).headers
    open_client = make_app(cors_origins=("https://kibotos.example",)).test_client()
    allowed = open_client.get("/health", headers=ORIGIN)
    assert allowed.headers["Access-Control-Allow-Origin"] == "https://kibotos.example"
    other = open_client.get("/health", headers={"Origin": "https://other.example"})
    assert "Access-Control-Allow-Origin" not in other.headers


def test_every_answer_forbids_sniffing(client):
    for path in ("/health", "/nowhere", "/docs", "/openapi.json"):
        assert client.get(path).headers["X-Content-Type-Options"] == "nosniff"


def test_405_names_the_methods_that_are_allowed(client):
    answer = client.delete("/v1/prompts")
    assert answer.status_code == 405
    assert set(answer.headers["Allow"].split(", ")) == {"GET", "HEAD", "OPTIONS"}


def test_without_a_database_it_is_503_with_retry_after(make_app):
    client = make_app(database_url="postgresql+psycopg2://u:p@127.0.0.1:1/k").test_client()
    answer = client.get("/v1/prompts")
    assert answer.status_code == 503
    assert answer.content_type == "application/problem+json"
    assert answer.headers["Retry-After"] == str(RETRY_AFTER_SECONDS)


def test_a_bug_is_500_without_its_text(make_app, monkeypatch):
    # a logger of its own: the module's may be bound to the output of another test
    output = CapturingLogger()
    monkeypatch.setattr(problems, "log", structlog.wrap_logger(output, processors=[merge_contextvars]))
    app = make_app()

    @app.get("/bug")
    def bug():
        raise ValueError("a password perhaps")

    answer = app.test_client().get("/bug")
    assert answer.status_code == 500
    assert answer.content_type == "application/problem+json"
    assert "password" not in answer.text
    assert output.calls[0].kwargs["request_id"] == answer.json["request_id"]
