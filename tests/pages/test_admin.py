"""The pages of admins: who gets in, who does not, and what is written down of what they do."""

import re
import zlib
from base64 import b64encode
from datetime import UTC, datetime

import pytest
from sqlalchemy import text

from app.db import db
from app.pages import sessions
from app.queue import EVALUATIONS, ListedJob, enqueue_evaluations, open_queue
from app.web.auth import token_name
from tests.api.conftest import ADMIN_TOKEN, EVALUATOR_TOKEN, PRODUCTION, bearer
from tests.factories import insert, make_prompt, make_result

PATHS = (
    "/admin/",
    "/admin/log",
    "/admin/queues",
    "/admin/storage",
    "/admin/judge",
    "/admin/prompts",
    "/admin/prompts/new",
    "/admin/reviews",
)


@pytest.fixture
def app(make_app):
    return make_app(**PRODUCTION)


def log_in(client, token=ADMIN_TOKEN, **form):
    return client.post(
        "/admin/login", data={"name": "Grace", "token": token, "next": "/admin/prompts"} | form
    )


@pytest.fixture
def admin(client):
    """A client with a session, and `admin.send(path, **form)` as its browser sends a page's form."""
    assert log_in(client).status_code == 303

    def send(path, **form):
        key = re.search(r'name="form_key" value="([^"]+)"', client.get("/admin/").text)[1]
        return client.post(path, data={"form_key": key} | form)

    client.send = send
    return client


def scalar(app, statement):
    with app.app_context():
        value = db.session.execute(text(statement)).scalar()
        db.session.rollback()
        return value


@pytest.mark.parametrize("path", PATHS)
def test_without_a_session_every_page_leads_to_the_login(client, path):
    answer = client.get(path)
    assert (answer.status_code, answer.location) == (303, f"/admin/login?next={path}")
    assert client.post("/admin/prompts/new", data={"id": "x"}).location.startswith("/admin/login")


def test_session_cookie_is_safe_and_ends_at_logout(client, admin):
    cookie = log_in(client).headers["Set-Cookie"]
    assert "HttpOnly" in cookie and "SameSite=Strict" in cookie and "Path=/admin" in cookie
    assert "Secure" not in cookie
    secure = client.post(
        "/admin/login",
        data={"name": "Grace", "token": ADMIN_TOKEN},
        headers={"X-Forwarded-Proto": "https"},
    )
    assert "Secure" in secure.headers["Set-Cookie"]
    assert client.get("/admin/").headers["Cache-Control"] == "no-store"
    assert admin.send("/admin/logout").status_code == 303
    assert client.get("/admin/").status_code == 303


@pytest.mark.parametrize(
    "token", ["", "wrong", EVALUATOR_TOKEN, ADMIN_TOKEN[:-1], ADMIN_TOKEN + "x", "\x00", "ü"]
)
def test_wrong_token_is_refused(client, token):
    answer = log_in(client, token)
    assert answer.status_code == 403 and "Set-Cookie" not in answer.headers
    assert client.get("/admin/").status_code == 303


@pytest.mark.parametrize("cookie", ["", "e30.x.y", "{}", "a" * 4000])
def test_made_up_cookie_is_no_session(client, cookie):
    client.set_cookie("kibotos_admin", cookie, path="/admin")
    assert client.get("/admin/").status_code == 303


def test_session_ends_when_its_token_is_replaced(make_app, admin):
    cookie = admin.get_cookie("kibotos_admin", path="/admin").value
    other = make_app(**PRODUCTION | {"admin_token": ("another-" + ADMIN_TOKEN,)}).test_client()
    other.set_cookie("kibotos_admin", cookie, path="/admin")
    assert other.get("/admin/").status_code == 303


def test_many_wrong_tokens_lock_their_address_out(client):
    answers = [log_in(client, "wrong") for _ in range(11)]
    assert [answer.status_code for answer in answers] == [403] * 10 + [429]
    assert int(answers[-1].headers["Retry-After"]) == 900
    assert log_in(client).status_code == 429
    elsewhere = client.post(
        "/admin/login",
        data={"name": "Ada", "token": ADMIN_TOKEN},
        headers={"X-Forwarded-For": "127.0.0.1, 10.9.8.7"},
    )
    assert elsewhere.status_code == 303


