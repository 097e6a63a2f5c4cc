"""Whatever somebody changes in the database after a cycle is completed, `kibotos weights verify` finds it.

And whatever a dishonest backend answers: one that stands before the true one and changes its answers.
"""

import io
import json
import random
from contextlib import nullcontext
from copy import deepcopy
from threading import Thread

import pytest
import requests
from flask import Flask, Response, request
from sqlalchemy import text
from werkzeug.serving import make_server

from app.audit.chain import TwoLedgers
from app.audit.difference import Difference
from app.audit.memory import Memory
from app.cycles import queries as cycles
from app.db import db
from app.ledger import queries
from app.ledger import service as ledgers
from app.web.kept import Kept
from app.weights import service as weights
from jobs.tick import store_ledgers
from tests.audit.test_second import second
from tests.corrections.conftest import correct
from tests.factories import insert, make_cycle, make_prompt, make_upload, miner
from tests.mirror.conftest import signed_result
from tests.mirror.test_verify import check, execute

REPORT = '{"version": 2, "checks": []}'


@pytest.fixture
def history(app):
    """Two completed cycles; the second has a correction of its own, a late one, and a metagraph."""
    chance = random.Random(14)
    with app.app_context():
        prompt = make_prompt()
        make_prompt(id="other-prompt")
        for uid, name in enumerate(("validator", "one", "two")):
            insert("metagraph", uid=uid, hotkey=miner(name).ss58_address, validator_permit=uid == 0)
        for number in (1, 2):
            cycle = make_cycle("EVALUATING")
            ids = [signed_result(chance, uid, cycle, prompt) for uid in (1, 2)]
            for id in ids:
                insert("verification_reports", submission_id=id, report=json.loads(REPORT))
                db.session.execute(
                    text("""UPDATE verification_reports
                            SET report_hash = encode(sha256(report::text::bytea), 'hex')
                            WHERE submission_id = :id"""),
                    {"id": id},
                )
                db.session.commit()
            if number == 2:
                correct(ids[0], 0.25)
                correct(ids[0] - 2, 0.75)
            recorded = weights.record(cycle, check_registration=True)
            now = cycles.clock()
            cycles.complete_cycle(cycle, now, None, ["m"], recorded.last_correction_id)
            ledgers.record(cycle, 5, now)
            db.session.commit()
        store_ledgers()
    return ids[0]


@pytest.fixture
def verify(run_kibotos, tmp_path):
    def run(url, *options, state="state"):
        state = str(tmp_path / state)
        return run_kibotos("weights", "verify", "--backend-url", url, "--state", state, *options)

    return run


