"""Ledgers, receipts and keys over HTTP, with the real storage."""

import json
from dataclasses import replace
from hashlib import sha256
from io import BytesIO

import pytest
import requests
from sqlalchemy import text

from app.clients.chain import Chain
from app.clients.storage import Storage
from app.completion import service as completion
from app.cycles import queries as cycles
from app.db import db
from app.errors import Unavailable
from app.ledger import contents, queries, service
from app.locks import CORRECTIONS
from app.proofs.keys import create_key
from app.proofs.lines import CycleLine, SubmissionLine
from app.proofs.packing import unpack
from app.proofs.receipts import read_receipt
from app.weights import service as weights
from tests.corrections.conftest import correct
from tests.factories import insert, make_cycle, make_result, make_submission, tamper
from tests.ledger.stranger import recompute, root_of

NOWHERE = "http://127.0.0.1:1"


def uuid_of(submission_id):
    found = db.session.execute(text("SELECT uuid FROM submissions WHERE id = :id"), {"id": submission_id})
    uuid = found.scalar_one()
    db.session.rollback()
    return uuid


def download(client, cycle_id):
    """The lines of a cycle's ledger, as anybody gets them."""
    answer = client.get(f"/v1/cycles/{cycle_id}/ledger")
    assert answer.status_code == 307 and answer.headers["Cache-Control"] == "no-store"
    file = requests.get(answer.headers["Location"], timeout=10)
    assert (file.status_code, file.headers["Content-Type"]) == (200, "application/zstd")
    return unpack(BytesIO(file.content)).read()


def test_the_ledger_is_what_the_weights_name(client, settings, completed):
    service.store_all(Storage(settings))
    weights = client.get("/v1/weights/1").json
    content = download(client, 1)
    lines = content[:-1].split(b"\n")
    assert (len(lines), root_of(lines)) == (weights["ledger_lines"], weights["ledger_root"])
    assert weights["ledger_url"] == "/v1/cycles/1/ledger"
    kinds = recompute(content)
    assert {str(line["uid"]): float(line["weight"]) for line in kinds["weight"]} == weights["weights"]
    units = {line["uid"]: line["weight_u16"] for line in kinds["weight"]}
    assert units == dict(zip(*weights["weights_u16"].values(), strict=True))


def test_the_file_waits_for_storage_and_is_then_the_same(client, settings, completed):
    answer = client.get("/v1/cycles/1/ledger")
    assert answer.status_code == 503 and "not in storage yet" in answer.json["detail"]
    # the weights and the receipts do not wait
    assert client.get("/v1/weights/1").json["ledger_root"]
    assert client.get("/v1/cycles/1/ledger/head").status_code == 200
    with pytest.raises(Unavailable):
        service.store_all(Storage(replace(settings, s3_endpoint=NOWHERE)))
    db.session.rollback()
    assert client.get("/v1/cycles/1/ledger").status_code == 503
    service.store_all(Storage(settings))
    first = download(client, 1)
    assert queries.list_not_stored() == []
    # once more, after what comes later
    correct(1, 0.2)
    service.store(1, Storage(settings))
    assert download(client, 1) == first


def test_corrections_and_carried_amounts(client, settings, complete, completed):
    """One in time, then a late one that takes more than its miner earns in the next cycle."""
    make_cycle("EVALUATING")
    in_time = make_result(0.5, cycle_id=3, miner_uid=1, miner_hotkey=hotkey_of(1))
    correct(in_time, None, "review", "Shows another task.", "anna")
    make_result(0.3, cycle_id=3, miner_uid=1, miner_hotkey=hotkey_of(1), prompt_weight=2.0)
    correct(1, None, "late_copy", "A copy.", "system")
    complete()
    service.store_all(Storage(settings))
    kinds = recompute(download(client, 3))
    [line] = [line for line in kinds["submission"] if line["corrections"]]
    assert (line["status"], line["final_score"]) == ("SCORED", "0.5")
    assert (line["effective_status"], line["effective_score"]) == ("REJECTED", "0.0")
    [correction] = line["corrections"]
    assert (correction["reason"], correction["decided_by"]) == ("Shows another task.", "anna")
    [late] = kinds["late_correction"]
    assert (late["uuid"], late["cycle_id"], late["is_paid"]) == (str(uuid_of(1)), 1, True)
    assert kinds["balance"] == [
        {"kind": "balance", "hotkey": hotkey_of(1), "carried": "0", "settled": "-0.6", "left": "-0.2"}
    ]
    [head] = kinds["cycle"]
    assert (head["previous_cycle_id"], head["previous_root"]) == (1, queries.find(1).root)
    # the rest is taken in the next one, where nothing new was decided
    make_cycle("EVALUATING")
    make_result(0.5, cycle_id=4, miner_uid=1, miner_hotkey=hotkey_of(1))
    complete()
    service.store_all(Storage(settings))
    kinds = recompute(download(client, 4))
    assert kinds["late_correction"] == []
    [balance] = kinds["balance"]
    assert (balance["carried"], balance["settled"], balance["left"]) == ("-0.2", "-0.2", "0")
    assert [line["total_score"] for line in kinds["miner"]] == ["0.3"]
    # what was published before stays, or this would raise
    service.store(3, Storage(settings))
    assert recompute(download(client, 1))["submission"][0]["corrections"] == []


