"""The polling of a validator, as a service: what it tells its log, Prometheus and systemd."""

import os
import socket
import time

import structlog

from app.validator.metrics import Metrics
from app.validator.weight_setter import Poll, WeightSetter, WrongWallet

log = structlog.get_logger(__name__)

# systemd hears that often from a validator that sleeps
BEAT_SECONDS = 30.0


def poll_once(setter: WeightSetter, metrics: Metrics) -> Poll:
    """Poll once and log the decision.

    An unexpected error, such as a full disk or a changed chain, does not stop the polling.
    """
    try:
        decision = setter.step()
    except WrongWallet:
        raise
    except Exception as error:
        log.exception("unexpected_error")
        decision = Poll("failed", f"{type(error).__name__}: {error}")
    tell = log.info if decision.settled else log.warning
    tell(decision.name, cycle_id=decision.cycle_id, site=decision.site, detail=decision.detail)
    metrics.count(decision)
    return decision


def poll_for_good(setter: WeightSetter, metrics: Metrics, interval: float) -> None:
    """Poll until the process ends. While it goes on, systemd is told; after a hang it starts another."""
    notify("READY=1")
    while True:
        poll_once(setter, metrics)
        wake_at = time.monotonic() + interval
        while (left := wake_at - time.monotonic()) > 0:
            notify("WATCHDOG=1")
            time.sleep(min(left, BEAT_SECONDS))


def notify(message: str) -> None:
    """Tell systemd, if it has started this process as `Type=notify`."""
    if address := os.environ.get("NOTIFY_SOCKET"):
        # an abstract address begins with a NUL
        address = "\0" + address[1:] if address.startswith("@") else address
        with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as notifier:
            notifier.sendto(message.encode(), address)
