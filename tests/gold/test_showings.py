"""A gold film comes to evaluators like a submission, and counts nowhere."""

import hashlib
import threading
import uuid
from collections import Counter
from datetime import UTC, datetime, timedelta

import pytest
import requests
from bittensor import http_auth

from app.appeals.models import reason_hash
from app.assessment import wire
from app.db import db
from app.duplicates import service as duplicates
from app.enums import Dependency, EvaluatedBy
from app.errors import TransientError
from app.evaluation import reconcile
from app.evaluation import service as evaluation
from app.gold import queries, service
from app.hotkeys import appeal_statement
from app.pages import queries as pages
from app.weights import service as weights
from tests.api.conftest import signed_submission
from tests.corrections.conftest import complete
from tests.evaluation.footage import film as footage
from tests.evaluation.footage import hashes
from tests.evaluation.test_duplicates import outcome_of
from tests.factories import make_cycle, make_submission, make_upload, miner
from tests.gold.conftest import ONE, execute
from tests.moderation.test_takedowns import statement


def split(rows):
    """Separate what was fetched into the showings and the submissions."""
    ids = {each.id for each in execute("SELECT id FROM gold_showings")}
    return [row for row in rows if row["id"] in ids], [row for row in rows if row["id"] not in ids]


def shape(node):
    """The keys and types of JSON, and the length of what is random in it."""
    if isinstance(node, dict):
        return {name: shape(child) for name, child in node.items()}
    return [shape(child) for child in node[:1]] if isinstance(node, list) else type(node)


def test_a_gold_film_is_fetched_among_submissions_and_looks_like_one(film, show, one):
    film()
    show()
    make_submission(prompt_id="p", duration_sec=9.5)
    rows = one.fetch()
    [gold], others = split(rows)
    assert [row["id"] for row in rows] == sorted(row["id"] for row in rows)
    assert others[0]["id"] < gold["id"] < others[-1]["id"] == gold["id"] + 1
    other = others[-1]
    assert shape(gold) == shape(other)
    for name in ("submission_uuid", "claim_token", "frame_seed"):
        assert uuid.UUID(gold[name]).version == uuid.UUID(other[name]).version == 4
    assert gold["lease_expires_at"] == other["lease_expires_at"] and gold["attempt"] == other["attempt"]
    prefix, key, name = gold["video_key"].split("/")
    assert (prefix, name) == ("uploads", "video.mp4") and uuid.UUID(key).version == 4


def test_storage_shows_a_fresh_object_with_the_headers_of_an_upload(film, show, one, storage, tmp_path):
    film()
    began = datetime.now(UTC) - timedelta(seconds=2)
    show()
    key = make_upload()
    url, headers = storage.presign_put(key, "video/mp4", None, 600)
    requests.put(url, data=b"film", headers=headers, timeout=10).raise_for_status()
    make_submission(prompt_id="p", video_key=key)
    rows = one.fetch()
    [gold], _ = split(rows)
    answers = [requests.get(row["video_url"], timeout=10) for row in (gold, rows[-1])]
    assert answers[0].headers.keys() == answers[1].headers.keys()
    assert {answer.headers["Content-Type"] for answer in answers} == {"video/mp4"}
    assert hashlib.sha256(answers[0].content).hexdigest() == gold["video_hash"]
    stored = storage.client.head_object(Bucket=storage._settings.s3_bucket, Key=gold["video_key"])
    assert stored["LastModified"] >= began and not stored["Metadata"]


