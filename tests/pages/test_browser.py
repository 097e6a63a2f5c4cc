"""The pages in a real Chromium: what it complains of, what it asks for, and who can use them."""

import shutil
from dataclasses import dataclass
from uuid import UUID

import pytest
import requests
from axe_playwright_python.sync_playwright import Axe
from flask import Flask
from playwright.sync_api import expect, sync_playwright
from redis import Redis

from app import create_app
from app.clients.storage import Storage
from app.db import db
from app.sheets import service as sheets
from tests.api.conftest import ADMIN_TOKEN, running
from tests.appeals.conftest import uuid_of
from tests.conftest import empty_database
from tests.factories import insert, make_result, make_submission, make_upload
from tests.pages.conftest import SHEET, make_report, tell_story
from tests.pages.test_pages import PUBLIC, address
from tests.processes import eventually
from tests.videos import footage

CHROMIUM = next(filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome"))), None)
# the first lets it run as root; the others keep it from calling its maker
ARGUMENTS = [
    "--no-sandbox",
    "--disable-gpu",
    "--disable-quic",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
]
pytestmark = pytest.mark.skipif(
    CHROMIUM is None, reason="NOT RUN: no Chromium; install one (apt-get install chromium)"
)


@pytest.fixture(scope="module")
def chromium():
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=CHROMIUM, args=ARGUMENTS)
        yield browser
        browser.close()


@dataclass(frozen=True)
class Stage:
    """A server on a database with a story: one for all tests, since they only add to it."""

    app: Flask
    story: dict[str, str]
    url: str
    # a submission with a video in storage, a contact sheet, and a review that waits longest
    filmed: str


@pytest.fixture(scope="module")
def stage(settings, postgres, valkey, tmp_path_factory):
    empty_database(postgres.url)
    with Redis.from_url(valkey.url) as redis:
        redis.flushall()
    app, storage = create_app(settings), Storage(settings)
    with app.app_context():
        story = tell_story()
        key = make_upload()
        url, headers = storage.presign_put(key, "video/mp4", None, 600)
        requests.put(url, data=footage("bikes").read_bytes(), headers=headers, timeout=10).raise_for_status()
        id = make_result(prompt_id="mug", video_key=key)
        insert("verification_reports", submission_id=id, report=make_report())
        insert("reviews", submission_id=id, reason="Is this a mug?", waits_since="2026-01-01")
        filmed = uuid_of(id)
        sheets.keep(UUID(filmed), SHEET, settings, storage)
    with running(settings, tmp_path_factory.mktemp("browser"), admin_token=(ADMIN_TOKEN,)) as url:
        yield Stage(app, story, url, filmed)
    with app.app_context():
        db.engine.dispose()


@pytest.fixture
def site(stage):
    return stage.url


@pytest.fixture
def story(stage):
    return stage.story


@pytest.fixture
def open_page(chromium, site, settings):
    """Opens a page in a context of its own: `open_page(path, **options)`.

    At the end the test fails if Chromium complained of anything, or asked another host.
    """
    complaints, contexts = [], []

    def is_foreign(url):
        # an admin's page shows videos out of storage
        return not url.startswith((site, settings.s3_endpoint))

    def opened(path, **options):
        context = chromium.new_context(**options)
        contexts.append(context)
        page = context.new_page()
        page.on(
            "console", lambda message: complaints.append(message.text) if message.type == "error" else None
        )
        page.on("pageerror", lambda error: complaints.append(str(error)))
        page.on("request", lambda asked: complaints.append(asked.url) if is_foreign(asked.url) else None)
        page.goto(site + path)
        return page

    yield opened
    for context in contexts:
        context.close()
    assert complaints == []


def until(page, condition):
    """Wait for a condition in JavaScript. Playwright's own way needs eval(), which our policy refuses."""
    eventually(lambda: page.evaluate(condition), 60)


def check_access(page):
    """Fail if axe-core finds anything. It cannot know that there are no captions for what miners film."""
    found = Axe().run(page, options={"rules": {"video-caption": {"enabled": False}}})
    assert found.violations_count == 0, (page.url, found.generate_report())


