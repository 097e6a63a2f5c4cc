"""What is in a release: the rules, and what never is."""

import uuid

import pytest
from sqlalchemy import text

from app.corrections.models import Decision
from app.corrections.service import correct
from app.db import db
from app.enums import Category, CorrectionKind, DataFormat, Split, SubmissionStatus
from app.errors import Conflict, Invalid, NotFound
from app.releases import queries, service
from app.releases.models import Rules
from app.releases.splits import draw
from tests.factories import insert, make_cycle, miner
from tests.releases.conftest import RECIPE, changed, chosen


def run(statement, **binds):
    value = db.session.execute(text(statement), binds)
    db.session.commit()
    return value


def judge(id, status, score, kind=CorrectionKind.OPERATOR):
    correct(id, Decision(kind, SubmissionStatus(status), score, "as a test has it", "tester", {}))
    db.session.commit()


def uuid_of(id):
    found = str(run("SELECT uuid FROM submissions WHERE id = :id", id=id).scalar())
    return found


def test_the_rules_choose(accept, freeze):
    cycles = [make_cycle("COMPLETED") for _ in range(3)]
    accept(final_score=0.69, cycle_id=cycles[1])
    accept(final_score=0.9, cycle_id=cycles[0])
    accept(final_score=0.9, cycle_id=cycles[1], category="industrial")
    accept(final_score=0.9, cycle_id=cycles[1], licence="CC0-1.0")
    accept(final_score=0.9)
    right = accept(final_score=0.7, cycle_id=cycles[2])
    release = freeze(
        min_score=0.7,
        categories=(Category.MANIPULATION,),
        first_cycle=cycles[1],
        last_cycle=cycles[2],
        licences=("CC-BY-4.0", "MIT"),
    )
    assert chosen(release) == ([right], {})
    assert (release.chosen, release.state) == (1, "FILMS")


def test_effective_results_decide(accept, freeze):
    lowered, raised, rejected = accept(), accept(status="REJECTED"), accept()
    judge(lowered, "SCORED", 0.3)
    judge(raised, "SCORED", 0.9)
    judge(rejected, "REJECTED", 0)
    release = freeze(min_score=0.5)
    assert chosen(release) == ([raised], {})
    score, licence = run("SELECT final_score, licence FROM release_episodes").one()
    assert (score, licence) == (0.9, "CC-BY-4.0")


def taken_down(id):
    run("INSERT INTO takedowns (submission_id) VALUES (:id)", id=id)


def under_review(id):
    insert("reviews", submission_id=id, reason="somebody should look")


def appealed_against(id):
    insert(
        "appeals", submission_id=id, miner_hotkey="5" * 48, reason="no", against_status="SCORED",
        against_score=0.8, attempts_before=1,
    )  # fmt: skip


def of_a_held_cycle(id):
    cycle = make_cycle("EVALUATING")
    run("UPDATE submissions SET cycle_id = :cycle WHERE id = :id", cycle=cycle, id=id)
    insert("cycle_holds", cycle_id=cycle, reason="the judge is in doubt")


def of_a_blocked_evaluator(id):
    run("ALTER TABLE evaluations DISABLE TRIGGER evaluations_immutable")
    run("UPDATE evaluations SET evaluator = 'eve' WHERE submission_id = :id", id=id)
    run("ALTER TABLE evaluations ENABLE TRIGGER evaluations_immutable")
    run(
        "INSERT INTO evaluator_blocks (evaluator, reason, doubted_since) "
        "VALUES ('eve', 'differs', now() - interval '1 hour')"
    )


def a_gold_film(id):
    run(
        "INSERT INTO gold_films (prompt_id, video_hash, action_match, perspective_correct, "
        "demonstration_quality, training_utility, relevance_score, accepted, scored_by) "
        "SELECT prompt_id, video_hash, 1, 1, 1, 1, 1, true, 'people' FROM submissions WHERE id = :id",
        id=id,
    )


