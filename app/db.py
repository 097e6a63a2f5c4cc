"""PostgreSQL: the engine and session, rows as frozen dataclasses, the schema and its migrations."""

import hashlib
import logging
import time
from collections.abc import Iterator, Sequence
from contextlib import closing, contextmanager, suppress
from contextvars import ContextVar
from functools import cache
from pathlib import Path
from typing import Any, NamedTuple, TypeVar

import psycopg2
import structlog
from flask import Flask, has_request_context, request
from flask_sqlalchemy import SQLAlchemy
from sqlalchemy import Engine, PoolProxiedConnection, TextClause, event, make_url, text
from sqlalchemy.dialects.postgresql.psycopg2 import PGDialect_psycopg2
from sqlalchemy.engine import ExceptionContext
from sqlalchemy.exc import ArgumentError, DBAPIError, InvalidatePoolError
from sqlalchemy.exc import TimeoutError as PoolTimeout
from sqlalchemy.pool import ConnectionPoolEntry, QueuePool

from app import locks
from app.config import ConfigError, Settings
from app.errors import Conflict

log = structlog.get_logger(__name__)

# a link to the file of the repository, so that the package has it
SCHEMA = Path(__file__).parent / "schema.sql"
MIGRATIONS = Path(__file__).parent / "migrations"
# First line of a migration that PostgreSQL refuses to run in a transaction, e.g. CREATE INDEX CONCURRENTLY.
# Such a file holds one statement.
OUTSIDE_TRANSACTION = "-- outside a transaction"
# A migration waits this long for a table that is in use. All others that need the table wait behind it.
LOCK_TIMEOUT_SECONDS = 3
# A command waits this long for another one that changes the schema.
SCHEMA_LOCK_SECONDS = 30

# A connection that was used within this time is not tested first: a test costs as much as a small query.
PING_AFTER_SECONDS = 1

# libpq's settings unless DATABASE_URL has others: it notices within seconds that a server is gone.
_LIBPQ_DEFAULTS = {
    "application_name": "kibotos",
    "connect_timeout": "5",
    "keepalives_idle": "10",
    "keepalives_interval": "5",
    "keepalives_count": "3",
    "tcp_user_timeout": "20000",
}
# The session's settings: floats have all their digits. If we vanish in the middle of a transaction, the
# server releases our locks within a minute. They are set after connecting, since poolers (PgBouncer, RDS
# Proxy, Neon) refuse them before.
_SESSION = """
    SET timezone = 'UTC';
    SET extra_float_digits = 1;
    SET statement_timeout = {statement_timeout_ms};
    SET idle_in_transaction_session_timeout = 30000;
    SET tcp_keepalives_idle = 10;
    SET tcp_keepalives_interval = 5;
    SET tcp_keepalives_count = 3
"""

# SQLSTATEs of a server that cannot be used at the moment: a lost or refused connection, a server that stops
# or starts, a server without a free connection, and one that is read-only since another took over its role.
# 0A000: a migration has changed the type of a column that a statement returns which the connection prepared.
_AWAY = ("08", "57P0", "53300", "25006", "0A000")
_UNDEFINED_TABLE = "42P01"

Row = TypeVar("Row")

db = SQLAlchemy()


def init_app(app: Flask, settings: Settings) -> None:
    """Connect `app` to settings.database_url: a bounded pool of checked connections, UTC sessions.

    A dead server is noticed within seconds (TCP keepalive and user timeout). A connection that died in the
    pool is replaced before use. No statement runs longer than the configured time.
    """
    app.config["SQLALCHEMY_ENGINE_OPTIONS"] = {
        # no miner's data in logged errors
        "hide_parameters": True,
        "poolclass": _Pool,
        "pool_size": settings.database_pool_size,
        # the one that was used last: the server's process has what it needs at hand
        "pool_use_lifo": True,
        "max_overflow": 0,
        "pool_timeout": settings.database_pool_timeout_seconds,
    }
    try:
        url = make_url(settings.database_url)
        app.config["SQLALCHEMY_DATABASE_URI"] = url.set(query=_LIBPQ_DEFAULTS | dict(url.query))
        db.init_app(app)
    except (ArgumentError, ValueError) as error:
        raise ConfigError(f"DATABASE_URL cannot be used: {error}") from error
    timeout_ms = int(settings.database_statement_timeout_seconds * 1000)
    with app.app_context():
        _prepare_connections(db.engine, _SESSION.format(statement_timeout_ms=timeout_ms))