def test_every_page_suits_telephones_screen_readers_and_dark_rooms(open_page, site, story):
    """One test, so that one browser and one server do for all pages."""
    wide = open_page("/", viewport={"width": 1440, "height": 900}, color_scheme="light")
    phone = open_page("/", viewport={"width": 390, "height": 800}, color_scheme="dark", is_mobile=True)
    for number, path in enumerate(PUBLIC):
        for page in (wide, phone):
            page.goto(site + address(path, story))
            assert page.evaluate("document.documentElement.scrollWidth <= innerWidth"), path
        # looks at hundreds of rules: each page once, by turns wide and light or narrow and dark
        check_access((wide, phone)[number % 2])


def test_pages_work_without_javascript(open_page, story):
    page = open_page("/", java_script_enabled=False)
    page.get_by_role("link", name="Cycles").click()
    page.get_by_role("link", name="1", exact=True).click()
    page.get_by_role("link", name=f"{story['ada'][:6]}…").first.click()
    page.get_by_role("link", name="Scored").first.click()
    expect(page.get_by_role("heading", name="How the score adds up")).to_be_visible()


def test_overview_shows_what_is_new_without_a_reload(open_page, stage):
    page = open_page("/")
    waiting = page.locator(".figure", has_text="Waiting").locator("dd")
    expect(waiting).to_contain_text("1")
    with stage.app.app_context():
        make_submission(prompt_id="mug")
    expect(waiting).to_contain_text("2", timeout=60_000)


def test_search_by_keyboard_alone(open_page, story):
    page = open_page("/")
    for _ in range(20):
        page.keyboard.press("Tab")
        if page.evaluate("document.activeElement.name") == "q":
            break
    page.keyboard.type(story["bob"])
    page.keyboard.press("Enter")
    expect(page.get_by_role("heading", name=story["bob"])).to_be_visible()


def log_in(page):
    page.get_by_label("Your name").fill("Grace")
    page.get_by_label("Admin's token").fill(ADMIN_TOKEN)
    page.keyboard.press("Enter")


def test_admin_publishes_a_prompt_that_the_api_then_lists(open_page, site):
    page = open_page("/admin/prompts/new")
    log_in(page)
    page.get_by_label("Id", exact=True).fill("new-mug")
    page.get_by_label("Category").select_option("household")
    page.get_by_label("Task").fill("grasp")
    page.get_by_label("What is to be filmed").fill("Pick up a new mug")
    page.get_by_role("button", name="Publish").click()
    expect(page.get_by_role("link", name="new-mug")).to_be_visible()
    assert "new-mug" in [prompt["id"] for prompt in requests.get(f"{site}/v1/prompts", timeout=10).json()]


def test_a_second_on_the_page_leads_into_the_video(open_page, site, stage):
    page = open_page(f"/admin/submissions/{stage.filmed}", viewport={"width": 390, "height": 800})
    log_in(page)
    expect(page.get_by_role("heading", name="The video")).to_be_visible()
    until(page, "document.querySelector('video').readyState > 0")
    # both pictures are there: the sheet from here, the video from storage
    until(page, "document.querySelector('img.sheet').naturalWidth === 960")
    page.get_by_role("link", name="3.0 to 4.6").click()
    until(page, "Math.abs(document.querySelector('video').currentTime - 3) < 0.01")
    check_access(page)
    for path in ("/admin/queues", "/admin/log", "/admin/prompts", f"/admin/submissions/{stage.filmed}"):
        page.goto(site + path)
        assert page.evaluate("document.documentElement.scrollWidth <= innerWidth"), path


def test_review_is_decided_by_keyboard_alone(open_page):
    page = open_page("/admin/reviews")
    log_in(page)
    expect(page.get_by_text("Is this a mug?")).to_be_visible()
    check_access(page)
    # the video is there, from storage, which the policy names
    until(page, "document.querySelector('video').readyState > 0")
    until(page, "document.querySelector('img.sheet').naturalWidth === 960")
    # without a reason the key leads to its field
    page.keyboard.press("r")
    page.keyboard.type("It is a glass.")
    page.keyboard.press("Escape")
    page.keyboard.press("r")
    expect(page.get_by_role("heading", name="No review waits")).not_to_be_visible()
    expect(page.get_by_text("No judge could answer.").first).to_be_visible()
    page.keyboard.press("s")
    expect(page.get_by_role("heading", name="No review waits")).to_be_visible()
    check_access(page)
