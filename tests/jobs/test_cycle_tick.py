from contextlib import suppress
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from threading import Thread

import pytest
from sqlalchemy import text

from app.clients.chain import Chain, ChainError, Reading
from app.completion import service as completion
from app.cycles import queries, service
from app.db import db
from app.errors import Conflict
from app.weights import service as weights
from tests.factories import insert, make_cycle, make_prompt, make_result, make_submission, miner, tamper

UNREACHABLE = Chain("ws://127.0.0.1:1")
MINUTE = timedelta(minutes=1)


@pytest.fixture(autouse=True)
def in_context(app):
    with app.app_context():
        yield


def rows(statement):
    return [tuple(row) for row in db.session.execute(text(statement))]


def statuses():
    found = dict(rows("SELECT id, status FROM cycles ORDER BY id"))
    db.session.rollback()
    return found


def cycle_of(submission_id):
    return db.session.execute(
        text("SELECT cycle_id FROM submissions WHERE id = :id"), {"id": submission_id}
    ).scalar()


def tick(settings, after=timedelta(0)):
    moment = queries.clock() + after
    db.session.rollback()
    completion.tick(settings, UNREACHABLE, moment)


def test_first_tick_starts_a_cycle_and_the_next_tick_changes_nothing(settings):
    tick(settings)
    before = rows("SELECT id, status, started_at, ends_at FROM cycles")
    assert [status for _, status, _, _ in before] == ["ACTIVE"]
    assert before[0][3] - before[0][2] == timedelta(minutes=settings.cycle_duration_minutes)
    tick(settings)
    assert rows("SELECT id, status, started_at, ends_at FROM cycles") == before


def test_closing_and_starting_happen_in_the_same_tick(settings):
    tick(settings)
    open_submission = make_submission(cycle_id=1)
    tick(settings, 61 * MINUTE)
    assert statuses() == {1: "EVALUATING", 2: "ACTIVE"}
    assert cycle_of(open_submission) == 1


def test_without_automatic_start_nothing_starts(settings):
    settings = replace(settings, auto_start_cycles=False)
    tick(settings)
    assert statuses() == {}
    make_cycle()
    tick(settings, 61 * MINUTE)
    assert statuses() == {1: "COMPLETED"}


def test_submissions_without_a_cycle_join_the_next_that_starts(settings):
    waiting = [make_submission(), make_result(0.5)]
    tick(settings)
    assert [cycle_of(id) for id in waiting] == [1, 1]


def test_submission_accepted_while_a_cycle_closed_joins_the_active_one(settings):
    tick(settings)
    missed_it = make_submission(cycle_id=None)
    tick(settings)
    assert cycle_of(missed_it) == 1


def test_completion_writes_scores_and_weights_by_hand(settings):
    """Miner 1: 0.8 x 1 + 0.6 x 2.5 = 2.3; miner 2: 0.7 x 1; miner 3: rejected. 3 x 65535 / 23 ..."""
    make_cycle("EVALUATING")
    make_prompt(id="grasp", category="manipulation")
    make_prompt(id="sweep", category="household", weight=2.5)
    one, two, three = (miner(name).ss58_address for name in ("one", "two", "three"))
    make_result(0.8, cycle_id=1, prompt_id="grasp", miner_uid=1, miner_hotkey=one)
    make_result(0.6, cycle_id=1, prompt_id="sweep", prompt_weight=2.5, miner_uid=1, miner_hotkey=one)
    make_result(status="REJECTED", cycle_id=1, prompt_id="grasp", miner_uid=1, miner_hotkey=one)
    make_result(0.7, cycle_id=1, prompt_id="grasp", miner_uid=2, miner_hotkey=two)
    make_result(status="REJECTED", cycle_id=1, prompt_id="grasp", miner_uid=3, miner_hotkey=three)
    tick(settings)

    assert statuses()[1] == "COMPLETED"
    assert rows(
        "SELECT miner_uid, miner_hotkey, total_submissions, accepted_submissions, avg_score, total_score,"
        " scores_by_category, holds_uid FROM miner_scores ORDER BY miner_uid"
    ) == [
        (1, one, 3, 2, 0.7, 2.3, {"manipulation": 0.8, "household": 1.5}, True),
        (2, two, 1, 1, 0.7, 0.7, {"manipulation": 0.7}, True),
        (3, three, 1, 0, 0.0, 0.0, {"manipulation": 0.0}, True),
    ]
    # 65535 x 2.3 / 3 = 50243.5 and 65535 x 0.7 / 3 = 15291.5: the tie goes to the lower uid
    assert rows("SELECT miner_uid, weight, weight_u16 FROM computed_weights ORDER BY miner_uid") == [
        (1, pytest.approx(2.3 / 3, abs=1e-15), 50244),
        (2, pytest.approx(0.7 / 3, abs=1e-15), 15291),
    ]
    assert rows("SELECT block_number, block_number_is_current FROM cycles WHERE id = 1") == [(None, None)]