def talk(evaluator, row, **result):
    """Ask everything that an evaluator can ask about a row; return each answer's status and shape."""
    uuid, handle = row["submission_uuid"], {"submission_id": row["id"], "claim_token": row["claim_token"]}
    public = [f"/v1/submissions/{uuid}", f"/v1/submissions/{uuid}/report"]
    fingerprint = wire.pack_fingerprint(hashes(footage(1, 10)), 10_000)
    answers = [
        *(evaluator.get(path) for path in public),
        evaluator.post("precheck", **handle, fingerprint=fingerprint),
        evaluator.post("judge-calls", **handle, calls=1),
        *(evaluator.post("judge-calls", **handle, calls=20) for _ in range(2)),
        evaluator.post(
            "submit", **handle, technical_score=1, relevance_score=1, quality_score=1, final_score=0.3
        ),
        evaluator.post(
            "submit",
            **handle | {"claim_token": str(uuid)},
            **dict.fromkeys(("technical_score", "relevance_score", "quality_score", "final_score"), 1),
        ),
        evaluator.post("release", submission_id=row["id"], claim_token=str(uuid), reason="No."),
        evaluator.submit(row, **result),
        evaluator.submit(row, **result),
        evaluator.post("release", **handle, reason="Once more."),
        *(evaluator.get(path) for path in public),
    ]
    page = evaluator.get(f"/submissions/{uuid}")
    assert page.status_code == 200 and row["video_hash"] in page.text
    details = [answer.json.get("detail", answer.json) for answer in answers]
    return [answer.status_code for answer in answers], [shape(detail) for detail in details], details


def findings(row):
    report = {"verified_sha256": row["video_hash"], "report_version": 2}
    fingerprint = wire.pack_fingerprint(hashes(footage(row["id"], 10)), 10_000)
    of_judge = {"judge_model": "m", "prompt_version": "v1", "action_match": 0.8, "reasoning": "A mug."}
    return {"metadata": {"kibotos": {"report": report, "fingerprint": fingerprint} | of_judge}}


@pytest.mark.parametrize("relevance", [0.78, 0.1])
def test_every_answer_about_a_gold_film_is_that_about_a_submission(film, show, one, relevance):
    make_cycle()
    film()
    show()
    execute("UPDATE submissions SET cycle_id = 1")
    [gold], [other, *_] = split(one.fetch())
    of_gold = talk(one, gold, relevance=relevance, **findings(gold))
    of_other = talk(one, other, relevance=relevance, **findings(other))
    assert of_gold[0] == of_other[0]
    # what one comparison names of the miner's other takes is the miner's
    assert of_gold[1] == of_other[1]
    assert [each for each in of_gold[2] if isinstance(each, str)] == [
        each for each in of_other[2] if isinstance(each, str)
    ]


def test_the_key_of_a_gold_film_is_taken_like_any_other(film, show, one, client):
    film()
    show()
    [gold], [other, *_] = split(one.fetch())
    thief = miner("thief")
    answers = [
        client.post("/v1/submissions", json=signed_submission(thief, "p", row["video_key"]))
        for row in (gold, other)
    ]
    assert [answer.status_code for answer in answers] == [409, 409]
    assert answers[0].json["detail"] == answers[1].json["detail"]


def test_an_appeal_and_a_receipt_of_a_gold_film_are_refused_like_a_submissions(film, show, one, client):
    film()
    show()
    [gold], [other, *_] = split(one.fetch())
    stranger = miner("stranger")
    for row in (gold, other):
        statement = appeal_statement(
            stranger.ss58_address, row["submission_uuid"], reason_hash("Look again.")
        )
        body = {
            "miner_hotkey": stranger.ss58_address,
            "reason": "Look again.",
            "signature": stranger.sign(statement).hex(),
        }
        answer = client.post(f"/v1/submissions/{row['submission_uuid']}/appeal", json=body)
        assert (answer.status_code, "Only the hotkey" in answer.json["detail"]) == (403, True)
        path = f"/v1/submissions/{row['submission_uuid']}/video-link"
        signed = http_auth.sign(stranger, method="POST", path=path, body=b"{}")
        assert client.post(path, json={}, headers=signed).status_code == 403
        answer = client.get(f"/v1/submissions/{row['submission_uuid']}/receipt")
        assert (answer.status_code, "not completed yet" in answer.json["detail"]) == (409, True)


def test_a_film_that_nobody_could_answer_vanishes(film, show, context, storage):
    film()
    show()
    execute("UPDATE gold_showings SET attempts = 10")
    service.plan(context.extensions["settings"], storage)
    assert not execute("SELECT 1 FROM gold_showings WHERE attempts = 10")


