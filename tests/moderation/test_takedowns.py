"""Takedowns: what goes, what stays, who may, and that nobody gains by one."""

import dataclasses
import hashlib
from contextlib import suppress

import numpy as np
import pytest
import requests
from hypothesis import HealthCheck, example, given
from hypothesis import settings as hypothesis_settings
from hypothesis import strategies as st

from app.appeals import queries as appeal_queries
from app.assessment import pipeline
from app.clients.storage import Storage
from app.corrections import service as correcting
from app.corrections.models import Decision
from app.db import db
from app.enums import CorrectionKind, SubmissionStatus
from app.errors import Conflict
from app.evaluation import queries as evaluation_queries
from app.evaluation import service as evaluation
from app.moderation import service
from app.moderation.models import Order
from app.moderation.recognition import recognise_next
from app.reviews import queries as review_queries
from app.reviews import service as reviews
from app.sheets import service as sheets
from tests.api.conftest import PRODUCTION, signed_submission
from tests.appeals.conftest import effective, execute, row, uuid_of
from tests.appeals.conftest import statement as appeal_statement
from tests.conftest import empty_database
from tests.corrections.conftest import complete
from tests.evaluation.footage import copied, film
from tests.evaluation.test_duplicates import outcome_of, record, take_up
from tests.factories import (
    insert,
    make_cycle,
    make_prompt,
    make_result,
    make_submission,
    miner,
)
from tests.moderation.test_moderation import send, uploaded
from tests.pages.conftest import SHEET
from tests.videos import sha256

OWNER, OTHER = miner("owner"), miner("other")
HIS = {"prompt_id": "p", "miner_hotkey": OWNER.ss58_address}


@pytest.fixture
def away(settings):
    """A storage that cannot be reached."""
    return Storage(dataclasses.replace(settings, s3_endpoint="http://127.0.0.1:1"))


@pytest.fixture
def take_down(settings, storage):
    """Takes a submission down, by its miner or by Ada, and deletes it `hours` later."""

    def run(id, by_miner=True, storage=storage, hours=24.0):
        order = Order("Asked for.", row(id).miner_hotkey if by_miner else "Ada", by_miner)
        within = dataclasses.replace(settings, raw_delete_hours=hours)
        return service.take_down(row(id).uuid, order, within, storage)

    return run


def pass_time(hours):
    execute(f"UPDATE takedowns SET delete_at = delete_at - interval '{hours} hours'")


def statement(uuid, reason="A person in it asked.", keypair=OWNER, signer=None):
    """The body of a takedown, signed as the contract says."""
    hashed = hashlib.sha256(reason.encode()).hexdigest()
    signed = f"kibotos.takedown.v1\n{keypair.ss58_address}\n{uuid}\n{hashed}"
    return {
        "miner_hotkey": keypair.ss58_address,
        "reason": reason,
        "signature": (signer or keypair).sign(signed.encode()).hex(),
    }


# who may


def test_a_miner_takes_his_own_video_down(make_app, storage):
    client = make_app(**PRODUCTION).test_client()
    key = uploaded(storage)
    id = make_result(0.8, video_key=key, **HIS)
    uuid, url = uuid_of(id), f"/v1/submissions/{uuid_of(id)}/takedown"
    other = statement(uuid, keypair=OTHER)
    forged = statement(uuid, signer=OTHER)
    for body, status in (
        (other, 403),
        (forged, 401),
        (statement(uuid) | {"reason": "Another."}, 401),
        (statement(uuid) | {"signature": "ab"}, 422),
        (statement(uuid, reason=" "), 422),
        (statement(uuid, reason="x" * 1001), 422),
    ):
        assert client.post(url, json=body).status_code == status, body
    unknown = "00000000-0000-0000-0000-000000000000"
    answer = client.post(f"/v1/submissions/{unknown}/takedown", json=statement(unknown))
    assert answer.status_code == 404
    assert execute("SELECT * FROM takedowns") == []
    answer = client.post(url, json=statement(uuid))
    assert (answer.status_code, answer.json["is_deleted"]) == (200, False)
    again = client.post(url, json=statement(uuid, reason="Once more."))
    assert (again.status_code, again.json) == (200, answer.json)
    ((by_miner, by, reason, signature),) = execute(
        "SELECT by_miner, taken_down_by, reason, signature FROM takedowns"
    )
    assert (by_miner, by, reason) == (True, OWNER.ss58_address, "A person in it asked.")
    assert len(signature) == 128
    shown = client.get(f"/v1/submissions/{uuid}").json
    assert shown["taken_down_at"] == answer.json["taken_down_at"]
    assert (shown["status"], shown["evaluation"]["final_score"], shown["corrections"]) == ("SCORED", 0.8, [])


