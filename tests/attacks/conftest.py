"""Fixtures of the attacks: the backend that is attacked, chance, and the table of what came of it."""

import dataclasses
import random
from contextlib import closing, contextmanager
from dataclasses import dataclass

import psycopg2
import pytest

from app import create_app, db
from app.config import database_url
from tests.api.conftest import PRODUCTION
from tests.attacks.arena import METRICS_TOKEN, Arena
from tests.attacks.table import ATTACK
from tests.conftest import empty_database
from tests.vlm_server import MODEL, VlmServer


@pytest.fixture
def chance(request):
    """Draws the variations of a test: the same ones with the same `--attack-seed`."""
    seed = request.config.getoption("attack_seed")
    # shown where the test fails
    print(f"drawn with --attack-seed={seed}")
    return random.Random(f"{seed} {request.node.nodeid}")


@dataclass
class Attack:
    outcome: str = ""


@pytest.fixture
def attack(record_property):
    """Puts an attack into the table: `with attack("6 replies", "text in quotes", arena.spent) as it: …`.

    The block sets `it.outcome`; what the third argument returns is taken before it and after it.
    """

    @contextmanager
    def run(kind, variation, spent):
        it, before = Attack(), spent()
        yield it
        record_property(ATTACK, (kind, variation, it.outcome, spent() - before))

    return run


@pytest.fixture(scope="package")
def _arena(settings, postgres, valkey, tmp_path_factory):
    """The backend under attack, with a database and a Redis of its own: other tests empty theirs."""
    with closing(psycopg2.connect(postgres.url)) as connection:
        connection.autocommit = True
        connection.cursor().execute("CREATE DATABASE attacks")
    url = postgres.database_url("attacks")
    with VlmServer() as vlm:
        changes = {
            "database_url": database_url("DATABASE_URL", url),
            "redis_url": f"{valkey.url.rpartition('/')[0]}/1",
            "vlm_api_url": vlm.url,
            "vlm_model": MODEL,
            "metrics_token": (METRICS_TOKEN,),
            "web_workers": 1,
            "check_interval_seconds": 1.0,
            "max_submissions_per_hour": 1000,
            "max_presigns_per_hour": 1000,
        }
        configured = dataclasses.replace(settings, **PRODUCTION | changes)
        app = create_app(configured)
        with app.app_context():
            db.init_schema()
            db.db.engine.dispose()
        arena = Arena(configured, url, vlm, tmp_path_factory.mktemp("arena"))
        try:
            arena.start()
            yield arena
        finally:
            arena.stop()


@pytest.fixture
def arena(_arena):
    """The backend, with nothing in its database and a judge that likes everything."""
    empty_database(_arena.database)
    _arena.vlm.forget()
    yield _arena
    print(_arena.complaints()[-8000:])


@pytest.fixture(scope="module")
def _workers(_arena):
    with _arena.workers(2):
        yield


@pytest.fixture
def busy(arena, _workers):
    """The backend with two workers."""
    return arena
