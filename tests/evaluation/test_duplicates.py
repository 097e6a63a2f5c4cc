"""Duplicates where results are recorded, on fingerprints as videos have them."""

import dataclasses
import hashlib
import json
import threading
import uuid

import numpy as np
import pytest
from sqlalchemy import text
from sqlalchemy.exc import IntegrityError

from app.assessment import pipeline
from app.assessment.model import Outcome
from app.assessment.report import Report
from app.db import db
from app.duplicates import queries as memory
from app.evaluation import queries, service
from tests.corrections.conftest import correct
from tests.evaluation.conftest import BRIEF
from tests.evaluation.footage import RATE, copied, film, hashes, mirrored
from tests.factories import make_prompt, make_submission, miner
from tests.processes import eventually
from tests.videos import sha256

ALICE, BOB = miner("alice").ss58_address, miner("bob").ss58_address
REMEMBER_ANEW = text("UPDATE fingerprints SET remembered = DEFAULT WHERE submission_id = :id")


@pytest.fixture
def context(app):
    with app.app_context():
        make_prompt(id="p")
        yield app


@pytest.fixture
def submit(context):
    """Inserts a submission by a miner and returns its id."""

    def insert(hotkey=ALICE, video_hash=None):
        video_hash = video_hash or hashlib.sha256(uuid.uuid4().bytes).hexdigest()
        return make_submission(prompt_id="p", miner_hotkey=hotkey, video_hash=video_hash)

    return insert


def outcome_of(bits, content_hash, **changes):
    values = {
        "technical_score": 1.0,
        "relevance_score": 0.8,
        "quality_score": 1.0,
        "action_match": 0.8,
        "rejection_reason": None,
        "judge_model": "m",
        "prompt_version": "v",
        "report": Report(verified_sha256=content_hash),
        "fingerprint": () if bits is None else hashes(bits),
    }
    return Outcome(**values | changes)


def take_up(id):
    """Claim the submission `id`."""
    take = text(
        "UPDATE submissions SET status = 'EVALUATING', attempts = 1, claim_token = gen_random_uuid(), "
        "claimed_by = 'test', lease_expires_at = now() + interval '1 minute' WHERE id = :id"
    )
    db.session.execute(take, {"id": id})
    db.session.commit()
    claim = queries.find_claim(id)
    db.session.rollback()
    return claim


def record(app, id, bits=None, **changes):
    """Claim the submission `id`, record that its video has these hashes, and return verdict and report."""
    claim = take_up(id)
    outcome = outcome_of(bits, claim.video_hash, **changes)
    verdict = service.record_result(claim, outcome, "worker", app.extensions["settings"])
    return verdict, json.loads(queries.find_report(claim.submission_uuid).report)["duplicates"]


@pytest.fixture
def evaluate(context, submit):
    """Submits and evaluates: returns verdict and what the report says of duplicates."""

    def run(bits, hotkey=ALICE, id=None, **changes):
        return record(context, id or submit(hotkey), bits, **changes)

    return run


def uuid_of(id):
    return str(db.session.execute(text("SELECT uuid FROM submissions WHERE id = :id"), {"id": id}).scalar())


def test_real_copies_are_found_and_other_videos_are_not(context, submit, videos, judge, workdir):
    def evaluate(hotkey, *wish, **changes):
        path = videos.make(*wish, **changes)
        id = submit(hotkey, sha256(path))
        outcome = pipeline.evaluate_file(path, BRIEF, judge, workdir, None)
        assert outcome.rejection_reason is None
        return record(context, id, report=outcome.report, fingerprint=outcome.fingerprint)

    assert evaluate(ALICE, "bikes", seconds=5)[0].status == "SCORED"
    verdict, report = evaluate(
        BOB, "bikes", seconds=4, start=0.6, size="480x360", codec="h265", filters=("hflip",)
    )
    assert verdict.status == "REJECTED" and report["matched_share"] > 0.8
    assert all(span["mirrored"] for span in report["matches"][0]["spans"])
    verdict, report = evaluate(BOB, "bunny", seconds=5)
    assert verdict.status == "SCORED" and report["matched_share"] == 0
    mark = ("pad=iw:trunc(ih*0.75)*2:0:(oh-ih)/2", "drawbox=iw*0.7:ih*0.87:iw*0.25:ih*0.1:white@0.7:fill")
    verdict, report = evaluate(ALICE, "bunny", seconds=4, filters=mark)
    assert verdict.status == "REJECTED" and report["matched_share"] > 0.8


