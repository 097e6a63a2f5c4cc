"""Metrics for Prometheus.

Web processes count requests and latencies. They share the counts through the files of prometheus_client's
multiprocess mode, which gunicorn_settings.py switches on. The state of the work is read from PostgreSQL and
Redis at each scrape, so every process gives the same answer, also after a restart.
"""

from collections.abc import Iterator
from functools import cache

from prometheus_client import CONTENT_TYPE_LATEST as CONTENT_TYPE
from prometheus_client import REGISTRY, CollectorRegistry, Counter, Histogram, generate_latest
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, InfoMetricFamily, Metric
from prometheus_client.multiprocess import MultiProcessCollector
from prometheus_client.registry import Collector
from redis import Redis
from sqlalchemy.exc import DBAPIError
from sqlalchemy.exc import TimeoutError as PoolTimeout

from app.appeals.queries import count as count_appeals
from app.config import Settings
from app.cycles.service import find_waiting_reason
from app.db import is_away
from app.enums import AppealState, Dependency
from app.gold import queries as gold_queries
from app.gold import service as gold
from app.health import queries
from app.health.service import ask_redis
from app.version import VERSION

__all__ = ["CONTENT_TYPE", "count", "render"]

REQUESTS = Counter("kibotos_http_requests", "Requests answered", ["method", "route", "status"])
LATENCY = Histogram(
    "kibotos_http_request_seconds",
    "Time to answer a request",
    ["route"],
    buckets=(0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10),
)
# evaluations that the stage times are taken over
LATEST = 200


def count(method: str, route: str, status: int, seconds: float) -> None:
    """Count a request under the pattern of its route, never under a path made up by a caller."""
    requests, latency = _of(method, route, status)
    requests.inc()
    latency.observe(seconds)


# labels() takes longer than to count
@cache
def _of(method: str, route: str, status: int) -> tuple[Counter, Histogram]:
    return REQUESTS.labels(method, route, status), LATENCY.labels(route)


def render(settings: Settings, redis: Redis) -> bytes:
    """Return all metrics in Prometheus's text format."""
    web = CollectorRegistry() if settings.prometheus_multiproc_dir else REGISTRY
    if settings.prometheus_multiproc_dir:
        MultiProcessCollector(web, settings.prometheus_multiproc_dir)
    work = CollectorRegistry()
    work.register(_Work(settings, redis))
    return generate_latest(web) + generate_latest(work)


