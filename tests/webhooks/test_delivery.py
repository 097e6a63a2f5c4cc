"""What is due arrives, signed and in order, whatever other receivers do."""

import threading
import time

import pytest
from flask import current_app

from app.clients.strangers import Strangers
from app.db import db
from app.webhooks import delivery, queries, service
from app.webhooks.events import Corrected, CycleCompleted, Evaluated
from app.webhooks.models import AttemptOutcome, ReplayIn
from tests.clients.conftest import RawServer, drip
from tests.factories import make_result, miner
from tests.webhooks.conftest import Receiver, due_now, execute, states

HOTKEY = miner().ss58_address


def _settings():
    return current_app.extensions["settings"]


def evaluated(id=None):
    id = id or make_result()
    service.record_submission(id, Evaluated(status="SCORED", final_score=0.5))
    db.session.commit()
    return id


def corrected(id):
    service.record_submission(id, Corrected(kind="review", status="SCORED", final_score=0.6))
    db.session.commit()


def deliver(strangers, seconds=0.1):
    delivery.deliver_due(strangers, seconds)


def attempts():
    return execute("SELECT * FROM webhook_attempts ORDER BY delivery_id, number")


def test_it_arrives_signed(endpoint, receiver, strangers):
    endpoint()
    evaluated()
    deliver(strangers)
    ((path, id, body),) = receiver.messages
    (row,) = execute("SELECT uuid, data FROM webhook_deliveries")
    assert (path, id, body["type"]) == ("/hook", f"msg_{row.uuid}", "submission.evaluated")
    assert (body["data"], body.keys()) == (row.data, {"type", "timestamp", "data"})
    assert states() == [("DELIVERED", 1)]
    (attempt,) = attempts()
    assert (attempt.status, attempt.error) == (204, None)
    deliver(strangers)
    assert receiver.calls == 1


def test_something_is_due_while_it_can_be_claimed(endpoint):
    endpoint()
    assert not queries.has_due()
    evaluated()
    assert queries.has_due()
    delivery.write_and_claim([], 1)
    assert not queries.has_due(), "it is under way"
    execute("UPDATE webhook_deliveries SET lease_expires_at = now(), not_before = now()")
    assert queries.has_due()
    execute("UPDATE webhook_endpoints SET paused_until = now() + interval '1 minute'")
    assert not queries.has_due()


def test_a_rotated_secret_overlaps_with_the_old_one(endpoint, receiver, strangers):
    made = endpoint()
    old = receiver.secrets["/hook"]
    _, new = service.rotate(None, made.uuid, 24)
    for secret in (old, new):
        receiver.secrets["/hook"] = secret
        evaluated()
        deliver(strangers)
    assert len(receiver.messages) == 2
    execute("UPDATE webhook_endpoints SET old_secret_until = now()")
    evaluated()
    (claim,) = delivery.write_and_claim([], 1)
    assert len(claim.secrets) == 1


def test_a_receiver_that_is_down_gets_all_of_it_in_order_once_it_is_up(app, endpoint, strangers):
    down = Receiver()
    endpoint("/hook", at=down)
    port, known = down.server_port, down.secrets
    down.close()
    first, second = evaluated(), evaluated()
    for id in (first, second, first):
        corrected(id)
    for _ in range(3):
        deliver(strangers)
        due_now()
    assert {state for state, _ in states()} == {"PENDING"}
    # nothing later of a subject was even tried
    assert [tries for _, tries in states()][2:] == [0, 0, 0]
    up = Receiver(port)
    up.secrets = known
    try:
        for _ in range(3):
            deliver(strangers)
            due_now()
    finally:
        up.close()
    assert {state for state, _ in states()} == {"DELIVERED"}
    by_submission = {}
    for _, _, body in up.messages:
        by_submission.setdefault(body["data"]["submission_uuid"], []).append(body["type"])
    assert sorted(by_submission.values(), key=len) == [
        ["submission.evaluated", "submission.corrected"],
        ["submission.evaluated", "submission.corrected", "submission.corrected"],
    ]


def test_order_holds_while_an_earlier_event_of_the_subject_is_out(endpoint, strangers):
    endpoint()
    id = evaluated()
    corrected(id)
    evaluated()
    claimed = delivery.write_and_claim([], 10)
    assert [each.event for each in claimed] == ["submission.evaluated"] * 2
    assert delivery.write_and_claim([], 10) == []
    delivery.write_and_claim([(claimed[0], AttemptOutcome(0.1, 200))], 0)
    assert [each.event for each in delivery.write_and_claim([], 10)] == ["submission.corrected"]


