"""Redis queues: their names, and how work is put into them.

What is queued is a hint: the database says what is due, and a lost or doubled entry changes nothing.
Jobs are named by dotted path, since the app never imports what runs in workers.
"""

import uuid
from collections.abc import Iterable

from redis import Redis
from rq import Queue

EVALUATIONS = "evaluations"
TICKS = "ticks"

# A job that no worker took within this time is dropped; the reconciler dispatches its row again.
JOB_TTL_SECONDS = 3600


def enqueue_evaluations(redis: Redis, submission_ids: Iterable[int], timeout: int) -> None:
    """Queue one evaluation job a submission, each under a fresh id, in one round trip.

    `timeout` is in seconds. Raises RedisError if Redis is out of reach.
    """
    Queue(EVALUATIONS, connection=redis).enqueue_many(
        [
            Queue.prepare_data(
                "jobs.evaluate.evaluate_submission",
                args=(submission_id,),
                job_id=f"evaluate-{submission_id}-{uuid.uuid4().hex}",
                timeout=timeout,
                ttl=JOB_TTL_SECONDS,
                result_ttl=0,
                failure_ttl=86_400,
            )
            for submission_id in submission_ids
        ]
    )
