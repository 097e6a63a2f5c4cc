"""Leases on submissions: races, ends, and what may be written under them."""

import threading
import time
from collections import Counter

import pytest
from sqlalchemy import text

from app.assessment.model import LeaseLost, Outcome
from app.assessment.report import REPORT_VERSION, Report
from app.db import autocommit, db
from app.errors import Deferred, TransientError
from app.evaluation import reconcile, service
from tests.factories import make_prompt, make_submission, make_upload

HASH = "ab" * 32


def outcome(**changes):
    values = {
        "technical_score": 1.0,
        "relevance_score": 0.8,
        "quality_score": 0.5,
        "action_match": 0.9,
        "rejection_reason": None,
        "judge_model": "scripted-judge",
        "prompt_version": "judge-v1",
        "report": Report(report_version=REPORT_VERSION),
    }
    return Outcome(**values | changes)


def row(id, columns="status, attempts, faults, last_fault, not_before - now() AS wait, final_score"):
    with db.engine.connect() as connection:
        return connection.execute(text(f"SELECT {columns} FROM submissions WHERE id = :id"), {"id": id}).one()


def set_row(id, assignments):
    with db.engine.begin() as connection:
        connection.execute(text(f"UPDATE submissions SET {assignments} WHERE id = :id"), {"id": id})


@pytest.fixture(autouse=True)
def _context(app):
    with app.app_context():
        yield


def claim_one(**changes):
    [claim] = service.claim_due(**{"limit": 1, "claimed_by": "a", "lease_seconds": 30} | changes)
    return claim