@pytest.mark.parametrize(
    ("answer", "status", "said"),
    [
        (500, 500, "It answered 500."),
        (302, 302, "redirects are not followed"),
        (404, 404, "It answered 404."),
    ],
)
def test_what_is_no_success_is_tried_again_later(endpoint, receiver, strangers, answer, status, said):
    endpoint()
    evaluated()
    receiver.answers["/hook"] = answer
    deliver(strangers)
    deliver(strangers)
    assert (states(), receiver.calls) == ([("PENDING", 1)], 1)
    (attempt,) = attempts()
    assert attempt.status == status and said in attempt.error
    ((wait, pause),) = execute("""
        SELECT extract(epoch FROM d.not_before - now()), extract(epoch FROM e.paused_until - now())
        FROM webhook_deliveries d JOIN webhook_endpoints e ON e.id = d.endpoint_id""")
    assert 5 < wait < 20 and 5 < pause < 20
    receiver.answers.clear()
    due_now()
    deliver(strangers)
    assert states() == [("DELIVERED", 2)]
    assert execute("SELECT failures, paused_until FROM webhook_endpoints") == [(0, None)]


def test_the_attempts_take_a_day_and_then_the_webhook_is_disabled_with_a_sentence(
    endpoint, receiver, strangers
):
    made = endpoint()
    evaluated()
    receiver.answers["/hook"] = 500
    waited = 0
    for _ in range(delivery.MAX_TRIES):
        deliver(strangers)
        ((wait,),) = execute("SELECT extract(epoch FROM not_before - now()) FROM webhook_deliveries")
        waited += wait
        due_now()
    # without the wait after the last one, and give or take the jitter
    assert 0.75 * 86_400 < waited - wait < 1.25 * 86_400
    assert states() == [("FAILED", delivery.MAX_TRIES)]
    found = service.get_endpoint(None, made.uuid)
    assert (
        "It failed 21 times in a row, for about a day, at last so: It answered 500." in found.disabled_reason
    )
    evaluated()
    assert len(states()) == 1, "nothing is recorded for it any longer"
    service.change(None, made.uuid, None, True)
    receiver.answers.clear()
    replayed = service.replay(None, made.uuid, ReplayIn(failed_since="2020-01-01T00:00:00Z"))
    deliver(strangers)
    assert (replayed, states()) == (1, [("DELIVERED", 1)])


def test_one_event_that_a_receiver_refuses_holds_up_no_other(endpoint, receiver, strangers):
    endpoint()
    bad = evaluated()
    corrected(bad)
    for _ in range(3):
        evaluated()
    ((first,),) = execute("SELECT uuid FROM webhook_deliveries ORDER BY id LIMIT 1")
    refused = f"msg_{first}"
    receiver.answers["/hook"] = lambda handler: 500 if handler.headers["webhook-id"] == refused else 204
    for _ in range(delivery.MAX_TRIES):
        deliver(strangers)
        due_now()
    assert states()[0] == ("FAILED", delivery.MAX_TRIES)
    assert states()[2:] == [("DELIVERED", 1)] * 3
    # and then what came later about the same
    service.change(None, service_uuid(), None, True)
    deliver(strangers)
    assert states()[1] == ("DELIVERED", 1)


def service_uuid():
    return execute("SELECT uuid FROM webhook_endpoints")[0].uuid


def test_gone_means_no_more(endpoint, receiver, strangers):
    made = endpoint()
    evaluated()
    receiver.answers["/hook"] = 410
    deliver(strangers)
    assert states() == [("FAILED", 1)]
    assert "410" in service.get_endpoint(None, made.uuid).disabled_reason


def test_the_receivers_own_wish_is_kept_within_bounds(endpoint, strangers, receiver):
    raw = RawServer()
    raw.answer(b"HTTP/1.1 503 Busy\r\nRetry-After: 86000\r\nContent-Length: 4\r\n\r\nlate")
    service.register(None, raw.url, None, _settings(), strangers)
    evaluated()
    deliver(strangers)
    raw.close()
    ((wait,),) = execute("SELECT extract(epoch FROM not_before - now()) FROM webhook_deliveries")
    assert 7000 < wait < 7300
    assert attempts()[0].answer == "late"


