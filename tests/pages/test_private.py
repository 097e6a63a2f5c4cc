"""The video and the contact sheet of a submission: who gets to see them, and how they come and go."""

import dataclasses
import re
from uuid import UUID

import pytest
from bittensor import http_auth
from sqlalchemy import text

from app.assessment import wire
from app.clients.storage import Storage
from app.db import db
from app.moderation import service as moderation
from app.moderation.models import Order
from app.pages import links
from app.sheets import service as sheets
from tests.api.conftest import ADMIN_TOKEN, PRODUCTION
from tests.factories import make_submission, miner
from tests.pages.conftest import SHEET
from tests.pages.test_admin import log_in


@pytest.fixture
def app(make_app):
    return make_app(**PRODUCTION)


@pytest.fixture
def uuid(app, story):
    """A submission of Ada's, with a contact sheet."""
    uuid = story["scored"]
    with app.app_context():
        sheets.keep(UUID(uuid), SHEET, app.extensions["settings"], app.extensions["storage"])
    return uuid


def ask(client, uuid, who="ada"):
    path = f"/v1/submissions/{uuid}/video-link"
    headers = http_auth.sign(miner(who), method="POST", path=path, body=b"{}")
    return client.post(path, data=b"{}", headers=headers, content_type="application/json")


def stored(app, uuid):
    return app.extensions["storage"].read(f"sheets/{uuid}.webp", 10**6)


def rows(app):
    with app.app_context():
        found = db.session.execute(text("SELECT uuid::text FROM contact_sheets")).scalars().all()
        db.session.rollback()
        return found


def test_a_miner_looks_at_his_video_by_a_link(client, uuid):
    answer = ask(client, uuid)
    assert answer.status_code == 200
    path = answer.json["path"]
    assert path.startswith(f"/submissions/{uuid}/video?token=")
    page = client.get(path)
    assert page.status_code == 200 and "<video controls" in page.text
    assert page.headers["Cache-Control"] == "no-store"
    assert page.headers["Referrer-Policy"] == "no-referrer"
    assert re.search(r"; media-src http://127\.0\.0\.1:\d+$", page.headers["Content-Security-Policy"])
    sheet_path = re.search(r'<img class="sheet" src="([^"]+)"', page.text)[1]
    sheet = client.get(sheet_path)
    assert (sheet.data, sheet.content_type) == (SHEET, "image/webp")
    assert sheet.headers["X-Content-Type-Options"] == "nosniff"
    assert sheet.headers["Cache-Control"] == "no-store"
    # nothing on the page leads elsewhere with the token in it
    token = path.partition("token=")[2]
    assert page.text.count(token) == 1


def test_the_public_page_shows_neither_and_says_who_sees_them(client, uuid):
    public = client.get(f"/submissions/{uuid}").text
    assert "<video" not in public and 'class="sheet"' not in public and "X-Amz-Signature" not in public
    assert f"kibotos miner status {uuid} --open" in public


def test_nobody_else_gets_a_link(client, uuid, story):
    other = ask(client, uuid, "bob")
    assert other.status_code == 403 and "Only the hotkey that submitted" in other.json["detail"]
    assert client.post(f"/v1/submissions/{uuid}/video-link", json={}).status_code == 401
    assert ask(client, "00000000-0000-0000-0000-000000000000").status_code == 404


def test_a_link_is_good_for_one_submission_one_key_and_a_quarter_of_an_hour(make_app, client, uuid, story):
    token = ask(client, uuid).json["path"].partition("token=")[2]
    others = make_app(**PRODUCTION | {"admin_token": ("another-" + ADMIN_TOKEN,)}).test_client()
    changed = token[:-1] + ("A" if token[-1] != "A" else "B")
    # what was signed a second more than LINK_SECONDS ago
    old = links._serializer(ADMIN_TOKEN)
    signer = old.make_signer(links._SALT)
    signer.get_timestamp = lambda: int(type(signer).get_timestamp(signer)) - links.LINK_SECONDS - 1
    expired = signer.sign(old.dump_payload(UUID(uuid).hex)).decode()
    for browser, which, given in (
        (client, story["rejected"], token),
        (client, uuid, changed),
        (client, uuid, expired),
        (client, uuid, ""),
        (client, uuid, "\u202e\x00"),
        (client, uuid, "a" * 5000),
        (others, uuid, token),
    ):
        for page in ("video", "contact-sheet"):
            refused = browser.get(f"/submissions/{which}/{page}", query_string={"token": given})
            assert refused.status_code == 403, (which, given)
            assert "--open" in refused.text and "<video" not in refused.text
    both = make_app(**PRODUCTION | {"admin_token": ("new-" + ADMIN_TOKEN, ADMIN_TOKEN)}).test_client()
    assert both.get(f"/submissions/{uuid}/video?token={token}").status_code == 200


