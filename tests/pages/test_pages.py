"""The pages as they are answered: what they show, what they never do, and what they cost."""

import gzip
import re

import pytest

from tests.api.conftest import heard_statements
from tests.appeals.conftest import uuid_of
from tests.factories import insert, make_cycle, make_prompt, make_result, miner, tamper
from tests.pages.conftest import make_report

PUBLIC = (
    "/",
    "/cycles",
    "/cycles/{first}",
    "/cycles/2",
    "/cycles/3",
    "/miners",
    "/miners/{ada}",
    "/prompts",
    "/releases",
    "/releases/kitchen-1",
    "/releases/withdrawn",
    "/releases/building",
    "/releases/failed",
    "/submissions/{scored}",
    "/submissions/{rejected}",
    "/submissions/{waiting}",
    "/submissions/{held}",
)


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
    # and nothing that somebody wrote turns around what stands behind it
    assert not re.search("[\u202a-\u202e\u2066-\u2069\x00-\x08\x0b-\x1f\x7f-\x9f]", answer.text)
    assert not re.search(r'\sstyle=|\son\w+="|<style', answer.text)


def test_written_text_is_shown_as_it_was_written(client, story):
    assert "&lt;script&gt;alert(1)&lt;/script&gt;" in client.get(f"/submissions/{story['scored']}").text


@pytest.mark.parametrize("path", PUBLIC)
def test_page_costs_few_statements(app, client, story, path):
    statements = heard_statements(app)
    client.get(address(path, story))
    assert len(statements) <= 3


@pytest.mark.parametrize("path", ["/", "/cycles", "/miners", "/prompts", "/releases"])
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


def test_strip_marks_each_fault_at_its_seconds(client, story):
    text = client.get(f"/submissions/{story['scored']}").text
    lanes = dict(re.findall(r'<dt>([^<]+)</dt>\s*<dd><svg.*?</svg>\s*<span class="n">([^<]+) s</span>', text))
    assert lanes == {
        "Seen before": "2.0 to 6.0",
        "Nothing moves": "0.5 to 1.5",
        "Blurred": "3.0 to 4.6, 8.0 to 8.4",
        "Cuts": "4.0",
        "Seen by the judge": "1.0, 9.0",
    }
    assert '<div class="lane warn"><dt>Blurred' in text and '<div class="lane mild"><dt>Nothing' in text
    # 3 s of 10, for 1.6 s
    assert '<rect class="mark" x="300.0" width="160.0"' in text


def test_an_old_report_says_that_it_does_not_know_where(app, client, story):
    report = make_report()
    del report["measures"]["spans"]
    with app.app_context():
        id = make_result(prompt_id="mug")
        insert("verification_reports", submission_id=id, report=report)
        uuid = uuid_of(id)
    assert "This report is of an older release" in client.get(f"/submissions/{uuid}").text


def test_whatever_an_evaluator_reports_the_page_stays_small_and_readable(app, client, story):
    endless, huge = "W" * 3000, 1e300
    check = {
        "name": endless,
        "passed": False,
        "value": endless,
        "threshold": huge,
        "weight": huge,
        "reason": endless,
    }
    deduction = {
        "name": "blurred",
        "value": huge,
        "threshold": -huge,
        "factor": 1,
        "points": huge,
        "reason": endless,
    }
    span = {"start": -huge, "end": huge, "other_start": huge, "other_end": 0, "mirrored": False}
    match = {"submission_uuid": "../../admin/logout", "share": huge, "counts": True, "spans": [span] * 30}
    whole = make_report()
    report = make_report(
        technical={"score": huge, "checks": [check] * 60},
        quality={"score": -huge, "deductions": [deduction] * 60},
        duplicates={"compared": True, "same_file": "\u202egnp.exe", "matches": [match] * 30},
        video=whole["video"] | {"width": 10**300, "fps": huge, "duration": 1e-300, "codec": endless},
        measures=whole["measures"] | {"cuts": [huge, -huge] * 500},
    )
    with app.app_context():
        id = make_result(prompt_id="mug", miner_hotkey=story["ada"])
        insert("verification_reports", submission_id=id, report=report)
        uuid = uuid_of(id)
    answer = client.get(f"/submissions/{uuid}", headers={"Accept-Encoding": "gzip"})
    assert answer.status_code == 200 and len(answer.data) < 60_000
    text = gzip.decompress(answer.data).decode()
    assert len(text) < 400_000 and "too large to show" in text
    assert not re.search(r'href="[^"]*logout', text) and not re.search(r"[0-9]{40}", text)


