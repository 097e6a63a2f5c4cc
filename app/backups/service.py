"""The rules of a backup: one snapshot, a manifest beside the file, and an empty database to restore into."""

import hashlib
from collections.abc import Callable
from contextlib import closing
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import psycopg2
import structlog
from psycopg2 import sql
from pydantic import BaseModel, ValidationError

from app.backups import tools
from app.config import Settings
from app.db import migrations
from app.errors import Conflict
from app.version import VERSION

log = structlog.get_logger(__name__)

_NOTE = """
    INSERT INTO ticks (name, last_started_at, last_finished_at) VALUES ('backup', %(created_at)s, now())
    ON CONFLICT (name) DO UPDATE SET last_started_at = %(created_at)s, last_finished_at = now()
"""
MANIFEST_SUFFIX = ".manifest.json"


class Manifest(BaseModel):
    """What a backup holds. `rows` counts each table, in the snapshot that was dumped.

    `kibotos` is the release that made it, `postgresql` the major version of its server, and `db_schema` the
    schema of the tables, as a rule `public`.
    """

    created_at: datetime
    kibotos: str
    postgresql: int
    db_schema: str
    migrations: list[str]
    rows: dict[str, int]
    size_bytes: int
    sha256: str


def manifest_of(backup: Path) -> Path:
    """Where the manifest of a backup is: beside it."""
    return backup.with_name(backup.name + MANIFEST_SUFFIX)


def back_up(settings: Settings, to: Path, tell: Callable[[int], None]) -> Manifest:
    """Write a backup of the database to `to`, and its manifest beside it. The service may go on meanwhile.

    `tell` gets the bytes that were written so far. The database is told, for the alert on late backups. Both
    files are complete or not there. Raises Conflict if the database has no schema, if `to` is there already,
    or if pg_dump is missing or fails.
    """
    for path in (to, manifest_of(to)):
        if path.exists():
            raise Conflict(f"{path} is there already; name another file.")
    database_url = _plain(settings)
    part = to.with_name(to.name + ".part")
    try:
        with closing(psycopg2.connect(database_url)) as connection, connection.cursor() as cursor:
            # what is counted is what is dumped
            connection.set_session(isolation_level="REPEATABLE READ", readonly=True)
            cursor.execute("SET statement_timeout = 0; SET idle_in_transaction_session_timeout = 0")
            cursor.execute("SELECT pg_export_snapshot(), current_schema()")
            snapshot, schema = cursor.fetchone() or ()
            applied = _applied(cursor)
            if not applied:
                raise Conflict("The database has no schema, so there is nothing to back up.")
            version = connection.server_version // 10_000
            program = tools.find("pg_dump", version)
            # only its owner may read what is in a database
            part.touch(0o600)
            tools.run(
                program,
                database_url,
                [
                    "--format=custom",
                    "--no-owner",
                    "--no-privileges",
                    f"--schema={schema}",
                    f"--snapshot={snapshot}",
                    f"--file={part}",
                ],
                lambda: tell(part.stat().st_size),
            )
            manifest = Manifest(
                created_at=datetime.now(UTC),
                kibotos=VERSION,
                postgresql=version,
                db_schema=schema,
                migrations=applied,
                rows=_count(cursor),
                size_bytes=part.stat().st_size,
                sha256=_sha256(part),
            )
        manifest_of(to).write_text(manifest.model_dump_json(indent=2) + "\n")
        part.replace(to)
    finally:
        part.unlink(missing_ok=True)
    _note(database_url, manifest)
    return manifest


def _note(database_url: str, manifest: Manifest) -> None:
    """Tell the database that there is a backup. A standby cannot be told: the backup is as good."""
    try:
        with closing(psycopg2.connect(database_url)) as connection, connection, connection.cursor() as cursor:
            cursor.execute(_NOTE, {"created_at": manifest.created_at})
    except psycopg2.Error as error:
        log.warning("backup_not_noted", reason=str(error).strip())


def read_manifest(backup: Path) -> Manifest:
    """Return the manifest of a backup, whose bytes are checked. Raises Conflict if they are others."""
    try:
        manifest = Manifest.model_validate_json(manifest_of(backup).read_bytes())
    except FileNotFoundError as error:
        raise Conflict(
            f"{manifest_of(backup)} is missing: put it beside the backup, as `db backup` wrote it."
        ) from error
    except ValidationError as error:
        raise Conflict(f"{manifest_of(backup)} is not the manifest of a backup.") from error
    if not backup.exists():
        raise Conflict(f"{backup} is missing.")
    if backup.stat().st_size != manifest.size_bytes or _sha256(backup) != manifest.sha256:
        raise Conflict(f"{backup} is not the file that its manifest tells of; fetch it again.")
    return manifest


def restore(settings: Settings, backup: Path, tell: Callable[[], None]) -> Manifest:
    """Load a backup into an empty database, all of it or nothing, and count its rows.

    Raises Conflict if the database is not empty, if the backup is damaged or of a newer release, or if
    pg_restore is missing or fails.
    """
    database_url = _plain(settings)
    manifest = read_manifest(backup)
    newer = set(manifest.migrations) - {each.stem for each in migrations()}
    if newer:
        raise Conflict(
            f"The backup was made by Kibotos {manifest.kibotos}, which has the migration {max(newer)}; "
            "restore it with that release or a newer one."
        )
    with closing(psycopg2.connect(database_url)) as connection, connection.cursor() as cursor:
        connection.autocommit = True
        cursor.execute("SELECT tablename FROM pg_tables WHERE schemaname = current_schema() LIMIT 1")
        if row := cursor.fetchone():
            raise Conflict(
                f"The database is not empty (it has a table {row[0]}); name an empty one in DATABASE_URL."
            )
        tools.run(
            tools.find("pg_restore", manifest.postgresql),
            database_url,
            [
                "--no-owner",
                "--no-privileges",
                "--single-transaction",
                "--exit-on-error",
                # what is in it, without the schema itself, which each database has
                f"--schema={manifest.db_schema}",
                str(backup),
            ],
            tell,
        )
        cursor.execute("SET statement_timeout = 0")
        # without statistics the first minutes would be slow
        cursor.execute("ANALYZE")
        counted = _count(cursor)
    if counted != manifest.rows:
        wrong = sorted(
            name for name in counted.keys() | manifest.rows if counted.get(name) != manifest.rows.get(name)
        )
        raise Conflict(f"These tables have other numbers of rows than the backup: {', '.join(wrong)}.")
    return manifest


def _plain(settings: Settings) -> str:
    """The address of the database as PostgreSQL's own tools read it, without the name of our driver."""
    return "postgresql://" + settings.require_database().database_url.partition("://")[2]


def _applied(cursor: Any) -> list[str]:
    cursor.execute("SELECT to_regclass('schema_migrations')")
    if cursor.fetchone()[0] is None:
        return []
    cursor.execute("SELECT version FROM schema_migrations ORDER BY version")
    return [version for (version,) in cursor.fetchall()]


def _count(cursor: Any) -> dict[str, int]:
    cursor.execute("SELECT tablename FROM pg_tables WHERE schemaname = current_schema() ORDER BY tablename")
    counted = {}
    for (table,) in cursor.fetchall():
        cursor.execute(sql.SQL("SELECT count(*) FROM {}").format(sql.Identifier(table)))
        counted[table] = cursor.fetchone()[0]
    return counted


def _sha256(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