def test_a_new_video_is_scored_in_full(evaluate):
    verdict, report = evaluate(film(1, 10))
    assert (verdict.status, verdict.final_score) == ("SCORED", 0.9)
    assert report["compared"] and report["matches"] == [] and report["matched_share"] == 0


@pytest.mark.parametrize("hotkey", [ALICE, BOB])
def test_the_same_bytes_are_scored_once(context, submit, hotkey):
    content_hash = "ab" * 32
    first, second = submit(ALICE, content_hash), submit(hotkey, content_hash)
    assert record(context, first, film(1, 10))[0].status == "SCORED"
    verdict, report = record(context, second, film(1, 10))
    assert verdict.status == "REJECTED" and uuid_of(first) in verdict.rejection_reason
    assert report["same_file"] == uuid_of(first)


def test_a_hash_claimed_for_other_bytes_blocks_nobody(context, submit):
    content_hash = "ab" * 32
    liar, honest = submit(ALICE, content_hash), submit(BOB, content_hash)
    reason = "The file has another SHA-256."
    verdict, _ = record(context, liar, film(1, 10), rejection_reason=reason, report=OTHER_BYTES)
    assert verdict.rejection_reason == reason
    assert record(context, honest, film(1, 10))[0].status == "SCORED"


@pytest.mark.parametrize("hotkey", [ALICE, BOB])
def test_what_the_judge_rejected_is_not_judged_again_for_the_same_prompt(submit, evaluate, hotkey):
    first, again, other = submit(ALICE), submit(hotkey), submit(hotkey)
    assert evaluate(film(1, 10), id=first, relevance_score=0.1)[0].status == "REJECTED"
    verdict, _ = evaluate(copied(film(1, 10)), id=again)
    assert verdict.status == "REJECTED" and uuid_of(first) in verdict.rejection_reason
    make_prompt(id="another")
    db.session.execute(text("UPDATE submissions SET prompt_id = 'another' WHERE id = :id"), {"id": other})
    db.session.commit()
    # known from the copy, which was rejected as one: it was no judge's word
    assert evaluate(copied(film(1, 10), seed=1), id=other)[0].status == "REJECTED"


def test_what_the_judge_rejected_may_be_submitted_to_another_prompt(submit, evaluate):
    assert evaluate(film(1, 10), relevance_score=0.1)[0].status == "REJECTED"
    other = submit(ALICE)
    make_prompt(id="another")
    db.session.execute(text("UPDATE submissions SET prompt_id = 'another' WHERE id = :id"), {"id": other})
    db.session.commit()
    assert evaluate(copied(film(1, 10)), id=other)[0].status == "SCORED"


def test_a_video_rejected_for_a_fault_of_its_own_blocks_nobody(context, submit):
    first, second = submit(ALICE), submit(BOB)
    fault = {"rejection_reason": "It is damaged.", "judge_model": None}
    assert record(context, first, film(1, 10), **fault)[0].status == "REJECTED"
    assert record(context, second, film(1, 10))[0].status == "SCORED"


OTHER_BYTES = Report(verified_sha256="cd" * 32)
UNVERIFIED = {"report": Report(), "fingerprint": ()}


def test_without_verified_bytes_footage_is_not_compared(evaluate):
    assert evaluate(film(1, 10), **UNVERIFIED)[1] == {"compared": False}
    assert evaluate(film(1, 10), hotkey=BOB)[0].status == "SCORED"


@pytest.mark.parametrize("first", [{}, UNVERIFIED], ids=["verified", "unverified"])
@pytest.mark.parametrize("hotkey", [ALICE, BOB])
def test_a_claimed_hash_that_was_scored_is_not_scored_again(context, submit, first, hotkey):
    content_hash = "ab" * 32
    scored, again = submit(ALICE, content_hash), submit(hotkey, content_hash)
    assert record(context, scored, film(1, 10), **first)[0].status == "SCORED"
    verdict, report = record(context, again, **UNVERIFIED)
    assert verdict.status == "REJECTED" and uuid_of(scored) in verdict.rejection_reason
    assert report == {"compared": False, "same_file": uuid_of(scored)}


