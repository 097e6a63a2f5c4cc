"""Kappa with quadratic weights, against examples worked out by hand, and its interval."""

import pytest

from app.gold.agreement import NOTHING, Agreement, Cell, Tally, describe, is_doubtful, measure


def tally(*cells):
    return Tally(tuple(Cell(*cell) for cell in cells), 0, 0, 0, 0)


def test_full_agreement_is_one():
    assert measure(tally((0, 0, 5), (2, 2, 5), (4, 4, 5))) == Agreement(1.0, 1.0, 1.0)


@pytest.mark.parametrize(
    ("cells", "kappa"),
    [
        # observed 2/4 of a step squared: 0.5; by chance 0.5 + 0.5 - 2 * 0.25 = 0.5
        ([(0, 0, 1), (0, 1, 1), (1, 0, 1), (1, 1, 1)], 0.0),
        # two levels: the weighted and the plain kappa are one. (0.8 - 0.5) / (1 - 0.5)
        ([(0, 0, 40), (0, 1, 10), (1, 0, 10), (1, 1, 40)], 0.6),
        # Wikipedia's example of Cohen's kappa: 20, 5, 10, 15 give 0.4
        ([(1, 1, 20), (1, 0, 5), (0, 1, 10), (0, 0, 15)], 0.4),
        # each the opposite: the mean square is 16, by chance 8
        ([(0, 4, 10), (4, 0, 10)], -1.0),
        # one of three off by one of (0, 2, 4): 1/3 against 20/3 + 13/3... by hand: 20/3 + 17/3 - 2 * 2 * 5/3
        ([(0, 0, 1), (2, 1, 1), (4, 4, 1)], 1 - (1 / 3) / (20 / 3 + 17 / 3 - 2 * 2 * 5 / 3)),
        # a judge that says the same of everything knows nothing
        ([(0, 4, 10), (4, 4, 10)], 0.0),
    ],
)
def test_kappa_is_what_a_hand_works_out(cells, kappa):
    assert measure(tally(*cells)).kappa == pytest.approx(kappa, abs=1e-4)


def test_where_people_see_no_difference_kappa_is_not_defined_and_nothing_is_in_doubt():
    all_good = tally((4, 4, 99), (4, 0, 99))
    assert measure(all_good) == Agreement(None, None, None)
    assert measure(NOTHING) == Agreement(None, None, None)
    assert not is_doubtful(measure(all_good), 198, 1.0, 10)
    assert "not defined" in describe(all_good, measure(all_good))
    # one other film: most samples say something, but not if it is one of a thousand
    assert measure(tally((4, 4, 999), (0, 4, 1))).high is not None
    assert measure(tally((4, 4, 3), (0, 4, 0), (0, 0, 0))).kappa is None


def test_the_interval_is_the_same_each_time_and_narrows_with_answers():
    few = tally((0, 0, 5), (0, 3, 5), (2, 2, 5), (4, 3, 5))
    many = tally((0, 0, 500), (0, 3, 500), (2, 2, 500), (4, 3, 500))
    assert measure(few) == measure(few)
    widths = [found.high - found.low for found in (measure(few), measure(many))]
    assert widths[0] > 3 * widths[1] and measure(few).low < measure(few).kappa < measure(few).high


def test_only_enough_answers_with_their_whole_interval_below_are_in_doubt():
    found = Agreement(0.3, 0.1, 0.39)
    assert is_doubtful(found, 30, 0.4, 30)
    assert not is_doubtful(found, 29, 0.4, 30)
    assert not is_doubtful(Agreement(0.3, 0.1, 0.41), 30, 0.4, 30)
    assert not is_doubtful(Agreement(0.3, None, None), 30, 0.4, 30)


def test_answers_add_up():
    added = Tally((Cell(0, 0, 2),), 1, 1, 1, 0) + Tally((Cell(0, 0, 3),), 1, 0, 2, 1)
    assert (added.answers, added.acceptable, added.wrongly_rejected, added.unacceptable) == (5, 2, 1, 3)