def test_nothing_that_counts_or_pays_sees_a_gold_film(film, show, one, client):
    cycle = make_cycle("EVALUATING")
    film()
    show()
    execute(
        "UPDATE submissions SET cycle_id = :cycle, submitted_at = now() - interval '2 hours'", cycle=cycle
    )
    [gold], others = split(one.fetch())
    for row in others:
        one.submit(row, **findings(row))

    def everything():
        """Every table but those of gold films, as rows."""
        tables = execute(
            "SELECT tablename FROM pg_tables WHERE schemaname = 'public' AND tablename NOT LIKE 'gold%' "
            "AND tablename <> 'schema_migrations' ORDER BY 1"
        )
        return {
            t: Counter(row.line for row in execute(f"SELECT t::text AS line FROM {t} t")) for (t,) in tables
        }

    admin = {"Authorization": f"Bearer {client.application.extensions['settings'].admin_token[0]}"}

    def read():
        shown = [
            client.get(path).json for path in (f"/v1/scores/{cycle}", "/v1/prompts/p", "/v1/cycles/status")
        ]
        metrics = client.get("/metrics", headers=admin).text
        told = [
            line for line in metrics.splitlines() if line.startswith(("kibotos_submissions", "kibotos_cycle"))
        ]
        return shown, told, weights.list_scores(weights.get_cycle(cycle))

    rows, answers = everything(), read()
    assert one.submit(gold, **findings(gold)).status_code == 200
    assert execute("SELECT status FROM gold_showings")[0].status == "SCORED"
    for table, after in everything().items():
        assert after == rows[table], table
    assert read() == answers
    complete(cycle)
    assert sum(score.total_submissions for score in weights.list_scores(weights.get_cycle(cycle))) == len(
        others
    )
    assert not weights.recompute(cycle).differences


def test_a_gold_film_makes_no_film_a_copy_and_is_none(film, show, one):
    film(copies=1)
    showing = show()
    [gold], _ = split(one.fetch())
    bits = footage(77, 20)
    claim = evaluation.get_live_claim(gold["id"], None)
    original = outcome_of(bits, claim.video_hash)
    body = findings(gold)
    body["metadata"]["kibotos"]["fingerprint"] = wire.pack_fingerprint(original.fingerprint, 60_000)
    assert one.submit(gold, **body).status_code == 200
    # a miner's film of the same bytes and the same footage
    id = make_submission(prompt_id="p", video_hash=showing.video_hash, miner_hotkey=miner("x").ss58_address)
    [row] = one.fetch()
    assert row["id"] == id
    handle = {"submission_id": id, "claim_token": row["claim_token"]}
    fingerprint = wire.pack_fingerprint(original.fingerprint, 60_000)
    assert one.post("precheck", **handle, fingerprint=fingerprint).json == {"rejection_reason": None}
    body["metadata"]["kibotos"]["report"]["verified_sha256"] = showing.video_hash
    assert one.submit(row, **body).json["final_score"] > 0
    # and now that it is known, the film comes again
    execute("UPDATE gold_showings SET seen_by = '{}'")
    show()
    [again], _ = split(one.fetch())
    assert again["video_hash"] == row["video_hash"] and again["video_key"] != gold["video_key"]
    handle = {"submission_id": again["id"], "claim_token": again["claim_token"]}
    assert one.post("precheck", **handle, fingerprint=fingerprint).json == {"rejection_reason": None}
    assert one.submit(again, **body).json["final_score"] > 0


def test_an_evaluator_never_gets_a_film_again_and_nobody_gets_bytes_again(film, show, one, two):
    for _ in range(3):
        film(copies=2)
    seen = {one: [], two: []}
    for _ in range(8):
        make_submission(prompt_id="p")
        execute("UPDATE gold_showings SET draw = 0")
        service.plan(
            one._client.application.extensions["settings"], one._client.application.extensions["storage"]
        )
        for evaluator, rows in seen.items():
            gold, others = split(evaluator.fetch())
            rows += gold
            for row in gold + others:
                assert evaluator.submit(row).status_code == 200
    films = {each.id: each.film_id for each in execute("SELECT id, film_id FROM gold_showings")}
    for rows in seen.values():
        assert len({films[row["id"]] for row in rows}) == len(rows) == 3
    everything = seen[one] + seen[two]
    assert len({row["video_hash"] for row in everything}) == len(everything) == 6
    assert len({row["video_key"] for row in everything}) == len(everything)