class _Work(Collector):
    """The state of the work, read at each scrape."""

    def __init__(self, settings: Settings, redis: Redis):
        self._settings = settings
        self._redis = redis

    def collect(self) -> Iterator[Metric]:
        yield InfoMetricFamily("kibotos", "The running version", value={"version": VERSION})
        yield from self._queue()
        try:
            yield from list(self._database())
            database_up = True
        except (DBAPIError, PoolTimeout) as error:
            if not is_away(error):
                raise
            database_up = False
        yield _gauge("database_up", "1 if the database answers", database_up)

    def _database(self) -> Iterator[Metric]:
        backlog = queries.get_backlog()
        totals = queries.get_totals()
        submissions = GaugeMetricFamily("kibotos_submissions", "Open submissions", labels=["status"])
        submissions.add_metric(["PENDING"], backlog.pending)
        submissions.add_metric(["EVALUATING"], backlog.evaluating)
        yield submissions
        accepted = CounterMetricFamily("kibotos_submissions_accepted", "Submissions accepted so far")
        accepted.add_metric([], totals.total_submissions)
        yield accepted
        yield _gauge(
            "oldest_due_seconds", "Wait of the longest due submission", backlog.oldest_due_seconds or 0
        )
        yield _gauge("reviews_open", "Submissions that a person should look at", backlog.reviews_open)
        yield _gauge(
            "oldest_review_seconds", "Age of the oldest open review", backlog.oldest_review_seconds or 0
        )
        appeals = GaugeMetricFamily("kibotos_appeals", "Appeals, all there were", labels=["state"])
        counts = count_appeals()
        for state in AppealState:
            appeals.add_metric([state], getattr(counts, state.lower()))
        yield appeals
        yield _gauge(
            "oldest_appeal_seconds",
            "Time since the oldest appeal whose video is not evaluated anew",
            backlog.oldest_appeal_seconds or 0,
        )
        yield _gauge(
            "oldest_takedown_seconds",
            "Time since the first object of a takedown that is still in storage should have been deleted",
            backlog.oldest_takedown_seconds or 0,
        )
        yield _gauge("cycles_evaluating", "Cycles that wait for evaluations", backlog.evaluating_cycles)
        yield _gauge(
            "active_cycle_overdue_seconds",
            "Time since the planned end of the active cycle; negative before it",
            backlog.active_cycle_overdue_seconds,
        )
        yield _gauge("submissions_backing_off", "Pending after a transient error", backlog.backing_off)
        cycles = GaugeMetricFamily(
            "kibotos_cycle_submissions", "Submissions by cycle and status", labels=["cycle", "status"]
        )
        for each in queries.list_cycle_counts():
            cycles.add_metric([each.cycle, each.status], each.count)
        yield cycles
        yield from self._evaluations()
        yield from self._gold()
        yield from self._stores()
        yield _gauge("judge_tokens_today", "Tokens used since 0:00 UTC", backlog.judge_tokens_today)
        yield _gauge(
            "judge_token_budget", "VLM_DAILY_TOKEN_BUDGET; 0: none", self._settings.vlm_daily_token_budget
        )
        yield _gauge(
            "webhooks_due_seconds",
            "Wait of the longest due delivery to a webhook that is well",
            backlog.webhooks_due_seconds or 0,
        )
        yield _gauge("webhooks_disabled", "Webhooks that are disabled", backlog.webhooks_disabled)
        failing = GaugeMetricFamily(
            "kibotos_webhooks_failing", "Webhooks whose last delivery failed", labels=["owner"]
        )
        failing.add_metric(["operator"], backlog.own_webhooks_failing)
        failing.add_metric(["miner"], backlog.miners_webhooks_failing)
        yield failing
        yield _gauge(
            "metagraph_age_seconds",
            "Time since the metagraph was last read",
            None if self._settings.netuid is None else backlog.metagraph_age_seconds,
        )
        yield _gauge(
            "cycles_without_weights",
            "Cycles completed since the last one with weights",
            backlog.cycles_without_weights,
        )
        yield _gauge(
            "oldest_ledger_seconds",
            "Time since the first cycle was completed whose ledger is not in storage",
            backlog.oldest_ledger_seconds or 0,
        )
        yield _gauge(
            "ledgers_different", "Ledgers that the database no longer gives", backlog.ledgers_different
        )
        yield _gauge("database_connections", "Connections to the database", backlog.connections)
        ages = GaugeMetricFamily("kibotos_tick_age_seconds", "Time since the last run", labels=["tick"])
        failures = GaugeMetricFamily("kibotos_tick_failed", "1 if the last run failed", labels=["tick"])
        for tick in queries.list_ticks():
            ages.add_metric([tick.name], tick.age_seconds)
            failures.add_metric([tick.name], tick.failed)
        yield ages
        yield failures
        circuits = GaugeMetricFamily(
            "kibotos_circuit_open", "1 while the circuit breaker is open", labels=["dependency"]
        )
        failed = GaugeMetricFamily("kibotos_failures", "Failures since a success", labels=["dependency"])
        breakers = {breaker.name: breaker for breaker in queries.list_breakers()}
        for name in Dependency:
            known = breakers.get(name)
            circuits.add_metric([name], known is not None and known.is_tripped)
            failed.add_metric([name], known.consecutive_failures if known else 0)
        yield circuits
        yield failed

    def _evaluations(self) -> Iterator[Metric]:
        stages = GaugeMetricFamily(
            "kibotos_stage_seconds",
            f"Seconds of each stage of the latest {LATEST} evaluations",
            labels=["stage", "quantile"],
        )
        for stage in queries.list_stage_times(LATEST):
            stages.add_metric([stage.stage, "0.5"], stage.median)
            stages.add_metric([stage.stage, "0.95"], stage.p95)
        yield stages
        calls = CounterMetricFamily("kibotos_judge_calls", "Requests to the judge", labels=["model"])
        tokens = CounterMetricFamily(
            "kibotos_judge_tokens", "Tokens that the judge used", labels=["model", "kind"]
        )
        for usage in queries.list_usage():
            calls.add_metric([usage.model], usage.calls)
            tokens.add_metric([usage.model, "prompt"], usage.prompt_tokens)
            tokens.add_metric([usage.model, "completion"], usage.completion_tokens)
        yield calls
        yield tokens

    def _gold(self) -> Iterator[Metric]:
        """How the judge and the evaluators agree with people, while there are gold films."""
        yield _gauge("gold_films", "Gold films in use", gold_queries.count_films())
        yield _gauge(
            "gold_copies_left", "Copies of gold films that no evaluator saw", gold_queries.count_copies_left()
        )
        yield _gauge("cycle_held", "1 if a cycle waits for a person", find_waiting_reason() is not None)
        blocks = gold_queries.list_blocks()
        yield _gauge("evaluators_blocked", "Evaluators that get no submissions", len(blocks))
        labels = ["by", "name"]
        answers = GaugeMetricFamily("kibotos_gold_answers", "Answers to gold films", labels=labels)
        kappas = GaugeMetricFamily("kibotos_gold_kappa", "Agreement with people", labels=labels)
        doubtful = GaugeMetricFamily("kibotos_gold_doubtful", "1 if it is too low", labels=labels)
        rejected = GaugeMetricFamily(
            "kibotos_gold_wrongly_rejected", "Films that people accept and it rejects", labels=labels
        )
        for found in gold.list_findings(self._settings):
            name = [found.by, found.name]
            answers.add_metric(name, found.tally.answers)
            if found.agreement.kappa is not None:
                kappas.add_metric(name, found.agreement.kappa)
            doubtful.add_metric(name, found.doubtful)
            rejected.add_metric(name, found.tally.wrongly_rejected)
        yield answers
        yield kappas
        yield doubtful
        yield rejected

    def _stores(self) -> Iterator[Metric]:
        """What fills up: the bucket, uploads in parts and releases under way."""
        size = GaugeMetricFamily(
            "kibotos_storage_bytes", "What the last sweep found and left in the bucket", labels=["class"]
        )
        deleted = GaugeMetricFamily("kibotos_storage_deleted_bytes", "What it deleted", labels=["class"])
        for stored in queries.list_stored():
            size.add_metric([stored.kind], stored.size_bytes)
            deleted.add_metric([stored.kind], stored.deleted_bytes)
        yield size
        yield deleted
        yield _gauge(
            "storage_limit_bytes", "STORAGE_LIMIT_GB in bytes; 0: none", self._settings.storage_limit_gb * 1e9
        )
        stores = queries.get_stores()
        yield _gauge(
            "sweep_unfinished_seconds",
            "Time since the sweep of the bucket began that is under way; 0: none is",
            stores.sweep_unfinished_seconds or 0,
        )
        yield _gauge(
            "multipart_uploads_open", "Uploads in parts that are under way", stores.multipart_uploads_open
        )
        yield _gauge(
            "release_films_pending", "Films of releases that are not made yet", stores.release_films_pending
        )
        releases = GaugeMetricFamily("kibotos_releases", "Releases, all there were", labels=["state"])
        for each in queries.count_releases():
            releases.add_metric([each.state], each.count)
        yield releases

    def _queue(self) -> Iterator[Metric]:
        queued, workers = ask_redis(self._redis)
        yield _gauge("redis_up", "1 if Redis answers", queued is not None)
        yield _gauge("queue_depth", "Evaluation jobs that wait for a worker", queued)
        yield _gauge("workers", "Evaluation workers alive", workers)


def _gauge(name: str, help: str, value: float | None) -> GaugeMetricFamily:
    """A gauge without labels; no sample where the value is not known."""
    family = GaugeMetricFamily(f"kibotos_{name}", help)
    if value is not None:
        family.add_metric([], value)
    return family