OTHER = miner("other").ss58_address
# columns that the ledger of cycle 2 rests on, each with another value; {} is the submission with a correction
CHANGES = {
    "submissions WHERE id = {}": {
        "uuid": "gen_random_uuid()",
        "miner_hotkey": f"'{OTHER}'",
        "miner_uid": "77",
        "prompt_id": "'other-prompt'",
        "prompt_weight": "prompt_weight + 0.5",
        "video_key": "'uploads/other'",
        "video_hash": "repeat('0', 64)",
        "submitted_at": "submitted_at + interval '1 microsecond'",
        "signature": "repeat('0', 128)",
        "final_score": "final_score - 0.0001",
        "cycle_id": "1",
    },
    "evaluations WHERE submission_id = {}": {
        "technical_score": "0.1234",
        "relevance_score": "0.1234",
        "quality_score": "0.1234",
        "judge_model": "'another'",
        "prompt_version": "'9'",
    },
    "verification_reports WHERE submission_id = {}": {
        "report": "report || '{\"checks\": [1]}'",
        "report_hash": "repeat('0', 64)",
    },
    **{
        f"corrections WHERE id = {id}": {
            "submission_id": other,
            "kind": "'review'",
            "final_score": "0.9999",
            "points_change": "points_change + 1",
            "accepted_change": "1",
            "reason": "'Another.'",
            "decided_by": "'Eve'",
            "decided_at": "decided_at - interval '1 microsecond'",
            "is_late": "NOT is_late",
        }
        for id, other in ((1, "{} + 1"), (2, "{} - 1"))
    },
    "cycles WHERE id = 2": {
        "started_at": "started_at - interval '1 second'",
        "closed_at": "closed_at - interval '1 microsecond'",
        "completed_at": "completed_at + interval '1 microsecond'",
        "last_correction_id": "1",
    },
    "miner_scores WHERE cycle_id = 2 AND miner_uid = 1": {
        "miner_uid": "77",
        "miner_hotkey": f"'{OTHER}'",
        "total_submissions": "7",
        "accepted_submissions": "0",
        "adjustment": "adjustment + 0.1",
        "total_score": "total_score + 0.1",
        "holds_uid": "NOT holds_uid",
    },
    "computed_weights WHERE cycle_id = 2 AND miner_uid = 1": {
        "miner_uid": "77",
        "weight": "weight / 2",
        "weight_u16": "weight_u16 - 1",
    },
    "ledgers WHERE cycle_id = 2": {
        "root": "repeat('0', 64)",
        "lines": "lines + 1",
        "netuid": "6",
        "metagraph_at": "metagraph_at + interval '1 second'",
        "neurons": "jsonb_set(neurons, '{1,1}', neurons #> '{2,1}')",
        "chunk_roots": "decode(repeat('00', 32), 'hex')",
    },
    "ledgers WHERE cycle_id = 1": {"root": "repeat('0', 64)"},
}


def as_owner(table, statement, **binds):
    """Run a statement as only the owner of a table can, who switches its triggers off; return its row."""
    db.session.execute(text(f"ALTER TABLE {table} DISABLE TRIGGER USER"))
    row = db.session.execute(text(statement), binds).one()
    db.session.execute(text(f"ALTER TABLE {table} ENABLE TRIGGER USER"))
    db.session.commit()
    return row


def test_every_column_that_a_ledger_rests_on(app, history, verify, api):
    assert verify(api, state="0").exit_code == 0
    with app.app_context():
        make_upload(video_key="uploads/other")
        for place, columns in CHANGES.items():
            table, condition = place.format(history).split(" WHERE ")
            for column, value in columns.items():
                value = value.replace("{}", str(history))
                old, kind = db.session.execute(
                    text(f"SELECT {column}::text, pg_typeof({column})::text FROM {table} WHERE {condition}")
                ).one()
                change = f"UPDATE {table} SET {column} = {value} WHERE {condition}"
                (changed,) = as_owner(table, f"{change} RETURNING ctid::text")
                app.extensions["kept"] = Kept()
                result = verify(api, state=f"{table} {condition} {column}")
                assert result.exit_code == 1, f"{change}: {result.output}"
                back = (
                    f"UPDATE {table} SET {column} = CAST(:old AS {kind}) WHERE ctid = CAST(:changed AS tid)"
                )
                as_owner(table, f"{back} RETURNING 1", old=old, changed=changed)
        app.extensions["kept"] = Kept()
    result = verify(api, state="0")
    assert result.exit_code == 0, result.output
    assert "says the same of 2 submissions that were drawn by lot" in result.stdout


ROWS = [
    "corrections WHERE id = 1",
    "corrections WHERE id = 2",
    "computed_weights WHERE cycle_id = 2 AND miner_uid = 1",
    "miner_scores WHERE cycle_id = 2 AND miner_uid = 1",
    "verification_reports WHERE submission_id = 3",
]


def test_every_row_that_is_lost(app, history, verify, api):
    with app.app_context():
        for number, place in enumerate(ROWS):
            table = place.split()[0]
            (row,) = as_owner(table, f"DELETE FROM {place} RETURNING to_jsonb({table})::text")
            result = verify(api, state=str(number))
            assert result.exit_code == 1, result.output
            assert "no longer gives the ledger that was published for cycle 2" in result.stderr
            back = f"SELECT * FROM jsonb_populate_record(NULL::{table}, CAST(:row AS jsonb))"
            as_owner(table, f"INSERT INTO {table} OVERRIDING SYSTEM VALUE {back} RETURNING 1", row=row)
    assert verify(api).exit_code == 0