class _Pool(QueuePool):
    """A pool whose connections go from one statement that stands alone to the next without coming back.

    To take one out and put it back costs as much as such a statement. As soon as anybody finds no other
    connection here, those that are kept come back.
    """

    def __init__(self, *args: Any, **options: Any) -> None:
        super().__init__(*args, **options)
        # each with the time of its last use; append and pop are atomic, so no lock is needed
        self._kept: list[tuple[PoolProxiedConnection, float]] = []
        self._waiting: list[None] = []
        self._is_disposed = False

    def take(self) -> PoolProxiedConnection:
        """Return a connection for a statement that stands alone; keep() takes it when that is done."""
        with suppress(IndexError):
            pooled, last_used = self._kept.pop()
            if time.monotonic() - last_used <= PING_AFTER_SECONDS:
                return pooled
            self._close(pooled, last_used)
        return self.connect()

    def keep(self, pooled: PoolProxiedConnection) -> None:
        self._kept.append((pooled, time.monotonic()))
        # looked at only now: whoever began to wait before this has not seen what was just kept
        if self._waiting or self._is_disposed:
            self.put_back()

    def put_back(self) -> None:
        """Put what is kept back."""
        with suppress(IndexError):
            while True:
                self._close(*self._kept.pop())

    def _close(self, pooled: PoolProxiedConnection, last_used: float) -> None:
        """Put a connection back. If it was not used for long, it is tested before its next use."""
        pooled.info["last_used"] = last_used
        pooled.close()

    def _do_get(self) -> ConnectionPoolEntry:
        self._waiting.append(None)
        try:
            # counted first: who comes later looks for himself
            if len(self._waiting) > self.checkedin():
                self.put_back()
            return super()._do_get()
        finally:
            self._waiting.pop()

    def dispose(self) -> None:
        self._is_disposed = True
        self.put_back()
        super().dispose()


# SQLAlchemy logs in the name of the class, and is as quiet about its own ones
logging.getLogger(f"{__name__}.{_Pool.__name__}").setLevel(logging.WARNING)


def _prepare_connections(engine: Engine, session: str) -> None:
    """Make `engine` run `session` on each new connection, and check each connection taken out of its pool.

    If a connection died while it was idle, all connections of the pool are replaced. If it dies within
    PING_AFTER_SECONDS of its last use, a statement fails, and SQLAlchemy then replaces them all as well.

    In a GET each statement is a transaction of its own. A GET changes nothing, and READ COMMITTED gives two
    statements no common view anyway. Without BEGIN and ROLLBACK it asks the server once instead of three
    times.
    """

    @event.listens_for(engine, "connect")
    def set_session(connection: Any, _record: Any) -> None:
        # one message, which is one transaction
        connection.autocommit = True
        with connection.cursor() as cursor:
            cursor.execute(session)

    @event.listens_for(engine, "handle_error")
    def retire(context: ExceptionContext) -> None:
        # a server that has become read-only answers pings, but refuses what we write
        if is_away(context.original_exception):
            context.is_disconnect = True

    @event.listens_for(engine, "invalidate")
    def doubt(_connection: Any, _record: Any, _error: Any) -> None:
        # what is kept may be as dead
        _pool(engine).put_back()

    @event.listens_for(engine, "checkin")
    def note(_connection: Any, record: Any) -> None:
        record.info["idle_since"] = record.info.pop("last_used", None) or time.monotonic()

    @event.listens_for(engine, "checkout")
    def prepare(connection: Any, record: Any, _proxy: Any) -> None:
        idle_since = record.info.get("idle_since")
        try:
            if idle_since is not None and time.monotonic() - idle_since > PING_AFTER_SECONDS:
                engine.dialect.do_ping(connection)
            connection.autocommit = _stands_alone()
        except engine.dialect.loaded_dbapi.Error as error:
            raise InvalidatePoolError from error


def _pool(engine: Engine) -> _Pool:
    assert isinstance(engine.pool, _Pool)
    return engine.pool


def is_away(error: BaseException) -> bool:
    """Whether `error` means that the database cannot be used at the moment, so that a later attempt may work.

    A statement that timed out, a deadlock or a full disk does not count: it would happen again, or is a bug.
    """
    if isinstance(error, PoolTimeout):
        return True
    if isinstance(error, DBAPIError):
        return error.connection_invalidated or (error.orig is not None and is_away(error.orig))
    if not isinstance(error, psycopg2.Error):
        return False
    if error.pgcode is None:
        # it never came to the server, or the connection was lost
        return isinstance(error, psycopg2.OperationalError | psycopg2.InterfaceError)
    return error.pgcode.startswith(_AWAY)


