"""What is paid in all is what is due in the end, each point once, whatever happens in which order."""

import dataclasses
from collections import defaultdict
from contextlib import suppress
from decimal import Decimal

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from redis import Redis
from redis.backoff import NoBackoff
from redis.retry import Retry
from sqlalchemy import text
from sqlalchemy.exc import IntegrityError, InternalError

from app.appeals import service as appeals
from app.appeals.models import NewAppeal
from app.db import db
from app.enums import SubmissionStatus
from app.errors import Conflict
from app.evaluation import service as evaluation
from app.moderation import service as moderation
from app.moderation.models import Order
from app.reviews import service as reviews
from app.weights import service as weights
from tests.appeals.conftest import execute, uuid_of
from tests.conftest import empty_database
from tests.corrections.conftest import complete, correct
from tests.evaluation.test_duplicates import outcome_of
from tests.factories import insert, make_cycle, make_prompt, make_result, make_submission, miner

HOTKEYS = [miner(name).ss58_address for name in ("one", "two", "three")]
UIDS = st.integers(0, 3)
# four places; None: rejected
SCORES = st.one_of(st.none(), st.integers(0, 10_000).map(lambda points: points / 10_000))
OPERATIONS = st.one_of(
    st.tuples(st.just("submit"), st.integers(0, 2), UIDS, SCORES, st.sampled_from([0.5, 1.0, 2.25])),
    st.tuples(st.just("correct"), st.integers(0, 40), SCORES),
    st.tuples(st.just("operate"), st.integers(0, 40), SCORES),
    st.tuples(st.just("take_down"), st.integers(0, 40)),
    st.tuples(
        st.just("appeal"),
        st.integers(0, 40),
        st.sampled_from([None, 0.55, 0.7345, 0.9, 1.0]),
        st.sampled_from(["accept", "reject", "uphold", None]),
    ),
    st.tuples(st.just("register"), st.lists(st.none() | UIDS, min_size=3, max_size=3)),
    st.tuples(st.just("complete")),
)


class NoStorage:
    """Takes everything that is to be deleted."""

    def delete(self, key):
        pass


class NoRedis(Redis):
    """One that is away."""

    def __init__(self):
        super().__init__(port=1, retry=Retry(NoBackoff(), 0))


