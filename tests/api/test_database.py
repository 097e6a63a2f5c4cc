"""The database's connections: how they are used, and what comes of those that die."""

import shutil
import tempfile
import time
import uuid
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path
from threading import Event

import psycopg2
import pytest
from sqlalchemy import event, text
from sqlalchemy.exc import DBAPIError
from sqlalchemy.exc import TimeoutError as PoolTimeout

from app import ticks
from app.config import database_url
from app.db import PING_AFTER_SECONDS, db, describe, execute, explain, fetch_all, init_schema, is_away
from app.local.servers import Postgres
from tests import factories
from tests.api.conftest import signed_submission
from tests.conftest import read_only
from tests.pooler import pgbouncer, stand_in

# each time it is read from the database
URL = "/v1/prompts?limit=1"


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


def test_a_connection_that_died_after_a_get_had_kept_it_is_replaced(app, client, database):
    assert client.get(URL).status_code == 200
    end_connections(database)
    time.sleep(PING_AFTER_SECONDS + 0.1)
    assert [client.get(URL).status_code for _ in range(2)] == [200] * 2
    assert client.get(URL).status_code == 200
    end_connections(database)
    time.sleep(PING_AFTER_SECONDS + 0.1)
    # it takes its connection out of the pool
    assert client.post("/v1/submissions", json={}).status_code != 503
    with app.app_context():
        assert db.session.execute(text("SELECT 1")).scalar_one() == 1


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


@pytest.mark.usefixtures("unasked")
def test_a_migration_under_prepared_statements_costs_one_503(make_app, new_database):
    app = make_app(database_url=new_database.replace("postgresql:", "postgresql+psycopg2:"))
    with app.app_context():
        init_schema()
    client = app.test_client()
    url = f"/v1/submissions/{uuid.uuid4()}"
    assert client.get(url).status_code == 404
    with closing(psycopg2.connect(new_database)) as connection, connection, connection.cursor() as cursor:
        cursor.execute("ALTER TABLE submissions ALTER attempts TYPE bigint")
    assert [client.get(url).status_code for _ in range(4)] == [503, 404, 404, 404]


@pytest.mark.parametrize("path", ["/v1/cycles/1/ledger", "/v1/cycles/1/ledger/head", "/v1/admin/judge"])
def test_a_request_takes_one_connection_at_a_time(make_app, path):
    """With two, as many requests as there are connections would wait for each other."""
    client = make_app(database_pool_size=1, database_pool_timeout_seconds=0.1).test_client()
    assert client.get(path).status_code in (200, 404)


def test_a_connection_that_a_get_keeps_is_there_for_others(make_app):
    app = make_app(database_pool_size=1, database_pool_timeout_seconds=0.1)
    client = app.test_client()
    with app.app_context():
        for _ in range(2):
            assert client.get(URL).status_code == 200
            with db.engine.connect() as connection:
                assert connection.execute(text("SELECT 1")).scalar() == 1


def test_who_waits_for_a_connection_gets_that_of_a_get(make_app):
    app = make_app(database_pool_size=1, database_pool_timeout_seconds=10)
    asked = Event()

    def get():
        with app.test_request_context(URL):
            asked.set()
            execute(text("SELECT pg_sleep(1)"))

    with ThreadPoolExecutor(1) as threads, app.app_context():
        got = threads.submit(get)
        assert asked.wait(10)
        time.sleep(0.3)
        began = time.monotonic()
        with db.engine.connect():
            assert time.monotonic() - began < 5
        got.result(10)


def test_gets_keep_their_connection(app, client):
    client.get(URL)
    with app.app_context():
        assert db.engine.pool.checkedout() == 1
        seen = []
        event.listen(db.engine, "checkout", lambda *_: seen.append(1))
    assert [client.get(URL).status_code for _ in range(3)] == [200] * 3
    assert not seen


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


@dataclass(frozen=True)
class Row:
    id: int
    is_new: bool = False


def test_a_row_has_the_columns_of_its_statement_and_the_other_fields_their_defaults(app):
    with app.app_context():
        assert fetch_all(Row, text("SELECT 1 AS id")) == [Row(1)]
        assert fetch_all(Row, text("SELECT true AS is_new, 2 AS id")) == [Row(2, True)]
        for columns in ("1 AS id, 2 AS other", "true AS is_new"):
            with pytest.raises(TypeError):
                fetch_all(Row, text(f"SELECT {columns}"))


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


