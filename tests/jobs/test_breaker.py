"""Circuit breakers: when they trip, how long, and how they are tried again."""

import dataclasses
import itertools

import pytest
from sqlalchemy import text

from app.assessment import formula
from app.db import db
from app.enums import Dependency, EvaluatedBy
from app.errors import TransientError
from app.evaluation import breaker, reconcile, service
from app.evaluation.backlog import Backlog
from app.evaluation.breaker_queries import list_tripped
from app.queue import MAX_QUEUED, count_queued, enqueue_evaluations
from tests.factories import make_prompt, make_submission
from tests.jobs.test_claims import claim_one, outcome


@pytest.fixture(autouse=True)
def _context(app):
    with app.app_context():
        yield


_serial = itertools.count(1)


def fail(name=Dependency.VLM, times=1):
    """Count failures of as many different submissions."""
    for _ in range(times):
        breaker.count_failure(name, f"{name} answered 500", next(_serial))
    db.session.commit()


def wait_over():
    with db.engine.begin() as connection:
        connection.execute(
            text("UPDATE circuit_breakers SET open_until = now() - interval '1 s', probe_until = NULL")
        )


def submit_and_wait_for_a_probe(count):
    """Make `count` submissions behind a tripped breaker whose time is over."""
    prompt = make_prompt()
    for _ in range(count):
        make_submission(prompt_id=prompt)
    fail(times=breaker.THRESHOLD)
    wait_over()


def open_seconds():
    with db.engine.connect() as connection:
        found = connection.execute(
            text("SELECT extract(epoch FROM open_until - now()) FROM circuit_breakers")
        )
        return float(found.scalar())


def test_five_failures_in_a_row_trip_it_and_nothing_is_claimed():
    make_submission()
    fail(times=breaker.THRESHOLD - 1)
    assert list_tripped() == []
    fail()
    [tripped] = list_tripped()
    assert (tripped.name, tripped.is_open, tripped.last_error) == ("vlm", True, "vlm answered 500")
    assert service.claim_due(5, "a", 30) == []


def test_one_submission_that_fails_again_and_again_does_not_trip_it():
    for _ in range(2 * breaker.THRESHOLD):
        breaker.count_failure(Dependency.VLM, "vlm answered 403", 0)
    assert list_tripped() == []
    fail(times=breaker.THRESHOLD - 2)
    assert list_tripped() == []
    fail()
    assert len(list_tripped()) == 1


def test_a_remote_evaluator_has_a_judge_of_its_own(app):
    """Our judge's outage does not stop it, and its success says nothing of our judge."""
    settings = app.extensions["settings"]
    prompt = make_prompt()
    for _ in range(2):
        make_submission(prompt_id=prompt)
    fail(times=breaker.THRESHOLD)
    assert service.claim_due(1, "worker", 30) == []
    [claim], _ = service.fetch(1, "token", 30, Backlog())
    service.record_reported(claim, outcome(), formula.final_score(*outcome().scores), settings, "token")
    assert [tripped.name for tripped in list_tripped()] == ["vlm"]
    # nor does what it gives back make room for a second probe of ours
    wait_over()
    assert len(service.claim_due(1, "worker", 30)) == 1
    make_submission(prompt_id=prompt)
    [claim], _ = service.fetch(1, "token", 30, Backlog())
    service.release(claim, TransientError("Its disk is full."), EvaluatedBy.EVALUATOR)
    with db.engine.begin() as connection:
        connection.execute(text("UPDATE submissions SET not_before = now()"))
    assert service.claim_due(1, "worker", 30) == []


def test_storage_stops_everybody():
    make_submission()
    fail(Dependency.STORAGE, breaker.THRESHOLD)
    assert service.fetch(1, "token", 30, Backlog())[0] == []


def test_what_fails_is_named_before_it_trips(app):
    settings = dataclasses.replace(app.extensions["settings"], vlm_api_url="http://127.0.0.1:1")
    assert service.find_obstacle(settings) is None
    fail()
    assert service.find_obstacle(settings).endswith("vlm: vlm answered 500")


def test_a_success_in_between_starts_the_count_anew(app):
    make_submission()
    fail(times=breaker.THRESHOLD - 1)
    service.record_result(claim_one(), outcome(), "worker", app.extensions["settings"])
    fail(times=breaker.THRESHOLD - 1)
    assert list_tripped() == []