@pytest.mark.parametrize(
    ("peer", "forwarded", "counted_as"),
    [
        ("127.0.0.1", "203.0.113.5, 198.51.100.7", "198.51.100.7"),
        ("10.0.0.9", "198.51.100.7", "198.51.100.7"),
        ("10.0.0.9", "", "10.0.0.9"),
        # whoever speaks to us without a proxy may claim anything
        ("9.9.9.9", "10.1.1.1", "9.9.9.9"),
        ("2620:fe:1:2:3::4", "10.1.1.1", "2620:fe:1:2::/64"),
        ("10.0.0.9", "2001:db8:1:2:ffff::1", "2001:db8:1:2::/64"),
        ("10.0.0.9", "unknown", "10.0.0.9"),
    ],
)
def test_nobody_chooses_the_address_that_is_locked_out(app, peer, forwarded, counted_as):
    with app.test_request_context(
        "/admin/login", environ_base={"REMOTE_ADDR": peer}, headers={"X-Forwarded-For": forwarded}
    ):
        assert sessions._address() == counted_as


@pytest.mark.parametrize(
    "wanted",
    [
        "https://evil.example/",
        "//evil.example",
        "/admin/\\evil",
        "/admin//evil.example",
        "",
        "javascript:alert(1)",
        "\t/admin/",
        "/\t/evil.example",
    ],
)
def test_login_leads_to_our_own_pages_only(client, wanted):
    assert log_in(client, next=wanted).location == "/admin/"


def test_form_of_another_site_is_refused(app, admin):
    prompt = {"id": "mug", "category": "manipulation", "task": "grasp", "scenario": "Pick up a mug"}
    for form in (prompt, prompt | {"form_key": "guessed"}):
        assert admin.post("/admin/prompts/new", data=form).status_code == 403
    assert scalar(app, "SELECT count(*) FROM prompts") == 0


def test_prompt_is_published_changed_and_retired(app, admin):
    form = {
        "id": "mug",
        "category": "manipulation",
        "task": "grasp",
        "scenario": "Pick up a mug",
        "weight": "2",
        "requirements": '{"min_fps": 24}',
    }
    assert admin.send("/admin/prompts/new", **form).status_code == 303
    assert admin.get("/v1/prompts/mug").json["requirements"] == {"min_fps": 24}
    # as a browser sends it: an unchecked box is not there
    assert admin.send("/admin/prompts/mug", weight="3.5", requirements="", expires_at="").status_code == 303
    assert admin.get("/v1/prompts/mug").json | {"weight": 3.5, "is_active": False, "requirements": {}} == (
        admin.get("/v1/prompts/mug").json
    )
    log = admin.get("/admin/log").text
    assert log.index("change prompt") < log.index("create prompt") and "Grace" in log


@pytest.mark.parametrize(
    ("wrong", "told"),
    [
        ({"id": "a b"}, "id:"),
        ({"id": "taken"}, "exists already"),
        ({"weight": "heavy"}, "weight or requirements"),
        ({"weight": "nan"}, "weight:"),
        ({"requirements": "{"}, "weight or requirements"),
        ({"requirements": "[" * 100_000}, "weight or requirements"),
        ({"requirements": '{"min_fps": "many"}'}, "requirements"),
        ({"expires_at": "tomorrow"}, "expires_at"),
        ({"category": "cooking"}, "category"),
        ({"scenario": ""}, "scenario"),
    ],
)
def test_wrong_field_is_named_and_what_was_typed_stays(app, admin, wrong, told):
    with app.app_context():
        make_prompt(id="taken")
    form = {"id": "mug", "category": "manipulation", "task": "grasp", "scenario": "Pick up a blue mug"}
    answer = admin.send("/admin/prompts/new", **form | wrong)
    assert answer.status_code == 422
    assert "Nothing was saved" in answer.text and told in answer.text
    assert "scenario" in wrong or "Pick up a blue mug" in answer.text
    assert scalar(app, "SELECT count(*) FROM prompts") == 1


def open_review(app, **values):
    with app.app_context():
        id = make_result(**values)
        insert("reviews", submission_id=id, reason="The judge says that text speaks to it.")
    return scalar(app, f"SELECT uuid FROM submissions WHERE id = {id}")


