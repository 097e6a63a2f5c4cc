"""Periodic jobs. Each is idempotent and done by one process at a time."""

from flask import current_app

from app import ticks
from app.clients.chain import Chain
from app.completion import service as completion
from app.evaluation import evaluators, reconcile
from app.gold import service as gold
from app.reviews import service as reviews


def tick_cycles() -> None:
    """Close, start and complete cycles as their time has come."""
    settings = current_app.extensions["settings"]
    ticks.run("cycles", lambda: completion.tick(settings, Chain(settings.network)))


def reconcile_evaluations() -> None:
    """Release expired leases, decide overdue reviews, queue what is due, and block evaluators in doubt.

    Gold films are put into the queue last, so that nothing waits while storage copies one.
    """
    extensions = current_app.extensions
    settings, redis, storage = extensions["settings"], extensions["redis"], extensions["storage"]

    def work() -> None:
        reconcile.return_expired_claims()
        reviews.decide_overdue(settings)
        reconcile.dispatch(redis, settings)
        evaluators.block_doubtful(settings)
        gold.plan(settings, storage)

    ticks.run("reconcile", work)
