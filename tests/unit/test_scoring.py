from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from app.assessment.formula import (
    FILM_THE_TASK,
    TECHNICAL_WEIGHTS,
    Verdict,
    explain,
    final_score,
    relevance_score,
    technical_score,
    verdict,
    verdict_of,
)
from app.assessment.model import Outcome
from app.assessment.report import Report
from app.enums import SubmissionStatus

scores = st.floats(0, 1)


@pytest.mark.parametrize(
    ("scores", "final"),
    [
        ((1, 1, 1), 1.0),
        ((0, 0, 0), 0.0),
        # 0.2 + 0.5 * 0.7 + 0.3
        ((1, 0.7, 1), 0.85),
        # 0.2 * 0.91666… + 0.5 * 0.78 + 0.3 * 0.95 = 0.85833…
        ((5.5 / 6, 0.78, 0.95), 0.8583),
        # 0.5 * 0.33333 = 0.166665, rounded
        ((0, 0.33333, 0), 0.1667),
    ],
)
def test_final_score(scores, final):
    assert final_score(*scores) == final


def test_relevance():
    assert relevance_score(1, 1, 1, 1) == pytest.approx(1)
    assert relevance_score(1, 0, 0, 0) == pytest.approx(0.4)
    # 0.4 * 0.9 + 0.2 * (0.8 + 0.7 + 0.6)
    assert relevance_score(0.9, 0.8, 0.7, 0.6) == pytest.approx(0.78)


@pytest.mark.parametrize(
    ("failed", "score"),
    [((), 1.0), (("fps",), 5.5 / 6), (("resolution", "file_size"), 4.5 / 6), (tuple(TECHNICAL_WEIGHTS), 0.0)],
)
def test_technical_is_the_weighted_share_of_passed_checks(failed, score):
    assert technical_score({name: name not in failed for name in TECHNICAL_WEIGHTS}) == pytest.approx(score)


def test_a_check_that_was_not_made_has_failed():
    assert technical_score({}) == 0


def gated(relevance=0.8, action_match=0.8, **more):
    return verdict(1, relevance, 1, min_relevance=0.3, action_match=action_match, **more)


def test_the_gates_let_their_own_value_pass():
    assert gated(relevance=0.3, action_match=0.3).status == SubmissionStatus.SCORED
    assert gated(relevance=0.3, action_match=None).status == SubmissionStatus.SCORED


def test_a_relevance_of_exactly_the_gate_is_not_lost_to_binary_fractions():
    # 0.14 + 0 + 0.02 + 0.14
    assert gated(relevance=relevance_score(0.35, 0.0, 0.1, 0.7)).status == SubmissionStatus.SCORED


@pytest.mark.parametrize("changes", [{"relevance": 0.2999}, {"action_match": 0.2999}])
def test_under_a_gate_is_rejected_with_the_judges_reasoning(changes):
    rejected = gated(**changes, reasoning="A cat is seen.")
    assert (rejected.status, rejected.final_score) == (SubmissionStatus.REJECTED, 0)
    assert "does not show the requested task" in rejected.rejection_reason
    assert "A cat is seen." in rejected.rejection_reason
    # which score, how far, and what to do; no score under a gate reads like one that reaches it
    (name,) = changes
    assert f"Its {name} is 0.29 (at least 0.3 is needed)" in rejected.rejection_reason
    assert rejected.rejection_reason.endswith(FILM_THE_TASK)


def test_under_both_gates_is_told_of_both():
    told = gated(relevance=0.1, action_match=0.05).rejection_reason
    assert "Its relevance is 0.10 (at least 0.3 is needed) and its action_match is 0.05 (at" in told


def test_over_the_gates_is_scored():
    assert gated(relevance=0.31, action_match=0.31).status == SubmissionStatus.SCORED


def test_without_a_reasoning_the_reason_is_a_sentence_all_the_same():
    assert gated(relevance=0).rejection_reason.startswith("The video does not show the requested task. Its ")


def test_a_long_reasoning_is_cut_to_what_the_database_takes():
    told = gated(relevance=0, reasoning="x" * 3000).rejection_reason
    assert len(told) == 2000
    assert told.endswith("xx. Its relevance is 0.00 (at least 0.3 is needed). " + FILM_THE_TASK)


def test_an_earlier_reason_comes_first():
    assert (
        gated(relevance=0, rejection_reason="The video lasts 0.50 s.").rejection_reason
        == "The video lasts 0.50 s."
    )


@given(scores, scores, scores, st.one_of(st.none(), scores), st.one_of(st.none(), st.just("A reason.")))
def test_rejected_is_0_and_scored_is_the_formula(technical, relevance, quality, action_match, reason):
    result = verdict(
        technical, relevance, quality, min_relevance=0.3, action_match=action_match, rejection_reason=reason
    )
    if result.status == SubmissionStatus.REJECTED:
        assert result.final_score == 0
        assert result.rejection_reason
    else:
        assert result.rejection_reason is None
        assert 0 <= result.final_score == final_score(technical, relevance, quality) <= 1
    parts = explain(result, technical, relevance, quality).parts
    assert sum(part.points for part in parts) == pytest.approx(
        final_score(technical, relevance, quality), abs=1e-4
    )


def test_the_points_are_shown_to_six_places():
    parts = explain(gated(), 5.5 / 6, 1 / 3, 0.95).parts
    assert [(part.name, part.score, part.weight, part.points) for part in parts] == [
        ("technical", 5.5 / 6, 0.2, 0.183333),
        ("relevance", 1 / 3, 0.5, 0.166667),
        ("quality", 0.95, 0.3, 0.285),
    ]


@pytest.mark.parametrize(
    ("changes", "status", "reason"),
    [
        ({}, SubmissionStatus.SCORED, None),
        (
            {"action_match": 0.1},
            SubmissionStatus.REJECTED,
            "The video does not show the requested task: A cat. Its action_match is 0.10 (at least 0.3 is "
            "needed). Film the task as the prompt describes it, from its start to its end.",
        ),
        ({"rejection_reason": "It is torn."}, SubmissionStatus.REJECTED, "It is torn."),
    ],
)
def test_the_verdict_of_an_outcome(changes, status, reason):
    outcome = Outcome(0.5, 0.7, 0.9, 0.8, None, "model", "v1", Report(), reasoning="A cat.")
    final = 0.72 if status == SubmissionStatus.SCORED else 0
    assert verdict_of(replace(outcome, **changes), 0.3) == Verdict(status, reason, final)
    # it is the relevance that has to reach the gate
    assert verdict_of(outcome, 0.7).status == SubmissionStatus.SCORED
    assert verdict_of(outcome, 0.71).status == SubmissionStatus.REJECTED