@pytest.mark.parametrize(
    ("state", "away"),
    [
        ("08006", True),
        ("08P01", True),
        ("57P01", True),
        ("57P03", True),
        ("53300", True),
        ("25006", True),
        # OperationalErrors all of them, but the server is there
        ("57014", False),
        ("40P01", False),
        ("40001", False),
        ("53100", False),
        ("55P03", False),
        ("42P01", False),
        ("23505", False),
        ("XX000", False),
    ],
)
def test_the_sqlstate_says_whether_the_database_is_away(app, state, away):
    with app.app_context():
        with pytest.raises(DBAPIError) as caught:
            db.session.execute(factories.raise_in_sql(state))
        db.session.rollback()
        assert is_away(caught.value) is away
        assert is_away(caught.value.orig) is away
        assert describe(caught.value) == "as if"
        # what is away is replaced
        assert caught.value.connection_invalidated is away


def test_what_comes_without_a_sqlstate_is_a_lost_connection_or_a_bug(app, make_app):
    with app.app_context(), pytest.raises(DBAPIError) as bug:
        db.session.execute(text("SELECT :x"), {"x": object()})
    assert not is_away(bug.value)
    assert explain(bug.value) is None
    with make_app(database_url="postgresql+psycopg2://u:secret@127.0.0.1:1/k").app_context():
        with pytest.raises(DBAPIError) as refused:
            db.session.execute(text("SELECT 1"))
        assert is_away(refused.value)
        assert "secret" not in (explain(refused.value) or "secret")
    assert is_away(PoolTimeout())
    assert not is_away(ValueError())


@pytest.mark.parametrize(("state", "status"), [("57P03", 503), ("57014", 500), ("53100", 500)])
def test_only_an_absent_database_is_a_503(make_app, state, status):
    app = make_app()
    app.add_url_rule("/fails", view_func=lambda: db.session.execute(factories.raise_in_sql(state)))
    answer = app.test_client().get("/fails")
    assert answer.status_code == status
    assert ("Retry-After" in answer.headers) == (status == 503)
    assert "as if" not in answer.text


def test_a_server_that_may_only_read_is_left_by_all_connections(app, client, database, put_upload):
    """What becomes of the primary when another takes over its role: it answers, and takes nothing."""
    with app.app_context():
        prompt = factories.make_prompt()
    miner = factories.miner()
    body = signed_submission(miner, prompt, put_upload())
    with read_only(database):
        with app.app_context():
            db.engine.dispose()
        hold_and_return(app, 3)
    lost = client.post("/v1/submissions", json=body)
    assert (lost.status_code, lost.headers["Retry-After"]) == (503, "5")
    # with it went those that lay in the pool
    assert [client.post("/v1/submissions", json=body).status_code for _ in range(4)] == [201, 200, 200, 200]


def shown(name):
    return db.session.execute(text(f"SHOW {name}")).scalar()


@pytest.mark.parametrize("pooler", [stand_in, pgbouncer])
def test_it_works_through_a_pooler_in_session_mode(make_app, postgres, database, pooler):
    with pooler(database, "session") as url:
        app = make_app(database_url=url)
        with app.app_context():
            settings = [shown(name) for name in ("statement_timeout", "timezone", "tcp_keepalives_idle")]
            assert settings == ["30s", "UTC", "10"]
            assert ticks.run("test", lambda: db.session.execute(text("SELECT 1")))
        assert app.test_client().get(URL).status_code == 200


def test_the_stand_in_refuses_what_a_pooler_refuses(make_app, database):
    with stand_in(database, "session") as url:
        app = make_app(database_url=database_url("DATABASE_URL", f"{url}?options=-c%20geqo%3Doff"))
        with app.app_context(), pytest.raises(DBAPIError, match="unsupported startup parameter: options"):
            db.session.execute(text("SELECT 1"))


def test_what_the_address_says_wins(make_app, database):
    app = make_app(
        database_url=database_url("DATABASE_URL", f"{database}?application_name=mine&options=-c%20geqo%3Doff")
    )
    with app.app_context():
        assert (shown("application_name"), shown("geqo")) == ("mine", "off")
