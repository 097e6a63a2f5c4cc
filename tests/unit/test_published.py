from datetime import UTC, datetime, timedelta

import pytest
from pydantic import ValidationError

from app.clients.published import Published, find_fault, find_unknown_uids, list_replaced_uids

NOW = datetime(2026, 1, 15, 10, tzinfo=UTC)
HOUR = timedelta(hours=1)


def answer(**changes):
    return {
        "cycle_id": 7,
        "block_number": 1000,
        "created_at": "2026-01-15T09:30:00Z",
        "weights": {"3": 0.75, "8": 0.25},
        "weights_u16": {"uids": [3, 8], "weights": [49151, 16384]},
    } | changes


def fault(**changes):
    return find_fault(Published.model_validate(answer(**changes)), NOW, HOUR)


def test_sound_weights_have_no_fault():
    assert fault() is None


def test_share_below_a_unit_may_be_missing_from_the_units():
    small = 1 / 200_000
    weights = {"3": 1 - small, "8": small}
    assert fault(weights=weights, weights_u16={"uids": [3], "weights": [65535]}) is None


@pytest.mark.parametrize(
    ("changes", "sentence"),
    [
        ({"created_at": "2026-01-15T08:59:59Z"}, "too old"),
        ({"created_at": "2026-01-15T10:06:00Z"}, "from the future"),
        ({"weights": {}}, "not all positive"),
        ({"weights": {"3": 1.25, "8": -0.25}}, "not all positive"),
        ({"weights": {"3": float("nan"), "8": 0.25}}, "not all positive"),
        ({"weights": {"3": 0.75, "8": 0.2500001}}, "sum to 1.0000001"),
        ({"weights_u16": {"uids": [3, 8], "weights": [49151, 16383]}}, "sum to 65534"),
        ({"weights_u16": {"uids": [3, 8], "weights": [65535]}}, "differ in number"),
        ({"weights_u16": {"uids": [3, 3], "weights": [49151, 16384]}}, "a uid twice"),
        ({"weights_u16": {"uids": [8, 3], "weights": [49151, 16384]}}, "differ"),
        ({"weights_u16": {"uids": [3, 9], "weights": [49151, 16384]}}, "differ"),
    ],
)
def test_fault_is_told(changes, sentence):
    assert sentence in fault(**changes)


@pytest.mark.parametrize(
    "changes",
    [
        {"cycle_id": 0},
        {"created_at": "2026-01-15T09:30:00"},
        {"weights": {"-1": 1.0}},
        {"weights": {"65536": 1.0}},
        {"weights": [1.0]},
        {"weights_u16": {"uids": [3], "weights": [65536]}},
        {"weights_u16": None},
    ],
)
def test_malformed_answer_is_refused(changes):
    with pytest.raises(ValidationError) as refused:
        Published.model_validate(answer(**changes))
    assert [error["loc"][0] for error in refused.value.errors()] == list(changes)


def test_replaced_uids_are_those_of_another_hotkey_by_now():
    published = Published.model_validate(answer(hotkeys={"3": "five", "8": "six"}))
    assert list_replaced_uids(published, {3: "five", 8: "six"}) == []
    assert list_replaced_uids(published, {3: "five", 8: "seven"}) == [8]
    assert list_replaced_uids(Published.model_validate(answer()), {3: "any", 8: "other"}) == []


def test_unknown_uids_are_named():
    published = Published.model_validate(answer())
    assert find_unknown_uids(published, {3, 8, 9}) is None
    assert find_unknown_uids(published, {3, 9}) == (
        "The weights name uids that the subnet does not have: [8]."
    )
