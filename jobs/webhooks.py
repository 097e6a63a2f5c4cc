"""The job that delivers webhooks. Any number of them may run at once: deliveries are claimed."""

import structlog
from flask import current_app
from sqlalchemy.exc import SQLAlchemyError

from app.clients.strangers import Strangers
from app.db import describe, is_away
from app.webhooks import delivery

log = structlog.get_logger(__name__)

# With the calls that began last, a run ends before a worker that was asked to stop kills it.
RUN_SECONDS = 3.0


def deliver_due() -> None:
    """Deliver what is due now, and what becomes due within some seconds."""
    settings = current_app.extensions["settings"]
    try:
        delivery.deliver_due(Strangers(settings.webhook_allow_private), RUN_SECONDS)
    except SQLAlchemyError as error:
        if not is_away(error):
            raise
        # what was called meanwhile is called again when its lease has ended
        log.warning("database_away", error=describe(error))