def the_file_of_another(id):
    """Whose bytes were verified, though it came later."""
    own = run("SELECT video_hash, miner_hotkey FROM submissions WHERE id = :id", id=id).one()
    from tests.factories import make_result

    other = make_result(final_score=0.1, video_hash=own.video_hash)
    insert(
        "fingerprints", submission_id=other, miner_hotkey=own.miner_hotkey, content_hash=own.video_hash,
        seconds=[], hashes=b"", keys=[],
    )  # fmt: skip


def whose_video_is_gone(id):
    run("UPDATE submissions SET video_pruned_at = now() WHERE id = :id", id=id)


@pytest.mark.parametrize(
    "make",
    [
        whose_video_is_gone,
        taken_down, under_review, appealed_against, of_a_held_cycle, of_a_blocked_evaluator, a_gold_film,
        the_file_of_another,
    ],
)  # fmt: skip
def test_what_is_in_doubt_or_not_to_be_shown_is_in_no_release(accept, freeze, make):
    right, wrong = accept(), accept()
    make(wrong)
    assert chosen(freeze(min_score=0.2)) == ([right], {})


def test_of_one_file_the_first_is_taken(accept, freeze):
    first = accept(video_hash="ab" * 32)
    accept(video_hash="ab" * 32, by="another")
    assert chosen(freeze()) == ([first], {})


def test_without_a_licence_there_is_no_release(accept, freeze, app):
    accept()
    licensed = accept(licence="CC-BY-4.0", final_score=0.4)
    settings = changed(app, default_licence=None)
    with pytest.raises(Conflict, match="1 accepted submissions fit, but for their licence"):
        service.create("none", Rules(min_score=0.5), list(DataFormat), RECIPE, settings)
    assert queries.find("none") is None
    release = service.create("some", Rules(), list(DataFormat), RECIPE, settings)
    assert chosen(release) == ([licensed], {})


@pytest.mark.parametrize("name", ["", "A", "-a", "a/b", "a b", "films", "a" * 64, "a.", "..", "ä", "a\n"])
def test_a_wrong_name_is_refused(accept, freeze, name):
    accept()
    with pytest.raises(Invalid, match="name"):
        freeze(name)


def test_an_empty_release_is_refused_and_nothing_stays_of_it(accept, freeze):
    accept(final_score=0.5)
    with pytest.raises(Conflict, match="No accepted submission fits"):
        freeze(min_score=0.9)
    for table in ("releases", "release_episodes", "release_films", "release_splits"):
        assert run(f"SELECT count(*) FROM {table}").scalar() == 0


def test_the_same_command_goes_on_and_others_are_refused(accept, freeze):
    accept()
    first = freeze(min_score=0.5)
    accept()
    assert freeze(min_score=0.5).chosen == first.chosen == 1
    for changes in ({"min_score": 0.6}, {"formats": (DataFormat.PARQUET,)}, {"licences": ("CC-BY-4.0",)}):
        with pytest.raises(Conflict, match="There is a release first already, with other"):
            freeze(**{"min_score": 0.5} | changes)


def test_a_frozen_release_cannot_be_changed(accept, freeze):
    accept()
    freeze()
    with pytest.raises(Exception, match="never changed"):
        run("UPDATE releases SET rules = '{}'")
    db.session.rollback()
    with pytest.raises(Exception, match="never changed"):
        run("UPDATE release_splits SET split = 'test'")
    db.session.rollback()


# splits


def name_of(split, start=0):
    """A miner whose split, drawn by his hotkey alone, is this."""
    return next(
        name for name in (f"miner-{n}" for n in range(start, 500)) if draw(miner(name).ss58_address) == split
    )


def share(later, earlier):
    """Let the comparison of `later` have found footage of `earlier`."""
    match = {"submission_uuid": uuid_of(earlier), "share": 0.2, "counts": True, "spans": []}
    report = {"report_version": 2, "duplicates": {"compared": True, "matched_share": 0.2, "matches": [match]}}
    insert("verification_reports", submission_id=later, report=report)