# what somebody changes before the ledger of cycle 2 is published anew; whether its lines then disagree
REWRITTEN = [
    ("UPDATE corrections SET final_score = 0.9999 WHERE id = 1", True),
    ("UPDATE corrections SET points_change = points_change + 1 WHERE id = 1", True),
    ("UPDATE corrections SET accepted_change = 1 WHERE id = 1", True),
    ("UPDATE corrections SET status = 'REJECTED', final_score = 0 WHERE id = 1", True),
    ("UPDATE corrections SET is_late = true WHERE id = 1", True),
    ("DELETE FROM corrections WHERE id = 1", True),
    ("UPDATE corrections SET points_change = points_change - 1 WHERE id = 2", True),
    ("UPDATE corrections SET final_score = 0.9999 WHERE id = 2", True),
    ("UPDATE corrections SET submission_id = submission_id + 1 WHERE id = 2", True),
    ("DELETE FROM corrections WHERE id = 2", True),
    ("UPDATE metagraph SET hotkey = 'nobody' WHERE uid = 1", True),
    ("UPDATE metagraph SET uid = 9 WHERE uid = 1", True),
    ("DELETE FROM metagraph WHERE uid = 1", True),
    ("UPDATE cycles SET last_correction_id = 1 WHERE id = 2", True),
    (
        "UPDATE miner_scores SET adjustment = 0, total_score = total_score - adjustment WHERE cycle_id = 2",
        True,
    ),
    # no rule says what these must be; who saw the ledger before finds them by its root
    ("UPDATE corrections SET reason = 'Another.' WHERE id = 1", False),
    ("UPDATE corrections SET decided_by = 'Eve', kind = 'review' WHERE id = 2", False),
    ("UPDATE metagraph SET validator_permit = NOT validator_permit WHERE uid = 2", False),
    ("UPDATE cycles SET block_number = 7, block_number_is_current = true WHERE id = 2", False),
    ("UPDATE evaluations SET judge_model = 'another'", False),
]


def content(cycle):
    file = io.BytesIO()
    ledgers.write(cycle, file)
    return file.getvalue()


def test_corrections_and_metagraph_though_the_ledger_is_published_anew(app, history, tmp_path):
    regular, known = tmp_path / "regular", tmp_path / "known"
    with app.app_context():
        check(Memory(regular), 1)
        second(content(1), past := {"chain": None, "left": {}, "paid": {}})
        # one who has verified the cycle before, and one who has verified this one, too
        known.write_bytes(regular.read_bytes())
        check(Memory(known), 2)
        for number, (change, contradicts) in enumerate(REWRITTEN):
            taken_at = queries.find(2).basis.metagraph_at
            execute(change)
            execute("DELETE FROM ledgers WHERE cycle_id = 2")
            ledgers.record(2, 5, taken_at)
            others = tmp_path / str(number)
            others.write_bytes(regular.read_bytes())
            with pytest.raises(Difference) if contradicts else nullcontext():
                check(Memory(others), 2)
            with pytest.raises(SystemExit) if contradicts else nullcontext():
                second(content(2), deepcopy(past))
            with pytest.raises((Difference, TwoLedgers)):
                check(Memory(known), 2)
            db.session.rollback()
        check(Memory(known), 2)


# a dishonest backend


