"""Fixtures of the appeals' tests: results of a miner, appeals against them, and their new evaluations."""

import hashlib

import pytest
from sqlalchemy import text

from app.db import db
from app.evaluation import service
from tests.evaluation.test_duplicates import outcome_of
from tests.factories import make_prompt, miner

OWNER = miner("owner")
HOUR = 3600


@pytest.fixture(autouse=True)
def in_context(app):
    with app.app_context():
        make_prompt(id="p")
        yield


def execute(statement, **binds):
    result = db.session.execute(text(statement), binds)
    found = result.all() if result.returns_rows else None
    db.session.commit()
    return found


def row(id):
    (found,) = execute("SELECT * FROM submissions WHERE id = :id", id=id)
    return found


def uuid_of(id):
    return str(row(id).uuid)


def statement(uuid, reason="It shows a mug.", keypair=OWNER, signer=None):
    """The body of an appeal, signed as the contract says."""
    hashed = hashlib.sha256(reason.encode()).hexdigest()
    signed = f"kibotos.appeal.v1\n{keypair.ss58_address}\n{uuid}\n{hashed}"
    signature = (signer or keypair).sign(signed.encode()).hex()
    return {"miner_hotkey": keypair.ss58_address, "reason": reason, "signature": signature}


@pytest.fixture
def appeal(client):
    """Appeals against the result of the submission `id`: returns the answer."""

    def send(id, **changes):
        uuid = uuid_of(id)
        return client.post(f"/v1/submissions/{uuid}/appeal", json=statement(uuid, **changes))

    return send


@pytest.fixture
def evaluate_anew(settings):
    """Lets a worker evaluate what is appealed against: outcomes as `outcome_of` makes them."""

    def evaluate(id, bits=None, by="worker", **changes):
        (claim,) = [each for each in service.claim_due(10, "test", 60) if each.id == id]
        assert claim.is_appeal
        return service.record_result(claim, outcome_of(bits, claim.video_hash, **changes), by, settings)

    return evaluate


def effective(id):
    (found,) = execute(
        """SELECT coalesce(c.status, s.status), coalesce(c.final_score, s.final_score) FROM submissions s
        LEFT JOIN corrections c ON c.id = (SELECT max(id) FROM corrections WHERE submission_id = s.id)
        WHERE s.id = :id""",
        id=id,
    )
    return tuple(found)
