"""Circuit breakers on storage and the VLM: while one is open nothing is claimed.

A breaker trips after THRESHOLD failures in a row, of whichever worker, and stays open for a while that
doubles from trip to trip. When it is over, one submission is let through as a probe: its success closes
the breaker, its fault trips it again. Nothing here commits; the callers in service.py do.
"""

import structlog

from app.enums import Dependency
from app.evaluation import breaker_queries as queries

log = structlog.get_logger(__name__)

THRESHOLD = 5
FIRST_OPEN_SECONDS = 10.0
LONGEST_OPEN_SECONDS = 300.0
# A probe that has not reported by then is taken to have died, and another may try.
PROBE_SECONDS = 60.0


def permits(wanted: int) -> int:
    """How many of `wanted` claims may be made now: all of them, one as a probe, or none."""
    tripped = queries.list_tripped()
    if any(breaker.is_open or breaker.is_probed for breaker in tripped):
        return 0
    return min(wanted, 1) if tripped else wanted


def take_probe() -> bool:
    """Take the one claim that tries tripped breakers again, so that nobody else does; False if none may."""
    tripped = queries.list_tripped()
    return bool(tripped) and queries.take_probe(PROBE_SECONDS) == len(tripped)


def count_failure(name: Dependency, error: str) -> None:
    """Count a failure of storage or the VLM against its breaker."""
    open_until = queries.count_failure(
        name, error[:1000], THRESHOLD, FIRST_OPEN_SECONDS, LONGEST_OPEN_SECONDS
    )
    if open_until is not None:
        log.warning("circuit_open", dependency=name, until=open_until.isoformat(), error=error)


def count_success(*names: Dependency) -> None:
    """Close the breakers of what has just worked.

    Of the others a probe may have told nothing: a video that was rejected before the judge. Their next
    probe need not wait for its end.
    """
    if queries.delete_breakers(list(names)):
        log.info("circuit_closed", dependencies=names)
    queries.release_probes()
