"""What stands in Redis is data: jobs of ours run, and nothing that others or older releases have put in."""

import json
import os
import pickle
import time

import pytest
import rq
from rq.exceptions import NoSuchJobError, StopRequested
from rq.job import Callback
from rq.serializers import JSONSerializer
from rq.timeouts import JobTimeoutException
from rq.utils import import_attribute
from rq.webhook import Webhook
from rq_scheduler import Scheduler
from sqlalchemy import text

from app.db import db
from app.evaluation import reconcile
from app.queue import EVALUATE_NEXT, EVALUATIONS, JOBS, TICK_CYCLES, TICKS, ListedJob, open_queue
from jobs.scheduler import HealingScheduler, Periodic
from tests.processes import eventually
from tests.vlm_server import MODEL

# a module that leaves a file behind when somebody imports it or calls something in it
BAIT = """
import pathlib
here = pathlib.Path(__file__).parent
(here / "ran-bait-import").touch()
def call(*arguments):
    (here / "ran-bait-call").touch()
class Queue:
    from_queue_key = classmethod(call)
"""


class Bomb:
    """Runs a command in whoever unpickles it."""

    def __init__(self, file):
        self.file = file

    def __reduce__(self):
        return os.system, (f"touch {self.file}",)


@pytest.fixture
def app(make_app, vlm):
    app = make_app(vlm_api_url=vlm.url, vlm_model=MODEL)
    with app.app_context():
        yield app


def by_function(name, *arguments):
    return lambda queue, mark: queue.enqueue_call(name, [each.format(mark=mark) for each in arguments])


def with_callback(moment):
    return lambda queue, mark: queue.enqueue_call(EVALUATE_NEXT, **{moment: Callback("bait.call")})


def with_field(field, make):
    """One of our jobs, with a field of its hash replaced by make(mark)."""

    def enqueue(queue, mark):
        job = queue.enqueue_call(EVALUATE_NEXT, result_ttl=0)
        queue.connection.hset(job.key, field, make(mark))

    return enqueue


def with_data(function, instance, arguments, keywords):
    return with_field("data", lambda mark: json.dumps([function, instance, arguments, keywords]).encode())


def abandoned(queue, mark):
    """A job that a worker seems to have died on: plain RQ calls its failure callback in the next worker."""
    job = rq.job.Job.create(
        EVALUATE_NEXT,
        connection=queue.connection,
        origin=queue.name,
        serializer=JSONSerializer,
        on_failure=Callback("bait.call"),
    )
    job.save()
    queue.connection.zadd(f"rq:wip:{queue.name}", {f"{job.id}:{'e' * 32}": time.time() - 60})


HOSTILE = {
    "os.system": by_function("os.system", "touch {mark}"),
    "subprocess.run": by_function("subprocess.run", "touch {mark}"),
    "builtins.exec": by_function("builtins.exec", "open('{mark}', 'w')"),
    "module of theirs": by_function("bait.call"),
    "function of the app": by_function("app.db.drop_schema"),
    "old name of ours": by_function("jobs.evaluation.evaluate"),
    "inside of ours": by_function("jobs.evaluate.os.system", "touch {mark}"),
    "bound method": with_data("format", "{0.__class__}", ["x"], {}),
    "arguments": with_data(EVALUATE_NEXT, None, ["x"], {}),
    "keyword arguments": with_data(EVALUATE_NEXT, None, [], {"x": 1}),
    "name that is a list": with_data([EVALUATE_NEXT], None, [], {}),
    "success callback": with_callback("on_success"),
    "failure callback": with_callback("on_failure"),
    "stopped callback": with_callback("on_stopped"),
    "callback of an abandoned job": abandoned,
    "pickled data": with_field("data", lambda mark: pickle.dumps(Bomb(mark))),
    "status that RQ does not know": with_field("status", lambda mark: "bait"),
    "time that is none": with_field("created_at", lambda mark: "never"),
}
# read and harmless: the job runs, what is attached to it does not
HARMLESS = {
    "pickled meta": with_field("meta", lambda mark: pickle.dumps(Bomb(mark))),
    "pickled result": with_field("result", lambda mark: pickle.dumps(Bomb(mark))),
}


