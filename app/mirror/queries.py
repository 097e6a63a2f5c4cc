"""SQL on what the mirror is to have."""

from datetime import datetime

from sqlalchemy import text

from app.db import db, fetch_value

_HAS_WEIGHTS = "EXISTS (SELECT 1 FROM computed_weights w WHERE w.cycle_id = c.id)"
_LIST_WEIGHTED_AFTER = text(f"""
    SELECT id FROM cycles c WHERE status = 'COMPLETED' AND id > :cycle_id AND {_HAS_WEIGHTS} ORDER BY id
""")
_FIND_LAST_WEIGHTED = text(f"""
    SELECT id FROM cycles c WHERE status = 'COMPLETED' AND {_HAS_WEIGHTS} ORDER BY id DESC LIMIT 1
""")
_FIND_COMPLETED_AT = text("SELECT completed_at FROM cycles WHERE id = :cycle_id")
# up to the first that is not in storage yet
_LIST_STORED_AFTER = text("""
    SELECT l.cycle_id, l.root FROM ledgers l
    WHERE l.cycle_id > :cycle_id AND l.cycle_id < (
        SELECT coalesce(min(n.cycle_id), 9223372036854775807) FROM ledgers n
        WHERE n.stored_at IS NULL AND n.cycle_id > :cycle_id)
    ORDER BY l.cycle_id
""")
_FIND_ROOT = text("SELECT root FROM ledgers WHERE cycle_id = :cycle_id")


def list_weighted_after(cycle_id: int) -> list[int]:
    """The completed cycles with weights after a given one, the oldest first."""
    return list(db.session.scalars(_LIST_WEIGHTED_AFTER, {"cycle_id": cycle_id}))


def find_last_weighted() -> int | None:
    return fetch_value(_FIND_LAST_WEIGHTED)


def find_completed_at(cycle_id: int) -> datetime | None:
    return fetch_value(_FIND_COMPLETED_AT, cycle_id=cycle_id)


def list_stored_after(cycle_id: int) -> list[tuple[int, str]]:
    """The ledgers after that of a given cycle, each with its root, up to the first that is not in storage."""
    rows = db.session.execute(_LIST_STORED_AFTER, {"cycle_id": cycle_id})
    return [(row.cycle_id, row.root) for row in rows]


def find_root(cycle_id: int) -> str | None:
    return fetch_value(_FIND_ROOT, cycle_id=cycle_id)