def describe(error: BaseException) -> str:
    """The message of a database error in one line, without the data of the row."""
    cause = getattr(error, "orig", None) or error
    primary = cause.diag.message_primary if isinstance(cause, psycopg2.Error) else None
    return " ".join((primary or str(cause)).split())


def explain(error: BaseException) -> str | None:
    """The sentence that a command prints about a database error, or None for a bug."""
    cause = getattr(error, "orig", None) or error
    if is_away(error):
        return f"The database is out of reach: {describe(error)}"
    if getattr(cause, "pgcode", None) == _UNDEFINED_TABLE:
        return f"The database lacks a part of the schema ({describe(error)}): run `kibotos db migrate`."
    if isinstance(cause, psycopg2.OperationalError):
        return f"The database could not do this: {describe(error)}"
    return None


def command_app(settings: Settings) -> Flask:
    """An application with the database and nothing else, for commands that need no other setting."""
    app = Flask("kibotos")
    init_app(app, settings.require_database())
    return app


_autocommit: ContextVar[bool] = ContextVar("autocommit", default=False)


@contextmanager
def autocommit() -> Iterator[None]:
    """Commit each statement of the block by itself. This takes one message to the server instead of three.

    The session starts again, and holds no connection after the block.
    """
    db.session.rollback()
    outside = _autocommit.set(True)
    try:
        yield
    finally:
        _autocommit.reset(outside)
        db.session.rollback()


def _stands_alone() -> bool:
    """Whether each statement is a transaction of its own here: in a GET, and within autocommit()."""
    return _autocommit.get() or (has_request_context() and request.method in ("GET", "HEAD"))


class Prepared:
    """Statements that each connection plans once, since planning takes most of the server's time.

    They are sent in one message, which is one transaction, and each has a snapshot of its own. A plan serves
    all values: if one for certain values is much cheaper, PostgreSQL plans each time and nothing is gained.
    The server keeps them with the session, so a pooler must leave each connection its session.
    """

    def __init__(self, *statements: str):
        self.text = "; ".join(statements)
        self._definitions: dict[str, str] = {}
        calls = []
        for statement in statements:
            compiled = text(statement).compile(dialect=PGDialect_psycopg2(paramstyle="numeric_dollar"))
            name = f"kibotos_{hashlib.sha256(str(compiled).encode()).hexdigest()[:16]}"
            self._definitions[name] = f"PREPARE {name} AS {compiled}"
            binds = ", ".join(f"%({bind})s" for bind in compiled.positiontup or ())
            calls.append(f"EXECUTE {name} ({binds})" if binds else f"EXECUTE {name}")
        self._call = "; ".join(calls)

    def run(self, cursor: Any, prepared: set[str], binds: dict[str, Any]) -> None:
        """Run it on a connection that has these statements `prepared`, by name."""
        for name in self._definitions.keys() - prepared:
            cursor.execute(self._definitions[name])
            prepared.add(name)
        cursor.execute(self._call, binds)


Statement = TextClause | Prepared


class _Outcome(NamedTuple):
    columns: tuple[str, ...]
    rows: Sequence[Sequence[Any]]
    rowcount: int


def _run(statement: Statement, binds: dict[str, Any]) -> _Outcome:
    """Run a statement by psycopg2: on the session's connection or, if it stands alone, on one of the pool.

    No thread waits for a second connection while it holds the session's: as many of them as the pool has
    connections would wait for each other.

    SQLAlchemy would take more processor time than all the rest: 0.42 ms instead of 0.19.
    """
    try:
        if not _stands_alone() or _has_connection():
            return _run_on(db.session.connection().connection, statement, binds)
        pool = _pool(db.engine)
        pooled = pool.take()
        try:
            return _run_on(pooled, statement, binds)
        finally:
            # a process that answers requests does not fork; another one's child must not inherit what is kept
            if has_request_context() and pooled.is_valid:
                pool.keep(pooled)
            else:
                pooled.close()
    except psycopg2.Error as error:
        raise DBAPIError.instance(None, None, error, psycopg2.Error, hide_parameters=True) from error


def _has_connection() -> bool:
    """Whether the session holds a connection. None is begun to find out."""
    return db.session.registry.has() and db.session().in_transaction()


