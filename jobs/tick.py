"""Periodic jobs. Each is idempotent and done by one process at a time."""

from flask import current_app

from app import ticks
from app.clients.chain import Chain
from app.completion import service as completion
from app.evaluation import reconcile
from app.reviews import service as reviews
from app.webhooks import service as webhooks


def tick_cycles() -> None:
    """Close, start and complete cycles as their time has come."""
    settings = current_app.extensions["settings"]
    ticks.run("cycles", lambda: completion.tick(settings, Chain(settings.network)))


def reconcile_evaluations() -> None:
    """Release expired leases, queue a job for each due submission, and decide overdue reviews."""
    settings, redis = current_app.extensions["settings"], current_app.extensions["redis"]

    def work() -> None:
        reconcile.return_expired_claims()
        reviews.decide_overdue(settings)
        reconcile.dispatch(redis, settings)

    ticks.run("reconcile", work)


def tidy_webhooks() -> None:
    """Delete what webhooks no longer need."""
    settings = current_app.extensions["settings"]
    ticks.run("webhooks", lambda: webhooks.tidy(settings))