def test_eight_clients_get_two_hundred_rows_once_each(app):
    prompt = make_prompt()
    ids = {make_submission(prompt_id=prompt) for _ in range(200)}
    taken = Counter()
    start = threading.Barrier(8)

    def take(name):
        start.wait()
        with app.app_context():
            while claims := service.claim_due(5, name, 60):
                taken.update(claim.id for claim in claims)

    threads = [threading.Thread(target=take, args=(f"client {n}",)) for n in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert taken == Counter(ids)


def test_claims_are_the_oldest_due_rows_with_all_that_an_evaluation_needs():
    prompt = make_prompt(task="pour", requirements={"min_duration": 2})
    first, second, third = (make_submission(prompt_id=prompt) for _ in range(3))
    set_row(first, "not_before = now() + interval '1 hour'")
    claims = service.claim_due(1, "a", 30)
    assert [claim.id for claim in claims] == [second]
    assert (claims[0].task, claims[0].requirements, claims[0].attempt) == ("pour", {"min_duration": 2}, 1)
    assert [claim.id for claim in service.claim_due(5, "a", 30)] == [third]
    assert service.claim_due(5, "a", 30) == []


def test_of_equal_hashes_the_earlier_submission_is_evaluated_first(app):
    first, second = make_submission(video_hash=HASH), make_submission(video_hash=HASH)
    claim = claim_one(limit=5)
    assert claim.id == first
    assert service.claim_due(5, "b", 30) == []
    service.release(claim, TransientError("storage is away"))
    assert service.claim_due(5, "b", 30) == [], "the earlier one is still open"
    set_row(first, "not_before = now()")
    claim = claim_one(limit=5)
    service.record_result(claim, outcome(), "worker", app.extensions["settings"])
    assert claim_one(limit=5).id == second


def test_a_lapsed_lease_cannot_be_extended_nor_its_result_written(app):
    id = make_submission()
    claim = claim_one()
    set_row(id, "lease_expires_at = now()")
    with pytest.raises(LeaseLost):
        service.extend_lease(claim, 30)
    with pytest.raises(LeaseLost):
        service.record_result(claim, outcome(), "worker", app.extensions["settings"])
    assert row(id).status == "EVALUATING"
    assert reconcile.return_expired_claims() == 1
    assert (row(id).status, row(id).faults) == ("PENDING", 1)
    assert "expired" in row(id).last_fault


def test_who_lost_the_lease_writes_nothing_over_the_next_ones_claim(app):
    id = make_submission()
    old = claim_one()
    set_row(id, "lease_expires_at = now()")
    reconcile.return_expired_claims()
    new = claim_one(claimed_by="b")
    assert new.attempt == 2
    service.release(old, TransientError("too late"))
    with pytest.raises(LeaseLost):
        service.record_result(old, outcome(relevance_score=0.1), "worker", app.extensions["settings"])
    assert (row(id).status, row(id).last_fault) == ("EVALUATING", "The lease of a expired.")
    verdict = service.record_result(new, outcome(), "worker", app.extensions["settings"])
    assert verdict.final_score == row(id).final_score == 0.75
    with pytest.raises(LeaseLost):
        service.record_result(new, outcome(), "worker", app.extensions["settings"])


def test_a_lease_that_is_extended_does_not_lapse():
    id = make_submission()
    claim = claim_one(lease_seconds=0.5)
    service.extend_lease(claim, 30)
    time.sleep(0.6)
    assert reconcile.return_expired_claims() == 0
    assert row(id).status == "EVALUATING"


@pytest.mark.parametrize(("faults", "nominal"), [(0, 30), (1, 60), (3, 240), (6, 1800), (500, 1800)])
def test_faults_back_off_doubling_up_to_half_an_hour(faults, nominal):
    id = make_submission()
    claim = claim_one()
    set_row(id, f"faults = {faults}, attempts = {faults + 1}")
    service.release(claim, TransientError("storage answered 500"))
    after = row(id)
    assert (after.status, after.faults, after.last_fault) == ("PENDING", faults + 1, "storage answered 500")
    assert 0.74 * nominal < after.wait.total_seconds() <= 1.25 * nominal


def test_a_fault_waits_at_least_as_long_as_asked_to():
    id = make_submission()
    service.release(claim_one(), TransientError("429", retry_after=500))
    assert 499 < row(id).wait.total_seconds() <= 500


def test_what_is_deferred_costs_no_fault():
    id = make_submission()
    service.release(claim_one(), Deferred("stopping", retry_after=0))
    after = row(id)
    assert (after.status, after.attempts, after.faults, after.last_fault) == ("PENDING", 1, 0, None)
    assert claim_one().attempt == 2


def test_the_first_lapse_is_due_at_once_and_the_next_backs_off():
    id = make_submission()
    for least, most in ((-5, 0.1), (20, 40), (40, 80)):
        set_row(id, "not_before = now()")
        claim_one()
        set_row(id, "lease_expires_at = now()")
        reconcile.return_expired_claims()
        assert least <= row(id).wait.total_seconds() <= most


def test_the_first_lapse_keeps_its_place_before_what_came_later():
    first = make_submission()
    claim_one()
    later = make_submission()
    set_row(first, "lease_expires_at = now()")
    reconcile.return_expired_claims()
    assert [claim_one().id, claim_one().id] == [first, later]


def test_all_claims_of_a_killed_worker_are_given_back():
    ids = [make_submission() for _ in range(2)]
    other = make_submission()
    service.claim_due(2, "killed", 30)
    claim_one(claimed_by="alive")
    service.release_all("killed", TransientError("The work horse ended with 9."))
    assert [row(id).status for id in ids] == ["PENDING", "PENDING"]
    assert row(other).status == "EVALUATING"


@pytest.mark.parametrize(
    ("changes", "status", "final"),
    [
        ({}, "SCORED", 0.75),
        ({"relevance_score": 0.29}, "REJECTED", 0),
        ({"action_match": 0.29}, "REJECTED", 0),
        ({"rejection_reason": "The file is damaged."}, "REJECTED", 0),
    ],
)
def test_gates_and_formula_decide_what_is_written(app, changes, status, final):
    id = make_submission(video_key=make_upload())
    verdict = service.record_result(claim_one(), outcome(**changes), "worker", app.extensions["settings"])
    assert (verdict.status, verdict.final_score) == (row(id).status, row(id).final_score) == (status, final)
    stored = db.session.execute(
        text("SELECT * FROM evaluations JOIN verification_reports USING (submission_id)")
    )
    assert stored.one().evaluated_by == "worker"


def has_work():
    with autocommit():
        return reconcile.has_work()


def test_there_is_work_if_something_is_due_or_a_lease_has_ended():
    assert not has_work()
    id = make_submission(prompt_id=make_prompt())
    assert has_work()
    set_row(id, "not_before = now() + interval '1 minute'")
    assert not has_work(), "it waits after a fault"
    set_row(id, "not_before = now()")
    claim_one()
    assert not has_work(), "somebody is at it"
    set_row(id, "lease_expires_at = now()")
    assert has_work()
