"""SQL on contact sheets."""

from uuid import UUID

from sqlalchemy import text

from app.db import db, execute, fetch_value

_TAKEN_DOWN = "SELECT FROM takedowns t JOIN submissions s ON s.id = t.submission_id WHERE s.uuid = :uuid"
_INSERT = text(f"""
    INSERT INTO contact_sheets (uuid) SELECT CAST(:uuid AS uuid) WHERE NOT EXISTS ({_TAKEN_DOWN})
    ON CONFLICT (uuid) DO UPDATE SET stored_at = now()
""")
_IS_TAKEN_DOWN = text(f"SELECT EXISTS ({_TAKEN_DOWN})")
_EXISTS = text("SELECT EXISTS (SELECT FROM contact_sheets WHERE uuid = :uuid)")
_LIST_OLD = text("""
    SELECT uuid FROM contact_sheets WHERE stored_at < now() - make_interval(secs => :seconds)
    ORDER BY stored_at LIMIT :limit
""")
_DELETE = text("DELETE FROM contact_sheets WHERE uuid = :uuid")


def insert(uuid: UUID) -> bool:
    """Note that a submission, or a gold film, gets a contact sheet; False if it was taken down."""
    return execute(_INSERT, uuid=uuid) == 1


def is_taken_down(uuid: UUID) -> bool:
    return fetch_value(_IS_TAKEN_DOWN, uuid=uuid)


def exists(uuid: UUID) -> bool:
    return fetch_value(_EXISTS, uuid=uuid)


def list_old(seconds: float, limit: int) -> list[UUID]:
    """Those that were stored longer ago than so many seconds, the oldest first."""
    return list(db.session.scalars(_LIST_OLD, {"seconds": seconds, "limit": limit}))


def delete(uuid: UUID) -> None:
    execute(_DELETE, uuid=uuid)