def test_the_token_of_a_link_is_not_in_the_log(client, uuid, capsys):
    path = ask(client, uuid).json["path"]
    client.get(path)
    token = path.partition("token=")[2]
    assert token not in "".join(capsys.readouterr())


def test_an_admin_sees_both(client, uuid):
    page = f"/admin/submissions/{uuid}"
    assert client.get(page).status_code == client.get(f"{page}/contact-sheet").status_code == 303
    log_in(client)
    shown = client.get(page)
    assert "<video controls" in shown.text and f'src="{page}/contact-sheet"' in shown.text
    assert client.get(f"{page}/contact-sheet").data == SHEET
    assert client.get("/admin/submissions/00000000-0000-0000-0000-000000000000").status_code == 404


def test_sheets_are_deleted_when_their_days_are_over(app, uuid):
    settings, storage = app.extensions["settings"], app.extensions["storage"]
    away = Storage(dataclasses.replace(settings, s3_endpoint="http://127.0.0.1:1"))
    with app.app_context():
        sheets.delete_old(settings, storage)
        assert stored(app, uuid) == SHEET and rows(app) == [uuid]
        db.session.execute(text("UPDATE contact_sheets SET stored_at = now() - interval '30 days 1 minute'"))
        db.session.commit()
        sheets.delete_old(settings, away)
        assert rows(app) == [uuid]
        sheets.delete_old(settings, storage)
    assert stored(app, uuid) is None and rows(app) == []


def test_a_takedown_takes_the_sheet_and_the_video_away(app, client, uuid):
    storage, settings = app.extensions["storage"], app.extensions["settings"]
    path = ask(client, uuid).json["path"]
    with app.app_context():
        moderation.take_down(UUID(uuid), Order("A face.", "Ada"), settings, storage)
        assert stored(app, uuid) == SHEET and sheets.read(UUID(uuid), storage) is None
        db.session.execute(text("UPDATE takedowns SET delete_at = now()"))
        db.session.commit()
        moderation.delete_objects(storage)
        assert stored(app, uuid) is None and rows(app) == []
        # a worker that comes too late
        sheets.keep(UUID(uuid), SHEET, app.extensions["settings"], storage)
    assert stored(app, uuid) is None and rows(app) == []
    assert ask(client, uuid).status_code == 409
    page = client.get(path)
    assert page.status_code == 200 and "<video" not in page.text and 'class="sheet"' not in page.text


def test_no_fault_with_a_sheet_costs_anything(app, story):
    settings, storage = app.extensions["settings"], app.extensions["storage"]
    away = Storage(dataclasses.replace(settings, s3_endpoint="http://127.0.0.1:1"))
    uuid = UUID(story["scored"])
    with app.app_context():
        sheets.keep(uuid, SHEET, settings, away)
        sheets.keep(uuid, SHEET, dataclasses.replace(settings, retain_contact_sheets_days=0), storage)
        assert sheets.read(uuid, storage) is None
        # whatever somebody puts there is served as a picture, or not at all
        storage.put(f"sheets/{uuid}.webp", b"<script>alert(1)</script>", "text/html", "")
        assert sheets.read(uuid, storage) is None


@pytest.mark.parametrize(
    ("sent", "is_kept"), [(wire.pack_sheet(SHEET), True), ("PHNjcmlwdD4=", False), (7, False)]
)
def test_a_remote_evaluator_sends_it_with_its_result(make_app, sent, is_kept):
    app = make_app()
    client = app.test_client()
    with app.app_context():
        make_submission()
    [row] = client.post("/v1/evaluate/fetch", json={"limit": 1}).json["submissions"]
    scores = {"technical_score": 1, "relevance_score": 0.8, "quality_score": 1, "final_score": 0.9}
    body = scores | {"submission_id": row["id"], "claim_token": row["claim_token"], "contact_sheet": sent}
    answer = client.post("/v1/evaluate/submit", json=body)
    assert (answer.status_code, answer.json["final_score"]) == (200, 0.9)
    assert (stored(app, row["submission_uuid"]) == SHEET) == is_kept