def test_a_claimed_hash_that_was_scored_holds_against_no_earlier_submission(context, submit):
    content_hash = "ab" * 32
    first, second = submit(ALICE, content_hash), submit(BOB, content_hash)
    assert record(context, second, **UNVERIFIED)[0].status == "SCORED"
    verdict, report = record(context, first, **UNVERIFIED)
    assert (verdict.status, report) == ("SCORED", {"compared": False})


def test_a_claimed_hash_blocks_no_other_miner_whose_bytes_have_it(context, submit):
    content_hash = "ab" * 32
    liar, honest = submit(ALICE, content_hash), submit(BOB, content_hash)
    assert record(context, liar, **UNVERIFIED)[0].status == "SCORED"
    assert record(context, honest, film(1, 10))[0].status == "SCORED"
    reviewed, reason = db.session.execute(text("SELECT submission_id, reason FROM reviews")).one()
    assert reviewed == liar and uuid_of(honest) in reason


def test_a_miners_own_claim_holds_against_himself(context, submit):
    content_hash = "ab" * 32
    first, second = submit(ALICE, content_hash), submit(ALICE, content_hash)
    assert record(context, first, **UNVERIFIED)[0].status == "SCORED"
    assert record(context, second, film(1, 10))[0].status == "REJECTED"


def test_bytes_of_another_hash_keep_their_own_reason(context, submit):
    claimed = "ab" * 32
    record(context, submit(BOB, claimed), film(1, 10), report=Report(verified_sha256=claimed))
    reason = "The file has the SHA-256 cd."
    verdict, report = record(
        context,
        submit(ALICE, claimed),
        None,
        report=OTHER_BYTES,
        rejection_reason=reason,
    )
    assert (verdict.status, verdict.rejection_reason) == ("REJECTED", reason)
    assert report == {"compared": False}


def test_a_rejected_claim_blocks_nobody(context, submit):
    content_hash = "ab" * 32
    first, second = submit(ALICE, content_hash), submit(BOB, content_hash)
    assert record(context, first, relevance_score=0.1, **UNVERIFIED)[0].status == "REJECTED"
    assert record(context, second, **UNVERIFIED)[0].status == "SCORED"


def test_the_database_itself_scores_no_bytes_twice(evaluate):
    evaluate(film(1, 10))
    evaluate(film(2, 10))
    with pytest.raises(IntegrityError, match="content_hash"):
        db.session.execute(text("UPDATE fingerprints SET content_hash = :hash"), {"hash": "ab" * 32})
    db.session.rollback()


@pytest.mark.parametrize("copy", [copied, lambda bits: copied(mirrored(bits))], ids=["plain", "mirrored"])
def test_a_copy_is_rejected_and_names_what_it_copies(submit, evaluate, copy):
    first = submit(ALICE)
    evaluate(film(1, 10), id=first)
    verdict, report = evaluate(copy(film(1, 10)), hotkey=BOB)
    assert verdict.status == "REJECTED" and uuid_of(first) in verdict.rejection_reason
    (match,) = report["matches"]
    assert match["submission_uuid"] == uuid_of(first) and match["share"] == 1
    assert match["spans"][0] == {
        "start": 0,
        "end": pytest.approx(9.9, abs=0.1),
        "other_start": pytest.approx(0, abs=0.3),
        "other_end": pytest.approx(9.9, abs=0.3),
        "mirrored": copy is not copied,
    }


@pytest.mark.parametrize("share", [0.25, 0.5, 0.75])
def test_a_partial_copy_lowers_quality_in_proportion(evaluate, share):
    evaluate(film(1, 20))
    seconds = 20 * share
    bits = np.concatenate([copied(film(1, 20)[: int(seconds * RATE)]), film(2, 20 - seconds)])
    verdict, report = evaluate(bits, hotkey=BOB)
    assert verdict.status == "SCORED"
    assert report["matched_share"] == pytest.approx(share, abs=0.03)
    assert verdict.final_score == pytest.approx(0.9 - 0.3 * share, abs=0.01)


