"""The evaluation job: claims the oldest due submission, evaluates it and records the result."""

import tempfile
import time
from functools import partial
from pathlib import Path

import structlog
from flask import current_app
from rq import get_current_job
from rq.timeouts import JobTimeoutException
from sqlalchemy.exc import SQLAlchemyError

from app.assessment import pipeline
from app.assessment.judge import Judge
from app.assessment.model import Claim, LeaseLost
from app.clients.vlm import Vlm
from app.db import describe, is_away
from app.enums import EvaluatedBy
from app.errors import TransientError
from app.evaluation import service
from app.evaluation.judge_memory import DatabaseMemory
from app.leases import Lease
from app.moderation.recognition import recognise_next
from app.sheets import service as sheets
from app.video import painting

log = structlog.get_logger(__name__)


def evaluate_next() -> None:
    """Evaluate the oldest due submission, if there is any that no other worker has.

    If a video was taken down before anybody had looked at it, remember its footage instead.
    The claim ends with a result, or is released after a transient error. If the job is killed, its worker or
    the reconciler releases the claim.
    """
    job = get_current_job()
    assert job is not None
    began = time.monotonic()
    try:
        if recognise_next(current_app.extensions["storage"], Path(tempfile.gettempdir())):
            return
        claims = service.claim_due(1, str(job.worker_name), service.WORKER_LEASE_SECONDS)
    except SQLAlchemyError as error:
        if not is_away(error):
            raise
        log.warning("database_away", error=describe(error))
        # without this the jobs in the queue would be used up at once, for nothing
        time.sleep(1)
        return
    app = current_app._get_current_object()  # type: ignore[attr-defined]
    for claim in claims:
        extend = partial(service.extend_lease, claim)
        with Lease(app, f"submission {claim.id}", extend, began, service.WORKER_LEASE_SECONDS) as lease:
            sheet = _evaluate(claim, lease)
        extensions = app.extensions
        sheets.keep(claim.submission_uuid, sheet, extensions["settings"], extensions["storage"])


def _evaluate(claim: Claim, lease: Lease) -> bytes:
    """Evaluate a claimed submission, and record the result or release it. Return a result's contact sheet."""
    extensions = current_app.extensions
    settings, storage = extensions["settings"].for_judging(claim.is_appeal), extensions["storage"]
    structlog.contextvars.bind_contextvars(submission=str(claim.submission_uuid), attempt=claim.attempt)
    memory = DatabaseMemory(lease.ride_out)
    try:
        outcome = pipeline.evaluate(
            claim,
            lambda: storage.presign_get(claim.video_key, settings.job_timeout_seconds, public=False),
            Judge(Vlm(settings, memory), settings, memory, memory.counter(claim)),
            # the worker's own directory, which it empties after each job
            Path(tempfile.gettempdir()),
            lease.check,
            lambda *seen: lease.ride_out(lambda: service.find_known_footage(claim, *seen)),
            painting.painter(settings),
        )
        lease.ride_out(lambda: service.record_result(claim, outcome, EvaluatedBy.WORKER, settings))
        return outcome.contact_sheet
    except LeaseLost as lost:
        log.warning("lease_lost", reason=str(lost))
    except TransientError as fault:
        _release(claim, lease, fault)
    except JobTimeoutException as error:
        _release(claim, lease, TransientError(f"It took too long: {error}"))
    except Exception as error:
        log.exception("evaluation_failed")
        _release(claim, lease, TransientError(f"{type(error).__name__}: {error}"))
    return b""


def _release(claim: Claim, lease: Lease, fault: TransientError) -> None:
    try:
        lease.ride_out(lambda: service.release(claim, fault))
    except LeaseLost:
        log.warning("lease_lost", reason=str(fault))
