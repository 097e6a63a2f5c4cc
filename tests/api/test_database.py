"""The database's connections: how they are used, and what comes of those that die."""

import shutil
import tempfile
import time
from pathlib import Path

import psycopg2
import pytest
from sqlalchemy import text

from app.db import PING_AFTER_SECONDS, db, init_schema
from app.local.services import Postgres
from tests import factories
from tests.api.conftest import signed_submission

URL = "/v1/cycles/status"


def hold_and_return(app, count):
    """Make the pool open `count` connections."""
    with app.app_context():
        connections = [db.engine.connect() for _ in range(count)]
        for connection in connections:
            connection.close()


def end_connections(database):
    """End every connection to `database`, as its server does when it stops."""
    connection = psycopg2.connect(database)
    with connection, connection.cursor() as cursor:
        cursor.execute(
            "SELECT pg_terminate_backend(pid, 5000) FROM pg_stat_activity "
            "WHERE datname = current_database() AND pid <> pg_backend_pid()"
        )
    connection.close()


def test_connections_that_died_while_they_lay_idle_are_replaced(app, client, database):
    hold_and_return(app, 3)
    end_connections(database)
    time.sleep(PING_AFTER_SECONDS + 0.1)
    assert [client.get(URL).status_code for _ in range(4)] == [200] * 4


@pytest.fixture
def unasked(monkeypatch):
    """However slow the machine is, connections do not lie idle for long enough to be asked."""
    monkeypatch.setattr("app.db.PING_AFTER_SECONDS", 600)


@pytest.mark.usefixtures("unasked")
def test_a_connection_that_died_just_now_costs_one_503(app, client, database):
    hold_and_return(app, 3)
    assert client.get(URL).status_code == 200
    end_connections(database)
    lost = client.get(URL)
    assert (lost.status_code, lost.headers["Retry-After"]) == (503, "5")
    # with it went the others that were as old
    assert [client.get(URL).status_code for _ in range(4)] == [200] * 4


@pytest.mark.usefixtures("unasked")
def test_a_submission_on_a_connection_that_died_is_503_and_then_accepted(app, client, database, put_upload):
    with app.app_context():
        prompt = factories.make_prompt()
    miner = factories.miner()
    body = signed_submission(miner, prompt, put_upload())
    client.get(URL)
    end_connections(database)
    statuses = [client.post("/v1/submissions", json=body).status_code for _ in range(3)]
    assert statuses == [503, 201, 200]


@pytest.fixture
def own_postgres():
    """A PostgreSQL server for one test, which may do to it what it likes."""
    # not pytest's own temporary directory: as root, PostgreSQL runs as `nobody`, who cannot enter that
    directory = Path(tempfile.mkdtemp(prefix="kibotos-tests-"))
    directory.chmod(0o711)
    server = Postgres(directory / "postgres")
    server.start()
    yield server
    server.stop()
    shutil.rmtree(directory)


@pytest.mark.parametrize("idle_seconds", [0, PING_AFTER_SECONDS + 0.1])
def test_a_restart_is_503_for_its_duration_only(make_app, own_postgres, idle_seconds):
    url = own_postgres.url.replace("postgresql:", "postgresql+psycopg2:")
    app = make_app(database_url=url)
    with app.app_context():
        init_schema()
    client = app.test_client()
    hold_and_return(app, 3)
    assert client.get(URL).status_code == 200
    own_postgres.stop()
    time.sleep(idle_seconds)
    for _ in range(5):
        away = client.get(URL)
        assert (away.status_code, away.headers["Retry-After"]) == (503, "5")
    own_postgres.start()
    assert [client.get(URL).status_code for _ in range(4)] == [200] * 4


def test_only_a_get_goes_without_transactions_of_itself(app, client, put_upload):
    def is_autocommit():
        return db.session.connection().connection.dbapi_connection.autocommit

    with app.test_request_context():
        assert is_autocommit()
    with app.test_request_context(method="POST"):
        assert not is_autocommit()
    with app.app_context():
        prompt = factories.make_prompt()
        factories.make_cycle()
    body = signed_submission(factories.miner(), prompt, put_upload())
    assert client.post("/v1/submissions", json=body).status_code == 201
    with app.app_context():
        assert not is_autocommit()


def test_the_server_ends_a_transaction_that_was_left_alone(app):
    with app.app_context():
        shown = [
            db.session.execute(text(f"SHOW {name}")).scalar()
            for name in ("idle_in_transaction_session_timeout", "tcp_keepalives_idle")
        ]
    assert shown == ["30s", "10"]
