"""The real processes, through kills, a flushed Redis and receivers that are down."""

import os
import signal
import threading

import pytest

from app.db import db
from app.webhooks import service
from app.webhooks.events import Evaluated
from tests.factories import make_result
from tests.processes import eventually
from tests.webhooks.conftest import execute, states


def evaluated():
    service.record_submission(make_result(), Evaluated(status="SCORED", final_score=0.5))
    db.session.commit()


@pytest.fixture
def scheduler(app, processes):
    return processes("scheduler", "--check-interval", "1")


def horses(scheduler):
    """Work horses of the process: the children of its children."""
    own = [int(each) for each in _children(scheduler.pid)]
    return [int(horse) for child in own for horse in _children(child)]


def _children(pid):
    with open(f"/proc/{pid}/task/{pid}/children") as file:
        return file.read().split()


def test_kill_in_mid_delivery_and_a_flushed_redis_lose_nothing(endpoint, receiver, scheduler, redis):
    endpoint()
    entered, release = threading.Event(), threading.Event()

    def hold(handler):
        if not entered.is_set():
            entered.set()
            release.wait(60)
            return None
        return 204

    receiver.answers["/hook"] = hold
    evaluated()
    eventually(entered.is_set)
    # it waits in the horse of the worker of webhooks, whichever that is
    for horse in horses(scheduler):
        os.kill(horse, signal.SIGKILL)
    redis.flushall()
    release.set()
    assert states() == [("PENDING", 1)]
    # instead of waiting for the end of the lease
    execute("UPDATE webhook_deliveries SET lease_expires_at = now(), not_before = now()")
    eventually(lambda: states() == [("DELIVERED", 2)])
    ((_, id, _),) = receiver.messages
    assert id == f"msg_{execute('SELECT uuid FROM webhook_deliveries')[0].uuid}"
    # and it goes on
    evaluated()
    eventually(lambda: len(receiver.messages) == 2)


def test_a_receiver_that_never_answers_delays_no_cycle_and_no_other_receiver(endpoint, receiver, scheduler):
    endpoint("/silent")
    endpoint("/well")
    over = threading.Event()
    receiver.answers["/silent"] = lambda handler: over.wait(60) and None
    for _ in range(3):
        evaluated()
    eventually(lambda: len(receiver.types("/well")) == 3)
    eventually(lambda: execute("SELECT last_finished_at FROM ticks WHERE name = 'cycles'"))
    over.set()