def test_pieces_of_several_videos_are_a_copy_too(evaluate):
    evaluate(film(1, 10))
    evaluate(film(2, 10))
    bits = np.concatenate([copied(film(1, 10)), copied(film(2, 10))])
    verdict, report = evaluate(bits, hotkey=BOB)
    assert verdict.status == "REJECTED" and len(report["matches"]) == 2


def effective(id):
    statement = text(
        "SELECT coalesce(c.status, s.status), coalesce(c.final_score, s.final_score), c.reason "
        "FROM submissions s LEFT JOIN LATERAL (SELECT * FROM corrections WHERE submission_id = s.id "
        "ORDER BY id DESC LIMIT 1) c ON true WHERE s.id = :id"
    )
    row = db.session.execute(statement, {"id": id}).one()
    db.session.rollback()
    return row


@pytest.mark.parametrize("hotkey", [ALICE, BOB])
def test_a_copy_that_was_evaluated_first_is_corrected(submit, evaluate, hotkey):
    first, copy = submit(ALICE), submit(hotkey)
    assert evaluate(copied(film(1, 10)), id=copy)[0].status == "SCORED"
    verdict, report = evaluate(film(1, 10), id=first)
    assert (verdict.status, verdict.final_score, report["matches"]) == ("SCORED", 0.9, [])
    status, score, reason = effective(copy)
    assert (status, score) == ("REJECTED", 0) and uuid_of(first) in reason


def test_a_copy_in_part_is_corrected_to_what_it_would_have_got(submit, evaluate):
    bits = np.concatenate([copied(film(1, 10)), film(2, 10)])
    first, copy, again = submit(ALICE), submit(BOB), submit(BOB)
    assert evaluate(bits, id=copy)[0].final_score == 0.9
    evaluate(film(1, 10), id=first)
    expected = pytest.approx(0.75, abs=0.01)
    assert effective(copy)[:2] == ("SCORED", expected)
    # what is not new of the copy's own is known from it
    assert evaluate(copied(film(2, 10)), id=again)[0].status == "REJECTED"


def test_the_same_file_evaluated_first_is_corrected_though_it_has_no_fingerprint(context, submit):
    content_hash = "ab" * 32
    first, copy = submit(ALICE, content_hash), submit(BOB, content_hash)
    assert record(context, copy, film(1, 10)[:0])[0].status == "SCORED"
    assert record(context, first, film(1, 10)[:0])[0].status == "SCORED"
    assert effective(copy)[:2] == ("REJECTED", 0)


def test_an_object_that_kept_changing_comes_after_all_others(submit, evaluate):
    churned, honest = submit(ALICE), submit(BOB)
    db.session.execute(text("UPDATE submissions SET demoted = true WHERE id = :id"), {"id": churned})
    db.session.commit()
    evaluate(copied(film(1, 10)), id=honest)
    verdict, _ = evaluate(film(1, 10), id=churned)
    assert verdict.status == "REJECTED" and uuid_of(honest) in verdict.rejection_reason
    assert effective(honest)[:2] == ("SCORED", 0.9)
    # nor does it matter which is evaluated first
    churned, honest = submit(ALICE), submit(BOB)
    db.session.execute(text("UPDATE submissions SET demoted = true WHERE id = :id"), {"id": churned})
    db.session.commit()
    evaluate(film(2, 10), id=churned)
    assert evaluate(copied(film(2, 10)), id=honest)[0].status == "SCORED"
    assert effective(churned)[:2] == ("REJECTED", 0)


def test_what_a_person_decided_goes_up_for_review_instead(context, submit, evaluate):
    first, copy = submit(ALICE), submit(BOB)
    evaluate(copied(film(1, 10)), id=copy)
    correct(copy, 0.9, kind="review", by="Ada")
    evaluate(film(1, 10), id=first)
    assert effective(copy)[:2] == ("SCORED", 0.9)
    reviewed, reason = db.session.execute(text("SELECT submission_id, reason FROM reviews")).one()
    assert reviewed == copy and uuid_of(first) in reason


def test_what_was_scored_before_such_were_corrected_goes_up_for_review(submit, evaluate):
    first, copy, other = submit(ALICE), submit(BOB), submit(BOB)
    evaluate(copied(film(1, 10)), id=copy)
    evaluate(film(2, 10), id=other)
    db.session.execute(text("DELETE FROM full_fingerprints"))
    db.session.commit()
    evaluate(film(1, 10), id=first)
    assert db.session.execute(text("SELECT submission_id FROM reviews")).scalars().all() == [copy]