def test_cycle_waits_for_its_open_submissions(settings):
    make_cycle("EVALUATING")
    open_submission = make_submission(cycle_id=1)
    tick(settings)
    assert statuses()[1] == "EVALUATING"
    db.session.execute(text("DELETE FROM submissions WHERE id = :id"), {"id": open_submission})
    db.session.commit()
    tick(settings)
    assert statuses()[1] == "COMPLETED"


class ScriptedChain:
    """A chain whose answers are called up one by one."""

    def __init__(self, *answers):
        self._answers = list(answers)

    def read(self, netuid=None):
        return self._answers.pop(0)()


def test_a_cycle_whose_work_ends_in_mid_tick_is_completed_at_a_block_that_was_asked_for(settings):
    """In the first tick the chain is asked for a metagraph only, while the last submission still is open."""
    settings = replace(settings, netuid=5)
    long_ago = queries.clock() - timedelta(hours=1)
    insert(
        "chain_state", block_number=100, block_seen_at=long_ago, metagraph_netuid=5,
        metagraph_snapshot_at=long_ago, metagraph_tried_at=long_ago,
    )  # fmt: skip
    make_cycle("EVALUATING")
    last = make_submission(cycle_id=1)

    def end_the_last_and_fail():
        db.session.execute(text("DELETE FROM submissions WHERE id = :id"), {"id": last})
        db.session.commit()
        raise ChainError("The chain is out of reach.")

    chain = ScriptedChain(end_the_last_and_fail, lambda: Reading(777, ()))
    completion.tick(settings, chain)
    assert statuses()[1] == "EVALUATING"
    completion.tick(settings, chain)
    assert rows("SELECT status, block_number, block_number_is_current FROM cycles WHERE id = 1") == [
        ("COMPLETED", 777, True)
    ]


def test_a_cycle_waits_for_an_open_submission_that_came_before_one_of_its_own(settings):
    make_cycle("EVALUATING")
    earlier = make_submission(cycle_id=make_cycle())
    make_result(0.9, cycle_id=1)
    tick(settings)
    assert statuses()[1] == "EVALUATING"
    # not beyond its deadline
    tick(settings, 60 * MINUTE)
    assert statuses()[1] == "COMPLETED"
    assert cycle_of(earlier) == 2


def test_a_submission_that_was_carried_over_holds_up_no_cycle_again(settings):
    make_cycle("EVALUATING")
    stuck = make_submission(cycle_id=1)
    tick(settings, 60 * MINUTE)
    assert (statuses()[1], cycle_of(stuck)) == ("COMPLETED", 2)
    # neither the one it is in, nor one that has later submissions
    make_result(0.9, cycle_id=2)
    db.session.execute(text("UPDATE cycles SET status = 'EVALUATING', closed_at = started_at WHERE id = 2"))
    db.session.commit()
    tick(settings, 60 * MINUTE)
    assert (statuses()[2], cycle_of(stuck)) == ("COMPLETED", 3)


def test_a_submission_that_fails_again_and_again_holds_up_no_later_cycle(settings):
    make_cycle("EVALUATING")
    stuck = make_submission(cycle_id=make_cycle(), attempts=3, faults=2)
    make_result(0.9, cycle_id=1)
    tick(settings)
    assert statuses()[1] == "EVALUATING"
    db.session.execute(text("UPDATE submissions SET faults = 3 WHERE id = :id"), {"id": stuck})
    db.session.commit()
    tick(settings)
    assert statuses()[1] == "COMPLETED"