def test_reviews_are_decided_one_after_the_other(app, admin):
    first, second = open_review(app), open_review(app)
    assert admin.get("/admin/reviews").location == f"/admin/reviews/{first}"
    assert admin.get(f"/admin/reviews?after={first}").location == f"/admin/reviews/{second}"
    page = admin.get(f"/admin/reviews/{first}")
    assert "The judge says that text speaks to it." in page.text
    assert re.search(r"media-src http://127\.0\.0\.1:\d+", page.headers["Content-Security-Policy"])
    for form in ({"verb": "reject", "reason": " "}, {"verb": "delete", "reason": "no"}, {}):
        assert admin.send(f"/admin/reviews/{first}", **form).status_code == 409
    answer = admin.send(f"/admin/reviews/{first}", verb="reject", reason="It reads out the answer.")
    assert (answer.status_code, answer.location) == (303, "/admin/reviews")
    assert admin.get("/admin/reviews").location == f"/admin/reviews/{second}"
    correction = admin.get(f"/v1/submissions/{first}").json["corrections"][0]
    assert correction["decided_by"] == "Grace" and correction["reason"] == "It reads out the answer."
    # somebody else was faster
    assert admin.send(f"/admin/reviews/{first}", verb="accept", reason="Fine.").status_code == 409
    assert admin.get(f"/admin/reviews?after={second}").status_code == 200


def test_queues_show_what_waits(app, admin):
    enqueue_evaluations(app.extensions["redis"], 3, 60)
    text = admin.get("/admin/queues").text
    assert re.search(r'Evaluations</th><td class="n">3</td><td class="n">0</td><td class="n">0</td>', text)
    assert "No worker runs" in text


@pytest.fixture
def failed(app):
    """Ids of two evaluations that failed, and the queue."""
    redis = app.extensions["redis"]
    enqueue_evaluations(redis, 2, 60)
    queue = open_queue(EVALUATIONS, redis)
    ids = queue.get_job_ids()
    for id in ids:
        queue.failed_job_registry.add(ListedJob.fetch(id, redis), 60)
        queue.remove(id)
        redis.xadd(
            f"rq:results:{id}",
            {"type": 2, "exc_string": b64encode(zlib.compress(b"Traceback\nValueError: <b>no</b> sense\n"))},
        )
    return queue, ids


def test_failed_jobs_are_shown_queued_again_and_forgotten(app, admin, failed):
    queue, (first, second) = failed
    page = admin.get("/admin/queues").text
    assert page.count("ValueError: &lt;b&gt;no&lt;/b&gt; sense") == 2 and "evaluate_next" in page
    assert admin.send("/admin/queues", queue="evaluations", job=first, verb="requeue").status_code == 303
    assert queue.get_job_ids() == [first]
    assert queue.failed_job_registry.get_job_ids() == [second]
    admin.send("/admin/queues", queue="evaluations", verb="forget")
    assert queue.failed_job_registry.get_job_ids() == [] and queue.get_job_ids() == [first]
    assert "forget failed jobs" in admin.get("/admin/log").text
    for form in ({"queue": "evaluations", "verb": "run"}, {"queue": "x", "verb": "forget"}, {}):
        assert admin.send("/admin/queues", **form).status_code == 409


def test_a_hostile_failed_job_is_not_run_and_not_unpacked(app, admin, failed):
    _, (first, second) = failed
    redis = app.extensions["redis"]
    redis.hset(f"rq:job:{first}", "data", zlib.compress(b"cos\nsystem\n(S'true'\ntR."))
    bomb = b64encode(zlib.compress(bytes(50_000_000)))
    redis.xadd(f"rq:results:{second}", {"type": 2, "exc_string": bomb})
    page = admin.get("/admin/queues")
    assert page.status_code == 200 and first not in page.text and second in page.text
    assert len(page.data) < 100_000


def test_judge_is_shown_beside_its_limit(admin):
    text = admin.get("/admin/judge").text
    assert "No gold film has been answered lately" in text and "kibotos gold add" in text