def test_after_its_time_one_probe_passes_and_its_success_closes_it(app):
    submit_and_wait_for_a_probe(3)
    claim = claim_one(limit=3)
    assert service.claim_due(3, "b", 30) == [], "one probe at a time"
    service.record_result(claim, outcome(), "worker", app.extensions["settings"])
    assert len(service.claim_due(3, "b", 30)) == 2


def test_a_probe_that_ends_without_a_word_on_the_judge_leaves_room_for_the_next():
    submit_and_wait_for_a_probe(2)
    service.release(claim_one(), TransientError("The judge gave no usable answer."))
    assert len(service.claim_due(2, "b", 30)) == 1


def test_a_failed_probe_trips_it_for_twice_as_long():
    make_submission()
    fail(times=breaker.THRESHOLD)
    assert 5 < open_seconds() <= 10
    for expected in (20, 40):
        wait_over()
        with db.engine.begin() as connection:
            connection.execute(text("UPDATE submissions SET not_before = now()"))
        service.release(claim_one(), TransientError("still down", dependency="vlm"))
        assert expected / 2 < open_seconds() <= expected
        assert service.claim_due(1, "b", 30) == []


def test_failures_of_what_was_under_way_do_not_prolong_it():
    fail(times=breaker.THRESHOLD + 5)
    assert 5 < open_seconds() <= 10


def test_a_probe_without_work_stays_for_the_next_who_asks():
    fail(times=breaker.THRESHOLD)
    wait_over()
    assert service.claim_due(1, "a", 30) == []
    make_submission()
    assert len(service.claim_due(1, "b", 30)) == 1


def test_a_probe_that_never_came_to_the_judge_leaves_room_for_the_next(app):
    submit_and_wait_for_a_probe(2)
    unjudged = dataclasses.replace(outcome(), rejection_reason="It is too short.", judge_model=None)
    service.record_result(claim_one(), unjudged, "worker", app.extensions["settings"])
    assert [tripped.name for tripped in list_tripped()] == ["vlm"]
    assert len(service.claim_due(2, "b", 30)) == 1


def test_two_tripped_breakers_must_both_be_over():
    make_submission()
    fail(Dependency.VLM, breaker.THRESHOLD)
    wait_over()
    fail(Dependency.STORAGE, breaker.THRESHOLD)
    assert service.claim_due(1, "a", 30) == []
    wait_over()
    assert len(service.claim_due(1, "a", 30)) == 1


def test_a_rejection_before_the_judge_was_asked_says_nothing_of_the_judge(app):
    make_submission()
    claim = claim_one()
    fail(Dependency.VLM, breaker.THRESHOLD)
    rejected = outcome(judge_model=None, rejection_reason="It is damaged.")
    service.record_result(claim, rejected, "worker", app.extensions["settings"])
    assert [tripped.name for tripped in list_tripped()] == ["vlm"]


def test_dispatch_queues_as_many_jobs_as_rows_are_due(app, redis):
    settings = dataclasses.replace(app.extensions["settings"], vlm_api_url="http://127.0.0.1:1")
    prompt = make_prompt()
    for _ in range(3):
        make_submission(prompt_id=prompt)
    assert reconcile.dispatch(redis, settings) == 3
    assert reconcile.dispatch(redis, settings) == 0
    redis.flushall()
    assert reconcile.dispatch(redis, settings) == 3
    redis.flushall()
    fail(times=breaker.THRESHOLD)
    assert reconcile.dispatch(redis, settings) == 0
    wait_over()
    assert reconcile.dispatch(redis, settings) == 1, "a probe"


def test_dispatch_waits_without_a_judge_and_status_says_why(app, redis):
    make_submission()
    settings = app.extensions["settings"]
    assert reconcile.dispatch(redis, settings) == 0
    assert "VLM_API_URL" in service.find_obstacle(settings)


def test_the_queue_is_bounded(redis):
    assert enqueue_evaluations(redis, MAX_QUEUED + 5, 60) == MAX_QUEUED
    assert enqueue_evaluations(redis, 1, 60) == 0
    assert count_queued(redis) == MAX_QUEUED