def test_the_page_says_how_and_until_when_to_appeal(app, client, story):
    def page(**values):
        with app.app_context():
            return client.get(f"/submissions/{uuid_of(make_result(prompt_id='mug', **values))}").text

    assert "Is this result wrong?" not in client.get(f"/submissions/{story['waiting']}").text
    open_until = page(status="REJECTED")
    assert "kibotos miner appeal" in open_until and "Its miner can appeal once, until" in open_until
    with app.app_context():
        id = make_result(prompt_id="mug")
        tamper(id, "evaluated_at = now() - interval '25 hours'")
        uuid = uuid_of(id)
    over = client.get(f"/submissions/{uuid}").text
    assert "The time to appeal ended" in over and "kibotos miner appeal" not in over
    # what a person will decide, and what is appealed against already, is not
    with app.app_context():
        insert("reviews", submission_id=id, reason="Is it?")
    assert "Is this result wrong?" not in client.get(f"/submissions/{uuid}").text


def test_many_prompts_are_paged_and_filtered(app, client):
    with app.app_context():
        for number in range(61):
            make_prompt(id=f"p-{number:03}", category="household" if number % 2 else "manipulation")
    first = client.get("/prompts").text
    assert first.count('class="card"') == 60 and 'href="/prompts?after=p-059"' in first
    assert "p-060" in client.get("/prompts?after=p-059").text
    kitchen = client.get("/prompts?category=household").text
    assert "p-001" in kitchen and "p-002" not in kitchen
    assert client.get("/prompts?category=cooking").status_code == 404
    assert client.get("/prompts", query_string={"after": "\u202e" * 900}).status_code == 200


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
    packed = {"Accept-Encoding": "gzip"}
    first = client.get("/cycles/1", headers=packed)
    assert len(first.data) < 60_000 and b"Leaderboard" in gzip.decompress(first.data)
    again = client.get("/cycles/1", headers=packed | {"If-None-Match": first.headers["ETag"]})
    assert (again.status_code, again.data) == (304, b"")
    assert "Leaderboard" in client.get("/cycles/1", headers={"Accept-Encoding": "identity"}).text


def test_style_and_script_are_ours_and_kept_by_browsers(client, story):
    text = client.get("/").text
    for path in set(re.findall(r'(?:href|src)="(/static/[^"]+)"', text)):
        answer = client.get(path)
        assert answer.status_code == 200 and "immutable" in answer.headers["Cache-Control"]
        assert len(answer.data) < 20_000
    assert client.get("/static/../../config.py").status_code == 404


def test_releases_show_what_they_are_and_how_far(client, story):
    listed = client.get("/releases").text
    assert [name in listed for name in ("kitchen-1", "withdrawn", "building", "failed")] == [True] * 4
    complete = client.get("/releases/kitchen-1").text
    assert "ab" * 32 in complete and "kibotos releases export kitchen-1" in complete
    assert "&lt;script&gt;alert(1)" in complete
    withdrawn = client.get("/releases/withdrawn").text
    assert "1 of its videos was taken down" in withdrawn and "releases export" not in withdrawn
    building = client.get("/releases/building").text
    assert "1 of 2" in building and "at least 0.7" in building and "1 to 2" in building
    failed = client.get("/releases/failed").text
    assert "kibotos releases show failed" in failed and "alert(1)" not in failed
    assert client.get("/releases/none").status_code == 404


def test_releases_are_told_as_json(client, story):
    answer = client.get("/v1/releases?limit=3").json
    assert [each["name"] for each in answer["releases"]] == ["failed", "building", "withdrawn"]
    assert answer["next"] == "withdrawn"
    answer = client.get("/v1/releases?before=withdrawn").json
    assert [each["name"] for each in answer["releases"]] == ["kitchen-1"] and answer["next"] is None
    one = client.get("/v1/releases/withdrawn").json
    assert (one["state"], one["films_taken_down"], one["figures"]["episodes"]) == ("COMPLETE", 1, 2)
    assert client.get("/v1/releases/none").status_code == 404
    assert client.get("/v1/releases?limit=0").status_code == 422
