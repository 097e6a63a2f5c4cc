"""SQL on webhooks: endpoints, deliveries and attempts.

`scope` is the hotkey of a miner, who has to do with his own endpoints only, or None for an admin.
"""

from datetime import datetime
from uuid import UUID

from sqlalchemy import text

from app.db import Prepared, execute, fetch_all, fetch_one, fetch_value
from app.enums import WebhookEvent
from app.locks import MINER_WEBHOOKS, WEBHOOKS
from app.webhooks.models import Attempt, AttemptOutcome, ClaimedDelivery, Delivery, Endpoint

_ENDPOINT = """
    uuid, id, miner_hotkey, url, events, created_at, old_secret_until, disabled_at, disabled_reason, failures,
    paused_until
"""
_DELIVERY = "d.uuid, d.event, d.data, d.created_at, d.state, d.attempts, d.not_before, d.ended_at"
_IN_SCOPE = "removed_at IS NULL AND (CAST(:scope AS text) IS NULL OR miner_hotkey = :scope)"
# 15 s after the first failure, doubled by each further one up to 2 h, plus or minus a quarter: 21 in a day
_BACK_OFF = "make_interval(secs => least(7200, 15 * 2 ^ least({failures}, 10)) * (0.75 + 0.5 * random()))"

# events

_WANTED = "e.disabled_at IS NULL AND e.removed_at IS NULL AND :event = ANY(e.events)"
_INSERT_OF_SUBMISSION = Prepared(f"""
    INSERT INTO webhook_deliveries (endpoint_id, event, subject, data)
    SELECT e.id, :event, 'submission ' || s.uuid, jsonb_build_object(
               'submission_uuid', s.uuid, 'miner_uid', s.miner_uid, 'miner_hotkey', s.miner_hotkey,
               'prompt_id', s.prompt_id, 'cycle_id', s.cycle_id) || CAST(:facts AS jsonb)
    FROM webhook_endpoints e JOIN submissions s ON s.id = :submission_id
    WHERE {_WANTED} AND (e.miner_hotkey IS NULL OR e.miner_hotkey = s.miner_hotkey)
""")
_INSERT_OF_CYCLE = text(f"""
    INSERT INTO webhook_deliveries (endpoint_id, event, subject, data)
    SELECT e.id, :event, 'cycle ' || CAST(:cycle_id AS bigint),
           jsonb_build_object('cycle_id', CAST(:cycle_id AS bigint)) || CAST(:facts AS jsonb)
    FROM webhook_endpoints e WHERE {_WANTED} AND e.miner_hotkey IS NULL
""")

# endpoints

_LOCK_OWNER = text(f"SELECT pg_advisory_xact_lock(hashtextextended(coalesce(:scope, ''), {MINER_WEBHOOKS}))")
_COUNT_ENDPOINTS = text("""
    SELECT count(*) FROM webhook_endpoints
    WHERE miner_hotkey IS NOT DISTINCT FROM CAST(:scope AS text) AND removed_at IS NULL
""")
_HAS_UID = text("SELECT EXISTS (SELECT FROM metagraph WHERE hotkey = :hotkey)")
_INSERT_ENDPOINT = text(f"""
    INSERT INTO webhook_endpoints (miner_hotkey, url, events, secret)
    VALUES (:scope, :url, :events, :secret) RETURNING {_ENDPOINT}
""")
_LIST_ENDPOINTS = text(f"""
    SELECT {_ENDPOINT} FROM webhook_endpoints WHERE {_IN_SCOPE} AND id > :after ORDER BY id LIMIT :limit
""")
_FIND_ENDPOINT = text(f"SELECT {_ENDPOINT} FROM webhook_endpoints WHERE uuid = :uuid AND {_IN_SCOPE}")
_SET_EVENTS = text("UPDATE webhook_endpoints SET events = :events WHERE id = :endpoint_id")
_ENABLE = text("""
    UPDATE webhook_endpoints SET
        disabled_at = NULL, disabled_reason = NULL, failures = 0, paused_until = NULL, is_slow = false
    WHERE id = :endpoint_id
""")
_DISABLE = text("""
    UPDATE webhook_endpoints SET disabled_at = now(), disabled_reason = :reason
    WHERE id = :endpoint_id AND disabled_at IS NULL
""")
_REMOVE = text("UPDATE webhook_endpoints SET removed_at = now() WHERE id = :endpoint_id")
_ROTATE = text("""
    UPDATE webhook_endpoints SET
        secret = :secret, old_secret = secret,
        old_secret_until = now() + make_interval(secs => :overlap_seconds)
    WHERE id = :endpoint_id
""")

# deliveries

