"""Periodic work. One process at a time does it, and the table `ticks` has its last run."""

from collections.abc import Callable
from typing import Any

import structlog
from sqlalchemy import Connection, text
from sqlalchemy.exc import DBAPIError
from sqlalchemy.exc import TimeoutError as PoolTimeout

from app import locks
from app.db import db, describe, fetch_value, is_away

log = structlog.get_logger(__name__)

_TRY_LOCK = text("SELECT pg_try_advisory_lock(:locks, hashtext(:name))")
_UNLOCK = text("SELECT pg_advisory_unlock(:locks, hashtext(:name))")
_BEGIN = text("""
    INSERT INTO ticks (name, last_started_at) VALUES (:name, now())
    ON CONFLICT (name) DO UPDATE SET last_started_at = now()
""")
_BEGAN_WITHIN = text("""
    SELECT EXISTS (SELECT FROM ticks WHERE name = :name
                   AND last_started_at > now() - make_interval(secs => :seconds))
""")
_END = text("UPDATE ticks SET last_finished_at = now(), last_error = :error WHERE name = :name")


def run(name: str, work: Callable[[], Any]) -> bool:
    """Do `work` and return True, or return False at once if another process is doing it.

    A failure is logged and stored, not raised: the next tick tries again.
    """
    try:
        with db.engine.connect().execution_options(isolation_level="AUTOCOMMIT") as guard:
            return _run_guarded(guard, name, work)
    except (DBAPIError, PoolTimeout) as failure:
        _log_failure(name, failure)
        return True


def began_within(name: str, seconds: float) -> bool:
    """Whether the last run began within the last `seconds`."""
    return fetch_value(_BEGAN_WITHIN, name=name, seconds=seconds)


def _run_guarded(guard: Connection, name: str, work: Callable[[], Any]) -> bool:
    """`guard` is a connection of its own, which holds the lock while `work` commits as it likes."""
    lock = {"locks": locks.TICKS, "name": name}
    if not guard.execute(_TRY_LOCK, lock).scalar():
        log.info("tick_skipped", tick=name)
        return False
    try:
        guard.execute(_BEGIN, {"name": name})
        error = None
        try:
            work()
        except Exception as failure:
            _log_failure(name, failure)
            db.session.rollback()
            error = f"{type(failure).__name__}: {failure}"[:1000]
        guard.execute(_END, {"name": name, "error": error})
    finally:
        # a connection that went back to the pool with the lock would keep it
        if not guard.invalidated:
            guard.execute(_UNLOCK, lock)
    return True


def _log_failure(name: str, failure: Exception) -> None:
    if is_away(failure):
        log.warning("tick_failed", tick=name, error=describe(failure))
    else:
        log.exception("tick_failed", tick=name, exc_info=failure)
