"""A stranger recomputes whatever happened from the ledgers alone, and the ledgers hang together."""

from decimal import Decimal
from io import BytesIO

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from sqlalchemy import text

from app.cycles import queries as cycles
from app.db import db
from app.ledger import queries, service
from app.proofs.lines import SubmissionLine, decode, read_amount, read_score
from app.weights import service as weights
from tests.conftest import empty_database
from tests.corrections.test_points import OPERATIONS, History
from tests.factories import insert, make_cycle, make_result
from tests.ledger.stranger import recompute, root_of


def read(cycle_id):
    """The lines of a recorded ledger, as the database gives them."""
    file = BytesIO()
    service.write(cycle_id, file)
    db.session.rollback()
    return file.getvalue()


class LedgerHistory(History):
    """A history that records the ledger of each cycle, as completion does."""

    def __init__(self, check_registration, settings):
        super().__init__(check_registration, settings)
        self.contents = {}

    def complete(self):
        recorded = weights.record(self.cycle, self.check_registration)
        now = cycles.clock()
        cycles.complete_cycle(self.cycle, now, None, [], recorded.last_correction_id)
        service.record(
            self.cycle, 5 if self.check_registration else None, now if self.check_registration else None
        )
        db.session.commit()
        self.completed[self.cycle] = self.registered
        self.contents[self.cycle] = read(self.cycle)
        self.cycle = make_cycle("EVALUATING")


@pytest.mark.parametrize("check_registration", [True, False])
@settings(max_examples=5, suppress_health_check=list(HealthCheck))
@given(operations=st.lists(OPERATIONS, min_size=5, max_size=30))
def test_ledgers_of_any_history(database, app, check_registration, operations):
    empty_database(database)
    with app.app_context():
        history = LedgerHistory(check_registration, app.extensions["settings"])
        for name, *arguments in [*operations, ("complete",), *operations[:5], ("complete",)]:
            getattr(history, name)(*arguments)
        previous, left = (None, None), {}
        for cycle_id, content in history.contents.items():
            # later corrections and cycles do not change it
            assert read(cycle_id) == content
            kinds = recompute(content)
            [head] = kinds["cycle"]
            assert (head["cycle_id"], head["previous_cycle_id"], head["previous_root"]) == (
                cycle_id,
                *previous,
            )
            carried = {line["hotkey"]: line["carried"] for line in kinds["balance"] if line["carried"] != "0"}
            assert carried == left
            left = {line["hotkey"]: line["left"] for line in kinds["balance"] if line["left"] != "0"}
            previous = (cycle_id, root_of(content[:-1].split(b"\n")))
            assert queries.find(cycle_id).root == previous[1]
        owed = {hotkey: Decimal(amount) for hotkey, amount in left.items()}
        paid, due = history.paid(), history.due()
        for hotkey in paid.keys() | due.keys() | owed.keys():
            assert paid.get(hotkey, 0) + owed.get(hotkey, 0) == due.get(hotkey, 0)


def test_the_words_of_people_and_judges_are_not_in_it(database, app):
    with app.app_context():
        columns = db.session.scalars(
            text("SELECT column_name FROM information_schema.columns WHERE table_name = 'submissions'")
        )
        declared = {"camera_intrinsics", "robot_model", "environment", "action_description", "task_success"}
        assert declared < set(columns)
        db.session.rollback()
        history = LedgerHistory(False, app.extensions["settings"])
        history.submit(0, 0, None, 1.0)
        history.complete()
    [content] = history.contents.values()
    [line] = recompute(content)["submission"]
    assert not declared & line.keys()
    assert not {"rejection_reason", "evidence", "report", "frame_seed", "environment"} & line.keys()
    assert b"does not show" not in content


@settings(max_examples=10, suppress_health_check=list(HealthCheck))
@given(
    score=st.floats(0, 1) | st.sampled_from([0.0, 1.0, 0.0001, 0.00001, 5e-324, 0.1 + 0.2]),
    weight=st.floats(0, 1000).map(lambda weight: float(f"{weight:.12g}"))
    | st.sampled_from([0.0, 1e-7, 1000.0]),
    words=st.text(st.characters(codec="utf-8", exclude_characters="\0"), min_size=1, max_size=20),
)
def test_postgresql_writes_a_line_as_we_do(database, app, score, weight, words):
    """Whatever the scores, the weight and the texts are: `decode` accepts nothing but the canonical form."""
    empty_database(database)
    with app.app_context():
        cycle_id = make_cycle("COMPLETED")
        id = make_result(round(score, 4), cycle_id=cycle_id, prompt_weight=weight)
        for statement in ("ALTER TABLE evaluations DISABLE TRIGGER USER", "UPDATE evaluations SET "
                          "technical_score = :score, judge_model = :words, prompt_version = :words",
                          "ALTER TABLE evaluations ENABLE TRIGGER USER"):  # fmt: skip
            db.session.execute(text(statement), {"score": score, "words": words})
        given = {"final_score": score, "accepted_change": 0, "reason": words, "decided_by": words}
        for number in range(2):
            insert("corrections", submission_id=id, kind="operator", status="SCORED", points_change=number,
                   is_late=False, **given)  # fmt: skip
        [(found, line)] = queries.list_submissions(cycle_id, 0, 10)
        db.session.rollback()
        read = decode(line)
        assert found == id and isinstance(read, SubmissionLine)
        assert read_score(read.technical_score) == score == read_score(read.effective_score)
        assert read_amount(read.prompt_weight) == Decimal(repr(weight))
        assert [one.points_change for one in read.corrections] == [0, 1]
        assert {read.judge_model, read.prompt_version, read.corrections[0].reason} == {words}
