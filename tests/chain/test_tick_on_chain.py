from dataclasses import replace
from datetime import timedelta

import pytest
from sqlalchemy import text

from app.clients.chain import Chain
from app.completion import service
from app.cycles import queries
from app.db import db
from tests.factories import make_cycle, make_result, miner

MINUTE = timedelta(minutes=1)


@pytest.fixture(autouse=True)
def in_context(app):
    with app.app_context():
        yield


@pytest.fixture
def tick(settings, node):
    def tick(after=timedelta(0), **changes):
        now = queries.clock() + after
        db.session.rollback()
        service.tick(
            replace(settings, **{"netuid": 5} | changes),
            Chain(node.url, read_timeout_seconds=1 if node.silent else 8),
            now,
        )

    return tick


def rows(statement):
    found = [tuple(row) for row in db.session.execute(text(statement))]
    db.session.rollback()
    return found


def test_metagraph_decides_who_gets_weight(tick):
    make_cycle("EVALUATING")
    make_result(0.5, cycle_id=1, miner_uid=1, miner_hotkey=miner("one").ss58_address)
    make_result(0.9, cycle_id=1, miner_uid=1, miner_hotkey=miner("former one").ss58_address)
    make_result(0.5, cycle_id=1, miner_uid=2, miner_hotkey=miner("two").ss58_address)
    tick()
    assert rows("SELECT miner_uid, weight FROM computed_weights ORDER BY 1") == [(1, 0.5), (2, 0.5)]
    assert rows("SELECT block_number, block_number_is_current FROM cycles WHERE id = 1") == [(1000, True)]


def test_snapshot_is_taken_at_most_every_ten_minutes(tick, node):
    tick()
    node.subnets[5].hotkeys[2] = miner("newcomer").ss58_address
    tick(9 * MINUTE)
    assert rows("SELECT hotkey FROM metagraph WHERE uid = 2") == [(miner("two").ss58_address,)]
    tick(10 * MINUTE)
    assert rows("SELECT hotkey FROM metagraph WHERE uid = 2") == [(miner("newcomer").ss58_address,)]


def test_chain_is_not_asked_without_need(tick, node):
    tick(netuid=None)
    assert rows("SELECT count(*) FROM chain_state") == [(0,)]


def test_other_subnet_is_read_at_once(tick, node):
    tick()
    node.add_subnet(6, [miner("elsewhere").ss58_address])
    tick(2 * MINUTE, netuid=6)
    assert rows("SELECT uid, hotkey FROM metagraph") == [(0, miner("elsewhere").ss58_address)]


def test_unreachable_chain_leaves_the_last_known_block_and_metagraph(tick, node):
    tick()
    node.silent, node.block = True, 1300
    make_cycle("EVALUATING")
    make_result(0.5, cycle_id=2, miner_uid=1, miner_hotkey=miner("one").ss58_address)
    tick(30 * MINUTE)
    assert rows("SELECT status, block_number, block_number_is_current FROM cycles WHERE id = 2") == [
        ("COMPLETED", 1000, False)
    ]
    assert rows("SELECT miner_uid FROM computed_weights") == [(1,)]


def test_snapshot_is_not_waited_for_when_a_cycle_completes(tick, node):
    tick()
    node.silent = True
    tick(11 * MINUTE)
    node.silent = False
    node.subnets[5].hotkeys[1] = miner("newcomer").ss58_address
    make_cycle("EVALUATING")
    make_result(0.5, cycle_id=2, miner_uid=1, miner_hotkey=miner("one").ss58_address)
    make_result(0.5, cycle_id=2, miner_uid=2, miner_hotkey=miner("two").ss58_address)
    tick(11.5 * MINUTE)
    assert rows("SELECT miner_uid FROM computed_weights") == [(2,)]


def test_block_is_current_where_only_the_metagraph_cannot_be_read(tick, node):
    tick()
    node.block, node.errors = 1300, {"state_call": "out of service"}
    make_cycle("EVALUATING")
    make_result(0.5, cycle_id=2, miner_uid=1, miner_hotkey=miner("one").ss58_address)
    tick(30 * MINUTE)
    assert rows("SELECT status, block_number, block_number_is_current FROM cycles WHERE id = 2") == [
        ("COMPLETED", 1300, True)
    ]


def test_failed_snapshot_is_tried_again_after_a_minute(tick, node):
    node.silent = True
    tick()
    node.silent = False
    # the tick before took some seconds itself
    tick(timedelta(seconds=50))
    assert rows("SELECT count(*) FROM metagraph") == [(0,)]
    tick(MINUTE)
    assert rows("SELECT count(*) FROM metagraph") == [(3,)]


def test_without_any_snapshot_a_cycle_waits_for_it(tick, node):
    node.silent = True
    make_cycle("EVALUATING")
    make_result(0.5, cycle_id=1, miner_uid=1, miner_hotkey=miner("one").ss58_address)
    tick()
    assert rows("SELECT status FROM cycles WHERE id = 1") == [("EVALUATING",)]
    node.silent = False
    tick(timedelta(seconds=30))
    assert rows("SELECT status FROM cycles WHERE id = 1") == [("COMPLETED",)]
