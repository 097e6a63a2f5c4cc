"""Fixtures: real PostgreSQL, Valkey and SeaweedFS, started once a session and emptied for each test."""

import dataclasses
import gc
import os
import shutil
import tempfile
import time
import uuid
from contextlib import closing, contextmanager
from pathlib import Path

import hypothesis
import psycopg2
import pytest
import redis as redis_client
from click.testing import CliRunner

from app import create_app, db
from app.clients.storage import Storage
from app.config import Settings, spare_loopback_the_proxy
from app.local import process
from app.local.process import start_all, stop_all
from app.local.servers import Postgres, Seaweed, Valkey
from cli import kibotos
from tests.attacks.table import pytest_terminal_summary  # noqa: F401  # a hook of pytest's
from tests.up import Up
from tests.videos import Videos
from tests.vlm_server import VlmServer


def pytest_addoption(parser):
    parser.addoption(
        "--fault-rounds", type=int, default=0, help="how often each fault strikes; 0: there is no storm"
    )
    parser.addoption("--fault-seed", type=int, default=1, help="the order in which faults strike")
    parser.addoption(
        "--all-kinds",
        action="store_true",
        help="evaluate all odd files, not half, and compare the ffmpegs at hand on all, not a quarter",
    )
    parser.addoption("--attack-seed", type=int, default=12, help="which variations of attacks are tried")
    parser.addoption(
        "--write-docs", action="store_true", help="write .env.example and the tables of reference.md anew"
    )


# Each run draws the same examples, and a busy machine may take its time.
# `--hypothesis-profile default` draws others.
hypothesis.settings.register_profile("kibotos", derandomize=True, deadline=None)
hypothesis.settings.load_profile("kibotos")

# the servers of the tests are on this machine, whatever proxy leads out of it
spare_loopback_the_proxy()

# All processes of tests start their servers at once. A port that another one has chosen is free until its
# server listens, so each chooses among ports of its own.
_SHARES = 16
_share = int(os.environ.get("PYTEST_XDIST_WORKER", "gw0").removeprefix("gw")) % _SHARES
process.PORTS = process.PORTS[_share::_SHARES]


def pytest_collection_finish():
    """What is there now stays: the garbage collector need not go through it again and again."""
    gc.collect()
    gc.freeze()


@pytest.fixture(scope="session", autouse=True)
def clean_environment():
    """Whatever is configured in the shell that runs the tests does not reach them."""
    with pytest.MonkeyPatch.context() as patch:
        for setting in dataclasses.fields(Settings):
            patch.delenv(setting.name.upper(), raising=False)
        yield


@pytest.fixture(scope="session")
def services():
    """{name: Server} of the three servers, started in parallel in a directory that goes with the session."""
    # not pytest's own temporary directory: as root, PostgreSQL runs as `nobody`, who cannot enter that
    directory = Path(tempfile.mkdtemp(prefix="kibotos-tests-"))
    directory.chmod(0o711)
    servers = {
        "valkey": Valkey(directory / "valkey"),
        "seaweed": Seaweed(directory / "seaweed"),
        "postgres": Postgres(directory / "postgres", durable=False),
    }
    start_all(list(servers.values()))
    yield servers
    stop_all(list(servers.values()))
    shutil.rmtree(directory)


@pytest.fixture(scope="session")
def postgres(services):
    """The PostgreSQL server, with the schema in its database `kibotos`."""
    server = services["postgres"]
    app = create_app(Settings.from_environ({"APP_ENV": "development"} | server.environ))
    with app.app_context():
        db.init_schema()
        db.db.engine.dispose()
    return server


@pytest.fixture(scope="session")
def valkey(services):
    return services["valkey"]


@pytest.fixture(scope="session")
def seaweed(services):
    return services["seaweed"]


@pytest.fixture(scope="session")
def settings(postgres, valkey, seaweed):
    """A development configuration of the three servers, without a judge.

    Nothing is painted, which would take seconds a video: the tests of the painter see to that.
    """
    settings = Settings.from_environ(
        {"APP_ENV": "development", "PAINT_WRITING": "false"}
        | postgres.environ
        | valkey.environ
        | seaweed.environ
    )
    Storage(settings).ensure_bucket()
    return settings


def empty_database(url):
    """Empty every table of the database at `url` and begin its identities at 1 again."""
    for _ in range(3):
        try:
            return _run_sql(url, EMPTY)
        except psycopg2.errors.DeadlockDetected as error:
            # a process of the test before was still at it, and has gone on now
            failed = error
    raise failed