def hotkey_of(submission_id):
    found = db.session.execute(
        text("SELECT miner_hotkey FROM submissions WHERE id = :id"), {"id": submission_id}
    )
    hotkey = found.scalar_one()
    db.session.rollback()
    return hotkey


def test_the_metagraph_that_was_used(client, settings, context):
    make_cycle("EVALUATING")
    result = make_result(0.5, cycle_id=1, miner_uid=4)
    insert("metagraph", uid=4, hotkey=hotkey_of(result), validator_permit=True)
    now = "2026-11-26T17:00:00Z"
    insert("chain_state", block_number=77, block_seen_at=now, metagraph_netuid=9, metagraph_snapshot_at=now)
    completion.tick(replace(settings, netuid=9), Chain("ws://127.0.0.1:1"))
    # the next snapshot
    db.session.execute(text("DELETE FROM metagraph"))
    db.session.commit()
    service.store_all(Storage(settings))
    kinds = recompute(download(client, 1))
    [head] = kinds["cycle"]
    assert (head["netuid"], head["metagraph_at"]) == (9, "2026-11-26T17:00:00.000000Z")
    assert (head["block_number"], head["block_number_is_current"]) == (77, False)
    assert kinds["neuron"] == [
        {"kind": "neuron", "uid": 4, "hotkey": hotkey_of(result), "validator_permit": True}
    ]
    assert kinds["miner"][0]["holds_uid"] is True


def test_the_hash_of_a_report_is_that_of_the_answer(client, settings, complete, context):
    make_cycle("EVALUATING")
    result = make_result(0.5, cycle_id=1)
    report = {"verdict": {"status": "SCORED", "rejection_reason": None, "final_score": 0.5, "parts": []}}
    statement = text(
        "INSERT INTO verification_reports (submission_id, report, report_hash) SELECT :id, report, "
        "encode(sha256(convert_to(report::text, 'UTF8')), 'hex') FROM CAST(:report AS jsonb) AS report"
    )
    db.session.execute(statement, {"id": result, "report": json.dumps(report)})
    db.session.commit()
    complete()
    service.store_all(Storage(settings))
    [line] = recompute(download(client, 1))["submission"]
    answer = client.get(f"/v1/submissions/{uuid_of(result)}/report")
    assert sha256(answer.data).hexdigest() == line["report_hash"]


def test_receipts_of_every_submission(client, completed):
    weights = client.get("/v1/weights/1").json
    for id in (1, 2, 3, 4):
        answer = client.get(f"/v1/submissions/{uuid_of(id)}/receipt")
        assert answer.status_code == 200
        receipt = read_receipt(answer.data)
        line = receipt.read_line()
        assert isinstance(line, SubmissionLine) and line.uuid == str(uuid_of(id))
        assert (receipt.root, receipt.lines) == (weights["ledger_root"], weights["ledger_lines"])
        assert receipt.signature is None
    head = read_receipt(client.get("/v1/cycles/1/ledger/head").data)
    assert head.root == weights["ledger_root"] and isinstance(head.read_line(), CycleLine)


def test_receipts_in_a_cycle_of_several_chunks(client, settings, complete, context):
    """The lines around the borders of chunks, and the last ones."""
    make_cycle("EVALUATING")
    first = make_result(0.5, cycle_id=1)
    count = 2 * contents.CHUNK + 5
    copy_results(first, count - 1)
    complete()
    ledger = queries.find(1)
    assert (len(ledger.chunk_roots), len(ledger.first_ids)) == (3, 3)
    border = contents.CHUNK
    for number in (0, 1, border - 2, border - 1, border, 2 * border - 2, 2 * border - 1, count - 1):
        receipt = read_receipt(client.get(f"/v1/submissions/{uuid_of(first + number)}/receipt").data)
        assert receipt.index == number + 1 and receipt.root == ledger.root
    file = BytesIO()
    service.write(1, file)
    assert len(recompute(file.getvalue())["submission"]) == count