HOSTILE = {
    "silence": lambda: [60],
    "dripping headers": lambda: drip(b"X-Header: 1\r\n", b"HTTP/1.1 200 OK\r\n"),
    "endless headers": lambda: [b"HTTP/1.1 200 OK\r\n", *[b"X-Header: 1\r\n" * 1000] * 1000],
    "endless continue": lambda: drip(b"HTTP/1.1 100 Continue\r\n\r\n" * 100),
    "no HTTP": lambda: [b"\x00\xff" * 100_000],
}


@pytest.mark.parametrize("kind", HOSTILE)
def test_a_hostile_receiver_delays_no_other_and_ends(endpoint, receiver, strangers, kind):
    raw = RawServer()
    raw.answers = (HOSTILE[kind]() for _ in range(100))
    service.register(None, raw.url, None, _settings(), strangers)
    endpoint("/well", HOTKEY)
    for _ in range(3):
        evaluated()
    delivery.deliver_due(strangers, 0.1, call_seconds=2.0)
    raw.close()
    assert len(receiver.messages) == 3
    assert {row.error is None for row in attempts()} == {True, False}


def test_who_is_well_is_called_while_a_slow_one_is_waited_for(app, endpoint, receiver, strangers):
    endpoint("/silent")
    begun, over = threading.Event(), threading.Event()

    def hold(handler):
        # another event comes when the run is about to end; this one gets it as well
        if not begun.is_set():
            begun.set()
            with app.app_context():
                endpoint("/well")
                time.sleep(0.3)
                evaluated()
        return 204 if over.wait(30) else None

    receiver.answers["/silent"] = hold
    receiver.answers["/well"] = lambda handler: over.set() or 204
    evaluated()
    deliver(strangers)
    assert receiver.types("/well") == ["submission.evaluated"]


