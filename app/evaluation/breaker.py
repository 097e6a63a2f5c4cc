"""Circuit breakers for storage and the VLM. While one is open, evaluators that need it claim nothing.

A breaker trips when THRESHOLD different submissions have failed without a success between them. It stays open
for some time, which doubles from trip to trip. Then one submission is claimed as a probe. Its success closes
the breaker, and its failure trips it again. Nothing here commits; the callers in service.py do.
"""

import structlog

from app.enums import Dependency, EvaluatedBy
from app.evaluation import breaker_queries as queries

log = structlog.get_logger(__name__)

THRESHOLD = 5
FIRST_OPEN_SECONDS = 10.0
LONGEST_OPEN_SECONDS = 300.0
# After this time a probe without a result counts as dead, and another may start.
PROBE_SECONDS = 60.0
# What an evaluation needs of ours. A remote evaluator has its own judge, which shows nothing about ours.
NEEDS = {
    EvaluatedBy.WORKER: (Dependency.STORAGE, Dependency.VLM),
    EvaluatedBy.EVALUATOR: (Dependency.STORAGE,),
}


def permits(wanted: int, by: EvaluatedBy) -> int:
    """How many of the `wanted` claims are permitted now: all of them, one as a probe, or none."""
    tripped = queries.list_tripped(NEEDS[by])
    if any(breaker.is_open or breaker.is_probed for breaker in tripped):
        return 0
    return min(wanted, 1) if tripped else wanted


def take_probe(by: EvaluatedBy) -> bool:
    """Take the permit for the one probe of tripped breakers. False if there is none."""
    tripped = queries.list_tripped(NEEDS[by])
    return bool(tripped) and queries.take_probe(NEEDS[by], PROBE_SECONDS) == len(tripped)


def release_probes(by: EvaluatedBy) -> None:
    """Let the next probe begin: the one by `by` has shown nothing about the breaker."""
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

    If the video was rejected before it `was_judged`, a probe has shown nothing about the VLM. Then the next
    probe may start at once.
    """
    worked = [name for name in NEEDS[by] if was_judged or name != Dependency.VLM]
    if queries.close(worked, NEEDS[by]):
        log.info("circuit_closed", dependencies=worked)