def test_two_evaluators_never_get_one_film_together(film, show, one, two):
    film()
    show()
    execute("UPDATE gold_showings SET draw = 0")
    taken = []

    def pull(evaluator):
        taken.extend(evaluator.fetch(1)[0]["id"] for _ in range(2))

    settings, storage = (
        one._client.application.extensions["settings"],
        one._client.application.extensions["storage"],
    )
    for _ in range(5):
        make_submission(prompt_id="p")
        service.plan(settings, storage)
    assert len(execute("SELECT 1 FROM gold_showings")) == 1
    threads = [threading.Thread(target=pull, args=[each]) for each in (one, two)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(taken) == len(set(taken)) == 4


def test_workers_use_copies_again(film, show):
    film(copies=1)
    for _ in range(2):
        show()
        claims = evaluation.claim_due(100, "worker-1", 60)
        for claim in claims:
            outcome = outcome_of(footage(claim.id, 10), claim.video_hash)
            evaluation.record_result(claim, outcome, EvaluatedBy.WORKER, settings())
    answers = execute("SELECT status, evaluator, copy_id FROM gold_showings")
    assert len(answers) == 2 and {(each.status, each.evaluator) for each in answers} == {("SCORED", None)}
    assert len({each.copy_id for each in answers}) == 1


def settings():
    from flask import current_app

    return current_app.extensions["settings"]


def test_an_open_film_is_work_for_the_workers(film, show):
    film()
    show()
    before = evaluation.queries.count_due(1000)
    execute("UPDATE gold_showings SET not_before = now() + interval '1 hour'")
    assert evaluation.queries.count_due(1000) == before - 1


def test_a_released_or_lost_film_comes_again_under_the_same_name(film, show, one, two):
    film()
    show()
    [gold], _ = split(one.fetch())
    handle = {"submission_id": gold["id"], "claim_token": gold["claim_token"]}
    assert one.post("release", **handle, reason="No judge.", dependency="vlm").status_code == 200
    execute("UPDATE gold_showings SET not_before = now()")
    [again] = two.fetch()
    assert (again["submission_uuid"], again["attempt"]) == (gold["submission_uuid"], 2)
    execute("UPDATE gold_showings SET lease_expires_at = now()")
    assert reconcile.return_expired_claims() == 1
    execute("UPDATE gold_showings SET not_before = now()")
    [third] = one.fetch()
    assert (third["video_hash"], third["attempt"]) == (gold["video_hash"], 3)
    assert two.submit(again).status_code == 409
    assert one.submit(third).status_code == 200
    assert execute("SELECT evaluator, seen_by FROM gold_showings")[0] == (
        ONE,
        [f"evaluator with {ONE}", f"evaluator with {evaluation_name(two)}", f"evaluator with {ONE}"],
    )


def evaluation_name(evaluator):
    from app.web.auth import token_name

    return token_name(evaluator._headers["Authorization"].removeprefix("Bearer "))


def test_a_worker_extends_and_releases_a_film(film, show):
    film()
    show()
    claims = evaluation.claim_due(100, "worker-1", 60)
    [claim] = [each for each in claims if queries.is_showing(each)]
    evaluation.extend_lease(claim, 600)
    left = execute("SELECT extract(epoch FROM lease_expires_at - now()) AS s FROM gold_showings")[0].s
    assert left > 500
    evaluation.release(claim, TransientError("Away.", Dependency.STORAGE))
    assert execute("SELECT status, faults FROM gold_showings")[0] == ("PENDING", 1)
    # what failed was storage, whatever was to be evaluated
    assert execute("SELECT failed_submissions FROM circuit_breakers")[0].failed_submissions == [claim.id]
    with pytest.raises(Exception, match="lease"):
        evaluation.extend_lease(claim, 600)


def test_a_retired_film_is_shown_no_more_and_whoever_has_it_notices_nothing(film, show, one):
    film()
    show()
    [gold], _ = split(one.fetch())
    film_uuid = execute("SELECT uuid FROM gold_films")[0].uuid
    service.retire(film_uuid)
    assert one.submit(gold).status_code == 200
    assert not list(queries.list_groups(30))
    for _ in range(5):
        make_submission(prompt_id="p")
        service.plan(settings(), one._client.application.extensions["storage"])
    assert len(execute("SELECT 1 FROM gold_showings")) == 1


def test_a_film_that_nobody_has_claimed_vanishes_when_it_is_retired_or_the_rate_is_0(film, show, make_app):
    for end in ("retire", "off"):
        film()
        show()
        if end == "retire":
            service.retire(execute("SELECT uuid FROM gold_films WHERE retired_at IS NULL")[0].uuid)
        else:
            app = make_app(gold_rate=0.0)
            service.plan(app.extensions["settings"], app.extensions["storage"])
        assert not execute("SELECT 1 FROM gold_showings")


@pytest.mark.parametrize(
    "change", ["UPDATE prompts SET is_active = false", "DELETE FROM prompt_submission_counts"]
)
def test_films_are_shown_only_for_prompts_that_miners_film(film, context, storage, change):
    film()
    execute(change)
    for _ in range(3):
        make_submission(prompt_id="p")
        service.plan(settings(), storage)
    assert not execute("SELECT 1 FROM gold_showings")


def test_about_so_many_films_are_shown_as_the_rate_says(film, context, storage):
    """The places are drawn by lot: nobody who knows the rate can tell which comes next."""
    waits = [service._wait(draw / 10_000, 0.02) for draw in range(10_000)]
    assert 48 < sum(waits) / len(waits) < 52
    assert len(set(waits)) > 200 and min(waits) == 1


def test_counts_of_open_work_agree_with_what_is_fetched(film, show, one, client):
    film()
    show()
    open_now = one.post("fetch", limit=0).json["pending"]
    assert pages.get_overview().pending == open_now
    assert client.get("/v1/status").json["pending"] == open_now == len(one.fetch())
    assert (
        one.post("fetch", limit=0).json | {"pending": 0, "evaluating": open_now}
        == one.post("fetch", limit=0).json
    )


def test_the_comparison_with_other_videos_is_made_for_a_gold_film_too(film, show):
    """It takes most of the time of a result, and the time must not tell."""
    film()
    show()
    claims = evaluation.claim_due(100, "worker-1", 60)
    [claim] = [each for each in claims if queries.is_showing(each)]
    compared = duplicates.compare(claim, outcome_of(footage(5, 10), claim.video_hash))
    assert isinstance(compared, duplicates.Comparison)
    db.session.rollback()


def test_a_film_whose_copy_storage_does_not_give_is_planned_later(film, context, storage):
    film(copies=1, stored=False)
    make_submission(prompt_id="p")
    service.plan(settings(), storage)
    assert not execute("SELECT 1 FROM gold_showings")


def test_a_gold_film_has_a_licence_and_a_consent_where_submissions_have_them(film, show, one):
    film()
    terms = {"consent_hash": "ef" * 32, "consent_version": "1", "consent_date": "2026-01-15"}
    showing = show(licence="CC-BY-4.0", **terms)
    (newest,) = execute("SELECT uuid FROM submissions ORDER BY id DESC LIMIT 1")
    gold, other = (one.get(f"/v1/submissions/{each.uuid}").json for each in (showing, newest))
    assert gold["licence"] == "CC-BY-4.0" and gold["consent"]["date"] == "2026-01-15"
    assert shape(gold) == shape(other)
    # nothing of it is in what an evaluator fetches
    assert not {"licence", "consent"} & {name for row in one.fetch() for name in row}
    # nor does it answer another miner otherwise than a submission does
    for each in (showing, newest):
        body = statement(each.uuid, keypair=miner("stranger"))
        assert one._client.post(f"/v1/submissions/{each.uuid}/takedown", json=body).status_code == 403
