"""Licence and consent of a submission: what is let in, what is signed, and where they are seen."""

import pytest
from sqlalchemy import text

from app.db import db
from tests import factories
from tests.api.conftest import PRODUCTION, statement_fields

MINER = factories.miner()
URL = "/v1/submissions"
CONSENT = {"hash": "ef" * 32, "version": "2026-01", "date": "2026-01-15"}
LICENCES = {"licences": ("CC-BY-4.0", "LicenseRef-Ours"), "default_licence": "CC0-1.0"}


@pytest.fixture
def app(make_app):
    return make_app(**PRODUCTION, **LICENCES)


@pytest.fixture
def prompt(app):
    with app.app_context():
        return factories.make_prompt(id="manip-001")


def signed(prompt, key, licence=None, consent=None, version=2):
    """The body of a submission with terms, signed as docs/miners.md says."""
    body = statement_fields(prompt_id=prompt, video_key=key, miner_hotkey=MINER.ss58_address)
    names = ("miner_hotkey", "miner_uid", "prompt_id", "video_key", "video_hash")
    lines = [str(body[name]) for name in names]
    terms = [licence or "", *((consent or {}).get(name, "") for name in ("hash", "version", "date"))]
    lines = [f"kibotos.submission.v{version}", *(terms if version == 2 else []), *lines]
    body["signature"] = MINER.sign("\n".join(lines).encode()).hex()
    given = {"licence": licence, "consent": consent}
    return body | {name: value for name, value in given.items() if value is not None}


def stored(app):
    with app.app_context():
        found = db.session.execute(
            text("""SELECT licence, consent_hash, consent_version, consent_date::text FROM submissions""")
        ).all()
        db.session.rollback()
        return [tuple(row) for row in found]


@pytest.mark.parametrize(
    ("licence", "consent"), [("CC-BY-4.0", CONSENT), ("LicenseRef-Ours", None), (None, CONSENT)]
)
def test_licence_and_consent_are_signed_kept_and_shown(app, client, prompt, put_upload, licence, consent):
    body = signed(prompt, put_upload(), licence, consent)
    answer = client.post(URL, json=body)
    assert answer.status_code == 201, answer.json
    assert stored(app) == [(licence, *(consent or dict.fromkeys(CONSENT)).values())]
    shown = client.get(f"{URL}/{answer.json['submission_uuid']}").json
    assert (shown["licence"], shown["consent"]) == (licence, consent)
    page = client.get(f"/submissions/{answer.json['submission_uuid']}").text
    assert (licence or "CC0-1.0") in page and (consent is None or consent["hash"] in page)
    again = client.post(URL, json=signed(prompt, body["video_key"], licence, consent))
    assert (again.status_code, again.json["submission_uuid"]) == (200, answer.json["submission_uuid"])
    for other in (
        signed(prompt, body["video_key"], "CC-BY-4.0"),
        signed(prompt, body["video_key"], version=1),
    ):
        assert client.post(URL, json=other).status_code == 409, "it was submitted with other terms"


def test_the_first_statement_counts_as_the_operators_terms(app, client, prompt, put_upload):
    answer = client.post(URL, json=signed(prompt, put_upload(), version=1))
    assert answer.status_code == 201
    shown = client.get(f"{URL}/{answer.json['submission_uuid']}").json
    assert (shown["licence"], shown["consent"]) == (None, None)
    assert client.get("/v1/licences").json == {
        "licences": ["CC-BY-4.0", "LicenseRef-Ours"],
        "default": "CC0-1.0",
    }


WRONG = [
    ({"licence": "CC-BY-SA-4.0"}, "licence"),
    ({"licence": "cc-by-4.0"}, "licence"),
    ({"licence": ""}, "licence"),
    ({"licence": "CC-BY-4.0\n"}, "licence"),
    ({"licence": 4}, "licence"),
    ({"consent": "yes"}, "consent"),
    ({"consent": CONSENT | {"hash": "ef"}}, "consent.hash"),
    ({"consent": {"hash": "ef" * 32}}, "consent.version"),
    ({"consent": CONSENT | {"version": "two words"}}, "consent.version"),
    ({"consent": CONSENT | {"date": "2026-02-30"}}, "consent.date"),
    ({"consent": CONSENT | {"date": "9999-01-01"}}, "consent.date"),
    ({"consent": CONSENT | {"date": "15.1.2026"}}, "consent.date"),
    ({"consent": CONSENT | {"date": 20260115}}, "consent.date"),
]


@pytest.mark.parametrize(("given", "field"), WRONG)
def test_what_terms_must_not_be(app, client, prompt, put_upload, given, field):
    key = put_upload()
    try:
        body = signed(prompt, key, **given) | given
    except (AttributeError, TypeError):
        body = signed(prompt, key) | given
    answer = client.post(URL, json=body)
    assert (answer.status_code, answer.json["errors"][0]["field"]) == (422, field), answer.json
    assert stored(app) == []


def test_terms_that_were_not_signed_are_refused(client, prompt, put_upload):
    key = put_upload()
    good = signed(prompt, key, "CC-BY-4.0", CONSENT)
    for change in (
        {"licence": "LicenseRef-Ours"},
        {"licence": None},
        {"consent": None},
        {"consent": CONSENT | {"date": "2026-01-16"}},
        {"consent": CONSENT | {"version": "2026-02"}},
        {"signature": signed(prompt, key, version=1)["signature"]},
    ):
        assert client.post(URL, json=good | change).status_code == 401, change


def test_a_backend_without_licences_says_so(make_app, put_upload, prompt):
    client = make_app(**PRODUCTION).test_client()
    assert client.get("/v1/licences").json == {"licences": [], "default": None}
    answer = client.post(URL, json=signed(prompt, put_upload(), "CC-BY-4.0"))
    assert answer.status_code == 422 and "left out" in answer.json["errors"][0]["message"]
