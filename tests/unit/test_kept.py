"""Answers that are computed once for all callers."""

import threading
from concurrent.futures import ThreadPoolExecutor

import pytest

from app.web import kept
from app.web.kept import Kept


def test_an_answer_is_worked_out_once_while_it_is_fresh():
    answers = iter([b"1", b"2"])
    shared = Kept()
    assert [shared.get("key", 60, lambda: next(answers)) for _ in range(3)] == [b"1"] * 3
    assert shared.get("other", 60, lambda: next(answers)) == b"2"


def test_it_is_worked_out_again_once_it_is_old():
    answers = iter([b"1", b"2"])
    shared = Kept()
    assert [shared.get("key", 0, lambda: next(answers)) for _ in range(2)] == [b"1", b"2"]


def test_a_crowd_waits_for_one_of_them():
    shared, begun, may_end, calls = Kept(), threading.Event(), threading.Event(), []

    def work_out():
        calls.append(1)
        begun.set()
        assert may_end.wait(30)
        return b"1"

    with ThreadPoolExecutor(8) as pool:
        futures = [pool.submit(shared.get, "key", 60, work_out) for _ in range(8)]
        assert begun.wait(30)
        may_end.set()
        assert [future.result(30) for future in futures] == [b"1"] * 8
    assert len(calls) == 1


def test_the_old_answer_is_given_while_a_new_one_is_worked_out():
    shared, begun, may_end = Kept(), threading.Event(), threading.Event()
    shared.get("key", 0, lambda: b"old")

    def work_out():
        begun.set()
        assert may_end.wait(30)
        return b"new"

    with ThreadPoolExecutor(1) as pool:
        future = pool.submit(shared.get, "key", 60, work_out)
        assert begun.wait(30)
        assert shared.get("key", 60, lambda: b"never") == b"old"
        may_end.set()
        assert future.result(30) == b"new"
    assert shared.get("key", 60, lambda: b"never") == b"new"


def test_who_fails_leaves_it_to_the_next():
    shared = Kept()
    with pytest.raises(ZeroDivisionError):
        shared.get("key", 60, lambda: b"%d" % (1 // 0))
    assert shared.get("key", 60, lambda: b"1") == b"1"


def test_what_was_asked_for_longest_ago_makes_room():
    shared = Kept()
    large = b"x" * (kept.MAX_BYTES // 3 - 1000)
    for key in (1, 2, 3):
        shared.get(key, 60, lambda: large)
    shared.get(1, 60, lambda: b"")
    shared.get(4, 60, lambda: large)
    assert shared.get(1, 60, lambda: b"new") == large
    assert shared.get(2, 60, lambda: b"new") == b"new"


def test_a_group_is_forgotten():
    shared = Kept()
    for key in ("a", 1), ("a", 2), ("b", 1):
        shared.get(key, 60, lambda: b"old")
    shared.forget("a")
    assert [shared.get(key, 60, lambda: b"new") for key in (("a", 1), ("a", 2), ("b", 1))] == [
        b"new", b"new", b"old",
    ]  # fmt: skip
