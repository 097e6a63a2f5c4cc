"""The job that builds releases: it does what is due next. Any number of them may run at once."""

import time

import structlog
from flask import current_app
from rq import get_current_job
from sqlalchemy.exc import SQLAlchemyError

from app.db import describe, is_away
from app.releases import building

log = structlog.get_logger(__name__)


def build_next() -> None:
    """Make the next film, write the next file or bring a release to its next state, if anything is due."""
    job = get_current_job()
    assert job is not None
    try:
        building.work_next(str(job.worker_name), current_app.extensions["storage"])
    except SQLAlchemyError as error:
        if not is_away(error):
            raise
        log.warning("database_away", error=describe(error))
        # without this the jobs in the queue would be used up at once, for nothing
        time.sleep(1)
