"""The clock and its worker, through lost schedules, doubled schedulers and outages."""

import os
import signal
import time

import pytest
import structlog
from sqlalchemy import text
from sqlalchemy.exc import OperationalError
from structlog.processors import format_exc_info
from structlog.testing import CapturingLogger

from app import ticks
from app.db import db, fetch_value
from app.queue import JOBS, TICK_CYCLES, TICKS, ListedJob, open_queue
from jobs.scheduler import HealingScheduler, Periodic, clock_app, periodic
from tests.processes import eventually

KEY = HealingScheduler.scheduled_jobs_key


@pytest.fixture
def entries():
    return [Periodic("often", TICK_CYCLES, 0.5), Periodic("rarely", TICK_CYCLES, 600)]


@pytest.fixture
def scheduler(redis, entries):
    return HealingScheduler(redis, entries)


def queued(redis):
    return open_queue(TICKS, redis).job_ids


def due_now(redis, name):
    redis.zadd(KEY, {name: time.time() - 1})


def test_first_poll_registers_under_fixed_names_and_queues_once(scheduler, redis, entries):
    scheduler.poll()
    assert {name.decode() for name in redis.zrange(KEY, 0, -1)} == {"often", "rarely"}
    assert sorted(id.rpartition("-")[0] for id in queued(redis)) == ["often", "rarely"]
    HealingScheduler(redis, entries).poll()
    assert redis.zcard(KEY) == 2


def test_a_flushed_schedule_comes_back_with_the_next_poll(scheduler, redis):
    scheduler.poll()
    redis.flushall()
    scheduler.poll()
    assert redis.zcard(KEY) == 2
    assert len(queued(redis)) == 2


@pytest.mark.parametrize(
    "damage",
    [
        lambda redis: redis.delete("rq:job:rarely"),
        lambda redis: redis.hset("rq:job:rarely", mapping={"created_at": "never", "data": b"\xff"}),
        lambda redis: redis.set("rq:job:rarely", "not even a hash"),
        lambda redis: redis.zrem(KEY, "rarely"),
    ],
)
def test_a_missing_or_damaged_entry_is_replaced_and_stops_no_other(scheduler, redis, damage):
    scheduler.poll()
    due_now(redis, "rarely")
    damage(redis)
    due_now(redis, "often")
    time.sleep(0.5)
    scheduler.poll()
    scheduler.poll()
    assert redis.zscore(KEY, "rarely") > time.time()
    assert ListedJob.fetch("rarely", connection=redis).func_name == TICK_CYCLES
    assert len([id for id in queued(redis) if id.startswith("often")]) >= 2


def test_an_entry_that_is_due_too_late_is_registered_anew(scheduler, redis):
    """Its interval was longer once, or the clock of the machine was wrong."""
    scheduler.poll()
    redis.zadd(KEY, {"rarely": time.time() + 86_400})
    scheduler.poll()
    assert redis.zscore(KEY, "rarely") <= time.time() + 600


def test_two_schedulers_queue_a_slot_once(scheduler, redis, entries):
    other = HealingScheduler(redis, entries)
    scheduler.poll()
    due_now(redis, "rarely")
    other.poll()
    assert len([id for id in queued(redis) if id.startswith("rarely")]) == 1


def test_while_another_scheduler_holds_the_lock_nothing_is_done(scheduler, redis, entries):
    other = HealingScheduler(redis, entries)
    assert other.acquire_lock()
    scheduler.poll()
    assert redis.zcard(KEY) == 0
    other.remove_lock()
    scheduler.poll()
    assert redis.zcard(KEY) == 2


def test_an_hours_pause_queues_one_tick_not_hundreds(scheduler, redis):
    scheduler.poll()
    redis.delete(open_queue(TICKS, redis).key)
    redis.zadd(KEY, {"often": time.time() - 3600})
    time.sleep(0.5)
    scheduler.poll()
    scheduler.poll()
    assert len(queued(redis)) == 1


def test_an_entry_of_an_older_version_is_dropped(scheduler, redis, entries):
    old = HealingScheduler(redis, [*entries, Periodic("old", "jobs.tick.gone", 1)])
    old.poll()
    before = queued(redis)
    due_now(redis, "old")
    # with what is due of its own
    due_now(redis, "rarely")
    scheduler.poll()
    assert redis.zscore(KEY, "old") is None
    assert [id for id in queued(redis) if id.startswith("old")] == [
        id for id in before if id.startswith("old")
    ]


@pytest.mark.parametrize(
    ("answer", "jobs"), [(False, 0), (True, 1), (OperationalError("SELECT", {}, Exception("away")), 1)]
)
def test_what_has_nothing_to_do_is_not_queued(redis, context, answer, jobs):
    """If the database cannot tell, the job is queued."""

    def has_work():
        if isinstance(answer, Exception):
            raise answer
        return answer

    HealingScheduler(redis, [Periodic("often", TICK_CYCLES, 5, has_work=has_work)]).poll()
    assert len(queued(redis)) == jobs
    assert redis.zscore(KEY, "often") > time.time(), "it is asked again in the next slot"