def test_full_fingerprints_are_kept_for_a_held_submission_as_long_as_its_review_may_take(settings):
    make_cycle()
    held = make_submission(held_at=datetime.now(UTC))
    id = make_result(0.9)
    insert("fingerprints", submission_id=id, miner_hotkey="5" * 48, seconds=[], hashes=b"", keys=[])
    insert("full_fingerprints", submission_id=id, seconds=[], hashes=b"", mirrored=b"", quality_score=1.0)
    tick(settings)
    assert rows("SELECT submission_id FROM full_fingerprints") == [(id,)]
    moved = text("UPDATE submissions SET held_at = now() - interval '22 days' WHERE id = :id")
    db.session.execute(moved, {"id": held})
    db.session.commit()
    tick(settings)
    assert rows("SELECT submission_id FROM full_fingerprints") == []


def test_a_cycle_does_not_wait_for_what_came_after_its_own(settings):
    make_cycle("EVALUATING")
    make_result(0.9, cycle_id=1)
    make_submission(cycle_id=make_cycle())
    tick(settings)
    assert statuses()[1] == "COMPLETED"


def test_overdue_work_is_carried_over_and_the_cycle_completes_without_it(settings):
    make_cycle("EVALUATING")
    make_result(0.9, cycle_id=1, miner_uid=1)
    late = make_submission(cycle_id=1, miner_uid=2)
    tick(settings, 60 * MINUTE)
    assert statuses() == {1: "COMPLETED", 2: "ACTIVE"}
    assert cycle_of(late) == 2
    assert rows("SELECT miner_uid FROM miner_scores WHERE cycle_id = 1") == [(1,)]


def test_overdue_work_waits_without_a_cycle_where_none_is_active(settings):
    make_cycle("EVALUATING")
    late = make_submission(cycle_id=1)
    tick(replace(settings, auto_start_cycles=False), 60 * MINUTE)
    assert statuses() == {1: "COMPLETED"}
    assert cycle_of(late) is None


def test_oldest_cycle_completes_first_and_holds_up_the_younger(settings):
    make_cycle("EVALUATING")
    make_cycle("EVALUATING")
    open_submission = make_submission(cycle_id=1)
    tick(settings)
    assert statuses() == {1: "EVALUATING", 2: "EVALUATING", 3: "ACTIVE"}
    db.session.execute(text("DELETE FROM submissions WHERE id = :id"), {"id": open_submission})
    db.session.commit()
    tick(settings)
    assert statuses() == {1: "COMPLETED", 2: "COMPLETED", 3: "ACTIVE"}


def test_only_the_holder_of_a_uid_gets_its_weight(settings):
    """Uid 1 was passed on, uid 2's hotkey holds it, uid 3 is not registered at all."""
    holder, former = miner("holder").ss58_address, miner("former").ss58_address
    insert("metagraph", uid=1, hotkey=holder, validator_permit=False)
    insert("metagraph", uid=2, hotkey=miner("two").ss58_address, validator_permit=False)
    now = queries.clock()
    insert("chain_state", metagraph_netuid=5, metagraph_snapshot_at=now, metagraph_tried_at=now)
    make_cycle("EVALUATING")
    make_result(0.5, cycle_id=1, miner_uid=1, miner_hotkey=holder)
    make_result(0.9, cycle_id=1, miner_uid=1, miner_hotkey=former)
    make_result(0.5, cycle_id=1, miner_uid=2, miner_hotkey=miner("two").ss58_address)
    make_result(0.9, cycle_id=1, miner_uid=3, miner_hotkey=miner("three").ss58_address)
    tick(replace(settings, netuid=5))
    assert rows("SELECT count(*), count(*) FILTER (WHERE holds_uid) FROM miner_scores") == [(4, 2)]
    assert rows("SELECT miner_uid, weight FROM computed_weights ORDER BY 1") == [(1, 0.5), (2, 0.5)]
    assert weights.recompute(1).differences == []


def test_no_weights_are_given_before_the_metagraph_was_ever_seen(settings):
    make_cycle("EVALUATING")
    make_result(0.5, cycle_id=1)
    tick(replace(settings, netuid=5))
    assert statuses()[1] == "EVALUATING"


