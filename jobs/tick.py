"""Periodic jobs. Each is idempotent and done by one process at a time."""

from flask import current_app

from app import ticks
from app.clients.chain import Chain
from app.completion import service as completion
from app.evaluation import evaluators, reconcile
from app.gold import service as gold
from app.ledger import service as ledger
from app.mirror import service as mirror
from app.moderation import service as moderation
from app.releases import service as releases
from app.retention import service as retention
from app.reviews import service as reviews
from app.sheets import service as sheets
from app.uploads import service as uploads
from app.webhooks import service as webhooks


def tick_cycles() -> None:
    """Close, start and complete cycles as their time has come."""
    settings = current_app.extensions["settings"]
    ticks.run("cycles", lambda: completion.tick(settings, Chain(settings.network)))


def reconcile_evaluations() -> None:
    """Release expired leases, decide overdue reviews, queue what is due, and block evaluators in doubt.

    Delete the objects of videos that were taken down, and old contact sheets. What storage may take long for
    comes last, so that nothing waits meanwhile.
    """
    extensions = current_app.extensions
    settings, redis, storage = extensions["settings"], extensions["redis"], extensions["storage"]

    def work() -> None:
        reconcile.return_expired_claims()
        reviews.decide_overdue(settings)
        moderation.delete_objects(storage)
        reconcile.dispatch(redis, settings)
        evaluators.block_doubtful(settings)
        gold.plan(settings, storage)
        sheets.delete_old(settings, storage)

    ticks.run("reconcile", work)


def store_ledgers() -> None:
    """Publish the key that signs receipts, put the files of ledgers into storage, and update the mirror.

    At the end compare some ledgers with the database.
    """
    settings, storage = current_app.extensions["settings"], current_app.extensions["storage"]

    def work() -> None:
        ledger.publish_key(settings)
        ledger.store_all(storage)

    ticks.run("ledgers", work)
    # also when ledgers cannot be stored: validators need the weights
    ticks.run("mirror", lambda: mirror.publish(settings, storage))
    ticks.run("comparisons", ledger.compare_some)


def sweep_storage() -> None:
    """Do some seconds of the nightly sweep, which deletes what is over its time in storage."""
    settings, storage = current_app.extensions["settings"], current_app.extensions["storage"]
    ticks.run("storage", lambda: retention.tick(settings, storage))


def tidy_webhooks() -> None:
    """Delete what webhooks no longer need."""
    settings = current_app.extensions["settings"]
    ticks.run("webhooks", lambda: webhooks.tidy(settings))


def tend_releases() -> None:
    """Queue what is due for releases, and delete what was taken down out of them."""
    extensions = current_app.extensions
    ticks.run("releases", lambda: releases.tend(extensions["storage"], extensions["redis"]))


def tidy_uploads() -> None:
    """Abort uploads in parts that were never completed."""
    storage = current_app.extensions["storage"]
    ticks.run("uploads", lambda: uploads.abort_stale(storage))