@pytest.mark.parametrize(
    "body",
    [
        lambda: [b"HTTP/1.1 200 OK\r\nContent-Length: 1000000000\r\n\r\n", *[bytes(100_000)] * 50],
        lambda: drip(b"x", b"HTTP/1.1 200 OK\r\nContent-Length: 100000\r\n\r\n"),
        lambda: [b"HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\n\x00\xff\x1b[31"],
        lambda: [b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\nzz\r\n"],
    ],
    ids=["large", "dripping", "binary", "no chunks"],
)
def test_of_an_answer_the_start_is_kept(app, strangers, body):
    raw = RawServer()
    raw.answers.append(body())
    service.register(None, raw.url, None, _settings(), strangers)
    evaluated()
    deliver(strangers)
    raw.close()
    assert states() == [("DELIVERED", 1)]
    assert len(attempts()[0].answer) <= 500


def test_no_redirect_leads_to_the_metadata_of_the_cloud(app, strangers):
    raw = RawServer()
    raw.answer(
        b"HTTP/1.1 307 x\r\nLocation: http://169.254.169.254/latest/meta-data/\r\nContent-Length: 0\r\n\r\n"
    )
    service.register(None, raw.url, None, _settings(), strangers)
    evaluated()
    asked = []

    def addresses(host, port):
        asked.append((host, port))
        return [host]

    deliver(Strangers(True, addresses))
    raw.close()
    assert asked == [("127.0.0.1", int(raw.url.rpartition(":")[2]))]
    assert (states(), len(raw.requests)) == ([("PENDING", 1)], 1)


def test_a_name_that_leads_inside_by_now_is_not_called(app, endpoint, receiver):
    """It was public when it was registered."""
    found = iter([["8.8.8.8"], ["127.0.0.1"]])
    rebinding = Strangers(False, lambda host, port: next(found))
    service.register(None, "http://hook.example:8080/", None, _settings(), rebinding)
    evaluated()
    deliver(rebinding)
    (attempt,) = attempts()
    assert "leads to 127.0.0.1, which is not on the public Internet" in attempt.error
    assert receiver.calls == 0


def test_two_workers_never_have_one_delivery_at_once(app, endpoint, receiver, strangers):
    endpoint()
    for _ in range(40):
        evaluated()
    out, doubled = set(), []

    def count(handler):
        id = handler.headers["webhook-id"]
        if id in out:
            doubled.append(id)
        out.add(id)
        time.sleep(0.02)
        return 204

    receiver.answers["/hook"] = count

    def until_done():
        while len(receiver.messages) < 40:
            with app.app_context():
                deliver(strangers)

    workers = [threading.Thread(target=until_done) for _ in range(2)]
    for worker in workers:
        worker.start()
    for worker in workers:
        worker.join()
    assert (len(out), doubled) == (40, [])
    assert {state for state in states()} == {("DELIVERED", 1)}


def test_a_lease_that_ended_gives_the_delivery_to_another_and_the_first_writes_nothing(endpoint):
    endpoint()
    evaluated()
    (lost,) = delivery.write_and_claim([], 1)
    assert delivery.write_and_claim([], 1) == []
    execute("UPDATE webhook_deliveries SET lease_expires_at = now(), not_before = now()")
    (again,) = delivery.write_and_claim([], 1)
    delivery.write_and_claim([(lost, AttemptOutcome(1, 200))], 0)
    assert states() == [("PENDING", 2)]
    delivery.write_and_claim([(again, AttemptOutcome(1, 200))], 0)
    assert states() == [("DELIVERED", 2)]
    assert [attempt.number for attempt in attempts()] == [2]


def test_no_connection_is_in_use_while_a_receiver_is_waited_for(app, endpoint, receiver, strangers):
    endpoint()
    evaluated()
    seen = []

    def look(handler):
        seen.append(db_pool.checkedout())
        return 204

    db_pool = db.engine.pool
    receiver.answers["/hook"] = look
    deliver(strangers)
    assert seen == [0]


def test_places_are_shared_fairly(app, endpoint, receiver):
    """A receiver with a long queue takes a few of the places, and failing ones together take half."""
    busy, failing = endpoint("/busy"), [endpoint(f"/bad{n}", events=["cycle.completed"]) for n in range(40)]
    small = endpoint("/small", miner("small").ss58_address)
    for _ in range(30):
        evaluated()
    evaluated(make_result(miner_hotkey=miner("small").ss58_address))
    service.record_cycle(1, CycleCompleted(block_number=None))
    db.session.commit()
    execute("UPDATE webhook_endpoints SET failures = 1 WHERE url LIKE '%/bad%'")
    claimed = delivery.write_and_claim([], delivery.PLACES)
    by_endpoint = [each.endpoint_id for each in claimed]
    assert by_endpoint.count(busy.id) == delivery.PER_ENDPOINT
    assert by_endpoint.count(small.id) == 1
    assert len([id for id in by_endpoint if id in {each.id for each in failing}]) == delivery.SLOW_PLACES
    # and no more while those are out
    assert delivery.write_and_claim([], delivery.PLACES) == []


def test_those_that_were_called_longest_ago_come_first(app, endpoint):
    made = [endpoint(f"/{n}") for n in range(4)]
    evaluated()
    evaluated()
    first = [each.endpoint_id for each in delivery.write_and_claim([], 2)]
    second = [each.endpoint_id for each in delivery.write_and_claim([], 2)]
    assert sorted(first + second) == [each.id for each in made]


def test_a_bug_in_one_call_stops_no_other(app, endpoint, receiver):
    endpoint("/good")
    evaluated()

    class Broken(Strangers):
        def look_up(self, host, port, deadline):
            raise ZeroDivisionError

    deliver(Broken(True))
    assert attempts()[0].error == "Something failed on our side."
    assert receiver.calls == 0


def test_old_deliveries_are_deleted_and_those_that_wait_are_not(app, endpoint, receiver, strangers):
    made, removed, disabled = endpoint("/1"), endpoint("/2"), endpoint("/3")
    evaluated()
    execute("UPDATE webhook_deliveries SET not_before = now() + interval '1 day' WHERE endpoint_id <> 1")
    deliver(strangers)
    service.remove(None, removed.uuid)
    service.change(None, disabled.uuid, None, False)
    evaluated()
    settings = _settings()
    service.tidy(settings)
    assert execute("SELECT endpoint_id, state FROM webhook_deliveries ORDER BY id") == [
        (made.id, "DELIVERED"), (disabled.id, "PENDING"), (made.id, "PENDING"),
    ]  # fmt: skip
    assert [row.id for row in execute("SELECT id FROM webhook_endpoints ORDER BY id")] == [
        made.id,
        disabled.id,
    ]
    execute("""UPDATE webhook_deliveries SET created_at = now() - interval '8 days',
               ended_at = CASE WHEN ended_at IS NOT NULL THEN now() - interval '8 days' END""")
    service.tidy(settings)
    assert execute("SELECT endpoint_id, state FROM webhook_deliveries") == [(made.id, "PENDING")]
    assert attempts() == []