class History:
    """Plays operations on the real database, and keeps an account of its own of what is due."""

    def __init__(self, check_registration, settings):
        self.check_registration = check_registration
        self.settings = dataclasses.replace(settings, max_appeals_per_day=1000)
        self.gone = set()
        make_prompt(id="p")
        self.cycle = make_cycle("EVALUATING")
        # submission -> [hotkey, uid, weight, points, cycle], and the registration each cycle completed under
        self.submissions = {}
        self.completed = {}
        self.register([0, None, None])

    def submit(self, who, uid, score, weight):
        status = "REJECTED" if score is None else "SCORED"
        hotkey = HOTKEYS[who]
        id = make_result(score or 0.0, status, cycle_id=self.cycle, prompt_id="p", prompt_weight=weight,
                         miner_uid=uid, miner_hotkey=hotkey)  # fmt: skip
        self.submissions[id] = [hotkey, uid, weight, score or 0.0, self.cycle]

    def correct(self, which, score):
        id = self.pick(which)
        if id is not None:
            correct(id, score)
            self.submissions[id][3] = score or 0.0

    def pick(self, which):
        """A submission, or None."""
        ids = sorted(self.submissions)
        return ids[which % len(ids)] if ids else None

    def operate(self, which, score):
        id = self.pick(which)
        if id is not None and (score or 0.0) != self.submissions[id][3]:
            status = SubmissionStatus.REJECTED if score is None else SubmissionStatus.SCORED
            with suppress(Conflict):
                moderation.correct(uuid_of(id), status, score or 0.0, "Seen.", "Ada", {})
                self.submissions[id][3] = score or 0.0
            db.session.rollback()

    def take_down(self, which):
        id = self.pick(which)
        if id is not None:
            order = Order("Asked for.", "Ada", by_miner=which % 2 == 0)
            moderation.take_down(uuid_of(id), order, self.settings, NoStorage())
            # whatever it has got, it keeps
            self.gone.add(id)

    def appeal(self, which, score, verb):
        """Appeal, evaluate anew and let a person or nobody decide. A cycle may end in between."""
        id = self.pick(which)
        if id is None or id in self.gone:
            return
        body = NewAppeal(miner_hotkey=self.submissions[id][0], reason="Look again.", signature="")
        try:
            appeals.appeal(uuid_of(id), body, True, self.settings, NoRedis())
        except Conflict:
            db.session.rollback()
            return
        if which % 2:
            self.complete()
        self.evaluate_anew(score)
        if which % 3 == 0:
            self.complete()
        self.decide(verb)

    def evaluate_anew(self, score):
        """Evaluate the open appeal anew: 0.2 x technical + 0.5 x 1 + 0.3 x quality, from 0.5 on."""
        for claim in evaluation.claim_due(1, "test", 60):
            quality = max(0.0, ((score or 0.5) - 0.5) / 0.5)
            scores = {"technical_score": quality, "relevance_score": 1.0, "quality_score": quality}
            reason = "No." if score is None else None
            outcome = outcome_of(None, claim.video_hash, rejection_reason=reason, **scores)
            evaluation.record_result(claim, outcome, "worker", self.settings)

    def decide(self, verb):
        """Decide the open review, or let its time be over; the account follows the appeal's rule."""
        found = db.session.execute(
            text("""SELECT r.submission_id, a.final_score FROM reviews r JOIN appeals a USING (submission_id)
                    WHERE r.state = 'OPEN' ORDER BY r.submission_id LIMIT 1""")
        ).first()
        db.session.rollback()
        if found is None:
            return
        id, new = found
        standing = self.submissions[id][3]
        if verb is None:
            is_corrected = execute("SELECT count(*) FROM corrections WHERE submission_id = :id", id=id) != [
                (0,)
            ]
            execute(
                "UPDATE reviews SET waits_since = now() - interval '22 days' WHERE submission_id = :id", id=id
            )
            assert reviews.decide_overdue(self.settings) == 1
            if new > standing and not is_corrected:
                self.submissions[id][3] = round((standing + new) / 2, 4)
        elif verb != "accept" or new:
            reviews.decide(uuid_of(id), verb, "I looked.", "Ada")
            self.submissions[id][3] = {"accept": new, "reject": 0.0, "uphold": standing}[verb]

    def register(self, uids):
        self.registered = {uid: HOTKEYS[n] for n, uid in enumerate(uids) if uid is not None}
        db.session.execute(text("DELETE FROM metagraph"))
        db.session.commit()
        for uid, hotkey in self.registered.items():
            insert("metagraph", uid=uid, hotkey=hotkey, validator_permit=False)

    def complete(self):
        complete(self.cycle, self.check_registration)
        self.completed[self.cycle] = self.registered
        assert weights.recompute(self.cycle).differences == []
        self.cycle = make_cycle("EVALUATING")

    def due(self):
        due = defaultdict(Decimal)
        for hotkey, uid, weight, score, cycle in self.submissions.values():
            if cycle in self.completed and (
                not self.check_registration or self.completed[cycle].get(uid) == hotkey
            ):
                due[hotkey] += Decimal(str(score)) * Decimal(str(weight))
        return {hotkey: points for hotkey, points in due.items() if points}

    def paid(self):
        rows = db.session.execute(
            text("SELECT miner_hotkey, total_score FROM miner_scores WHERE holds_uid AND total_score <> 0")
        ).all()
        db.session.rollback()
        paid = defaultdict(Decimal)
        for hotkey, total in rows:
            assert total > 0
            paid[hotkey] += Decimal(repr(total))
        return dict(paid)


@pytest.mark.parametrize("check_registration", [True, False])
@settings(max_examples=25, suppress_health_check=list(HealthCheck))
@given(operations=st.lists(OPERATIONS, min_size=10, max_size=25))
def test_what_is_paid_in_all_is_what_is_due_in_the_end(database, context, check_registration, operations):
    empty_database(database)
    history = History(check_registration, context.extensions["settings"])
    for name, *arguments in operations:
        getattr(history, name)(*arguments)
    # in the end everybody is registered and earns enough to pay back what was paid too much
    history.register([0, 1, 2])
    for who in range(3):
        history.submit(who, who, 1.0, 1000.0)
    history.complete()
    assert history.paid() == history.due()


@pytest.fixture(autouse=True)
def in_context(context):
    yield


def scores(cycle_id):
    statement = text(
        "SELECT miner_uid, total_submissions, accepted_submissions, avg_score, total_score, adjustment "
        "FROM miner_scores WHERE cycle_id = :id ORDER BY miner_uid"
    )
    found = [tuple(row) for row in db.session.execute(statement, {"id": cycle_id})]
    db.session.rollback()
    return found


def test_a_correction_counts_in_a_cycle_that_is_not_completed():
    cycle = make_cycle("EVALUATING")
    up, down = (make_result(0.5, cycle_id=cycle, miner_uid=uid) for uid in (1, 2))
    correct(up, 0.9)
    correct(down, None)
    complete(cycle)
    assert scores(cycle) == [(1, 1, 1, 0.9, 0.9, 0), (2, 1, 0, 0, 0, 0)]