def test_decoys_that_look_more_like_the_copy_do_not_hide_the_original(submit, evaluate):
    copy = copied(film(1, 6))
    original, *decoys = submit(ALICE), *(submit(miner(f"decoy{n}").ss58_address) for n in range(12))
    evaluate(film(1, 6), id=original)
    for seed, decoy in enumerate(decoys):
        # the copy's own frames, and so all its keys, in another order
        evaluate(np.random.default_rng(seed).permutation(copy), id=decoy)
    verdict, _ = evaluate(copy, hotkey=BOB)
    assert verdict.status == "REJECTED" and uuid_of(original) in verdict.rejection_reason


def test_a_title_card_that_many_show_does_not_hide_the_original(submit, evaluate):
    card = film(99, 2)
    original = submit(ALICE)
    evaluate(film(1, 4), id=original)
    for n in range(12):
        evaluate(np.concatenate([card, film(100 + n, 2)]), hotkey=miner(f"card{n}").ss58_address)
    verdict, report = evaluate(np.concatenate([card, copied(film(1, 4))]), hotkey=BOB)
    assert uuid_of(original) in {match["submission_uuid"] for match in report["matches"]}
    assert verdict.status == "REJECTED"


def test_pieces_earn_no_more_than_the_whole(evaluate):
    whole = film(1, 30)
    pieces = [whole[start * RATE : (start + 10) * RATE] for start in (0, 10, 20)]
    earned = [evaluate(piece)[0].final_score for piece in pieces]
    # and those that overlap, and the whole after all
    earned += [evaluate(whole[4 * RATE : 14 * RATE])[0].final_score, evaluate(whole)[0].final_score]
    assert earned == [0.9, 0, 0, 0, 0]


def test_pieces_of_a_known_video_earn_nothing(evaluate):
    evaluate(film(1, 30))
    for start in (0, 7, 19):
        assert evaluate(copied(film(1, 30)[start * RATE : (start + 10) * RATE]))[0].final_score == 0


def test_takes_of_one_scene_are_no_copies_but_cost_in_the_long_run(evaluate):
    takes = [evaluate(film(take, 10, motion=3, scene=1)) for take in range(1000, 1006)]
    assert [verdict.status for verdict, _ in takes] == ["SCORED"] * 6
    assert all(report["matched_share"] == 0 for _, report in takes)
    assert [report["same_scene"]["deduction"] for _, report in takes] == [0, 0, 0, 0.1, 0.2, 0.3]
    assert takes[5][0].final_score == pytest.approx(0.6 + 0.3 * 0.7)
    # another miner's scene is not this one's
    assert evaluate(film(2000, 10, motion=3, scene=1), hotkey=BOB)[1]["same_scene"]["deduction"] == 0


def test_the_window_ends(evaluate):
    for take in range(1000, 1004):
        evaluate(film(take, 10, motion=3, scene=1))
    db.session.execute(text("UPDATE submissions SET submitted_at = submitted_at - interval '25 hours'"))
    db.session.commit()
    assert evaluate(film(1004, 10, motion=3, scene=1))[1]["same_scene"]["submissions"] == []


def test_a_video_without_anything_to_see_matches_nothing(evaluate):
    empty = film(1, 10)[:0]
    evaluate(empty)
    verdict, report = evaluate(empty)
    assert verdict.status == "SCORED" and report["matches"] == []


def record_at_once(app, submissions):
    """Record the results of all {submission: bits} in the same moment and return {submission: status}."""
    statuses, barrier = {}, threading.Barrier(len(submissions))

    def run(claim, outcome):
        with app.app_context():
            db.session.execute(text("SELECT 1"))
            barrier.wait()
            verdict = service.record_result(claim, outcome, "worker", app.extensions["settings"])
            statuses[claim.id] = verdict.status

    claims = [(take_up(id), bits) for id, bits in submissions.items()]
    results = [(claim, outcome_of(bits, claim.video_hash)) for claim, bits in claims]
    threads = [threading.Thread(target=run, args=result) for result in results]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    return statuses


