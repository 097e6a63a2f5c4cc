"""Answers that are computed once for all callers."""

import time
from collections import OrderedDict
from collections.abc import Callable, Hashable, Sized
from dataclasses import dataclass
from threading import Condition
from typing import Any, TypeVar

MAX_BYTES = 64 * 1024 * 1024
# what an answer takes besides its bytes, about
_OVERHEAD_BYTES = 500

Answer = TypeVar("Answer", bound=Sized)


@dataclass(frozen=True)
class _Kept:
    answer: Any
    fresh_until: float


class Kept:
    """Keeps answers for some seconds, up to MAX_BYTES of them in a process.

    While one caller computes an answer anew, the others get the old one. If there is none yet, they wait.
    """

    def __init__(self) -> None:
        self._answers: OrderedDict[Hashable, _Kept] = OrderedDict()
        self._under_way: set[Hashable] = set()
        self._changed = Condition()

    def get(self, key: Hashable, seconds: float, work_out: Callable[[], Answer]) -> Answer:
        """Return the answer for `key`. It is at most `seconds` old, unless it is being computed just now."""
        with self._changed:
            while key in self._under_way and key not in self._answers:
                self._changed.wait()
            kept = self._answers.get(key)
            if kept and (key in self._under_way or time.monotonic() < kept.fresh_until):
                self._answers.move_to_end(key)
                return kept.answer
            self._under_way.add(key)
        try:
            answer = work_out()
            with self._changed:
                self._answers[key] = _Kept(answer, time.monotonic() + seconds)
                self._answers.move_to_end(key)
                while sum(len(each.answer) + _OVERHEAD_BYTES for each in self._answers.values()) > MAX_BYTES:
                    self._answers.popitem(last=False)
            return answer
        finally:
            with self._changed:
                self._under_way.discard(key)
                self._changed.notify_all()

    def forget(self, group: str) -> None:
        """Let the next caller get new answers, for all keys that begin with `group`."""
        with self._changed:
            for key in [key for key in self._answers if isinstance(key, tuple) and key[0] == group]:
                del self._answers[key]
