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

    That must come within `limit` seconds. `alone`: no further fault strikes before.
    """

    name: str
    strike: Callable
    limit: float
    alone: bool = False


def _victim(backend):
    """(worker's name, id of the submission it is at), as soon as there is one."""
    return eventually(
        lambda: next(
            ((name, id) for name in ("worker-1", "worker-2") if (id := backend.claim_of(name))), None
        ),
        60,
        0.02,
    )


def kill_worker(backend):
    while True:
        name, id = _victim(backend)
        backend.processes[name].kill()
        # it may have been quicker
        if not backend.is_evaluated(id):
            return lambda: backend.is_evaluated(id)


def kill_horse(backend):
    while True:
        name, id = _victim(backend)
        with suppress(IndexError, ProcessLookupError):
            os.kill(backend.processes[name].children()[0], signal.SIGKILL)
        if not backend.is_evaluated(id):
            return lambda: backend.is_evaluated(id)


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


def storage(fault, until_given_back=False):
    def strike(backend):
        backend.storage.fault = fault
        _last(backend, until_given_back)
        backend.storage.fault = None
        moment = time.time()
        return lambda: backend.evaluated_since(moment)

    return strike


def judge(fault, until_given_back=False):
    def strike(backend):
        backend.vlm.fault = fault
        _last(backend, until_given_back)
        backend.vlm.fault = None
        moment = time.time()
        return lambda: backend.evaluated_since(moment)

    return strike


FAULTS = [
    Fault("kill -9 worker", kill_worker, 60, alone=True),
    Fault("kill -9 work horse", kill_horse, 180),
    Fault("kill -9 scheduler", kill_scheduler, 60),
    Fault("kill -9 clock", kill_scheduler_child(0), 60),
    Fault("kill -9 tick worker", kill_scheduler_child(1), 60),
    Fault("kill -9 web", kill_web, 60),
    Fault("kill -9 Redis", kill_redis, 60),
    Fault("kill -9 PostgreSQL", kill_postgres, 60),
    Fault("FLUSHALL", flushall, 60),
    Fault("storage: 500", storage("500"), 60),
    Fault("storage: 500 to GET", storage("500 to GET", until_given_back=True), 60),
    Fault("storage: 429", storage("429"), 60),
    Fault("storage: garbage", storage("garbage"), 60),
    Fault("storage: nothing", storage("nothing"), 60),
    Fault("storage: half a body", storage("half"), 60),
    Fault("judge: 500", judge(vlm_server.status(500), until_given_back=True), 60),
    Fault("judge: 429", judge(vlm_server.status(429, retry_after=1)), 60),
    Fault("judge: garbage", judge(vlm_server.body(os.urandom(200))), 60),
    Fault("judge: nothing", judge(vlm_server.hang(OUTAGE_SECONDS)), 60),
    Fault("judge: half a body", judge(vlm_server.half_a_body), 60),
]