def test_what_the_api_does_for_an_admin_is_in_the_log_too(app, client):
    new = {"id": "mug", "category": "manipulation", "task": "grasp", "scenario": "Pick up a mug"}
    assert client.post("/v1/admin/prompts", json=new, headers=bearer(ADMIN_TOKEN)).status_code == 201
    assert client.post("/v1/admin/prompts", json=new, headers=bearer(ADMIN_TOKEN)).status_code == 409
    client.get("/v1/admin/reviews", headers=bearer(ADMIN_TOKEN))
    assert scalar(app, "SELECT count(*) FROM admin_actions") == 1
    assert (
        scalar(app, "SELECT done_by || ': ' || action FROM admin_actions")
        == f"{token_name(ADMIN_TOKEN)}: POST /v1/admin/prompts"
    )


def test_a_review_shows_the_appeal_as_text_and_can_uphold_the_result(app, admin):
    with app.app_context():
        id = make_result(status="REJECTED")
        insert("appeals", submission_id=id, miner_hotkey="5" * 48, reason="<b>Look</b> again.",
               against_status="REJECTED", against_score=0.0, attempts_before=1, state="IN_REVIEW",
               status="SCORED", final_score=0.9, technical_score=1.0, relevance_score=0.8, quality_score=1.0,
               evaluated_by="worker", report={}, evaluated_at="now")  # fmt: skip
        insert("reviews", submission_id=id, reason="Its result is appealed against.")
    uuid = scalar(app, "SELECT uuid FROM submissions")
    page = admin.get(f"/admin/reviews/{uuid}").text
    assert "&lt;b&gt;Look&lt;/b&gt; again." in page and "0.9" in page
    assert "<b>Look" not in page
    assert admin.send(f"/admin/reviews/{uuid}", verb="uphold", reason="It shows no mug.").status_code == 303
    assert scalar(app, "SELECT state || ' ' || decided_by FROM appeals") == "UPHELD Grace"
    public = admin.get(f"/submissions/{uuid}").text
    assert "the result stands" in public and "It shows no mug." in public
    # what the miner writes is for the person who decides
    assert "again." not in public


def test_a_video_is_taken_down_from_its_page(app, admin, story):
    path = f"/admin/submissions/{story['scored']}"
    find = f"""SELECT taken_down_by FROM takedowns t JOIN submissions s ON s.id = t.submission_id
               WHERE s.uuid = '{story["scored"]}' AND NOT t.by_miner"""
    page = admin.get(path).text
    assert "<video" in page and "Take down</button>" in page
    form = {"reason": "A person in it asked.", "is_sure": "on"}
    for wrong, said in (
        ({"is_sure": "on", "reason": " "}, "reason"),
        ({"reason": form["reason"]}, "Tick the box"),
        (form | {"reason": "\x1b[2J"}, "control characters"),
    ):
        refused = admin.send(f"{path}/takedown", **wrong)
        assert refused.status_code == 409 and said in refused.text
        assert "<video" in refused.text
    assert admin.post(f"{path}/takedown", data=form).status_code == 403
    assert scalar(app, find) is None
    assert admin.send(f"{path}/takedown", **form).status_code == 303
    assert scalar(app, find) == "Grace"
    assert scalar(app, "SELECT action FROM admin_actions ORDER BY id DESC LIMIT 1") == "take down"
    for page in (admin.get(path).text, admin.get(f"/submissions/{story['scored']}").text):
        assert 'by <span dir="auto">Grace' in page and "A person in it asked." in page
        assert "<video" not in page and "Take down</button>" not in page


def test_the_nights_of_storage_are_shown(app, admin):
    assert "No sweep has begun yet" in admin.get("/admin/storage").text
    found = {
        "aborted": 3,
        "accepted": {"objects": 1200, "size_bytes": 5_000_000, "due": 0, "due_bytes": 0,
                     "deleted": 0, "deleted_bytes": 0},
        "orphan": {"objects": 150, "size_bytes": 70_000, "due": 150, "due_bytes": 70_000,
                   "deleted": 0, "deleted_bytes": 0},
    }  # fmt: skip
    with app.app_context():
        insert("storage_sweeps", found=found, finished_at=datetime.now(UTC))
        insert("storage_sweeps", found={}, last_error="Storage is out of reach at the moment.")
    page = admin.get("/admin/storage").text
    assert "1,200" in page and "5.0 MB" in page and "it is the product" in page
    assert "Storage is out of reach" in page and "unknown to the database" in page
