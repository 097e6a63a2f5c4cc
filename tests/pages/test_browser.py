"""The pages in a real Chromium: what it complains of, what it asks for, and who can use them."""

import shutil

import pytest
from axe_playwright_python.sync_playwright import Axe
from playwright.sync_api import expect, sync_playwright

from tests.api.conftest import running
from tests.factories import make_submission
from tests.pages.test_pages import PUBLIC, address

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


@pytest.fixture
def site(settings, story, tmp_path):
    with running(settings, tmp_path) as url:
        yield url


@pytest.fixture
def open_page(chromium, site):
    """Opens a page in a context of its own: `open_page(path, **options)`.

    At the end the test fails if Chromium complained of anything, or asked another host.
    """
    complaints, contexts = [], []

    def opened(path, **options):
        context = chromium.new_context(**options)
        contexts.append(context)
        page = context.new_page()
        page.on(
            "console", lambda message: complaints.append(message.text) if message.type == "error" else None
        )
        page.on("pageerror", lambda error: complaints.append(str(error)))
        page.on("request", lambda asked: None if asked.url.startswith(site) else complaints.append(asked.url))
        page.goto(site + path)
        return page

    yield opened
    for context in contexts:
        context.close()
    assert complaints == []


def test_every_page_suits_telephones_screen_readers_and_dark_rooms(open_page, site, story):
    """One test, so that one browser and one server do for all pages."""
    wide = open_page("/", viewport={"width": 1440, "height": 900}, color_scheme="light")
    phone = open_page("/", viewport={"width": 390, "height": 800}, color_scheme="dark", is_mobile=True)
    for number, path in enumerate(PUBLIC):
        for page in (wide, phone):
            page.goto(site + address(path, story))
            assert page.evaluate("document.documentElement.scrollWidth <= innerWidth"), path
        # looks at hundreds of rules: each page once, by turns wide and light or narrow and dark
        found = Axe().run((wide, phone)[number % 2])
        assert found.violations_count == 0, (path, found.generate_report())


def test_pages_work_without_javascript(open_page, story):
    page = open_page("/", java_script_enabled=False)
    page.get_by_role("link", name="Cycles").click()
    page.get_by_role("link", name="1", exact=True).click()
    page.get_by_role("link", name=f"{story['ada'][:6]}…").first.click()
    page.get_by_role("link", name="Scored").first.click()
    expect(page.get_by_role("heading", name="How the score adds up")).to_be_visible()


def test_overview_shows_what_is_new_without_a_reload(open_page, app, story):
    page = open_page("/")
    waiting = page.locator(".figure", has_text="Waiting").locator("dd")
    expect(waiting).to_contain_text("1")
    with app.app_context():
        make_submission(prompt_id="mug")
    expect(waiting).to_contain_text("2", timeout=30_000)


def test_search_by_keyboard_alone(open_page, story):
    page = open_page("/")
    for _ in range(20):
        page.keyboard.press("Tab")
        if page.evaluate("document.activeElement.name") == "q":
            break
    page.keyboard.type(story["bob"])
    page.keyboard.press("Enter")
    expect(page.get_by_role("heading", name=story["bob"])).to_be_visible()
