"""The Kibotos backend: the web application and the domain."""

import os
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from flask import Flask

    from app.config import Settings

# Our matrices are small: to share one out among threads costs more than to work it out. numpy reads this when
# it is imported, which is after this package.
os.environ.setdefault("OPENBLAS_NUM_THREADS", "1")


def create_app(config: "Settings | None" = None) -> "Flask":
    """Build the application from `config`, by default from the environment.

    Connects lazily: it starts while PostgreSQL, Redis or storage are away and answers 503 until they
    are back. Raises ConfigError if a setting is missing or unusable.
    """
    # Imported here, since every command of the CLI imports this package and most need none of it: the miner's
    # and the remote evaluator's start in a fifth of the time and the memory.
    from redis.backoff import NoBackoff
    from redis.retry import Retry

    from app import db, queue
    from app.appeals import routes as appeals
    from app.clients.storage import Storage
    from app.config import Settings
    from app.cycles import routes as cycles
    from app.evaluation import routes as evaluation
    from app.evaluation.backlog import Backlog
    from app.gold import routes as gold
    from app.health import metrics
    from app.health import routes as health
    from app.health.service import build_probes
    from app.ledger import routes as ledger
    from app.moderation import routes as moderation
    from app.pages import admin, links
    from app.pages import routes as pages
    from app.prompts import routes as prompts
    from app.releases import routes as releases
    from app.reviews import routes as reviews
    from app.standing import routes as standing
    from app.submissions import routes as submissions
    from app.uploads import routes as uploads
    from app.web import api, openapi, problems, requests
    from app.web.kept import Kept
    from app.webhooks import events
    from app.webhooks import routes as webhooks
    from app.weights import routes as weights

    settings = (config or Settings.from_environ()).require_server()
    app = api.Application(__name__, static_folder=None, template_folder="web/templates")
    app.extensions["settings"] = settings
    app.extensions["redis"] = queue.connect(
        settings,
        socket_timeout=5,
        health_check_interval=30,
        # a connection that went stale is replaced at once; a server that is away is not waited for
        retry=Retry(NoBackoff(), 1),
    )
    app.extensions["hints"] = queue.Hints(app.extensions["redis"], settings.job_timeout_seconds)
    app.extensions["storage"] = Storage(settings)
    app.extensions["kept"] = Kept()
    app.extensions["backlog"] = Backlog()

    requests.init_app(app, metrics.count)
    problems.init_app(app)
    db.init_app(app, settings)
    api.init_app(app, settings)
    openapi.init_app(app, events.messages())

    app.extensions["probes"] = build_probes(app)
    submitted = (uploads, submissions, standing, appeals, evaluation, gold, reviews, moderation)
    for noun in (health, prompts, *submitted, cycles, weights, ledger, releases, pages, links, admin):
        app.register_blueprint(noun.blueprint)
    for blueprint in webhooks.blueprints:
        app.register_blueprint(blueprint)

    return app
