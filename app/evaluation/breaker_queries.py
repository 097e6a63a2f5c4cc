"""SQL on circuit breakers. A row exists from the first failure until the next success."""

from dataclasses import dataclass
from datetime import datetime

from sqlalchemy import text

from app.db import execute, fetch_all, fetch_value

_LIST_TRIPPED = text("""
    SELECT name, consecutive_failures, open_until, open_until > now() AS is_open,
           coalesce(probe_until > now(), false) AS is_probed, last_error
    FROM circuit_breakers WHERE open_until IS NOT NULL ORDER BY name
""")
_TAKE_PROBE = text("""
    UPDATE circuit_breakers SET probe_until = now() + make_interval(secs => :probe_seconds)
    WHERE open_until <= now() AND (probe_until IS NULL OR probe_until <= now())
""")
_RELEASE_PROBES = text("UPDATE circuit_breakers SET probe_until = NULL WHERE probe_until IS NOT NULL")
# Failures of evaluations that were under way when it tripped do not prolong it; a failed probe does.
_TRIPS = """
    (CASE WHEN b.open_until IS NULL THEN b.consecutive_failures + 1 >= :threshold
          ELSE b.open_until <= now() END)
"""
_COUNT_FAILURE = text(f"""
    INSERT INTO circuit_breakers AS b (name, consecutive_failures, last_error) VALUES (:name, 1, :error)
    ON CONFLICT (name) DO UPDATE SET
        consecutive_failures = b.consecutive_failures + 1, last_error = :error, updated_at = now(),
        trips = b.trips + CAST({_TRIPS} AS integer),
        open_until = CASE WHEN {_TRIPS}
            THEN now() + make_interval(secs => least(:longest, :first * 2 ^ least(b.trips, 20)))
            ELSE b.open_until END,
        probe_until = CASE WHEN {_TRIPS} THEN NULL ELSE b.probe_until END
    RETURNING open_until
""")
_DELETE = text("DELETE FROM circuit_breakers WHERE name = ANY(:names)")


@dataclass(frozen=True)
class TrippedBreaker:
    name: str
    consecutive_failures: int
    open_until: datetime
    is_open: bool
    is_probed: bool
    last_error: str | None


def list_tripped() -> list[TrippedBreaker]:
    """The breakers that hold claims back now, with their last error."""
    return fetch_all(TrippedBreaker, _LIST_TRIPPED)


def take_probe(probe_seconds: float) -> int:
    """Take the probe of every tripped breaker whose time is up; how many those are."""
    return execute(_TAKE_PROBE, probe_seconds=probe_seconds)


def release_probes() -> None:
    execute(_RELEASE_PROBES)


def count_failure(name: str, error: str, threshold: int, first: float, longest: float) -> datetime | None:
    """Count a failure and return until when the breaker is open, or None if it has not tripped."""
    return fetch_value(
        _COUNT_FAILURE, name=name, error=error, threshold=threshold, first=first, longest=longest
    )


def delete_breakers(names: list[str]) -> int:
    return execute(_DELETE, names=names)