def test_a_worker_runs_nothing_but_jobs_of_ours_and_goes_on(
    app, processes, redis, tmp_path, submit, videos, vlm
):
    (tmp_path / "bait.py").write_text(BAIT)
    queue = rq.Queue(EVALUATIONS, connection=redis, serializer=JSONSerializer)
    for number, enqueue in enumerate([*HOSTILE.values(), *HARMLESS.values()]):
        enqueue(queue, tmp_path / f"ran-{number}")
    webhook = Webhook(f"{vlm.url}/models", "finished")
    queue.enqueue_call(EVALUATE_NEXT, webhooks=[webhook])
    redis.set("rq:job:not-a-hash", "x")
    redis.rpush(queue.key, "not-a-hash")
    worker = processes("worker")
    eventually(lambda: queue.is_empty() and worker.log.read_text().count("job_refused") > len(HOSTILE))
    eventually(lambda: not worker.children())
    # another round, after all of those
    id = submit(videos.make(seconds=2), duration_sec=2.0, fps=25.0)
    assert reconcile.dispatch(redis, app.extensions["settings"]) == 1
    eventually(lambda: is_scored(id))
    assert sorted(path.name for path in tmp_path.glob("ran-*")) == []
    log = worker.log.read_text()
    assert log.count("job_refused") == len(HOSTILE) + 2
    assert "names the function 'os.system'" in log
    assert "quitting" not in log
    assert worker.is_running
    eventually(lambda: not list(redis.scan_iter("rq:job:*")))


def is_scored(id):
    with db.engine.connect() as connection:
        statement = text("SELECT status FROM submissions WHERE id = :id")
        return connection.execute(statement, {"id": id}).scalar() == "SCORED"


def test_an_upgrade_with_jobs_in_flight_loses_no_submission(app, processes, redis, submit, videos):
    """What the release before has queued (pickled, or by a name that moved) is dropped, and queued anew."""
    id = submit(videos.make(seconds=2), duration_sec=2.0, fps=25.0)
    before = rq.Queue(EVALUATIONS, connection=redis)
    before.enqueue_call("jobs.evaluate.evaluate_next", result_ttl=0, failure_ttl=86_400)
    before.enqueue_call("app.evaluation.jobs.evaluate_next", result_ttl=0, failure_ttl=86_400)
    worker = processes("worker")
    eventually(lambda: worker.log.read_text().count("job_refused") == 2)
    assert before.is_empty()
    assert not is_scored(id)
    processes("scheduler")
    eventually(lambda: is_scored(id))
    assert db.session.execute(text("SELECT count(*) FROM evaluations")).scalar() == 1


def test_the_clock_reads_no_pickle_and_imports_no_queue_class(redis, tmp_path, monkeypatch):
    # a worker of the test before may be dying still, and would take the job
    eventually(lambda: redis.info("clients")["blocked_clients"] == 0)
    (tmp_path / "bait.py").write_text(BAIT)
    monkeypatch.syspath_prepend(tmp_path)
    before = Scheduler(queue_name=TICKS, connection=redis)
    for name in ("often", "theirs"):
        job = rq.job.Job.create(TICK_CYCLES, id=name, connection=redis, origin=TICKS)
        job.meta = {"interval": 1, "queue_class_name": "bait.Queue", "bomb": Bomb(tmp_path / "ran-meta")}
        job.save()
        redis.zadd(before.scheduled_jobs_key, {name: time.time() - 1})
    redis.hset("rq:job:theirs", "data", pickle.dumps(Bomb(tmp_path / "ran-data")))
    clock = HealingScheduler(redis, [Periodic("often", TICK_CYCLES, 600)])
    clock.poll()
    clock.poll()
    assert sorted(path.name for path in tmp_path.glob("ran-*")) == []
    assert redis.zrange(before.scheduled_jobs_key, 0, -1) == [b"often"]
    [queued] = open_queue(TICKS, redis).job_ids
    assert queued.startswith("often-")
    assert ListedJob.fetch(queued, connection=redis).func_name == TICK_CYCLES


def test_a_refused_job_is_gone(redis):
    queue = rq.Queue(EVALUATIONS, connection=redis, serializer=JSONSerializer)
    job = queue.enqueue_call("os.system", ("true",))
    with pytest.raises(NoSuchJobError):
        ListedJob.fetch(job.id, connection=redis)
    assert not redis.exists(job.key)


@pytest.mark.parametrize("signalled", [StopRequested, JobTimeoutException])
def test_a_worker_that_is_stopped_while_it_reads_a_job_stops_and_keeps_it(redis, monkeypatch, signalled):
    """Signals raise anywhere."""
    job = open_queue(TICKS, redis).enqueue(TICK_CYCLES)

    def stop(*arguments):
        raise signalled

    with monkeypatch.context() as patch:
        patch.setattr(ListedJob, "restore", stop)
        with pytest.raises(signalled):
            ListedJob.fetch(job.id, connection=redis)
    assert ListedJob.fetch(job.id, connection=redis).func_name == TICK_CYCLES


@pytest.mark.parametrize("name", sorted(JOBS))
def test_every_listed_job_exists_and_can_be_queued(redis, name):
    assert callable(import_attribute(name))
    job = open_queue(EVALUATIONS, redis).enqueue_call(name)
    assert ListedJob.fetch(job.id, connection=redis).func_name == name
