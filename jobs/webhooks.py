"""The job that delivers webhooks. Any number of them may run at once: deliveries are claimed."""

from flask import current_app

from app.clients.strangers import Strangers
from app.webhooks import delivery

# With the calls that began last, a run ends before a worker that was asked to stop kills it.
RUN_SECONDS = 3.0


def deliver_due() -> None:
    """Deliver what is due now, and what becomes due within some seconds."""
    settings = current_app.extensions["settings"]
    delivery.deliver_due(Strangers(settings.webhook_allow_private), RUN_SECONDS)