# what goes and what stays


def test_the_object_goes_within_the_hours_and_what_can_be_verified_stays(client, storage, settings):
    key = uploaded(storage)
    id = make_result(0.8, video_key=key, cycle_id=make_cycle("EVALUATING"), **HIS)
    sheets.keep(row(id).uuid, SHEET, settings, storage)
    before, results = row(id), execute("SELECT * FROM evaluations")
    answer = send(client, id, "takedown", evidence={"request": "T-1"})
    assert (answer.status_code, answer.json["is_deleted"], answer.json["status"]) == (200, False, "SCORED")
    assert (answer.json["final_score"], answer.json["corrections"]) == (0.8, [])
    # at once nobody sees it
    assert sheets.read(row(id).uuid, storage) is None
    assert client.post(f"/v1/submissions/{uuid_of(id)}/video-link", json={}).status_code == 409
    page = client.get(f"/submissions/{uuid_of(id)}").text
    assert "Taken down" in page and "Seen." in page and "To watch it" not in page
    service.delete_objects(storage)
    assert storage.head(key)
    pass_time(24)
    service.delete_objects(storage)
    assert storage.head(key) is None and storage.head(f"sheets/{uuid_of(id)}.webp") is None
    assert execute("SELECT * FROM contact_sheets") == []
    assert (row(id), execute("SELECT * FROM evaluations")) == (before, results)
    assert execute("SELECT evidence FROM takedowns") == [({"request": "T-1"},)]
    complete(before.cycle_id)
    assert execute("SELECT total_score FROM miner_scores") == [(0.8,)]
    again = send(client, id, "takedown")
    assert (again.status_code, again.json["is_deleted"]) == (200, True)


def test_with_0_hours_it_goes_at_once(take_down, storage):
    key = uploaded(storage)
    assert take_down(make_result(0.8, video_key=key, **HIS), hours=0).is_deleted
    assert storage.head(key) is None


def test_an_operator_takes_the_points_back_by_a_correction(client, take_down):
    id = make_result(0.8, **HIS)
    take_down(id, by_miner=False)
    assert send(client, id, "corrections", status="REJECTED").status_code == 201
    assert effective(id) == ("REJECTED", 0)


def test_what_older_releases_took_back_stays_so_unless_an_operator_corrects_it(client):
    id = make_result(0.8, **HIS)
    insert("takedowns", submission_id=id)
    kind, status = CorrectionKind.TAKEDOWN, SubmissionStatus.REJECTED
    correcting.correct(id, Decision(kind, status, 0.0, "Seen.", "Ada", {}))
    db.session.commit()
    for other in (CorrectionKind.REVIEW, CorrectionKind.LATE_COPY, CorrectionKind.APPEAL):
        with pytest.raises(Conflict, match="final"):
            correcting.correct(id, Decision(other, SubmissionStatus.SCORED, 0.5, "r", "Ada", {}))
        db.session.rollback()
    assert send(client, id, "corrections", status="SCORED", final_score=0.8).status_code == 201


def test_a_video_that_is_not_evaluated_yet_is_rejected(take_down, settings):
    pending, claimed, held = (make_submission(**HIS) for _ in range(3))
    reviews.hold(held, "It could not be evaluated.")
    db.session.commit()
    claim = take_up(claimed)
    for id in (pending, claimed, held):
        take_down(id)
        assert (effective(id), row(id).held_at) == (("REJECTED", 0), None)
    with pytest.raises(evaluation.LeaseLost):
        evaluation.record_result(claim, outcome_of(None, claim.video_hash), "worker", settings)
    assert evaluation.claim_due(10, "test", 60) == []
    assert review_queries.find(row(held).uuid).state == "REJECTED"
    reasons = execute("SELECT DISTINCT rejection_reason FROM evaluations")
    assert reasons == [("It was taken down before it was evaluated: Asked for.",)]


def test_storage_that_is_away_delays_a_takedown(client, take_down, storage, away):
    key = uploaded(storage)
    id = make_result(0.8, video_key=key, **HIS)
    assert not take_down(id, storage=away, hours=0).is_deleted
    assert "kibotos_oldest_takedown_seconds 0.0\n" not in client.get("/metrics").text
    service.delete_objects(away)
    assert storage.head(key)
    service.delete_objects(storage)
    assert storage.head(key) is None
    assert "kibotos_oldest_takedown_seconds 0.0\n" in client.get("/metrics").text


