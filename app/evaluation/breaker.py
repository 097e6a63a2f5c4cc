"""Circuit breakers on storage and the VLM: while one is open, whoever needs it claims nothing.

A breaker trips once THRESHOLD different submissions have failed without a success between them. It stays open
for a while that doubles from trip to trip. When it is over, one submission is let through as a probe: its
success closes the breaker, its fault trips it again. Nothing here commits; the callers in service.py do.
"""

import structlog

from app.enums import Dependency, EvaluatedBy
from app.evaluation import breaker_queries as queries

log = structlog.get_logger(__name__)

THRESHOLD = 5
FIRST_OPEN_SECONDS = 10.0
LONGEST_OPEN_SECONDS = 300.0
# A probe that has not reported by then is taken to have died, and another may try.
PROBE_SECONDS = 60.0
# What of ours an evaluation needs. A remote evaluator has a judge of its own, which says nothing of ours.
NEEDS = {
    EvaluatedBy.WORKER: (Dependency.STORAGE, Dependency.VLM),
    EvaluatedBy.EVALUATOR: (Dependency.STORAGE,),
}


def permits(wanted: int, by: EvaluatedBy) -> int:
    """How many of `wanted` claims may be made now: all of them, one as a probe, or none."""
    tripped = queries.list_tripped(NEEDS[by])
    if any(breaker.is_open or breaker.is_probed for breaker in tripped):
        return 0
    return min(wanted, 1) if tripped else wanted


def take_probe(by: EvaluatedBy) -> bool:
    """Take the one claim that tries tripped breakers again, so that nobody else does; False if none may."""
    tripped = queries.list_tripped(NEEDS[by])
    return bool(tripped) and queries.take_probe(NEEDS[by], PROBE_SECONDS) == len(tripped)


def release_probes(by: EvaluatedBy) -> None:
    """Let the next probe begin: the one of `by` has told nothing."""
    queries.release_probes(NEEDS[by])


def count_failure(name: Dependency, error: str, submission_id: int) -> None:
    """Count a submission that failed because of storage or the VLM against its breaker."""
    open_until = queries.count_failure(
        name, error[:1000], submission_id, THRESHOLD, FIRST_OPEN_SECONDS, LONGEST_OPEN_SECONDS
    )
    if open_until is not None:
        log.warning("circuit_open", dependency=name, until=open_until.isoformat(), error=error)


def count_success(by: EvaluatedBy, was_judged: bool) -> None:
    """Close the breakers of what has just worked for `by`.

    Of the VLM a probe may have told nothing: its video was rejected before it `was_judged`. The next probe
    need not wait for its end.
    """
    worked = [name for name in NEEDS[by] if was_judged or name != Dependency.VLM]
    if queries.delete_breakers(worked):
        log.info("circuit_closed", dependencies=worked)
    release_probes(by)
