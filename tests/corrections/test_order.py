"""The order of evaluation decides nothing: what was submitted, and in which order, decides who is paid."""

import random
import threading
from collections import defaultdict
from decimal import Decimal

import numpy as np
import pytest
from sqlalchemy import text

from app.cycles import queries as cycles
from app.db import db
from app.evaluation import service
from tests.corrections.conftest import complete
from tests.evaluation.footage import RATE, copied, film
from tests.evaluation.test_duplicates import outcome_of, take_up
from tests.factories import make_cycle, make_prompt, make_result, make_submission, miner

STORIES = 4
RUNS = 100


def tell(number, base):
    """The submissions of a story in the order in which they are made: (miner, hashes, changed scores)."""

    def clip(seed, seconds=4, **changes):
        return film(base + seed, seconds, **changes)

    whole = clip(4, 8)
    return [
        # an original, a copy, one copied by half, and a copy of that one's own half with something new
        [
            (0, clip(1), {}),
            (1, copied(clip(1)), {}),
            (2, np.concatenate([copied(clip(1), seed=1), clip(2)]), {"quality_score": 0.9}),
            (1, np.concatenate([clip(3), copied(clip(2))]), {"relevance_score": 0.7}),
        ],
        # two pieces of one recording, the second of them the better
        [(0, whole[: 4 * RATE], {"relevance_score": 0.5}), (0, whole[4 * RATE :], {})],
        # takes of one scene
        [(2, clip(seed, motion=3, scene=base), {}) for seed in (10, 11, 12)],
        # what the judge rejects, and the same again, to which it is kinder
        [(1, clip(5), {"relevance_score": 0.1}), (0, copied(clip(5)), {})],
    ][number]


@pytest.fixture(autouse=True)
def in_context(app):
    with app.app_context():
        make_prompt(id="p")
        yield


def play(app, run, number, shuffled):
    """Submit a story over several cycles, evaluate in some order, complete; return its miners' hotkeys."""
    chance = random.Random(run)
    hotkeys = [miner(f"order {run} {who}").ss58_address for who in range(3)]
    story = tell(number, 1000 * (run + 1))
    cycle = make_cycle("EVALUATING")
    work = []
    for who, bits, changes in story:
        if shuffled and chance.random() < 0.3:
            cycle = make_cycle("EVALUATING")
        id = make_submission(prompt_id="p", miner_hotkey=hotkeys[who], miner_uid=who, cycle_id=cycle)
        work.append((id, bits, changes))
    if shuffled:
        chance.shuffle(work)
    carry_over = text("UPDATE submissions SET cycle_id = :next WHERE cycle_id = :id AND status = 'PENDING'")
    ended = cycles.find_oldest_evaluating().id
    db.session.rollback()
    while work:
        together = chance.choice((1, 1, 2)) if shuffled else 1
        record(app, work[:together])
        del work[:together]
        if shuffled and ended < cycle and chance.random() < 0.3:
            # its deadline is over: what is open moves on
            db.session.execute(carry_over, {"id": ended, "next": cycle})
            db.session.commit()
            complete(ended)
            ended += 1
    for each in range(ended, cycle + 1):
        complete(each)
    return hotkeys


def pay_back(hotkeys):
    """Complete a cycle in which everybody earns enough to give back what was paid too much."""
    cycle = make_cycle("EVALUATING")
    one = make_result(1.0, prompt_id="p", prompt_weight=100.0, cycle_id=cycle, miner_hotkey=hotkeys[0])
    for statement in (
        "INSERT INTO uploads (video_key, content_type, expires_at) "
        "SELECT 'uploads/' || n, 'video/mp4', now() + interval '1 hour' FROM generate_series(2, :count) n",
        "INSERT INTO submissions (cycle_id, prompt_id, prompt_weight, video_key, video_hash, miner_uid, "
        "miner_hotkey, duration_sec, resolution_width, resolution_height, fps, camera_type, actor_type, "
        "status, final_score, evaluated_at) SELECT cycle_id, prompt_id, prompt_weight, 'uploads/' || n, "
        "video_hash, miner_uid, hotkey, 1, 1, 1, 1, camera_type, actor_type, status, final_score, "
        "evaluated_at FROM submissions, unnest(CAST(:hotkeys AS text[])) WITH ORDINALITY each(hotkey, n) "
        "WHERE id = :one AND n > 1",
        "INSERT INTO evaluations (submission_id, technical_score, relevance_score, quality_score, "
        "evaluated_by) SELECT id, 1, 1, 1, 'worker' FROM submissions WHERE id > :one",
    ):
        db.session.execute(text(statement), {"count": len(hotkeys), "hotkeys": hotkeys, "one": one})
    db.session.commit()
    complete(cycle)


def read_points():
    """What each hotkey was paid in all."""
    rows = db.session.execute(text("SELECT miner_hotkey, total_score FROM miner_scores WHERE holds_uid"))
    points = defaultdict(Decimal)
    for hotkey, total in rows:
        points[hotkey] += Decimal(repr(total))
    db.session.rollback()
    return points


def record(app, work):
    """Record results, at the same moment if there are several."""
    claims = [(take_up(id), bits, changes) for id, bits, changes in work]

    def run(claim, bits, changes):
        with app.app_context():
            outcome = outcome_of(bits, claim.video_hash, **changes)
            service.record_result(claim, outcome, "worker", app.extensions["settings"])

    threads = [threading.Thread(target=run, args=claim) for claim in claims]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()


def test_the_order_of_evaluation_decides_nothing(app):
    expected = [play(app, 500 + number, number, shuffled=False) for number in range(STORIES)]
    played = [play(app, run, run % STORIES, shuffled=True) for run in range(RUNS)]
    # once for all: what a cycle settles has a share in none of the stories
    pay_back([hotkey for hotkeys in [*expected, *played] for hotkey in hotkeys])
    points = read_points()
    assert len(points) == 3 * (STORIES + RUNS)
    for run, hotkeys in enumerate(played):
        found, due = ([points[hotkey] for hotkey in each] for each in (hotkeys, expected[run % STORIES]))
        assert found == due, f"run {run} of story {run % STORIES}"