_LIST_DELIVERIES = text(f"""
    SELECT {_DELIVERY} FROM webhook_deliveries d
    WHERE d.endpoint_id = :endpoint_id AND (CAST(:state AS text) IS NULL OR d.state = :state)
      AND (CAST(:before AS uuid) IS NULL OR d.id < (
          SELECT id FROM webhook_deliveries WHERE uuid = :before AND endpoint_id = :endpoint_id))
    ORDER BY d.id DESC LIMIT :limit
""")
_FIND_DELIVERY = text(f"""
    SELECT {_DELIVERY} FROM webhook_deliveries d WHERE d.uuid = :uuid AND d.endpoint_id = :endpoint_id
""")
_LIST_ATTEMPTS = text("""
    SELECT a.number, a.ended_at, a.seconds, a.status, a.answer, a.error
    FROM webhook_attempts a JOIN webhook_deliveries d ON d.id = a.delivery_id
    WHERE d.uuid = :uuid ORDER BY a.number DESC LIMIT :limit
""")
_AGAIN = "state = 'PENDING', ended_at = NULL, tries = 0, not_before = now()"
_REPLAY = text(f"""
    UPDATE webhook_deliveries SET {_AGAIN}
    WHERE endpoint_id = :endpoint_id AND uuid = ANY(CAST(:uuids AS uuid[])) AND state <> 'PENDING'
""")
_REPLAY_FAILED = text(f"""
    UPDATE webhook_deliveries SET {_AGAIN} WHERE id IN (
        SELECT id FROM webhook_deliveries
        WHERE endpoint_id = :endpoint_id AND state = 'FAILED' AND created_at >= :since
        ORDER BY id LIMIT :limit)
""")

# One process at a time writes outcomes and claims. So two never wait for each other's rows, and no endpoint
# exceeds what it may take at once. One that failed or took long takes one delivery at a time. All such
# endpoints together may take some of the places only.
_LOCK = text(f"SELECT pg_advisory_xact_lock({WEBHOOKS})")
_CLAIM = text(f"""
    WITH endpoints AS (
        SELECT e.id, e.called_at, e.is_slow OR e.failures > 0 AS is_slow, busy.n,
               e.disabled_at IS NULL AND e.removed_at IS NULL
                   AND coalesce(e.paused_until <= now(), true) AS is_open
        FROM webhook_endpoints e CROSS JOIN LATERAL (
            -- a look-up for each, also where the statistics are of an emptier table
            SELECT count(*) AS n FROM webhook_deliveries d
            WHERE d.endpoint_id = e.id AND d.claim_token IS NOT NULL AND d.lease_expires_at > now()
            OFFSET 0) busy
    ), open AS (
        SELECT id, called_at, is_slow, CASE WHEN is_slow THEN 1 ELSE :per_endpoint END - n AS room
        FROM endpoints WHERE is_open
    ), due AS (
        SELECT d.id, o.is_slow, o.called_at, row_number() OVER (PARTITION BY o.id ORDER BY d.turn) AS turn
        FROM open o CROSS JOIN LATERAL (
            SELECT d.id, d.not_before AS turn FROM webhook_deliveries d
            WHERE d.endpoint_id = o.id AND d.state = 'PENDING' AND d.not_before <= now()
              AND coalesce(d.lease_expires_at <= now(), true)
              AND NOT EXISTS (
                  SELECT FROM webhook_deliveries earlier
                  WHERE earlier.endpoint_id = d.endpoint_id AND earlier.subject = d.subject
                    AND earlier.state = 'PENDING' AND earlier.id < d.id OFFSET 0)
            ORDER BY d.not_before, d.id LIMIT o.room
        ) d WHERE o.room > 0
    ), ranked AS (
        SELECT id, turn, called_at, is_slow,
               row_number() OVER (PARTITION BY is_slow ORDER BY turn, called_at NULLS FIRST, id) AS place
        FROM due
    ), chosen AS (
        SELECT id FROM ranked
        WHERE NOT is_slow OR place <= :slow_places - (SELECT sum(n) FROM endpoints WHERE is_slow)
        ORDER BY turn, called_at NULLS FIRST, id LIMIT :limit
    ), claimed AS (
        UPDATE webhook_deliveries d SET
            attempts = attempts + 1, tries = tries + 1, claim_token = gen_random_uuid(),
            lease_expires_at = now() + make_interval(secs => :lease_seconds),
            -- if it kills who attempts it
            not_before = now() + {_BACK_OFF.format(failures="d.tries")}
        FROM chosen WHERE d.id = chosen.id
          AND d.state = 'PENDING' AND coalesce(d.lease_expires_at <= now(), true)
        RETURNING d.*
    ), called AS (
        UPDATE webhook_endpoints e SET called_at = now() FROM claimed c WHERE e.id = c.endpoint_id
    )
    SELECT c.id, c.uuid, c.claim_token, c.endpoint_id, e.url, c.event, c.created_at, c.data, c.tries,
           CASE WHEN e.old_secret_until > now() THEN ARRAY[e.secret, e.old_secret]
                ELSE ARRAY[e.secret] END AS secrets
    FROM claimed c JOIN webhook_endpoints e ON e.id = c.endpoint_id ORDER BY c.id
""")
# It may err on one side: an endpoint has enough calls under way, or something earlier about the same waits.
_HAS_DUE = text("""
    SELECT EXISTS (
        SELECT FROM webhook_endpoints e CROSS JOIN LATERAL (
            -- a look-up for each, as above
            SELECT FROM webhook_deliveries d
            WHERE d.endpoint_id = e.id AND d.state = 'PENDING' AND d.not_before <= now()
              AND coalesce(d.lease_expires_at <= now(), true)
            LIMIT 1) due
        WHERE e.disabled_at IS NULL AND e.removed_at IS NULL AND coalesce(e.paused_until <= now(), true))
""")
_RECORD_ATTEMPT = text(f"""
    WITH tried AS (
        SELECT id, CAST(:error AS text) IS NOT NULL AS has_failed,
               CAST(:error AS text) IS NOT NULL AND (tries >= :most_tries OR :is_gone) AS is_over
        FROM webhook_deliveries WHERE id = :id AND claim_token = :claim_token FOR UPDATE
    ), done AS (
        UPDATE webhook_deliveries d SET
            claim_token = NULL, lease_expires_at = NULL,
            state = CASE WHEN NOT has_failed THEN 'DELIVERED' WHEN is_over THEN 'FAILED' ELSE 'PENDING' END,
            ended_at = CASE WHEN NOT has_failed OR is_over THEN now() END,
            not_before = now() + greatest(
                make_interval(secs => :at_least), {_BACK_OFF.format(failures="d.tries - 1")})
        FROM tried WHERE d.id = tried.id
        RETURNING d.id, d.endpoint_id, d.attempts, tried.has_failed
    ), attempt AS (
        INSERT INTO webhook_attempts (delivery_id, number, seconds, status, answer, error)
        SELECT id, attempts, :seconds, :status, :answer, :error FROM done
    )
    UPDATE webhook_endpoints e SET
        is_slow = :is_slow,
        failures = CASE WHEN NOT has_failed THEN 0
                        WHEN e.paused_until > now() THEN failures
                        ELSE failures + 1 END,
        paused_until = CASE WHEN NOT has_failed THEN NULL
                            WHEN e.paused_until > now() THEN e.paused_until
                            ELSE now() + greatest(make_interval(secs => :at_least),
                                                  {_BACK_OFF.format(failures="e.failures")}) END
    FROM done WHERE e.id = done.endpoint_id RETURNING e.failures
""")