def test_what_is_uploaded_again_by_the_old_address_is_deleted_again(take_down, storage):
    """The upload address outlives the submission by some minutes."""
    key = uploaded(storage)
    url, headers = storage.presign_put(key, "video/mp4", None, 600)
    take_down(make_result(0.8, video_key=key, **HIS), hours=0)
    requests.put(url, data=b"again", headers=headers, timeout=10).raise_for_status()
    service.delete_objects(storage)
    assert storage.head(key)
    pass_time(2)
    execute(
        "UPDATE uploads SET expires_at = now() - interval '1 minute', created_at = now() - interval '1 hour'"
    )
    service.delete_objects(storage)
    assert storage.head(key) is None
    assert execute("SELECT delete_at FROM takedowns") == [(None,)]


# it does not come back


def test_the_same_file_is_named_and_never_scored_again(app, client, take_down):
    hash = "ab" * 32
    first = make_result(status="REJECTED", video_hash=hash, **HIS)
    other = make_result(0.5, prompt_id="p", video_hash=hash)
    answer = send(client, first, "takedown")
    assert answer.json["same_file"] == [uuid_of(other)]
    make_prompt(id="q")
    for bits in (film(7, 4), None):
        later = make_submission(prompt_id="q", video_hash=hash, miner_hotkey=OTHER.ss58_address)
        verdict, _ = record(app, later, bits)
        assert "was taken down" in verdict.rejection_reason and "ask the operator" in verdict.rejection_reason


@pytest.mark.parametrize("by_miner", [True, False])
def test_the_same_file_is_refused_at_the_door(make_app, take_down, put_upload, by_miner):
    client = make_app(**PRODUCTION).test_client()
    pending = make_submission(**HIS, video_hash="ab" * 32)
    take_down(pending, by_miner)
    for keypair, status in ((OWNER, 409), (OTHER, 201 if by_miner else 409)):
        key = put_upload(miner_hotkey=keypair.ss58_address)
        answer = client.post("/v1/submissions", json=signed_submission(keypair, "p", key))
        # of another's it is known only that he claimed it to be this file
        assert answer.status_code == status, answer.json
        if status == 409:
            assert uuid_of(pending) in answer.json["detail"] and "Film" in answer.json["detail"]


def test_footage_that_was_taken_down_counts_for_every_prompt(app, take_down):
    make_prompt(id="q")
    bits = film(8, 4)
    first = make_submission(**HIS)
    record(app, first, bits, relevance_score=0.05, action_match=0.05)
    take_down(first)
    copy = make_submission(prompt_id="q", miner_hotkey=OTHER.ss58_address)
    verdict, _ = record(app, copy, copied(bits))
    assert verdict.status == "REJECTED"


def test_no_part_of_what_was_taken_down_comes_back(app, take_down):
    bits = film(21, 6)
    gone, mixed = make_submission(**HIS), make_submission(prompt_id="p", miner_hotkey=OTHER.ss58_address)
    record(app, gone, bits)
    new = film(22, 20)
    assert record(app, mixed, np.concatenate([new, copied(bits[:24])]))[0].status == "SCORED"
    take_down(gone)
    later = make_submission(prompt_id="p", miner_hotkey=miner("third").ss58_address)
    verdict, duplicates = record(app, later, np.concatenate([film(23, 20), copied(bits[:24])]))
    assert (verdict.status, duplicates["taken_down"]) == ("REJECTED", uuid_of(gone))
    assert "shows footage that was taken down" in verdict.rejection_reason
    assert effective(mixed)[0] == "SCORED", "it was before the takedown"
    # one second of it may be chance
    short = make_submission(prompt_id="p", miner_hotkey=miner("fourth").ss58_address)
    assert record(app, short, np.concatenate([film(24, 20), copied(bits[30:38])]))[0].status == "SCORED"


def test_footage_that_nobody_had_looked_at_does_not_come_back_either(
    app, take_down, storage, videos, tmp_path
):
    first = videos.make("bikes", seconds=4)
    key = uploaded(storage, first.read_bytes())
    id = make_submission(video_key=key, video_hash=sha256(first), **HIS)
    take_down(id)
    assert evaluation_queries.count_due(10) == 1
    assert recognise_next(storage, tmp_path)
    assert not recognise_next(storage, tmp_path) and list(tmp_path.glob("recognition-*")) == []
    assert execute("SELECT submission_id, content_hash, only_prompt FROM fingerprints") == [(id, None, None)]
    copy = videos.make("bikes", seconds=4, filters=["scale=560:-2"])
    make_prompt(id="q")
    later = make_submission(prompt_id="q", video_hash=sha256(copy), miner_hotkey=OTHER.ss58_address)
    claim = take_up(later)
    found = pipeline.evaluate_file(copy, claim.brief, None, tmp_path)
    outcome = outcome_of(None, claim.video_hash, fingerprint=found.fingerprint, features=found.features)
    verdict = evaluation.record_result(claim, outcome, "worker", app.extensions["settings"])
    assert verdict.status == "REJECTED" and uuid_of(id) in verdict.rejection_reason