def test_a_question_that_takes_long_holds_up_no_other_job(settings, redis):
    """It is given up, and the job is queued as if it had work."""

    def has_work():
        return fetch_value(text("SELECT pg_sleep(5) IS NULL"))

    with clock_app(settings).app_context():
        HealingScheduler(redis, [Periodic("often", TICK_CYCLES, 5, has_work=has_work)]).poll()
    assert len(queued(redis)) == 1


@pytest.mark.parametrize(("name", "tick"), [("reconcile", "reconcile"), ("tend-releases", "releases")])
def test_what_deletes_takedowns_runs_once_a_minute_whatever_is_due(settings, context, name, tick):
    (entry,) = (each for each in periodic(settings) if each.name == name)
    assert entry.has_work()
    ticks.run(tick, lambda: None)
    assert not entry.has_work()
    db.session.execute(text("UPDATE ticks SET last_started_at = now() - interval '1 minute'"))
    assert entry.has_work()


def test_every_periodic_job_may_run(settings):
    assert {entry.function for entry in periodic(settings)} <= JOBS


# what a tick is


@pytest.fixture
def context(app):
    with app.app_context():
        yield


def tick_row(name):
    with db.engine.connect() as connection:
        return connection.execute(text("SELECT * FROM ticks WHERE name = :name"), {"name": name}).one()


def test_a_tick_runs_in_one_place_at_a_time(context):
    meanwhile = []
    assert ticks.run("slow", lambda: meanwhile.append(ticks.run("slow", lambda: meanwhile.append("twice"))))
    assert meanwhile == [False]
    assert ticks.run("slow", lambda: None), "the lock is free again"


def test_a_failed_tick_is_logged_with_its_stack_and_the_next_one_runs(context, monkeypatch):
    # a logger of its own: the module's may be bound to the output of another test
    output = CapturingLogger()
    monkeypatch.setattr(ticks, "log", structlog.wrap_logger(output, processors=[format_exc_info]))
    assert ticks.run("frail", lambda: 1 / 0)
    assert tick_row("frail").last_error == "ZeroDivisionError: division by zero"
    assert "ZeroDivisionError" in output.calls[0].kwargs["exception"]
    assert ticks.run("frail", lambda: None)
    assert tick_row("frail").last_error is None


# the processes


def ticked(app, name="cycles", since=0):
    with app.app_context(), db.engine.connect() as connection:
        found = connection.execute(
            text("SELECT extract(epoch FROM last_finished_at) FROM ticks WHERE name = :name"), {"name": name}
        ).scalar()
        return found and float(found) > since


@pytest.mark.parametrize("zone", ["UTC", "America/New_York"])
def test_the_scheduler_process_ticks_in_any_time_zone(app, processes, zone):
    scheduler = processes("scheduler", "--check-interval", "1", environ={"TZ": zone})
    eventually(lambda: ticked(app) and ticked(app, "reconcile"))
    first = time.time()
    eventually(lambda: ticked(app, since=first))
    assert scheduler.stop() < 15
    assert scheduler.children() == []


@pytest.mark.parametrize(
    ("options", "minutes"),
    [(["--cycle-duration", "7"], [7]), (["--cycle-duration", "7", "--no-auto-start"], [])],
)
def test_the_options_of_the_scheduler_win(app, processes, options, minutes):
    environ = {"CYCLE_DURATION_MINUTES": "9", "CHECK_INTERVAL_SECONDS": "3600"}
    processes("scheduler", "--check-interval", "1", *options, environ=environ)
    eventually(lambda: ticked(app))
    first = time.time()
    eventually(lambda: ticked(app, since=first))
    with app.app_context(), db.engine.connect() as connection:
        found = connection.execute(text("SELECT extract(epoch FROM ends_at - started_at) / 60 FROM cycles"))
        assert [float(length) for length in found.scalars()] == minutes


def test_kill_of_any_of_its_processes_heals_and_flushall_too(app, processes, redis):
    scheduler = processes("scheduler", "--check-interval", "1")
    eventually(lambda: ticked(app))
    for child in scheduler.children()[:2]:
        os.kill(child, signal.SIGKILL)
        moment = time.time()
        # a clock that died with the lock leaves it for 11 s
        eventually(lambda moment=moment: ticked(app, since=moment))
    redis.flushall()
    moment = time.time()
    eventually(lambda: ticked(app, since=moment))
    children = scheduler.children()
    scheduler.kill()
    eventually(lambda: not any(os.path.exists(f"/proc/{child}") for child in children))