@pytest.mark.parametrize("count", [1, contents.CHUNK - 1, contents.CHUNK, 3 * contents.CHUNK + 7])
def test_what_is_corrected_while_a_large_cycle_completes_is_in_its_ledger(context, count):
    """The draft is read while corrections go on: it takes no lock, and what they change is read again."""
    make_cycle("EVALUATING")
    first = make_result(0.5, cycle_id=1)
    copy_results(first, count - 1)
    correct(first + count // 2, 0.3)
    drafted = contents.draft(1)
    assert len(drafted.roots) == max(0, (count + 1) // contents.CHUNK - 1)
    with db.engine.connect() as other:
        lock = text("SELECT pg_try_advisory_xact_lock(:key)")
        assert other.execute(lock, {"key": CORRECTIONS}).scalar_one()
    db.session.rollback()
    places = {0, 1, count // 3, contents.CHUNK - 2, contents.CHUNK - 1, 2 * contents.CHUNK - 1, count - 1}
    corrected = sorted(place for place in places if place < count)
    for place in corrected:
        correct(first + place, 0.7)
    recorded = weights.record(1, check_registration=False)
    cycles.complete_cycle(1, cycles.clock(), None, [], recorded.last_correction_id)
    service.record(1, None, None, drafted)
    file = BytesIO()
    # raises Differs if a single line is another one
    assert service.write(1, file).lines == count + 4
    lines = recompute(file.getvalue())["submission"]
    assert [place for place, line in enumerate(lines) if line["effective_score"] == "0.7"] == corrected


def test_a_row_that_was_changed_far_behind_is_found_by_comparing(
    client, settings, complete, context, run_kibotos
):
    """A receipt needs one chunk alone, so only the comparison of all finds what is elsewhere."""
    make_cycle("EVALUATING")
    first = make_result(0.5, cycle_id=1)
    copy_results(first, contents.CHUNK + 9)
    complete()
    head, changed = "/v1/cycles/1/ledger/head", first + contents.CHUNK + 5
    service.compare_some()
    assert queries.list_different() == [] and client.get(head).status_code == 200
    tamper(changed, "video_hash = repeat('0', 64)")
    # it is not compared again so soon
    service.compare_some()
    assert client.get(head).status_code == 200
    db.session.execute(text("UPDATE ledgers SET compared_at = now() - interval '7 hours'"))
    db.session.commit()
    # a tick without time does one chunk, and the next one goes on behind it
    service.compare_some(seconds=0)
    assert queries.find(1).compared_chunks == 1 and queries.list_different() == []
    service.compare_some(seconds=0)
    assert queries.list_different() == [1] and queries.find(1).compared_chunks == 0
    for path in (head, f"/v1/submissions/{uuid_of(first)}/receipt"):
        answer = client.get(path)
        assert answer.status_code == 409 and "one of the lines 512 to " in answer.json["detail"]
    assert "kibotos_ledgers_different 1.0" in client.get("/metrics").text
    tamper(changed, f"video_hash = (SELECT video_hash FROM submissions WHERE id = {first})")
    result = run_kibotos("ledger", "check", "--cycle", "1", DATABASE_URL=settings.database_url)
    assert result.exit_code == 0, result.output
    assert client.get(head).status_code == 200


def copy_results(submission_id, count):
    """Insert `count` submissions that are like the given one, with ids that follow."""
    for statement in (
        "INSERT INTO uploads (video_key, content_type, expires_at) SELECT 'uploads/' || n, 'video/mp4', "
        "now() + interval '1 hour' FROM generate_series(1, :count) n",
        "INSERT INTO submissions (cycle_id, prompt_id, prompt_weight, video_key, video_hash, miner_uid, "
        "miner_hotkey, duration_sec, resolution_width, resolution_height, fps, camera_type, actor_type, "
        "status, final_score, evaluated_at) SELECT cycle_id, prompt_id, prompt_weight, 'uploads/' || n, "
        "video_hash, miner_uid, miner_hotkey, 1, 1, 1, 1, camera_type, actor_type, status, final_score, "
        "evaluated_at FROM submissions, generate_series(1, :count) n WHERE id = :id",
        "INSERT INTO evaluations (submission_id, technical_score, relevance_score, quality_score, "
        "evaluated_by) SELECT id, final_score, final_score, final_score, 'worker' FROM submissions "
        "WHERE id > :id",
    ):
        db.session.execute(text(statement), {"count": count, "id": submission_id})
    db.session.commit()


def test_without_a_ledger_there_is_a_sentence(client, context):
    make_cycle("COMPLETED")
    old = make_result(0.5, cycle_id=1)
    running = make_submission(cycle_id=make_cycle())
    nowhere = make_submission(cycle_id=None)
    unknown = "0b9a2f6e-3a53-4c43-9d0c-1df0b0f2a001"

    def said(path, status):
        answer = client.get(path)
        assert answer.status_code == status
        return answer.json["detail"]

    for path in ("ledger", "ledger/head"):
        assert "before this backend wrote ledgers" in said(f"/v1/cycles/1/{path}", 404)
        assert "not completed yet" in said(f"/v1/cycles/2/{path}", 404)
        assert "no such cycle" in said(f"/v1/cycles/99/{path}", 404)
    assert "before this backend wrote ledgers" in said(f"/v1/submissions/{uuid_of(old)}/receipt", 404)
    for id in (running, nowhere):
        assert "not completed yet" in said(f"/v1/submissions/{uuid_of(id)}/receipt", 409)
    assert "no such submission" in said(f"/v1/submissions/{unknown}/receipt", 404)


@pytest.mark.parametrize("change", ["video_hash = repeat('0', 64)", "prompt_weight = 2", "final_score = 0.7"])
def test_a_changed_row_is_noticed(client, settings, completed, run_kibotos, change):
    tamper(2, change)
    for id in (1, 2):
        answer = client.get(f"/v1/submissions/{uuid_of(id)}/receipt")
        assert answer.status_code == 409 and "kibotos ledger check" in answer.json["detail"]
    with pytest.raises(service.Differs, match="one of the lines 0 to 11, counted from 0"):
        service.store(1, Storage(settings))
    # and does not keep others from being stored
    service.store_all(Storage(settings))
    result = run_kibotos("ledger", "check", "--cycle", "1", DATABASE_URL=settings.database_url)
    assert result.exit_code == 1 and "no longer gives the ledger" in result.stderr


def test_what_was_recorded_never_changes(completed):
    for change in ("root = repeat('0', 64)", "lines = 3", "neurons = '[1]'", "chunk_first_ids = '{}'"):
        with pytest.raises(Exception, match="ledgers are never changed"):
            db.session.execute(text(f"UPDATE ledgers SET {change}"))
        db.session.rollback()
    with pytest.raises(Exception, match="ledgers are never changed"):
        db.session.execute(text("DELETE FROM ledgers"))
    db.session.rollback()


# keys


@pytest.fixture
def key_file(tmp_path):
    create_key(tmp_path / "first")
    return tmp_path / "first"


def signing(make_app, path):
    return make_app(receipt_key_file=str(path)).test_client()


def test_a_signed_receipt(make_app, settings, completed, key_file, tmp_path):
    client = signing(make_app, key_file)
    path = f"/v1/submissions/{uuid_of(1)}/receipt"
    answer = client.get(path)
    assert answer.status_code == 503 and "not published yet" in answer.json["detail"]
    settings = replace(settings, receipt_key_file=str(key_file))
    service.publish_key(settings)
    service.publish_key(settings)
    address = json.loads(key_file.read_text())["key"]
    [listed] = client.get("/v1/keys").json["keys"]
    assert (listed["key"], listed["retired_at"]) == (address, None)
    assert read_receipt(client.get(path).data).key == address
    assert read_receipt(client.get("/v1/cycles/1/ledger/head").data).key == address

    # the next key
    create_key(tmp_path / "second")
    service.publish_key(replace(settings, receipt_key_file=str(tmp_path / "second")))
    second, first = client.get("/v1/keys").json["keys"]
    assert first["key"] == address and first["retired_at"] == second["valid_from"]
    assert "retired" in client.get(path).json["detail"]
    # a scheduler that has the old one still does not bring it back
    service.publish_key(settings)
    assert client.get("/v1/keys").json["keys"] == [second, first]
    receipt = read_receipt(signing(make_app, tmp_path / "second").get(path).data)
    assert receipt.key == second["key"]


def test_a_key_that_cannot_be_read(make_app, completed, tmp_path):
    answer = signing(make_app, tmp_path / "missing").get("/v1/cycles/1/ledger/head")
    assert answer.status_code == 503 and "kibotos doctor" in answer.json["detail"]


def test_without_keys(client, completed):
    assert client.get("/v1/keys").json == {"keys": []}
