"""No secret of the settings gets out: not in an answer, not in a log line, whatever fails."""

import dataclasses
from urllib.parse import urlsplit

import pytest

from app import create_app
from app.config import Settings
from tests.api.conftest import ADMIN_TOKEN, PRODUCTION, bearer, statement_fields
from tests.factories import miner

BROKEN = {
    "database_url": "postgresql+psycopg2://kibotos:database-secret-1@127.0.0.1:1/kibotos",
    "redis_url": "redis://:redis-secret-22@127.0.0.1:1/0",
    "s3_endpoint": "http://127.0.0.1:1",
    "aws_secret_access_key": "storage-secret-3",
    "vlm_api_url": "http://127.0.0.1:1/v1",
    "vlm_api_key": "judge-secret-444",
}


def secrets_of(settings: Settings) -> set[str]:
    """The value of every field that is a secret; of an address its password."""
    found = set()
    for field in dataclasses.fields(settings):
        value = getattr(settings, field.name)
        if not field.repr and value:
            values = value if isinstance(value, tuple) else (value,)
            found |= {(urlsplit(text).password if "://" in text else text) for text in values}
    assert None not in found
    return found


@pytest.mark.parametrize("changes", [{}, BROKEN], ids=["everything works", "everything is down"])
def test_no_secret_gets_out(settings, database, redis, changes, capsys, caplog):
    settings = dataclasses.replace(settings, **PRODUCTION | changes)
    secrets = secrets_of(settings)
    assert len(secrets) >= 5
    app = create_app(settings)
    client = app.test_client()
    said = [repr(settings), repr(app), repr(app.extensions)]
    submission = statement_fields(
        prompt_id="p-1",
        miner_hotkey=miner().ss58_address,
        video_key="uploads/00000000-0000-0000-0000-000000000000/v.mp4",
        signature="00" * 64,
    )
    for method, path, body, headers in (
        ("GET", "/ready", None, {}),
        ("GET", "/v1/status", None, {}),
        ("GET", "/metrics", None, bearer(ADMIN_TOKEN)),
        ("GET", "/v1/prompts", None, {}),
        ("GET", "/openapi.json", None, {}),
        ("GET", "/docs", None, {}),
        ("POST", "/v1/admin/prompts", {}, bearer(ADMIN_TOKEN)),
        ("POST", "/v1/admin/prompts", {}, bearer(ADMIN_TOKEN[:-1])),
        ("POST", "/v1/upload/presign", {"filename": "v.mp4"}, {"X-Bittensor-Version": "1"}),
        ("POST", "/v1/submissions", submission, {}),
    ):
        answer = client.open(path, method=method, json=body, headers=headers)
        said += [answer.text, str(answer.headers)]
        assert answer.status_code < 500 or answer.status_code == 503, (path, answer.text)
    said += [*capsys.readouterr(), caplog.text]
    leaked = {secret for secret in secrets if any(secret in text for text in said)}
    assert not leaked


def test_the_urls_of_others_systems_are_never_told(make_app):
    client = make_app(**PRODUCTION, s3_endpoint="http://inner-storage.example:9000").test_client()
    answers = [client.get(path).text for path in ("/ready", "/v1/status", "/openapi.json")]
    assert not any("inner-storage" in answer for answer in answers)
