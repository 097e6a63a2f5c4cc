"""Which split the films of a miner are in."""

from collections import Counter

import pytest
from hypothesis import given
from hypothesis import strategies as st

from app.enums import Split
from app.releases.splits import assign, draw


def test_the_split_of_a_lone_miner_follows_from_his_hotkey():
    # these must never change: releases that are out have them
    assert [draw(f"hotkey-{number}") for number in (0, 1, 27, 4)] == [
        Split.TRAIN,
        Split.TRAIN,
        Split.VALIDATION,
        Split.TEST,
    ]


def test_the_shares_are_90_5_and_5():
    counts = Counter(draw(f"hotkey-{number}") for number in range(20_000))
    assert counts[Split.VALIDATION] == pytest.approx(1000, rel=0.1)
    assert counts[Split.TEST] == pytest.approx(1000, rel=0.1)


def test_miners_who_share_footage_have_the_split_of_the_first_of_them():
    drawn = {hotkey: draw(hotkey) for hotkey in map(str, range(200))}
    first = next(hotkey for hotkey, split in drawn.items() if split == Split.TEST)
    others = [hotkey for hotkey, split in drawn.items() if split == Split.TRAIN][:3]
    # a chain: the first of them shares nothing with the last
    links = list(zip(others, [*others[1:], first], strict=True))
    assert assign([first, *others], links, {}) == dict.fromkeys([first, *others], Split.TEST)


def test_a_new_miner_joins_the_group_that_was_first():
    assigned = {"old": Split.VALIDATION, "older": Split.TEST}
    assert assign(["new", "old", "older"], [("new", "older"), ("new", "old")], assigned) == {
        "new": Split.VALIDATION
    }


keys = st.integers(0, 12).map(str)


@given(
    st.lists(keys, unique=True),
    st.lists(st.tuples(keys, keys)),
    st.dictionaries(keys, st.sampled_from(Split)),
)
def test_what_is_assigned_stays_and_a_new_group_has_one_split(hotkeys, links, assigned):
    new = assign(hotkeys, links, assigned)
    assert set(new) == set(hotkeys) - set(assigned)
    for one, other in links:
        if one in new and other in new:
            assert new[one] == new[other]
    # links and their direction in another order change nothing
    assert assign(hotkeys, [(other, one) for one, other in reversed(links)], assigned) == new