def test_closing_waits_for_a_submission_being_accepted(app, settings):
    """The submission holds the ACTIVE cycle FOR SHARE, so it is in the cycle's scores, not lost."""
    tick(settings)
    submission = make_submission()
    session = db.session()
    session.execute(text("SELECT id FROM cycles WHERE status = 'ACTIVE' FOR SHARE"))
    closing = Thread(target=_in_context(app, lambda: tick(settings, 61 * MINUTE)))
    closing.start()
    closing.join(0.5)
    assert closing.is_alive()
    session.execute(text("UPDATE submissions SET cycle_id = 1 WHERE id = :id"), {"id": submission})
    session.commit()
    closing.join(10)
    assert statuses() == {1: "EVALUATING", 2: "ACTIVE"}
    assert cycle_of(submission) == 1


def test_ticks_at_the_same_time_do_what_one_does(app, settings):
    make_cycle("EVALUATING")
    for uid in range(20):
        make_result(0.5, cycle_id=1, miner_uid=uid)
    ticks = [Thread(target=_in_context(app, lambda: tick(settings))) for _ in range(6)]
    for thread in ticks:
        thread.start()
    for thread in ticks:
        thread.join(20)
    tick(settings)
    assert statuses() == {1: "COMPLETED", 2: "ACTIVE"}
    assert rows("SELECT count(*), sum(weight_u16) FROM computed_weights") == [(20, 65535)]


def test_recomputing_gives_the_same_and_tells_what_was_changed(settings):
    make_cycle("EVALUATING")
    ids = [make_result(score, cycle_id=1, miner_uid=uid) for uid, score in enumerate([0.3, 0.6, 0.9])]
    tick(settings)
    first, second = weights.recompute(1), weights.recompute(1)
    assert repr(first) == repr(second)
    assert first.differences == []
    assert [weight.weight_u16 for weight in first.weights] == [10923, 21845, 32767]

    tamper(ids[0], "final_score = 0.7")
    differences = weights.recompute(1).differences
    assert differences[0] == (
        f"submission {ids[0]}: SCORED with final score 0.7, by its evaluation SCORED with 0.3"
    )
    assert differences[1].startswith("uid 0 with hotkey ")
    assert differences[2].startswith("weights: recorded ")


@pytest.mark.parametrize(
    ("made", "change", "difference"),
    [
        (
            {"final_score": 0.3},
            "status = 'REJECTED', final_score = 0",
            "REJECTED with final score 0.0, by its evaluation SCORED with 0.3",
        ),
        (
            {"status": "REJECTED"},
            "status = 'SCORED'",
            "SCORED with final score 0.0, by its evaluation REJECTED with 0.0",
        ),
    ],
)
def test_recomputing_tells_a_verdict_that_is_not_the_evaluation_s(settings, made, change, difference):
    make_cycle("EVALUATING")
    id = make_result(cycle_id=1, **made)
    tamper(id, change)
    tick(settings)
    assert weights.recompute(1).differences == [f"submission {id}: {difference}"]


def test_an_operator_starts_and_closes_by_hand(settings):
    manual = replace(settings, auto_start_cycles=False)
    waiting = make_submission()
    assert service.start(manual).id == 1
    assert cycle_of(waiting) == 1
    with pytest.raises(Conflict, match="Cycle 1 is active until"):
        service.start(manual)
    db.session.rollback()
    service.close(manual)
    assert statuses() == {1: "EVALUATING"}
    with pytest.raises(Conflict, match="No cycle is active"):
        service.close(manual)
    db.session.rollback()
    service.start(manual)
    service.close(settings)
    assert statuses() == {1: "EVALUATING", 2: "EVALUATING", 3: "ACTIVE"}


def test_no_way_back_and_no_change_of_what_is_recorded(settings):
    make_cycle("EVALUATING")
    make_result(0.5, cycle_id=1)
    tick(settings)
    for statement in (
        "UPDATE cycles SET status = 'EVALUATING', completed_at = NULL WHERE id = 1",
        "UPDATE miner_scores SET total_score = 9",
        "DELETE FROM computed_weights",
    ):
        with pytest.raises(Exception, match=r"never changed|cannot go from"):
            db.session.execute(text(statement))
        db.session.rollback()


def _in_context(app, function):
    def run():
        with app.app_context(), suppress(Conflict):
            function()

    return run