def _run_on(pooled: PoolProxiedConnection, statement: Statement, binds: dict[str, Any]) -> _Outcome:
    try:
        with closing(pooled.cursor()) as cursor:
            if isinstance(statement, Prepared):
                statement.run(cursor, pooled.info.setdefault("prepared", set()), binds)
            else:
                cursor.execute(_as_psycopg2_has_it(statement), binds)
            if cursor.description is None:
                return _Outcome((), (), cursor.rowcount)
            columns = _columns.get(statement)
            if columns is None:
                columns = _columns[statement] = tuple(column[0] for column in cursor.description)
            return _Outcome(columns, cursor.fetchall(), cursor.rowcount)
    except psycopg2.Error as error:
        if is_away(error):
            pooled.invalidate(error)
            # the other connections of the pool are as dead
            db.engine.dispose()
        raise


# The statements are constants of the modules of queries, and each names its columns.
_columns: dict[Statement, tuple[str, ...]] = {}


@cache
def _as_psycopg2_has_it(statement: TextClause) -> str:
    return str(statement.compile(dialect=db.engine.dialect))


def fetch_all(row: type[Row], statement: Statement, **binds: Any) -> list[Row]:
    """Run `statement` and return its rows as instances of the dataclass `row`, by column name."""
    outcome = _run(statement, binds)
    if outcome.rows:
        _check_columns(row, outcome.columns)  # type: ignore[arg-type]  # a class is hashable
    return [_make(row, outcome.columns, values) for values in outcome.rows]


@cache
def _check_columns(row: type, columns: tuple[str, ...]) -> None:
    """Raise TypeError unless these columns are the fields of `row`; those with a default may be missing."""
    row(**dict.fromkeys(columns))
    assert len(set(columns)) == len(columns), columns


def _make(row: type[Row], columns: tuple[str, ...], values: Sequence[Any]) -> Row:
    # a frozen dataclass's own __init__ sets each field by a call, which takes five times as long
    made = object.__new__(row)
    made.__dict__.update(zip(columns, values, strict=True))
    return made


def fetch_one(row: type[Row], statement: Statement, **binds: Any) -> Row | None:
    """Run `statement` and return its only row as an instance of `row`, or None if there is no row."""
    rows = fetch_all(row, statement, **binds)
    assert len(rows) < 2, statement
    return rows[0] if rows else None


def fetch_value(statement: Statement, **binds: Any) -> Any:
    """Run `statement` and return the first column of its first row, or None if there is no row."""
    rows = _run(statement, binds).rows
    return rows[0][0] if rows else None


def fetch_values(statement: Statement, **binds: Any) -> list[Any]:
    """Run `statement` and return the first column of its rows."""
    return [values[0] for values in _run(statement, binds).rows]


def execute(statement: Statement, **binds: Any) -> int:
    """Run `statement` and return how many rows it changed."""
    return _run(statement, binds).rowcount


@contextmanager
def _schema_session() -> Iterator[Any]:
    """A raw psycopg2 connection of its own that holds the schema lock and commits each statement by itself.

    `with connection:` is a transaction on it. Raw, because SQL files hold `:` and `%` that text() and
    exec_driver_sql would read as parameters. Raises Conflict if another process keeps the lock.
    """
    pooled = db.engine.raw_connection()
    connection: Any = pooled.driver_connection
    # it is closed at the end instead of going back to the pool, and with it go the lock and the settings
    pooled.detach()
    try:
        connection.autocommit = True
        with connection.cursor() as cursor:
            cursor.execute(f"SET statement_timeout = 0; SET lock_timeout = '{LOCK_TIMEOUT_SECONDS}s'")
            _lock_schema(cursor)
        yield connection
    finally:
        pooled.close()


def _lock_schema(cursor: Any) -> None:
    # tried again and again: a statement that waits would make another's CREATE INDEX CONCURRENTLY wait for it
    deadline = time.monotonic() + SCHEMA_LOCK_SECONDS
    while True:
        cursor.execute("SELECT pg_try_advisory_lock(%s)", (locks.SCHEMA,))
        if cursor.fetchone()[0]:
            return
        if time.monotonic() > deadline:
            raise Conflict(
                "Another process is changing the schema; wait until it is done, then run this again."
            )
        time.sleep(0.1)


def migrations(directory: Path = MIGRATIONS) -> list[Path]:
    """All migrations, in order."""
    return sorted(directory.glob("[0-9][0-9][0-9][0-9]_*.sql"))


