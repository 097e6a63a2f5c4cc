"""Answers that are computed once for all callers."""

import time
from collections import OrderedDict
from collections.abc import Callable, Hashable
from dataclasses import dataclass
from threading import Condition

MAX_BYTES = 64 * 1024 * 1024


@dataclass(frozen=True)
class _Kept:
    body: bytes
    fresh_until: float


class Kept:
    """Keeps large answers for some seconds, up to MAX_BYTES of them in a process.

    While one caller computes an answer anew, the others get the old one. If there is none yet, they wait.
    """

    def __init__(self) -> None:
        self._answers: OrderedDict[Hashable, _Kept] = OrderedDict()
        self._under_way: set[Hashable] = set()
        self._changed = Condition()

    def get(self, key: Hashable, seconds: float, work_out: Callable[[], bytes]) -> bytes:
        """Return the answer for `key`. It is at most `seconds` old, unless it is being computed just now."""
        with self._changed:
            while key in self._under_way and key not in self._answers:
                self._changed.wait()
            kept = self._answers.get(key)
            if kept and (key in self._under_way or time.monotonic() < kept.fresh_until):
                self._answers.move_to_end(key)
                return kept.body
            self._under_way.add(key)
        try:
            body = work_out()
            with self._changed:
                self._answers[key] = _Kept(body, time.monotonic() + seconds)
                self._answers.move_to_end(key)
                while sum(len(answer.body) for answer in self._answers.values()) > MAX_BYTES:
                    self._answers.popitem(last=False)
            return body
        finally:
            with self._changed:
                self._under_way.discard(key)
                self._changed.notify_all()