# what is over

_DELETE_OLD = text("""
    DELETE FROM webhook_deliveries WHERE id IN (
        SELECT id FROM webhook_deliveries
        WHERE state <> 'PENDING' AND ended_at < now() - make_interval(secs => :seconds)
        ORDER BY ended_at LIMIT :limit)
""")
# what waits at an endpoint that is disabled; and all of one that is removed
_DELETE_UNWANTED = text("""
    DELETE FROM webhook_deliveries WHERE id IN (
        SELECT d.id FROM webhook_endpoints e CROSS JOIN LATERAL (
            SELECT id FROM webhook_deliveries d WHERE d.endpoint_id = e.id
              AND (e.removed_at IS NOT NULL
                   OR d.state = 'PENDING' AND d.created_at < now() - make_interval(secs => :seconds))
            ORDER BY d.id LIMIT :limit) d
        WHERE e.removed_at IS NOT NULL OR e.disabled_at IS NOT NULL LIMIT :limit)
""")
_DELETE_REMOVED = text("""
    DELETE FROM webhook_endpoints e WHERE removed_at IS NOT NULL
      AND NOT EXISTS (SELECT FROM webhook_deliveries d WHERE d.endpoint_id = e.id)
""")


def insert_of_submission(event: WebhookEvent, submission_id: int, facts: str) -> None:
    """Insert the event for each endpoint that wants it, often for none."""
    execute(_INSERT_OF_SUBMISSION, event=event, submission_id=submission_id, facts=facts)


def insert_of_cycle(event: WebhookEvent, cycle_id: int, facts: str) -> None:
    execute(_INSERT_OF_CYCLE, event=event, cycle_id=cycle_id, facts=facts)


def lock_owner(scope: str | None) -> None:
    """Until this transaction ends, no other registers an endpoint of this owner."""
    execute(_LOCK_OWNER, scope=scope)


def count_endpoints(scope: str | None) -> int:
    """How many endpoints this miner, or the admins, have."""
    return fetch_value(_COUNT_ENDPOINTS, scope=scope)


def has_uid(hotkey: str) -> bool:
    """Whether the stored metagraph knows the hotkey."""
    return fetch_value(_HAS_UID, hotkey=hotkey)


