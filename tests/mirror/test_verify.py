"""`kibotos weights verify` against a real API and its mirror, and an operator who changes rows."""

import dataclasses
import io
import json
from pathlib import Path

import pytest
import requests
from sqlalchemy import text

from app.audit.chain import TwoLedgers
from app.audit.difference import Difference
from app.audit.memory import Memory
from app.audit.remote import check_published
from app.audit.service import verify_ledger
from app.clients.published import Published
from app.clients.storage import Storage
from app.db import db
from app.errors import NotFound
from app.ledger import service as ledgers
from app.proofs.keys import load_key
from app.proofs.packing import unpack
from app.proofs.sealed import seal
from app.web.kept import Kept
from app.weights import service as weights
from jobs.tick import store_ledgers
from tests.clients.conftest import RawServer


@pytest.fixture
def verify(run_kibotos, tmp_path):
    """Runs the command as a stranger: without any setting of the server."""

    def run(url, *options, state="state"):
        return run_kibotos(
            "weights", "verify", "--backend-url", url, "--state", str(tmp_path / state), *options
        )

    return run


def execute(statement):
    """Change rows as only the owner of the table can: no trigger forbids it."""
    table = statement.removeprefix("UPDATE ").removeprefix("DELETE FROM ").split()[0]
    db.session.execute(text(f"ALTER TABLE {table} DISABLE TRIGGER USER"))
    assert db.session.execute(text(statement)).rowcount > 0
    db.session.execute(text(f"ALTER TABLE {table} ENABLE TRIGGER USER"))


def test_a_stranger_checks_one_cycle_after_the_other(verify, complete, api, mirror_url):
    first = complete()
    result = verify(api)
    assert result.exit_code == 0, result.output
    assert f"Cycle {first} is right: 2 submissions, 2 weights, 8 lines." in result.stdout
    assert "no earlier ledger" in result.stdout
    complete(miners=())
    third = complete()
    result = verify(api)
    assert result.exit_code == 0, result.output
    assert f"one chain with cycle {first}, with 1 ledgers between them" in result.stdout
    for options in (("--cycle", str(third)), ("--mirror-url", mirror_url)):
        result = verify(api, *options)
        assert result.exit_code == 0, result.output
        assert "one chain with cycle" in result.stdout
    # while the API is away the mirror serves; its keys are known
    result = verify("http://127.0.0.1:1", "--mirror-url", mirror_url)
    assert result.exit_code == 0, result.output
    assert "The mirror is read instead" in result.stderr


def test_a_downloaded_file_needs_nobody(run_kibotos, complete, api, tmp_path):
    def verify_file(name):
        options = ("--file", str(tmp_path / name), "--state", str(tmp_path / "state"))
        return run_kibotos("weights", "verify", *options)

    cycle = complete()
    packed = requests.get(f"{api}/v1/cycles/{cycle}/ledger", timeout=10).content
    (tmp_path / "packed").write_bytes(packed)
    (tmp_path / "plain").write_bytes(unpack(io.BytesIO(packed)).read())
    for name in ("packed", "plain"):
        result = run_kibotos(
            "weights", "verify", "--file", str(tmp_path / name), "--state", str(tmp_path / "s")
        )
        assert result.exit_code == 0, result.output
    plain = (tmp_path / "plain").read_bytes()
    (tmp_path / "changed").write_bytes(plain.replace(b'"weight_u16":', b'"weight_u16":1', 1))
    result = run_kibotos(
        "weights", "verify", "--file", str(tmp_path / "changed"), "--state", str(tmp_path / "s")
    )
    assert result.exit_code == 1
    assert "Error: Line 6, weight_u16: expected " in result.stderr


CHANGES = [
    "UPDATE submissions SET final_score = 0.9999 WHERE miner_uid = 1",
    "UPDATE submissions SET miner_uid = 2 WHERE miner_uid = 1",
    "UPDATE submissions SET prompt_weight = 2 WHERE miner_uid = 1",
    "UPDATE submissions SET video_hash = md5('x') || md5('y') WHERE miner_uid = 1",
    "UPDATE submissions SET status = 'REJECTED', final_score = 0 WHERE miner_uid = 1",
    "UPDATE submissions SET cycle_id = NULL WHERE miner_uid = 1",
    "UPDATE evaluations SET quality_score = 0.1234",
    "UPDATE miner_scores SET total_score = total_score + 0.1 WHERE miner_uid = 1",
    "UPDATE miner_scores SET adjustment = 0.1 WHERE miner_uid = 1",
    "UPDATE miner_scores SET holds_uid = false WHERE miner_uid = 1",
    "UPDATE miner_scores SET total_submissions = 7 WHERE miner_uid = 1",
    "DELETE FROM miner_scores WHERE miner_uid = 1",
    "UPDATE computed_weights SET weight = 0.75 WHERE miner_uid = 1",
    "UPDATE computed_weights SET weight_u16 = 5 WHERE miner_uid = 1",
    "DELETE FROM computed_weights WHERE miner_uid = 1",
]