def test_two_copies_recorded_at_once_are_not_both_scored(context, submit):
    copies = {submit(ALICE): copied(film(1, 10), seed=seed) for seed in range(4)}
    record_at_once(context, copies)
    assert [effective(id)[0] for id in sorted(copies)] == ["SCORED", "REJECTED", "REJECTED", "REJECTED"]


@pytest.mark.parametrize("seed", range(8))
def test_copies_of_two_miners_recorded_at_once_see_each_other(context, submit, seed):
    first, second = submit(ALICE), submit(BOB)
    ten = film(seed, 10)
    statuses = record_at_once(context, {first: ten, second: copied(ten)})
    assert statuses[first] == "SCORED"
    # whichever was evaluated first
    assert effective(second)[:2] == ("REJECTED", 0)


def test_one_file_of_two_miners_recorded_at_once_is_scored_once(context, submit):
    both = {submit(hotkey, "ab" * 32): film(1, 10) for hotkey in (ALICE, BOB)}
    record_at_once(context, both)
    assert [effective(id)[0] for id in sorted(both)] == ["SCORED", "REJECTED"]


def record_beside(app, waiting, meanwhile, again=()):
    """Record a result that has compared its video and waits, and another one while it waits.

    Each is of (submission, bits, features). The videos `again` are remembered anew before the other one.
    """
    results = []
    for id, bits, packed in (waiting, meanwhile):
        claim = take_up(id)
        results.append((claim, outcome_of(bits, claim.video_hash, features=packed)))

    def run(claim, outcome):
        with app.app_context():
            service.record_result(claim, outcome, "worker", app.extensions["settings"])

    memory.lock_memory()
    late = threading.Thread(target=run, args=results[0])
    late.start()
    eventually(lambda: db.session.scalar(text("SELECT count(*) FROM pg_locks WHERE NOT granted")))
    # in the transaction that has the lock
    for id in again:
        db.session.execute(REMEMBER_ANEW, {"id": id})
    service.record_result(*results[1], "worker", app.extensions["settings"])
    late.join(60)
    assert not late.is_alive()


@pytest.mark.parametrize("original_waits", [True, False])
def test_a_result_is_compared_with_what_is_remembered_while_it_waits(context, submit, original_waits):
    original, copy = (submit(ALICE), film(1, 10), b""), (submit(BOB), copied(film(1, 10)), b"")
    both = (original, copy) if original_waits else (copy, original)
    record_beside(context, *both)
    assert effective(original[0])[0] == "SCORED"
    assert effective(copy[0])[:2] == ("REJECTED", 0)


@pytest.mark.parametrize(
    ("lock", "waits"),
    [
        (lambda id: memory.lock_hash("ab" * 32, id), True),
        (lambda id: memory.lock_hash("cd" * 32, id), False),
        (lambda _id: memory.lock_memory(), True),
    ],
    ids=["same hash", "another hash", "memory"],
)
def test_a_result_of_unverified_bytes_waits_for_its_hash_and_for_memory(context, submit, lock, waits):
    id = submit(BOB, "ab" * 32)

    def run():
        with context.app_context():
            record(context, id, **UNVERIFIED)

    def is_waiting():
        return db.session.scalar(text("SELECT count(*) FROM pg_locks WHERE NOT granted"))

    result = threading.Thread(target=run)
    lock(id)
    result.start()
    if waits:
        eventually(is_waiting)
        assert effective(id)[0] == "EVALUATING"
        db.session.rollback()
    result.join(30)
    assert not result.is_alive()
    assert effective(id)[0] == "SCORED"


def test_a_lost_lease_leaves_no_fingerprint(context, submit):
    id = submit(ALICE)
    record(context, id, film(1, 10))
    count = text("SELECT count(*) FROM fingerprints")
    assert db.session.execute(count).scalar() == 1
    db.session.rollback()
    other = submit(ALICE)
    with pytest.raises(service.LeaseLost):
        claim = dataclasses.replace(_claim_of(other), claim_token=uuid.uuid4())
        service.record_result(
            claim, outcome_of(film(2, 10), claim.video_hash), "worker", context.extensions["settings"]
        )
    assert db.session.execute(count).scalar() == 1


def _claim_of(id):
    (claim,) = [claim for claim in service.claim_due(10, "test", 60) if claim.id == id]
    return claim