def _applied(cursor: Any) -> set[str] | None:
    cursor.execute("SELECT to_regclass('schema_migrations')")
    if cursor.fetchone()[0] is None:
        return None
    cursor.execute("SELECT version FROM schema_migrations")
    return {version for (version,) in cursor.fetchall()}


def _stamp(cursor: Any, migration: Path) -> None:
    cursor.execute("INSERT INTO schema_migrations (version) VALUES (%s)", (migration.stem,))


def pending_migrations() -> list[str] | None:
    """The versions that `db migrate` would apply, or None for a database without our schema."""
    with closing(db.engine.raw_connection()) as connection, closing(connection.cursor()) as cursor:
        applied = _applied(cursor)
    return None if applied is None else [m.stem for m in migrations() if m.stem not in applied]


def init_schema() -> bool:
    """Load schema.sql into an empty database and record all migrations as applied.

    If the schema exists already, return False and change nothing. Raises Conflict if the database has tables
    that are not ours.
    """
    with _schema_session() as connection, connection, connection.cursor() as cursor:
        if _applied(cursor) is not None:
            return False
        cursor.execute("SELECT tablename FROM pg_tables WHERE schemaname = current_schema() LIMIT 1")
        if row := cursor.fetchone():
            raise Conflict(
                f"The database is not empty (it has a table {row[0]}); name an empty one in DATABASE_URL."
            )
        cursor.execute(SCHEMA.read_text())
        for migration in migrations():
            _stamp(cursor, migration)
    return True


def migrate(directory: Path = MIGRATIONS) -> list[str]:
    """Bring the database to the current schema, one transaction for each file. Return what was applied.

    An empty database gets every migration from the first on. Raises Conflict if a table stays in use: a
    longer wait would stop the service, since its requests would wait behind the migration.
    """
    done = []
    with _schema_session() as connection, connection.cursor() as cursor:
        for migration in migrations(directory):
            if migration.stem in (_applied(cursor) or ()):
                continue
            sql = migration.read_text()
            if sql.startswith(OUTSIDE_TRANSACTION):
                _apply_outside_transaction(cursor, migration.stem, sql)
                _stamp(cursor, migration)
            else:
                try:
                    with connection:
                        cursor.execute(sql)
                        _stamp(cursor, migration)
                except (psycopg2.errors.LockNotAvailable, psycopg2.errors.DeadlockDetected) as error:
                    raise Conflict(
                        f"{migration.stem} waited for a table in use, gave up in {LOCK_TIMEOUT_SECONDS} s, "
                        "so that the service can go on. It changed nothing: run `kibotos db migrate` again."
                    ) from error
            log.info("migration_applied", version=migration.stem)
            done.append(migration.stem)
    return done


def _apply_outside_transaction(cursor: Any, version: str, sql: str) -> None:
    cursor.execute(
        "SELECT c.oid::regclass::text FROM pg_index i JOIN pg_class c ON c.oid = i.indexrelid "
        "WHERE NOT i.indisvalid AND c.relnamespace = current_schema()::regnamespace"
    )
    if row := cursor.fetchone():
        raise Conflict(
            f"The index {row[0]} was not finished when a migration broke off. Remove it by the SQL "
            f"`DROP INDEX CONCURRENTLY {row[0]}`, then run `kibotos db migrate` again for {version}."
        )
    # nobody waits for it while it waits for the users of the table
    cursor.execute("SET lock_timeout = 0")
    cursor.execute(sql)
    cursor.execute(f"SET lock_timeout = '{LOCK_TIMEOUT_SECONDS}s'")


def drop_schema() -> None:
    """Drop every table and function of the current schema: all data is gone.

    They are dropped one by one, since only a superuser may drop the schema `public` before PostgreSQL 15.
    """
    with _schema_session() as connection, connection, connection.cursor() as cursor:
        cursor.execute(
            "SELECT format('DROP TABLE %I CASCADE', tablename) FROM pg_tables "
            "WHERE schemaname = current_schema() "
            "UNION ALL SELECT format('DROP FUNCTION %s CASCADE', oid::regprocedure) FROM pg_proc "
            "WHERE pronamespace = current_schema()::regnamespace AND prolang <> "
            "(SELECT oid FROM pg_language WHERE lanname = 'c')"
        )
        for (statement,) in cursor.fetchall():
            cursor.execute(statement)