EMPTY = """
    SET lock_timeout = '10s';
    DO $$ DECLARE used text; BEGIN
        -- one that was not written to has no bytes, and would cost as much as one that was
        SELECT string_agg(oid::regclass::text, ', ') INTO used FROM pg_class
        WHERE relnamespace = 'public'::regnamespace AND relkind = 'r' AND relname <> 'schema_migrations'
              AND pg_relation_size(oid) > 0;
        IF used IS NOT NULL THEN EXECUTE 'TRUNCATE ' || used || ' CASCADE'; END IF;
        -- a refused row draws a number as well
        PERFORM setval(seqrelid, seqstart, false) FROM pg_sequence
        WHERE pg_sequence_last_value(seqrelid) IS NOT NULL;
    END $$
"""


@contextmanager
def read_only(url):
    """While the block runs, new connections to the database at `url` may only read, as on a standby."""
    with closing(psycopg2.connect(url)) as connection:
        connection.autocommit = True
        name = connection.info.dbname
        with connection.cursor() as cursor:
            cursor.execute(f"ALTER DATABASE {name} SET default_transaction_read_only = on")
            try:
                yield
            finally:
                cursor.execute(f"ALTER DATABASE {name} RESET default_transaction_read_only")


@pytest.fixture
def database(postgres):
    """The address of an empty database with the current schema, its identities back at 1."""
    empty_database(postgres.url)
    return postgres.url


@pytest.fixture
def new_database(postgres):
    """The address of a database without any table, owned by a role that is no superuser."""
    name = f"new_{uuid.uuid4().hex}"
    with closing(psycopg2.connect(postgres.url)) as connection:
        connection.autocommit = True
        connection.cursor().execute(f"CREATE DATABASE {name}")
    # it goes with its server: to drop it now, an autovacuum in it would have to be waited for
    return postgres.database_url(name)


@pytest.fixture
def redis(valkey):
    """A client of the emptied Valkey."""
    with redis_client.Redis.from_url(valkey.url) as client:
        client.flushall()
        yield client


def harmless_user(redis, valkey):
    """Make a user without the dangerous commands, as hosted Redis has them, and return its address."""
    redis.acl_setuser(
        "harmless",
        enabled=True,
        passwords=["+pass"],
        keys="*",
        channels="*",
        categories=["+@all", "-@dangerous"],
    )
    return valkey.url.replace(f":{valkey.password}@", "harmless:pass@")


@pytest.fixture
def make_app(settings, database, redis):
    """Builds applications on the empty database: `make_app(min_relevance=0.5, …)` changes settings."""
    apps = []

    def make(**changes):
        app = create_app(dataclasses.replace(settings, **changes))
        apps.append(app)
        return app

    yield make
    for app in apps:
        with app.app_context():
            db.db.engine.dispose()


@pytest.fixture
def run_kibotos(monkeypatch, tmp_path):
    """Runs `kibotos <arguments>` in an empty directory, with the given environment: click's result."""
    monkeypatch.chdir(tmp_path)
    before = dict(os.environ)

    def run(*arguments, input=None, **environ):
        unset = dict.fromkeys(field.name.upper() for field in dataclasses.fields(Settings))
        return CliRunner().invoke(kibotos, arguments, env=unset | environ, input=input)

    yield run
    # .env files add to it
    os.environ.clear()
    os.environ.update(before)


@pytest.fixture
def app(make_app):
    return make_app()


@pytest.fixture
def client(app):
    return app.test_client()


@pytest.fixture(scope="session")
def videos(tmp_path_factory):
    """Makes real video files: `videos.make(seconds=3, codec="vp9", container="webm")`."""
    return Videos(tmp_path_factory.mktemp("videos"))


@pytest.fixture
def up(services):
    """A fresh Up beside the session's services, in a directory that PostgreSQL's user can enter.

    Its name has a space: nobody may trip over that.
    """
    up = Up(services["postgres"].directory.parent / f"up {time.monotonic_ns()}")
    yield up
    if up.process and up.process.poll() is None:
        up.stop()


@pytest.fixture
def vlm():
    """A chat-completions server whose answers the test scripts; `make_app(vlm_api_url=vlm.url)` asks it."""
    with VlmServer() as server:
        yield server


def _run_sql(url, statements):
    connection = psycopg2.connect(url)
    try:
        with connection, connection.cursor() as cursor:
            cursor.execute(statements)
    finally:
        connection.close()
