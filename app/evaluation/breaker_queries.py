"""SQL on circuit breakers. A row exists from the first failure until the next success."""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime

from sqlalchemy import text

from app.db import Prepared, execute, fetch_all, fetch_value
from app.enums import Dependency

_LIST_TRIPPED = text("""
    SELECT name, consecutive_failures, open_until, open_until > now() AS is_open,
           coalesce(probe_until > now(), false) AS is_probed, last_error
    FROM circuit_breakers WHERE open_until IS NOT NULL AND name = ANY(:names) ORDER BY name
""")
_TAKE_PROBE = text("""
    UPDATE circuit_breakers SET probe_until = now() + make_interval(secs => :probe_seconds)
    WHERE open_until <= now() AND (probe_until IS NULL OR probe_until <= now()) AND name = ANY(:names)
""")
_RELEASE_PROBES = text("""
    UPDATE circuit_breakers SET probe_until = NULL WHERE probe_until IS NOT NULL AND name = ANY(:names)
""")
# A submission counts once: if one fails again and again, the reason is more likely the submission itself.
_FAILED = """
    (CASE WHEN :submission_id = ANY(b.failed_submissions) OR cardinality(b.failed_submissions) >= :threshold
          THEN b.failed_submissions ELSE b.failed_submissions || CAST(:submission_id AS bigint) END)
"""
# An evaluation that was under way when the breaker tripped may fail. This does not keep the breaker open for
# longer. A failed probe does.
_TRIPS = f"""
    (CASE WHEN b.open_until IS NULL THEN cardinality({_FAILED}) >= :threshold
          ELSE b.open_until <= now() END)
"""
_COUNT_FAILURE = text(f"""
    INSERT INTO circuit_breakers AS b (name, consecutive_failures, failed_submissions, last_error)
    VALUES (:name, 1, ARRAY[CAST(:submission_id AS bigint)], :error)
    ON CONFLICT (name) DO UPDATE SET
        consecutive_failures = b.consecutive_failures + 1, failed_submissions = {_FAILED},
        last_error = :error, updated_at = now(),
        trips = b.trips + CAST({_TRIPS} AS integer),
        open_until = CASE WHEN {_TRIPS}
            THEN now() + make_interval(secs => least(:longest, :first * 2 ^ least(b.trips, 20)))
            ELSE b.open_until END,
        probe_until = CASE WHEN {_TRIPS} THEN NULL ELSE b.probe_until END
    RETURNING open_until
""")
_LIST_FAULTS = text("""
    SELECT name, open_until IS NOT NULL AS is_tripped, last_error FROM circuit_breakers
    ORDER BY is_tripped DESC, name
""")
_CLOSE = Prepared("""
    WITH closed AS (DELETE FROM circuit_breakers WHERE name = ANY(CAST(:worked AS text[])) RETURNING name),
    released AS (
        UPDATE circuit_breakers SET probe_until = NULL
        WHERE probe_until IS NOT NULL AND name = ANY(CAST(:names AS text[]))
          AND name <> ALL(CAST(:worked AS text[]))
    )
    SELECT count(*) FROM closed
""")


@dataclass(frozen=True)
class TrippedBreaker:
    name: str
    consecutive_failures: int
    open_until: datetime
    is_open: bool
    is_probed: bool
    last_error: str | None


@dataclass(frozen=True)
class Fault:
    name: str
    is_tripped: bool
    last_error: str | None


def list_tripped(names: Sequence[str] = tuple(Dependency)) -> list[TrippedBreaker]:
    """The breakers among `names` that permit no claims now, with their last error."""
    return fetch_all(TrippedBreaker, _LIST_TRIPPED, names=list(names))


def list_faults() -> list[Fault]:
    """What has failed since its last success, first what failed often enough to trip its breaker."""
    return fetch_all(Fault, _LIST_FAULTS)


def take_probe(names: Sequence[str], probe_seconds: float) -> int:
    """Take the probe of every tripped breaker among `names` whose time is over; return how many there are."""
    return execute(_TAKE_PROBE, names=list(names), probe_seconds=probe_seconds)


def release_probes(names: Sequence[str]) -> None:
    execute(_RELEASE_PROBES, names=list(names))


def count_failure(
    name: str, error: str, submission_id: int, threshold: int, first: float, longest: float
) -> datetime | None:
    """Count a failure and return until when the breaker is open, or None if it has not tripped."""
    return fetch_value(
        _COUNT_FAILURE,
        name=name,
        error=error,
        submission_id=submission_id,
        threshold=threshold,
        first=first,
        longest=longest,
    )


def close(worked: Sequence[str], names: Sequence[str]) -> int:
    """Delete the breakers of what has `worked`, and release the probes of the others among `names`.

    Returns how many were deleted.
    """
    return fetch_value(_CLOSE, worked=list(worked), names=list(names))
