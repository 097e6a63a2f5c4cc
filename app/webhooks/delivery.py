"""Delivers what is due: claims it, calls the receivers and writes what came of it.

No connection to the database is in use while a receiver is waited for. Many are called at once, and each call
ends within CALL_SECONDS. So none holds up another.
"""

import base64
import hashlib
import hmac
import json
import time
from collections.abc import Sequence
from concurrent.futures import FIRST_COMPLETED, Future, ThreadPoolExecutor, wait
from http import HTTPStatus

import requests
import structlog

from app.clients.http import exchange, read_start
from app.clients.retry import RetryableError, retry_after
from app.clients.strangers import Strangers
from app.db import db
from app.fields import show_timestamp, storable
from app.webhooks import queries
from app.webhooks.models import MAX_ANSWER_LENGTH, AttemptOutcome, ClaimedDelivery

log = structlog.get_logger(__name__)

EndedCall = tuple[ClaimedDelivery, AttemptOutcome]

# receivers that are called at once; of them at most so many that failed or were slow last time
PLACES = 32
SLOW_PLACES = 16
# calls to one receiver at once, while it is well
PER_ENDPOINT = 4
CALL_SECONDS = 10.0
SLOW_SECONDS = 2.0
# longer than a call can take, with the handshake of TLS, which ends by itself
LEASE_SECONDS = 40.0
# with the waits between them about a day (queries.py)
MAX_TRIES = 21
# the longest wait that a receiver can ask for
MAX_RETRY_AFTER_SECONDS = 7200.0
POLL_SECONDS = 0.5


def deliver_due(strangers: Strangers, seconds: float, call_seconds: float = CALL_SECONDS) -> None:
    """Deliver what is due, also what becomes so meanwhile. After `seconds` it comes to an end.

    While it waits for slow receivers then, it goes on to call those that are well.
    """
    end = time.monotonic() + seconds
    calls: dict[Future[AttemptOutcome], ClaimedDelivery] = {}
    ended: list[EndedCall] = []
    with ThreadPoolExecutor(PLACES) as pool:
        while True:
            now, limit, slow_places = time.monotonic(), PLACES - len(calls), SLOW_PLACES
            if now >= end:
                slow_places = 0
                limit = limit if calls and now < end + call_seconds else 0
            for delivery in write_and_claim(ended, limit, slow_places):
                calls[pool.submit(call, delivery, strangers, call_seconds)] = delivery
            if not calls:
                return
            done, _ = wait(calls, POLL_SECONDS, FIRST_COMPLETED)
            ended = [(calls.pop(future), future.result()) for future in done]


def write_and_claim(
    ended: Sequence[EndedCall], limit: int, slow_places: int = SLOW_PLACES
) -> list[ClaimedDelivery]:
    """Write what came of calls, and claim up to `limit` deliveries that are due.

    Both in one transaction, since a commit takes longer than they do. One process at a time does it.
    """
    if not ended and not limit:
        return []
    queries.lock()
    for delivery, outcome in ended:
        _record(delivery, outcome)
    claimed = queries.claim_due(limit, PER_ENDPOINT, slow_places, LEASE_SECONDS) if limit else []
    db.session.commit()
    return claimed


def call(delivery: ClaimedDelivery, strangers: Strangers, seconds: float) -> AttemptOutcome:
    """Send a delivery once. Whatever the receiver does, this takes not much longer than `seconds`."""
    began = time.monotonic()
    deadline = began + seconds
    body = json.dumps(
        {"type": delivery.event, "timestamp": show_timestamp(delivery.created_at), "data": delivery.data}
    ).encode()
    headers = sign(f"msg_{delivery.uuid}", int(time.time()), body, delivery.secrets)
    headers["Content-Type"] = "application/json"
    try:
        with exchange(
            "POST",
            delivery.url,
            deadline,
            headers=headers,
            data=body,
            idle_seconds=seconds,
            look_up=strangers.look_up,
        ) as response:
            # headers that the deadline cut off look complete
            if time.monotonic() >= deadline:
                raise RetryableError("it takes too long")
            return _judge(response, began)
    except RetryableError as error:
        said = f"{error}."
    except Exception:
        # whatever it is, the others are delivered
        log.exception("webhook_call_failed", delivery=str(delivery.uuid))
        said = "Something failed on our side."
    return AttemptOutcome(time.monotonic() - began, error=storable(said[:500]))


def sign(id: str, timestamp: int, body: bytes, secrets: Sequence[bytes]) -> dict[str, str]:
    """The headers of Standard Webhooks, with a signature by each of `secrets`."""
    signed = f"{id}.{timestamp}.".encode() + body
    signatures = [
        "v1," + base64.b64encode(hmac.new(bytes(secret), signed, hashlib.sha256).digest()).decode()
        for secret in secrets
    ]
    return {"webhook-id": id, "webhook-timestamp": str(timestamp), "webhook-signature": " ".join(signatures)}


def _judge(response: requests.Response, began: float) -> AttemptOutcome:
    status = response.status_code
    is_well = 200 <= status < 300
    answer = read_start(response, MAX_ANSWER_LENGTH).decode("utf-8", "replace").replace("\0", "")
    error = None
    if 300 <= status < 400:
        error = f"It answered {status}; redirects are not followed."
    elif not is_well:
        error = f"It answered {status}."
    wanted = None if is_well else retry_after(response.headers.get("Retry-After"))
    return AttemptOutcome(
        time.monotonic() - began,
        status if 100 <= status <= 999 else None,
        answer[:MAX_ANSWER_LENGTH],
        error,
        wanted and min(wanted, MAX_RETRY_AFTER_SECONDS),
        status == HTTPStatus.GONE,
    )


def _record(delivery: ClaimedDelivery, outcome: AttemptOutcome) -> None:
    """Write what came of an attempt. Disable an endpoint that has failed for a day, or that is gone."""
    failures = queries.record_attempt(delivery, outcome, MAX_TRIES, SLOW_SECONDS)
    if failures is None:
        log.warning("webhook_lease_lost", delivery=str(delivery.uuid))
        return
    if outcome.is_gone:
        queries.disable(
            delivery.endpoint_id, "It answered 410, so it wants no more events. Enable it if it does."
        )
    elif failures >= MAX_TRIES:
        queries.disable(
            delivery.endpoint_id,
            f"It failed {failures} times in a row, for about a day, at last so: {outcome.error} "
            "Mend it, enable it, then replay what failed.",
        )
    if outcome.error:
        log.info("webhook_failed", delivery=str(delivery.uuid), error=outcome.error, failures=failures)