def test_what_cannot_be_recognised_is_not_tried_for_ever(take_down, storage, away, tmp_path):
    broken, gone = (make_submission(video_key=uploaded(storage), **HIS) for _ in range(2))
    take_down(broken)
    assert recognise_next(storage, tmp_path)
    assert execute("SELECT recognise_at FROM takedowns") == [(None,)]
    take_down(gone)
    # storage that is away delays it by some hours
    assert recognise_next(away, tmp_path) and not recognise_next(storage, tmp_path)
    pass_time(24)
    service.delete_objects(storage)
    assert execute("SELECT count(*) FROM takedowns WHERE recognise_at IS NULL") == [(2,)]


# nobody gains by it


def test_nobody_makes_the_video_of_another_fail_by_claiming_its_hash(app, take_down):
    his = make_submission(**HIS, video_hash="cd" * 32)
    theirs = make_submission(prompt_id="p", video_hash="cd" * 32, miner_hotkey=OTHER.ss58_address)
    take_down(theirs)
    assert record(app, his, film(11, 4))[0].status == "SCORED"
    later = make_submission(prompt_id="p", video_hash="ce" * 32, miner_hotkey=OTHER.ss58_address)
    take_down(later)
    verdict, _ = record(app, make_submission(**HIS, video_hash="ce" * 32), film(12, 4))
    assert verdict.status == "SCORED"


def test_what_is_scored_is_not_lost_since_a_later_copy_of_it_was_taken_down(app, take_down):
    bits = film(13, 6)
    first = make_submission(prompt_id="p", miner_hotkey=miner("third").ss58_address)
    his, copy = (make_submission(**each, video_hash="cf" * 32) for each in (HIS, {"prompt_id": "p"}))
    record(app, his, bits)
    take_down(copy, by_miner=False)
    # compared again, for a part of it was known
    record(app, first, bits[:10])
    assert effective(his)[0] == "SCORED"


def test_a_copy_is_found_also_after_its_miner_took_it_down(app, take_down):
    bits = film(14, 4)
    original = make_submission(prompt_id="p", miner_hotkey=OTHER.ss58_address)
    copy = make_submission(**HIS)
    assert record(app, copy, copied(bits))[0].status == "SCORED"
    take_down(copy)
    assert record(app, original, bits)[0].status == "SCORED"
    assert effective(copy) == ("REJECTED", 0)


def test_a_miner_does_not_escape_a_review_of_what_was_accepted(take_down):
    id = make_result(0.8, **HIS)
    reviews.open_review(id, "Look at it.")
    db.session.commit()
    take_down(id)
    assert review_queries.find(row(id).uuid).state == "OPEN"
    reviews.decide(row(id).uuid, "reject", "It is a copy.", "Ada")
    assert effective(id) == ("REJECTED", 0)


def test_an_operator_ends_a_review_and_the_result_stands(take_down):
    scored, rejected = make_result(0.8, **HIS), make_result(status="REJECTED", **HIS)
    for id in (scored, rejected):
        reviews.open_review(id, "Look at it.")
        db.session.commit()
        take_down(id, by_miner=False)
    assert review_queries.find(row(scored).uuid).state == "UPHELD"
    assert review_queries.find(row(rejected).uuid).state == "REJECTED"
    assert (effective(scored), effective(rejected)) == (("SCORED", 0.8), ("REJECTED", 0))


def test_nobody_decides_in_favour_of_what_nobody_can_look_at(settings, take_down):
    rejected, scored = make_result(status="REJECTED", **HIS), make_result(0.5, **HIS)
    take_down(rejected)
    for id in (rejected, scored):
        reviews.open_review(id, "Look at it.")
    db.session.commit()
    take_down(scored)
    execute("UPDATE reviews SET waits_since = now() - interval '22 days'")
    assert reviews.decide_overdue(settings) == 1
    assert (effective(rejected), effective(scored)) == (("REJECTED", 0), ("SCORED", 0.5))


