"""The pages as they are answered: what they show, what they never do, and what they cost."""

import gzip
import re

import pytest

from tests.api.conftest import heard_statements
from tests.factories import insert, make_cycle, make_prompt, make_result, miner

PUBLIC = (
    "/",
    "/cycles",
    "/cycles/{first}",
    "/cycles/2",
    "/cycles/3",
    "/miners",
    "/miners/{ada}",
    "/prompts",
    "/submissions/{scored}",
    "/submissions/{rejected}",
    "/submissions/{waiting}",
    "/submissions/{held}",
)
# what costs the most: kept for some seconds, for all who ask
MOST_STATEMENTS = {"/": 4}


def address(path, story):
    return path.format(first=1, **story)


@pytest.mark.parametrize("path", PUBLIC)
def test_page_is_answered_with_what_keeps_it_harmless(client, story, path):
    answer = client.get(address(path, story))
    assert answer.status_code == 200
    assert answer.content_type == "text/html; charset=utf-8"
    policy = answer.headers["Content-Security-Policy"]
    assert "default-src 'none'" in policy and "unsafe" not in policy
    # nobody's markup became ours, and no address that somebody wrote became a link
    assert "<script>alert" not in answer.text and "<img src=x" not in answer.text
    assert 'href="https://evil.example"' not in answer.text
    assert not re.search(r'\sstyle=|\son\w+="|<style', answer.text)


def test_written_text_is_shown_as_it_was_written(client, story):
    assert "&lt;script&gt;alert(1)&lt;/script&gt;" in client.get(f"/submissions/{story['scored']}").text


@pytest.mark.parametrize("path", PUBLIC)
def test_page_costs_few_statements(app, client, story, path):
    statements = heard_statements(app)
    client.get(address(path, story))
    asked = [each for each in statements if "to_regclass" not in each]
    assert len(asked) <= MOST_STATEMENTS.get(path, 3)


@pytest.mark.parametrize("path", ["/", "/cycles", "/miners", "/prompts"])
def test_page_of_an_empty_database_says_what_comes_next(client, path):
    answer = client.get(path)
    assert answer.status_code == 200
    if path == "/":
        assert "Three steps to the first score" in answer.text
        assert "flask kibotos prompts load" in answer.text


def test_overview_shows_how_the_work_goes(client, story):
    text = client.get("/").text
    assert "Cycle 3" in text and "Cycle 2" in text
    assert "2 of 2 evaluated" not in text  # cycle 2 has one submission
    assert "1 of 1 evaluated" in text
    # two of the three evaluations were accepted
    assert "67%" in text and "The video does not show the requested task" in text


def test_leaderboard_shows_shares_of_the_points_that_count(client, story):
    text = client.get("/cycles/1").text
    assert text.index(story["ada"]) < text.index(story["bob"])
    assert "53.33%" in text and "46.67%" in text


def test_cycle_shows_its_ledger_and_what_was_corrected(app, client, story):
    with app.app_context():
        insert(
            "ledgers", cycle_id=1, root="ab" * 32, lines=9, neurons="[]", chunk_roots=b"", chunk_first_ids=[]
        )
    text = client.get("/cycles/1").text
    assert "ab" * 32 in text and "kibotos weights verify --backend-url http://localhost --cycle 1" in text
    assert "Corrections that count in it" not in text
    running = client.get("/cycles/2").text
    assert "Grace" in running and story["rejected"][:8] in running and "Ledger" not in running


def test_submission_shows_check_threshold_remedy_and_sum(client, story):
    text = client.get(f"/submissions/{story['scored']}").text
    for shown in (
        "The picture of 640x272 is smaller than 480x360.",
        "at least 480x360",
        "20% of the video is blurred, from 3.0 s on; 10% is allowed. Clean the lens.",
        "0.8000",
        "2.0 to 6.0 s",
        "0.0 to 4.0 s",
        "mirrored",
        "a-judge",
    ):
        assert shown in text


def test_effective_result_is_shown_with_who_decided_it(client, story):
    text = client.get(f"/submissions/{story['rejected']}").text
    assert re.search(r'class="status scored">Scored</span> <b class="n">0.5000', text)
    assert "Grace" in text and "Final by the evaluation" in text


def test_open_submissions_say_why_they_wait(client, story):
    assert "What kept it back so far" in client.get(f"/submissions/{story['waiting']}").text
    assert "A person looks at it" in client.get(f"/submissions/{story['held']}").text


@pytest.mark.parametrize("wanted", ["{ada}", "0"])
def test_search_leads_to_the_miner(client, story, wanted):
    answer = client.get("/miners", query_string={"q": wanted.format(**story)})
    assert answer.status_code == 303
    assert answer.location == f"/miners/{story['ada']}"


@pytest.mark.parametrize(
    "path",
    [
        "/cycles/99",
        "/cycles/99999999999999999999",
        "/miners/nobody",
        "/miners?q=65535",
        "/miners?q=-1",
        "/miners?q=%00",
        "/miners?q=%F0%9F%A6%91",
        "/submissions/00000000-0000-0000-0000-000000000000",
    ],
)
def test_what_is_not_there_is_said_on_a_page(client, path):
    answer = client.get(path)
    assert answer.status_code == 404
    if not path.endswith("9999999999"):
        assert answer.content_type == "text/html; charset=utf-8"


def test_miners_submissions_are_paged(client, app):
    hotkey = miner().ss58_address
    with app.app_context():
        cycle, prompt = make_cycle(), make_prompt()
        for number in range(53):
            make_result(number / 100, cycle_id=cycle, prompt_id=prompt)
    first = client.get(f"/miners/{hotkey}").text
    assert first.count('class="row"') == 50
    more = re.search(rf'href="(/miners/{hotkey}\?before=[^"]+)"', first)[1]
    second = client.get(more).text
    assert second.count('class="row"') == 3
    assert client.get(f"/miners/{hotkey}?before=nonsense").text.count('class="row"') == 50


def test_page_that_did_not_change_is_not_sent_again(client, story):
    first = client.get("/cycles/1", headers={"Accept-Encoding": "gzip"})
    assert len(first.data) < 60_000 and b"Leaderboard" in gzip.decompress(first.data)
    again = client.get("/cycles/1", headers={"If-None-Match": first.headers["ETag"]})
    assert (again.status_code, again.data) == (304, b"")
    assert "Leaderboard" in client.get("/cycles/1", headers={"Accept-Encoding": "identity"}).text


def test_style_and_script_are_ours_and_kept_by_browsers(client, story):
    text = client.get("/").text
    for path in set(re.findall(r'(?:href|src)="(/static/[^"]+)"', text)):
        answer = client.get(path)
        assert answer.status_code == 200 and "immutable" in answer.headers["Cache-Control"]
        assert len(answer.data) < 20_000
    assert client.get("/static/../../config.py").status_code == 404
