"""PostgreSQL: the engine and session, rows as frozen dataclasses, the schema and its migrations."""

import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, TypeVar

import structlog
from flask import Flask, has_request_context, request
from flask_sqlalchemy import SQLAlchemy
from sqlalchemy import Engine, TextClause, event
from sqlalchemy.exc import InvalidatePoolError

from app.config import Settings
from app.errors import Conflict

log = structlog.get_logger(__name__)

SCHEMA = Path(__file__).parent.parent / "schema.sql"
MIGRATIONS = Path(__file__).parent / "migrations"
# Key of the advisory lock under which the schema is changed ("kibo" in ASCII).
SCHEMA_LOCK = 0x6B69626F

# A connection that was used within this time is used again unasked: asking costs as much as a small query.
PING_AFTER_SECONDS = 1

# What the server does should we vanish in mid-transaction: it gives up our locks within a minute.
_IF_WE_VANISH = (
    "-c idle_in_transaction_session_timeout=30000 "
    "-c tcp_keepalives_idle=10 -c tcp_keepalives_interval=5 -c tcp_keepalives_count=3"
)

Row = TypeVar("Row")

db = SQLAlchemy()


def init_app(app: Flask, settings: Settings) -> None:
    """Connect `app` to settings.database_url: a bounded pool of checked connections, UTC sessions.

    A dead server is noticed within seconds (TCP keepalive and user timeout), a connection that died while
    it lay in the pool is replaced before use, and no statement runs longer than the configured time.
    """
    timeout_ms = int(settings.database_statement_timeout_seconds * 1000)
    app.config["SQLALCHEMY_DATABASE_URI"] = settings.database_url
    app.config["SQLALCHEMY_ENGINE_OPTIONS"] = {
        # no miner's data in logged errors
        "hide_parameters": True,
        "pool_size": settings.database_pool_size,
        "max_overflow": 0,
        "pool_timeout": settings.database_pool_timeout_seconds,
        "connect_args": {
            "connect_timeout": 5,
            "application_name": "kibotos",
            "options": f"-c statement_timeout={timeout_ms} -c timezone=UTC {_IF_WE_VANISH}",
            "keepalives_idle": 10,
            "keepalives_interval": 5,
            "keepalives_count": 3,
            "tcp_user_timeout": 20_000,
        },
    }
    db.init_app(app)
    with app.app_context():
        _prepare_connections(db.engine)


def _prepare_connections(engine: Engine) -> None:
    """Make `engine` see to each connection that is taken out of its pool.

    One that lay idle and turns out dead is replaced, and with it all the others. One that dies within
    PING_AFTER_SECONDS of its last use fails a statement instead; SQLAlchemy then replaces them all, too.

    In a GET each statement is a transaction of its own. A GET changes nothing, and READ COMMITTED gives two
    statements no common view anyway: without BEGIN and ROLLBACK it asks the server once instead of three
    times. Set at psycopg2's connection, since SQLAlchemy's isolation_level asks the server on the way back.
    """

    @event.listens_for(engine, "checkin")
    def note(_connection: Any, record: Any) -> None:
        record.info["idle_since"] = time.monotonic()

    @event.listens_for(engine, "checkout")
    def prepare(connection: Any, record: Any, _proxy: Any) -> None:
        idle_since = record.info.get("idle_since")
        try:
            if idle_since is not None and time.monotonic() - idle_since > PING_AFTER_SECONDS:
                engine.dialect.do_ping(connection)
            connection.autocommit = has_request_context() and request.method in ("GET", "HEAD")
        except engine.dialect.loaded_dbapi.Error as error:
            raise InvalidatePoolError from error


def command_app(settings: Settings) -> Flask:
    """An application with the database and nothing else, for commands that need no other setting."""
    app = Flask("kibotos")
    init_app(app, settings.require_database())
    return app


@contextmanager
def autocommit() -> Iterator[None]:
    """Commit each statement of the block by itself: it costs one message to the server, not three.

    The session begins anew, and after the block it holds no connection.
    """
    db.session.rollback()
    connection: Any = db.session.connection().connection.dbapi_connection
    connection.autocommit = True
    try:
        yield
    finally:
        db.session.rollback()


