"""Remote evaluators whose answers to gold films differ too much from people's get no submissions.

An evaluator is known by the name of its token.
"""

import structlog

from app.config import Settings
from app.db import autocommit, db
from app.errors import Conflict, Deferred, Forbidden
from app.evaluation import service
from app.gold import queries
from app.gold import service as gold

log = structlog.get_logger(__name__)


def check_allowed(evaluator: str) -> None:
    """Raise Forbidden for a blocked evaluator."""
    with autocommit():
        block = queries.find_block(evaluator)
    if block:
        raise Forbidden(
            "This evaluator's scores differ too much from people's, so it gets no submissions for now; check "
            "your judge, and ask the operator of the backend to allow it again."
        )


def block_doubtful(settings: Settings) -> None:
    """Block evaluators whose latest answers are in doubt, and give back what they have claimed."""
    for answers, reason in gold.list_doubtful_evaluators(settings):
        if answers.differs_since is None or not queries.insert_block(
            answers.evaluator, reason, answers.differs_since
        ):
            continue
        db.session.commit()
        log.warning("evaluator_blocked", evaluator=answers.evaluator, reason=reason)
        service.release_all(
            service.claimant(answers.evaluator), Deferred("Its evaluator was blocked.", retry_after=0)
        )
    db.session.rollback()


def allow(evaluator: str, reason: str, by: str) -> None:
    """Give a blocked evaluator submissions again; only its answers from now on count. Raises Conflict."""
    if not queries.allow(evaluator, by, reason):
        raise Conflict(f"{evaluator} is not blocked; kibotos evaluators list shows which one is.")
    db.session.commit()
    log.warning("evaluator_allowed", evaluator=evaluator, by=by, reason=reason)