def insert_endpoint(scope: str | None, url: str, events: list[WebhookEvent], secret: bytes) -> Endpoint:
    made = fetch_one(Endpoint, _INSERT_ENDPOINT, scope=scope, url=url, events=events, secret=secret)
    assert made is not None
    return made


def list_endpoints(scope: str | None, after: int, limit: int) -> list[Endpoint]:
    return fetch_all(Endpoint, _LIST_ENDPOINTS, scope=scope, after=after, limit=limit)


def find_endpoint(scope: str | None, uuid: UUID) -> Endpoint | None:
    return fetch_one(Endpoint, _FIND_ENDPOINT, scope=scope, uuid=uuid)


def set_events(endpoint_id: int, events: list[WebhookEvent]) -> None:
    execute(_SET_EVENTS, endpoint_id=endpoint_id, events=events)


def enable(endpoint_id: int) -> None:
    """Call the endpoint again, at once."""
    execute(_ENABLE, endpoint_id=endpoint_id)


def disable(endpoint_id: int, reason: str) -> None:
    """Stop calling the endpoint. If it is disabled already, the first reason stays."""
    execute(_DISABLE, endpoint_id=endpoint_id, reason=reason)


def remove(endpoint_id: int) -> None:
    execute(_REMOVE, endpoint_id=endpoint_id)


def rotate(endpoint_id: int, secret: bytes, overlap_seconds: float) -> None:
    """Give the endpoint a new secret; the one before signs too for so long."""
    execute(_ROTATE, endpoint_id=endpoint_id, secret=secret, overlap_seconds=overlap_seconds)


def list_deliveries(endpoint_id: int, state: str | None, before: UUID | None, limit: int) -> list[Delivery]:
    return fetch_all(
        Delivery, _LIST_DELIVERIES, endpoint_id=endpoint_id, state=state, before=before, limit=limit
    )


def find_delivery(endpoint_id: int, uuid: UUID) -> Delivery | None:
    return fetch_one(Delivery, _FIND_DELIVERY, endpoint_id=endpoint_id, uuid=uuid)


def list_attempts(uuid: UUID, limit: int) -> list[Attempt]:
    """The latest attempts at a delivery, the last first."""
    return fetch_all(Attempt, _LIST_ATTEMPTS, uuid=uuid, limit=limit)


def replay(endpoint_id: int, uuids: list[UUID]) -> int:
    """Make ended deliveries PENDING again; return how many."""
    return execute(_REPLAY, endpoint_id=endpoint_id, uuids=uuids)


def replay_failed(endpoint_id: int, since: datetime, limit: int) -> int:
    """Make the oldest failed deliveries of events since then PENDING again; return how many."""
    return execute(_REPLAY_FAILED, endpoint_id=endpoint_id, since=since, limit=limit)


def lock() -> None:
    """Until this transaction ends, no other claims deliveries or writes what came of them."""
    execute(_LOCK)


def has_due() -> bool:
    """Whether there may be a delivery to claim."""
    return fetch_value(_HAS_DUE)


def claim_due(limit: int, per_endpoint: int, slow_places: int, lease_seconds: float) -> list[ClaimedDelivery]:
    """Claim due deliveries: the first of each endpoint, then the second of each, and so on.

    Of the endpoints, the one that was called longest ago comes first.
    """
    return fetch_all(
        ClaimedDelivery,
        _CLAIM,
        limit=limit,
        per_endpoint=per_endpoint,
        slow_places=slow_places,
        lease_seconds=lease_seconds,
    )


def record_attempt(
    delivery: ClaimedDelivery, outcome: AttemptOutcome, most_tries: int, slow_seconds: float
) -> int | None:
    """Write the outcome of an attempt. Return the endpoint's failures since its last success.

    None, having written nothing, if the lease had ended and another process has the delivery.
    """
    return fetch_value(
        _RECORD_ATTEMPT,
        id=delivery.id,
        claim_token=delivery.claim_token,
        seconds=outcome.seconds,
        status=outcome.status,
        answer=outcome.answer,
        error=outcome.error,
        is_gone=outcome.is_gone,
        at_least=outcome.retry_after or 0,
        is_slow=outcome.seconds > slow_seconds,
        most_tries=most_tries,
    )


def delete_old(seconds: float, limit: int) -> int:
    """Delete up to `limit` deliveries that ended so long ago, with their attempts; return how many."""
    return execute(_DELETE_OLD, seconds=seconds, limit=limit)


def delete_unwanted(seconds: float, limit: int) -> int:
    """Delete deliveries of removed endpoints, and old ones that wait at disabled ones; return how many."""
    return execute(_DELETE_UNWANTED, seconds=seconds, limit=limit)


def delete_removed() -> None:
    """Delete removed endpoints that have no deliveries any longer."""
    execute(_DELETE_REMOVED)