def test_later_the_difference_counts_in_the_next_cycle_and_what_remains_is_carried():
    first, second, third = (make_cycle("EVALUATING") for _ in range(3))
    copy = make_result(0.9, cycle_id=first, miner_uid=1)
    make_result(0.2, cycle_id=second, miner_uid=1)
    make_result(0.8, cycle_id=third, miner_uid=1)
    complete(first)
    before = scores(first)
    correct(copy, None)
    complete(second)
    complete(third)
    assert scores(first) == before
    assert scores(second) == [(1, 1, 1, 0.2, 0, Decimal("-0.2"))]
    assert scores(third) == [(1, 1, 1, 0.8, pytest.approx(0.1), Decimal("-0.7"))]
    assert all(weights.recompute(cycle).differences == [] for cycle in (first, second, third))


def test_who_is_owed_is_paid_without_a_new_submission():
    first, second = make_cycle("EVALUATING"), make_cycle("EVALUATING")
    wrong = make_result(status="REJECTED", cycle_id=first, miner_uid=1)
    complete(first)
    correct(wrong, 0.7)
    complete(second)
    assert scores(second) == [(1, 0, 0, 0, 0.7, Decimal("0.7"))]
    assert [weight.uid for weight in weights.recompute(second).weights] == [1]


def test_a_submission_without_a_cycle_takes_its_correction_along():
    waiting = make_result(0.9)
    correct(waiting, 0.4)
    cycle = make_cycle("EVALUATING")
    db.session.execute(text("UPDATE submissions SET cycle_id = :id"), {"id": cycle})
    db.session.commit()
    complete(cycle)
    assert scores(cycle) == [(7, 1, 1, 0.4, 0.4, 0)]


def test_recomputing_tells_an_adjustment_that_no_correction_gives():
    first, second = make_cycle("EVALUATING"), make_cycle("EVALUATING")
    make_result(0.9, cycle_id=first, miner_uid=1)
    complete(first)
    insert("miner_scores", cycle_id=second, miner_uid=1, miner_hotkey=HOTKEYS[0], total_submissions=0,
           accepted_submissions=0, avg_score=0.0, total_score=5.0, scores_by_category={}, holds_uid=True,
           adjustment=5)  # fmt: skip
    db.session.execute(
        text("UPDATE cycles SET status = 'COMPLETED', completed_at = now() WHERE id = :id"), {"id": second}
    )
    db.session.commit()
    assert any("recomputed None" in line for line in weights.recompute(second).differences)


def test_recomputing_tells_a_correction_that_does_not_say_what_it_changed():
    cycle = make_cycle("EVALUATING")
    insert("corrections", submission_id=make_result(0.5, cycle_id=cycle), kind="operator", status="SCORED",
           final_score=0.6, points_change=5000, accepted_change=0, reason="r", decided_by="d",
           cycle_id=cycle, is_late=False)  # fmt: skip
    complete(cycle)
    assert "correction 1 does not state what it changed" in weights.recompute(cycle).differences


def test_what_has_no_result_cannot_be_corrected():
    with pytest.raises(Conflict, match="no result yet"):
        correct(make_submission(), 0.5)


def test_a_correction_is_never_changed_and_a_rejection_has_no_points():
    id = make_result(0.5)
    correct(id, 0.4)
    for statement in ("UPDATE corrections SET final_score = 1", "DELETE FROM corrections"):
        with pytest.raises((IntegrityError, InternalError), match="never changed"):
            db.session.execute(text(statement))
        db.session.rollback()


def test_the_api_shows_the_effective_result_and_what_it_rests_on(client):
    id = make_result(0.5, cycle_id=make_cycle())
    uuid = db.session.execute(text("SELECT uuid FROM submissions WHERE id = :id"), {"id": id}).scalar()
    db.session.rollback()
    correct(id, None, kind="late_copy", reason="It is a copy.")
    shown = client.get(f"/v1/submissions/{uuid}").json
    assert (shown["status"], shown["evaluation"]["final_score"]) == ("REJECTED", 0)
    assert shown["evaluation"]["rejection_reason"] == "It is a copy."
    correct(id, 0.6, kind="review", by="Ada")
    shown = client.get(f"/v1/submissions/{uuid}").json
    assert (shown["status"], shown["evaluation"]["final_score"]) == ("SCORED", 0.6)
    assert shown["evaluation"]["rejection_reason"] is None
    assert [(each["kind"], each["decided_by"], each["is_late"]) for each in shown["corrections"]] == [
        ("late_copy", "tester", False),
        ("review", "Ada", False),
    ]
    scores = client.get("/v1/scores/1").json
    assert scores["miner_scores"][0]["total_score"] == 0.6