def splits(release):
    rows = run(
        "SELECT submission_id, split FROM release_episodes WHERE release_id = :id AND left_out IS NULL",
        id=release.id,
    )
    return dict(rows.all())


def test_all_films_of_a_miner_and_near_duplicates_lie_in_one_split(accept, freeze):
    trainer, tester = name_of(Split.TRAIN), name_of(Split.TEST)
    first, second = accept(by=tester), accept(by=tester)
    third = accept(by=trainer)
    share(third, first)
    fourth = accept(by=trainer)
    assert set(splits(freeze()).items()) == {(id, "test") for id in (first, second, third, fourth)}


def test_a_split_never_changes_and_what_would_lie_in_two_is_left_out_by_name(accept, freeze):
    trainer, tester = name_of(Split.TRAIN), name_of(Split.TEST)
    train, test = accept(by=trainer), accept(by=tester)
    assert splits(freeze("first")) == {train: "train", test: "test"}
    # by a new film of the second miner the two groups join, and by another of somebody new
    joint = accept(by=tester)
    share(joint, train)
    new = accept(by=name_of(Split.TRAIN, 50))
    other = accept(by=name_of(Split.TRAIN, 50))
    report = {
        "report_version": 2,
        "duplicates": {
            "compared": True,
            "matches": [{"submission_uuid": uuid_of(train)}, {"submission_uuid": uuid_of(test)}],
        },
    }
    insert("verification_reports", submission_id=new, report=report)
    release = freeze("second")
    assert splits(release) == {train: "train", test: "test", other: "train"}
    _, left_out = chosen(release)
    assert set(left_out) == {joint, new}
    assert f"It shows footage of submission {uuid_of(train)}, which is in the split train." == left_out[joint]
    assert f"It shows footage of submission {uuid_of(test)}, which is in the split test." == left_out[new]
    assert {str(each.submission_uuid) for each in queries.iterate_left_out(release.id)} == {
        uuid_of(joint),
        uuid_of(new),
    }


def test_what_was_in_a_release_stays_there_when_its_original_turns_up_late(accept, freeze):
    """The earlier video was evaluated later: the later one, which is out already, was corrected by it."""
    trainer, tester = name_of(Split.TRAIN), name_of(Split.TEST)
    original = accept(by=tester, final_score=0.1)
    published = accept(by=trainer)
    assert splits(freeze("first", min_score=0.5)) == {published: "train"}
    # it has its split before anything is known of the two
    freeze("tests", min_score=0.0, categories=(Category.MANIPULATION,), licences=("CC-BY-4.0",))
    run("DELETE FROM release_episodes WHERE submission_id = :id", id=original)
    evidence = {"duplicates": {"matches": [{"submission_uuid": uuid_of(original)}]}}
    correct(
        published,
        Decision(CorrectionKind.LATE_COPY, SubmissionStatus.SCORED, 0.7, "late", "system", evidence),
    )
    db.session.commit()
    release = freeze("second")
    assert splits(release) == {published: "train"}
    assert set(chosen(release)[1]) == {original}


def test_reports_of_any_form_are_read(accept, freeze):
    ids = [accept() for _ in range(5)]
    for id, duplicates in zip(
        ids,
        [
            None,
            [],
            {"matches": {"submission_uuid": 3}},
            {"matches": [{"submission_uuid": "x"}, 5], "same_file": None},
            {"one_recording_with": str(uuid.uuid4()), "same_file": {}},
        ],
        strict=True,
    ):
        insert("verification_reports", submission_id=id, report={"duplicates": duplicates})
    assert chosen(freeze())[0] == ids


def test_a_successor_needs_a_predecessor(accept, freeze):
    accept()
    with pytest.raises(NotFound, match="no release 'nobody'"):
        freeze("second", predecessor="nobody")
