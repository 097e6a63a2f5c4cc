"""The faults: what each does to a backend, and when it is over."""

import os
import signal
import time
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass

import redis

from tests import vlm_server
from tests.processes import eventually

OUTAGE_SECONDS = 2.5


@dataclass(frozen=True)
class Fault:
    """`strike` returns a condition that holds once the backend has recovered.

    That must come within `limit` seconds. `alone`: no other fault is on meanwhile.
    """

    name: str
    strike: Callable
    limit: float = 120
    alone: bool = False


def _kill_at_work(backend, kill):
    """`kill` a worker by its name, or part of it, that is at a submission no earlier fault has delayed."""

    def find():
        claims = ((name, backend.unharmed_claim_of(name)) for name in ("worker-1", "worker-2"))
        return next(((name, id) for name, id in claims if id), None)

    while True:
        name, id = eventually(find, 60, 0.02)
        kill(name)
        # it may have been quicker
        if not backend.is_evaluated(id):
            return lambda: backend.is_evaluated(id)


def kill_worker(backend):
    return _kill_at_work(backend, lambda name: backend.processes[name].kill())


def kill_horse(backend):
    def kill(name):
        with suppress(IndexError, ProcessLookupError):
            os.kill(backend.processes[name].children()[0], signal.SIGKILL)

    return _kill_at_work(backend, kill)


def kill_scheduler(backend):
    backend.processes["scheduler"].kill()
    moment = time.time()
    return lambda: backend.ticked_since(moment)


def kill_scheduler_child(which):
    def kill(backend):
        children = backend.processes["scheduler"].children()
        if len(children) > which:
            os.kill(children[which], signal.SIGKILL)
        moment = time.time()
        return lambda: backend.ticked_since(moment)

    return kill


def kill_web(backend):
    web = backend.processes["web"]
    web.kill()
    # its children answer on for a moment
    return lambda: web.is_running and backend.is_up()


def kill_redis(backend):
    backend.valkey.kill()
    time.sleep(OUTAGE_SECONDS)
    backend.valkey.start()
    moment = time.time()
    return lambda: backend.ticked_since(moment) and backend.evaluated_since(moment)


def kill_postgres(backend):
    backend.postgres.kill()
    time.sleep(OUTAGE_SECONDS)
    backend.postgres.start()
    moment = time.time()
    return lambda: backend.is_up() and backend.ticked_since(moment) and backend.evaluated_since(moment)


def flushall(backend):
    with redis.Redis.from_url(backend.valkey.url) as client:
        client.flushall()
    moment = time.time()
    return lambda: backend.ticked_since(moment) and backend.evaluated_since(moment)


def _last(backend, until_given_back):
    """Let an outage last; clients outlast a short one, so one kind each goes on until a job gave up."""
    before = backend.count_given_back()
    time.sleep(OUTAGE_SECONDS)
    if until_given_back:
        eventually(lambda: backend.count_given_back() > before, 60)


def outage(server, fault, until_given_back=False):
    """The backend's `storage` or `vlm` answers by `fault` for a while."""

    def strike(backend):
        getattr(backend, server).fault = fault
        _last(backend, until_given_back)
        getattr(backend, server).fault = None
        moment = time.time()
        return lambda: backend.evaluated_since(moment)

    return strike


FAULTS = [
    Fault("kill -9 worker", kill_worker, limit=60, alone=True),
    Fault("kill -9 work horse", kill_horse, limit=180),
    Fault("kill -9 scheduler", kill_scheduler),
    Fault("kill -9 clock", kill_scheduler_child(0)),
    Fault("kill -9 tick worker", kill_scheduler_child(1)),
    Fault("kill -9 web", kill_web),
    Fault("kill -9 Redis", kill_redis),
    Fault("kill -9 PostgreSQL", kill_postgres),
    Fault("FLUSHALL", flushall),
    Fault("storage: 500", outage("storage", "500")),
    Fault("storage: 500 to GET", outage("storage", "500 to GET", until_given_back=True)),
    Fault("storage: 429", outage("storage", "429")),
    Fault("storage: garbage", outage("storage", "garbage")),
    Fault("storage: nothing", outage("storage", "nothing")),
    Fault("storage: half a body", outage("storage", "half")),
    Fault("judge: 500", outage("vlm", vlm_server.status(500), until_given_back=True)),
    Fault("judge: 429", outage("vlm", vlm_server.status(429, retry_after=1))),
    Fault("judge: garbage", outage("vlm", vlm_server.body(os.urandom(200)))),
    Fault("judge: nothing", outage("vlm", vlm_server.hang(OUTAGE_SECONDS))),
    Fault("judge: half a body", outage("vlm", vlm_server.half_a_body)),
]