def fetch_all(row: type[Row], statement: TextClause, **binds: Any) -> list[Row]:
    """Run `statement` and return its rows as instances of the dataclass `row`, by column name."""
    result = db.session.execute(statement, binds)
    columns = tuple(result.keys())
    # a third of the time that .mappings() takes
    return [row(**dict(zip(columns, values, strict=True))) for values in result.all()]


def fetch_one(row: type[Row], statement: TextClause, **binds: Any) -> Row | None:
    """Run `statement` and return its only row as an instance of `row`, or None if it gave none."""
    rows = fetch_all(row, statement, **binds)
    assert len(rows) < 2, statement
    return rows[0] if rows else None


def fetch_value(statement: TextClause, **binds: Any) -> Any:
    """Run `statement` and return the first column of its first row, or None if it gave none."""
    return db.session.execute(statement, binds).scalar()


def execute(statement: TextClause, **binds: Any) -> int:
    """Run `statement` and return how many rows it changed."""
    return db.session.execute(statement, binds).rowcount  # type: ignore[attr-defined]


@contextmanager
def _locked_cursor() -> Iterator[Any]:
    """A raw psycopg2 cursor in one transaction under the schema lock; commits when the block ends well.

    Raw, because SQL files hold `:` and `%` that text() and exec_driver_sql would read as parameters.
    """
    connection: Any = db.engine.raw_connection()
    try:
        with connection.cursor() as cursor:
            cursor.execute("SET LOCAL statement_timeout = 0")
            cursor.execute("SELECT pg_advisory_xact_lock(%s)", (SCHEMA_LOCK,))
            yield cursor
        connection.commit()
    except BaseException:
        connection.rollback()
        raise
    finally:
        connection.close()


def migrations() -> list[Path]:
    """Every migration there is, in order."""
    return sorted(MIGRATIONS.glob("[0-9][0-9][0-9][0-9]_*.sql"))


def _applied(cursor: Any) -> set[str] | None:
    cursor.execute("SELECT to_regclass('schema_migrations')")
    if cursor.fetchone()[0] is None:
        return None
    cursor.execute("SELECT version FROM schema_migrations")
    return {version for (version,) in cursor.fetchall()}


def pending_migrations() -> list[str] | None:
    """The versions that `db migrate` would apply, or None for a database without our schema."""
    with _locked_cursor() as cursor:
        applied = _applied(cursor)
    return None if applied is None else [m.stem for m in migrations() if m.stem not in applied]


def init_schema() -> bool:
    """Load schema.sql into an empty database and stamp all migrations.

    Returns False, having changed nothing, if the schema is there already. Raises Conflict if the
    database holds tables that are not ours.
    """
    with _locked_cursor() as cursor:
        if _applied(cursor) is not None:
            return False
        cursor.execute("SELECT tablename FROM pg_tables WHERE schemaname = current_schema() LIMIT 1")
        if row := cursor.fetchone():
            raise Conflict(
                f"The database is not empty (it has a table {row[0]}); name an empty one in DATABASE_URL."
            )
        cursor.execute(SCHEMA.read_text())
        for migration in migrations():
            cursor.execute("INSERT INTO schema_migrations (version) VALUES (%s)", (migration.stem,))
    return True


def migrate() -> list[str]:
    """Bring the database to the current schema, a transaction a file, and return what was applied.

    An empty database gets every migration from the first on.
    """
    done = []
    for migration in migrations():
        with _locked_cursor() as cursor:
            if migration.stem in (_applied(cursor) or ()):
                continue
            cursor.execute(migration.read_text())
            cursor.execute("INSERT INTO schema_migrations (version) VALUES (%s)", (migration.stem,))
        log.info("migration_applied", version=migration.stem)
        done.append(migration.stem)
    return done


def drop_schema() -> None:
    """Drop every table and function of the current schema: all data is gone.

    Object by object, since before PostgreSQL 15 only a superuser may drop the schema `public` itself.
    """
    with _locked_cursor() as cursor:
        cursor.execute(
            "SELECT format('DROP TABLE %I CASCADE', tablename) FROM pg_tables "
            "WHERE schemaname = current_schema() "
            "UNION ALL SELECT format('DROP FUNCTION %s CASCADE', oid::regprocedure) FROM pg_proc "
            "WHERE pronamespace = current_schema()::regnamespace AND prolang <> "
            "(SELECT oid FROM pg_language WHERE lanname = 'c')"
        )
        for (statement,) in cursor.fetchall():
            cursor.execute(statement)