@pytest.mark.parametrize("verb", ["reject", "uphold", None])
def test_an_appeal_that_found_a_worse_result_is_not_taken_back_by_a_takedown(
    appeal,
    evaluate_anew,
    take_down,
    settings,
    verb,
):
    id = make_result(0.8, **HIS)
    appeal(id)
    evaluate_anew(id, relevance_score=0.35, action_match=0.35)
    take_down(id)
    assert appeal_queries.find(row(id).uuid).state == "IN_REVIEW"
    if verb:
        reviews.decide(row(id).uuid, verb, "I looked.", "Ada")
    else:
        execute("UPDATE reviews SET waits_since = now() - interval '22 days'")
        assert reviews.decide_overdue(settings) == 1
    assert effective(id) == (("REJECTED", 0) if verb == "reject" else ("SCORED", 0.8))


def test_an_appeal_that_is_not_evaluated_ends(appeal, take_down):
    id = make_result(0.8, **HIS)
    appeal(id)
    take_down(id)
    assert appeal_queries.find(row(id).uuid).state == "CLOSED"
    assert evaluation.claim_due(10, "test", 60) == []


def test_it_frees_no_quota(make_app, take_down, put_upload):
    client = make_app(**PRODUCTION, max_submissions_per_hour=1).test_client()
    key = put_upload(miner_hotkey=OWNER.ss58_address)
    assert client.post("/v1/submissions", json=signed_submission(OWNER, "p", key)).status_code == 201
    take_down(execute("SELECT id FROM submissions")[0].id)
    key = put_upload(miner_hotkey=OWNER.ss58_address)
    body = signed_submission(OWNER, "p", key, video_hash="cd" * 32)
    assert client.post("/v1/submissions", json=body).status_code == 429


# at any moment

STEPS = ("claim", "evaluate", "review", "appeal", "complete", "correct")


class Life:
    """Takes a submission through its life; a step that is not possible does nothing."""

    def __init__(self, app, client, id, cycle):
        self.app, self.client, self.id, self.cycle = app, client, id, cycle
        self.settings, self.lease = app.extensions["settings"], None

    def go(self, step):
        with suppress(Conflict, evaluation.LeaseLost):
            getattr(self, step)()
        db.session.rollback()

    def claim(self):
        (self.lease,) = evaluation.claim_due(1, "test", 60) or [self.lease]

    def evaluate(self):
        if self.lease is None:
            self.claim()
        claim, self.lease = self.lease, None
        if claim:
            evaluation.record_result(claim, outcome_of(None, claim.video_hash), "worker", self.settings)
            sheets.keep(claim.submission_uuid, SHEET, self.settings, self.app.extensions["storage"])

    def review(self):
        if row(self.id).final_score is not None:
            reviews.open_review(self.id, "Look at it.")
            db.session.commit()

    def appeal(self):
        uuid = uuid_of(self.id)
        self.client.post(f"/v1/submissions/{uuid}/appeal", json=appeal_statement(uuid))

    def complete(self):
        is_running = execute("SELECT 1 FROM cycles WHERE completed_at IS NULL")
        if row(self.id).final_score is not None and is_running:
            complete(self.cycle)

    def correct(self):
        service.correct(row(self.id).uuid, SubmissionStatus.SCORED, 0.25, "Seen.", "Ada", {})


@hypothesis_settings(max_examples=20, deadline=None, suppress_health_check=list(HealthCheck))
@given(steps=st.lists(st.sampled_from(STEPS), max_size=6), moment=st.integers(0, 6), by_miner=st.booleans())
@example(["evaluate", "review"], 2, True)
@example(["evaluate", "appeal", "evaluate", "complete"], 3, True)
@example(["claim", "evaluate"], 1, False)
def test_a_takedown_at_any_moment_changes_no_points_and_leaves_no_object(
    app, client, settings, storage, database, steps, moment, by_miner
):
    db.session.rollback()
    empty_database(database)
    make_prompt(id="p")
    cycle = make_cycle("EVALUATING")
    key = uploaded(storage, miner_hotkey=OWNER.ss58_address)
    id = make_submission(video_key=key, cycle_id=cycle, **HIS)
    life = Life(app, client, id, cycle)
    for step in steps[:moment]:
        life.go(step)
    before = effective(id)
    service.take_down(row(id).uuid, Order("Asked for.", "Ada", by_miner), settings, storage)
    # a result that stood, stands; what had none has none
    assert effective(id) == (before if before[1] is not None else ("REJECTED", 0))
    for step in steps[moment:]:
        life.go(step)
    pass_time(settings.raw_delete_hours)
    service.delete_objects(storage)
    assert storage.head(key) is None
    assert storage.head(f"sheets/{uuid_of(id)}.webp") is None
