"""What a job does when PostgreSQL is away, and when it answers with an error."""

import time
from contextlib import contextmanager
from functools import partial

import pytest
from sqlalchemy import text
from sqlalchemy.exc import DBAPIError

from app import leases, ticks
from app.db import db
from app.evaluation import service
from tests.factories import make_submission, raise_in_sql
from tests.processes import eventually


@pytest.fixture(autouse=True)
def in_context(app):
    with app.app_context():
        yield


@pytest.fixture
def lease(app):
    """A lease that ends in minutes; nothing extends it until it is entered."""
    make_submission()
    [claim] = service.claim_due(1, "test", 600)
    extend = partial(service.extend_lease, claim)
    return leases.Lease(app, "a submission", extend, time.monotonic() + 600, service.WORKER_LEASE_SECONDS)


class Access:
    """Fails with each of `states` (SQLSTATEs) in turn, then succeeds."""

    def __init__(self, *states):
        self._states = list(states)
        self.calls = 0

    def __call__(self):
        self.calls += 1
        if self._states:
            db.session.execute(raise_in_sql(self._states.pop(0)))
        return db.session.execute(text("SELECT 'done'")).scalar()


def test_a_job_waits_for_a_database_that_is_away(lease):
    access = Access("57P01", "25006")
    assert lease.ride_out(access) == "done"
    assert access.calls == 3


@pytest.mark.parametrize("state", ["57014", "53100", "40P01", "42P01"])
def test_a_job_does_not_repeat_what_fails_each_time(lease, state):
    access = Access(state, state)
    with pytest.raises(DBAPIError):
        lease.ride_out(access)
    assert access.calls == 1
    # the session can be used for the release
    assert db.session.execute(text("SELECT 1")).scalar() == 1


@contextmanager
def without_claim_tokens():
    """While the block runs, a column is missing: a ProgrammingError, and no sign of an absent server."""
    with db.engine.begin() as connection:
        connection.execute(text("ALTER TABLE submissions RENAME COLUMN claim_token TO missing"))
    try:
        yield
    finally:
        with db.engine.begin() as connection:
            connection.execute(text("ALTER TABLE submissions RENAME COLUMN missing TO claim_token"))


def test_a_lease_is_extended_again_after_any_fault_of_the_database(lease, monkeypatch):
    monkeypatch.setattr(leases, "EXTEND_EVERY_SECONDS", 0.1)

    def is_extended():
        with db.engine.connect() as connection:
            seconds = "extract(epoch FROM lease_expires_at - now())"
            return connection.execute(text(f"SELECT {seconds} FROM submissions")).scalar() < 60

    with lease:
        with without_claim_tokens():
            time.sleep(0.5)
            assert not is_extended()
        eventually(is_extended, 30)


def test_the_smallest_pool_that_is_accepted_lets_periodic_work_be_done(make_app):
    app = make_app(database_pool_size=2, database_pool_timeout_seconds=1)
    with app.app_context():
        done = []
        assert ticks.run("test", lambda: done.append(db.session.execute(text("SELECT 1")).scalar()))
        assert done == [1]
        assert db.session.execute(text("SELECT last_error FROM ticks WHERE name = 'test'")).scalar() is None
