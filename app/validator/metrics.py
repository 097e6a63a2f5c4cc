"""Metrics of a validator, for Prometheus."""

import time

from prometheus_client import CollectorRegistry, Counter, Gauge, start_http_server

from app.validator.weight_setter import Poll


class Unserved(Exception):
    """The metrics cannot be served; the message is a sentence about what to do."""


class Metrics:
    """Counts decisions; serves them once `serve` was called."""

    def __init__(self) -> None:
        self._registry = CollectorRegistry()
        self._polls = Counter(
            "kibotos_validator_polls", "Polls, by decision.", ["decision"], registry=self._registry
        )
        self._polled_at = self._gauge("last_poll_timestamp_seconds", "When it last polled, in Unix time.")
        self._set_at = self._gauge("last_set_timestamp_seconds", "When weights were last set, in Unix time.")
        self._cycle = self._gauge("last_set_cycle", "Cycle of the weights that were last set.")
        self._settled = self._gauge("settled", "1 if the published weights are set on the chain, else 0.")

    def _gauge(self, name: str, help: str) -> Gauge:
        return Gauge(f"kibotos_validator_{name}", help, registry=self._registry)

    def serve(self, host: str, port: int) -> None:
        """Serve /metrics in a thread. Raises Unserved if nothing can listen there."""
        try:
            start_http_server(port, host, self._registry)
        except OSError as error:
            raise Unserved(
                f"Metrics cannot be served at {host}:{port}: {error.strerror}. Name another --metrics-port."
            ) from error

    def count(self, decision: Poll) -> None:
        self._polls.labels(decision.name).inc()
        self._polled_at.set(time.time())
        self._settled.set(decision.settled)
        if decision.name == "set":
            self._set_at.set(time.time())
            self._cycle.set(decision.cycle_id or 0)