@pytest.fixture
def lying(api):
    """Starts a backend that passes requests on, and changes answers at paths that end so: its address."""
    servers = []

    def start(**lies):
        app = Flask("liar")

        @app.get("/<path:path>")
        def answer(path):
            true = requests.get(f"{api}/{path}", timeout=10, allow_redirects=False)
            headers = {
                name: true.headers[name] for name in ("Location", "Content-Type") if name in true.headers
            }
            content = true.content
            for ending, change in lies.items():
                if request.path.endswith(ending):
                    changed = change(content)
                    if isinstance(changed, int):
                        return "", changed
                    content = changed
            return Response(content, true.status_code, headers)

        server = make_server("127.0.0.1", 0, app, threaded=True)
        thread = Thread(target=server.serve_forever)
        thread.start()
        servers.append((server, thread))
        return f"http://127.0.0.1:{server.server_port}"

    yield lambda lies: start(**lies)
    for server, thread in servers:
        server.shutdown()
        thread.join()
        server.server_close()


def swap(name):
    """Swaps the values of uids 1 and 2 in one field of the published weights."""

    def change(content):
        answer = json.loads(content)
        values = answer[name]
        values["1"], values["2"] = values["2"], values["1"]
        return json.dumps(answer).encode()

    return change


def put(**fields):
    """Sets fields of an answer; `evaluation__x` is one within `evaluation`."""

    def change(content):
        answer = json.loads(content)
        for name, value in fields.items():
            *outer, inner = name.split("__")
            (answer[outer[0]] if outer else answer)[inner] = value
        return json.dumps(answer, ensure_ascii=False, separators=(",", ":")).encode()

    return change


def test_a_backend_that_says_something_else_than_its_ledger(history, verify, api, lying, app, tmp_path):
    with app.app_context():
        rows = db.session.execute(text("SELECT uuid::text FROM submissions WHERE id IN (:a, :b) ORDER BY id"),
                                  {"a": history, "b": history + 1}).all()  # fmt: skip
        db.session.rollback()
    corrected, other = (uuid for (uuid,) in rows)
    path = f"/submissions/{other}"
    receipt = requests.get(f"{api}/v1/submissions/{corrected}/receipt", timeout=10).content
    unsigned = put(key=None, signed_at=None, signature=None)
    lies = [
        ({"/weights/latest": swap("weights")}, "The weight of uid 1, as it is published"),
        ({"/weights/latest": swap("hotkeys")}, "The hotkey of uid 1, as it is published"),
        ({"/weights/latest": put(ledger_root="0" * 64)}, "Ledger_root, as it is published"),
        ({"/weights/latest": put(block_number=7)}, "Block_number, as it is published"),
        # a true receipt, but of another line; one without a signature; none
        ({f"{path}/receipt": lambda _: receipt}, "the index of its receipt"),
        ({f"{path}/receipt": unsigned}, "the key of its receipt"),
        ({f"{path}/receipt": lambda _: 404}, "one that the backend knows"),
        ({path: put(evaluation__final_score=0.9999)}, "final_score, as the backend shows it"),
        ({path: put(status="REJECTED")}, "status, as the backend shows it"),
        ({path: put(miner_uid=9)}, "miner_uid, as the backend shows it"),
        ({path: put(video_key="uploads/x")}, "video_key, as the backend shows it"),
        ({f"/submissions/{corrected}": put(corrections=[])}, "corrections, as the backend shows it"),
        ({f"{path}/report": lambda content: content + b" "}, "the hash of its report"),
        ({"/ledger/head": unsigned}, "none of the backend's keys has signed"),
        ({"/keys": put(keys=[])}, "expected 5"),
    ]
    assert verify(api).exit_code == 0
    state = (tmp_path / "state").read_bytes()
    for number, (lie, sentence) in enumerate(lies):
        # as who has verified it before
        (tmp_path / str(number)).write_bytes(state)
        result = verify(lying(lie), state=str(number))
        assert result.exit_code == 1, f"{lie}: {result.output}"
        assert sentence in result.stderr
    # what is not answered holds nobody up, but is said
    result = verify(lying({"/receipt": lambda _: 503}))
    assert result.exit_code == 0, result.output
    assert "no answer about 2 of 2 submissions" in result.stderr
