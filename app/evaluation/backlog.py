"""How much work is open, as remote evaluators are told with each fetch."""

import time

from app.evaluation import queries
from app.evaluation.queries import OpenCounts

# Counting a million rows for an evaluator that polls every few seconds would cost more than its work.
COUNT_AT_MOST = 1000
# Where so many wait, they are counted no more often than this: it costs half as much as the claims.
SECONDS = 1.0


class Backlog:
    """Counts open submissions, each status up to COUNT_AT_MOST. Threads share it.

    The counts are of this moment unless COUNT_AT_MOST are pending: then they may be a second old.
    """

    def __init__(self) -> None:
        self._counts = OpenCounts(0, 0)
        self._good_until = 0.0

    def count(self) -> OpenCounts:
        if time.monotonic() < self._good_until:
            return self._counts
        counts = queries.count_open(COUNT_AT_MOST)
        if counts.pending == COUNT_AT_MOST:
            self._counts, self._good_until = counts, time.monotonic() + SECONDS
        return counts