def test_a_changed_row_is_found_though_the_ledger_is_published_anew(app, complete, tmp_path):
    """By a stranger too, who has seen nothing before: what is published contradicts itself."""
    cycle = complete()
    regular = Memory(tmp_path / "regular")
    with app.app_context():
        check(regular, cycle)
        for number, change in enumerate(CHANGES):
            execute(f"{change}{' AND' if 'WHERE' in change else ' WHERE'} {where(change, cycle)}")
            execute(f"DELETE FROM ledgers WHERE cycle_id = {cycle}")
            ledgers.record(cycle, None, None)
            with pytest.raises(Difference, match=r"expected .*, found "):
                check(Memory(tmp_path / f"stranger {number}"), cycle)
            with pytest.raises((Difference, TwoLedgers)):
                check(regular, cycle)
            db.session.rollback()
        check(regular, cycle)


def where(change, cycle):
    if "evaluations" in change:
        return f"submission_id IN (SELECT id FROM submissions WHERE cycle_id = {cycle})"
    return f"cycle_id = {cycle}"


def check(memory, cycle):
    """Verify what the API would serve of a cycle by the database as it is in this transaction."""
    file = io.BytesIO()
    ledgers.write(cycle, file)
    try:
        answer = weights.describe_weights(weights.get_weighted_cycle(cycle)).model_dump_json()
    except NotFound:
        raise Difference(None, "weights", "some", "none") from None
    verified = verify_ledger([file.getvalue()], memory, None)
    check_published(Published.model_validate_json(answer), verified.ledger)


def test_an_operator_who_rewrites_history_is_found_by_who_saw_it(app, verify, complete, api):
    """All sums fit together again, so a stranger finds nothing; but the root is another one."""
    cycle = complete()
    assert verify(api).exit_code == 0
    with app.app_context():
        execute(f"UPDATE cycles SET block_number = 7, block_number_is_current = true WHERE id = {cycle}")
        execute(f"DELETE FROM ledgers WHERE cycle_id = {cycle}")
        ledgers.record(cycle, None, None)
        db.session.commit()
        store_ledgers()
    app.extensions["kept"] = Kept()
    assert verify(api, state="stranger").exit_code == 0
    result = verify(api)
    assert result.exit_code == 1
    assert f"Error: There are two different ledgers for cycle {cycle}." in result.stderr
    assert "ask its operator why" in result.stderr


def test_api_and_mirror_must_say_the_same(app, verify, complete, api, mirror_url):
    """The mirror still has what was published first, with the backend's signature."""
    cycle = complete()
    with app.app_context():
        execute(f"UPDATE cycles SET block_number = 7, block_number_is_current = true WHERE id = {cycle}")
        execute(f"DELETE FROM ledgers WHERE cycle_id = {cycle}")
        ledgers.record(cycle, None, None)
        db.session.commit()
        ledgers.store_all(app.extensions["storage"])
    assert verify(api).exit_code == 0
    result = verify(api, "--mirror-url", mirror_url, state="other")
    assert result.exit_code == 1
    assert f"two different ledgers for cycle {cycle}" in result.stderr


def test_weights_at_the_mirror_that_the_backend_has_signed_and_says_otherwise(
    app, verify, complete, api, mirror_url, mirror_settings
):
    """It tells those who read the mirror something else than those who read the API."""
    cycle = complete()
    assert verify(api, "--mirror-url", mirror_url).exit_code == 0
    answer = requests.get(f"{api}/v1/weights/{cycle}", timeout=10).json()
    weights = answer["weights"]
    weights["1"], weights["2"] = weights["2"], weights["1"]
    content = seal("weights", json.dumps(answer), load_key(Path(mirror_settings.receipt_key_file)))
    mirror = Storage(dataclasses.replace(mirror_settings, s3_bucket=mirror_settings.mirror_bucket))
    mirror.put(f"public/weights/{cycle}.json", content, "application/json", "no-store")
    result = verify(api, "--mirror-url", mirror_url)
    assert result.exit_code == 1
    assert "The weight of uid 1, as it stands at the mirror: expected " in result.stderr
    # by whoever owns the bucket alone it is no evidence, and stops nobody
    mirror.put(f"public/weights/{cycle}.json", content.replace(b"1", b"2"), "application/json", "no-store")
    assert verify(api, "--mirror-url", mirror_url).exit_code == 0


@pytest.mark.parametrize(
    ("answers", "code", "sentence"),
    [
        ([b"HTTP/1.1 404 Not Found\r\n\r\n"], 2, "Nothing was checked."),
        ([b"HTTP/1.1 500 Oops\r\n\r\n"], 2, "answered with status 500"),
        (
            [b"HTTP/1.1 302 Found\r\nLocation: http://127.0.0.1:1/x\r\n\r\n"],
            2,
            "redirects to http://127.0.0.1:1",
        ),
        ([b"HTTP/1.1 200 OK\r\n\r\n" + b"[" * 100_000], 1, "malformed"),
        ([b"HTTP/1.1 200 OK\r\n\r\n{}"], 1, "malformed"),
    ],
)
def test_a_backend_that_makes_no_sense(verify, answers, code, sentence):
    server = RawServer()
    server.answer(*answers)
    try:
        result = verify(server.url)
    finally:
        server.close()
    assert result.exit_code == code, result.output
    assert sentence in result.stderr
    assert "Traceback" not in result.output


def test_a_state_that_is_none(verify, tmp_path):
    (tmp_path / "state").write_bytes(b"something else" * 100)
    result = verify("http://127.0.0.1:1")
    assert result.exit_code == 2
    assert "is not a verifier's memory; move it away" in result.stderr
