import math
from fractions import Fraction

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from app.proofs.normalise import U16_MAX, Weight, normalise

# from equal shares and zeros to ratios of 600 orders of magnitude
TOTAL = st.one_of(
    st.sampled_from([0.0, 1.0, 0.1, 5e-324, 1e300]).map(Fraction),
    st.floats(min_value=0, max_value=1e300).map(Fraction),
    st.integers(0, 40_000).map(lambda points: Fraction(points, 10_000)),
)
TOTALS = st.dictionaries(st.integers(0, 65535), TOTAL, max_size=60)


def check(totals):
    weights = normalise(totals)
    positive = {uid: total for uid, total in totals.items() if total > 0}
    assert [w.uid for w in weights] == sorted(w.uid for w in weights)
    assert {w.uid for w in weights} <= set(positive)
    if not positive:
        assert weights == []
        return
    assert abs(sum(w.weight for w in weights) - 1) <= 1e-12
    assert sum(w.weight_u16 for w in weights) == U16_MAX
    whole = sum(positive.values())
    quotas = {uid: total / whole * U16_MAX for uid, total in positive.items()}
    given_up = {w.uid: w.weight_u16 for w in weights}
    for uid, quota in quotas.items():
        assert given_up.get(uid, 0) - math.floor(quota) in (0, 1)
    remainders = {uid: quota - math.floor(quota) for uid, quota in quotas.items()}
    rounded_up = [(-remainders[uid], uid) for uid in quotas if given_up.get(uid, 0) > math.floor(quotas[uid])]
    kept_down = [(-remainders[uid], uid) for uid in quotas if given_up.get(uid, 0) == math.floor(quotas[uid])]
    if rounded_up and kept_down:
        assert max(rounded_up) < min(kept_down)


@given(TOTALS)
def test_few_miners_of_any_totals(totals):
    check(totals)


@settings(max_examples=25)
@given(st.integers(1, 5000), st.randoms(use_true_random=False), st.sampled_from(["equal", "even", "extreme"]))
def test_many_miners(size, rng, kind):
    draw = {
        "equal": lambda: Fraction(7342, 10_000),
        "even": lambda: Fraction(rng.randint(0, 40_000), 10_000),
        "extreme": lambda: rng.choice([Fraction(0), Fraction(10) ** rng.randint(-300, 300)]),
    }[kind]
    check({uid: draw() for uid in range(size)})


@given(TOTALS, st.randoms(use_true_random=False))
def test_order_of_the_totals_does_not_matter(totals, rng):
    shuffled = list(totals.items())
    rng.shuffle(shuffled)
    assert repr(normalise(dict(shuffled))) == repr(normalise(totals))


def test_ties_go_to_the_lower_uid():
    # 65535 = 2 x 32767 + 1
    assert normalise({9: Fraction(1, 2), 4: Fraction(1, 2)}) == [Weight(4, 0.5, 32768), Weight(9, 0.5, 32767)]


def test_share_too_small_for_a_unit_keeps_its_float():
    weights = normalise({1: Fraction(1), 2: Fraction(1, 10**6)})
    assert [(w.uid, w.weight_u16) for w in weights] == [(1, 65535), (2, 0)]
    assert weights[1].weight == pytest.approx(1e-6)


def test_thirds_by_hand():
    # quotas 10922.5, 21845, 32767.5: one unit is left, and 1 and 3 tie for it
    assert [w.weight_u16 for w in normalise({1: Fraction(1), 2: Fraction(2), 3: Fraction(3)})] == [
        10923,
        21845,
        32767,
    ]


def test_share_too_small_for_a_float_is_left_out():
    assert normalise({1: Fraction(1), 2: Fraction(1, 10**400)}) == [Weight(1, 1.0, 65535)]
