"""How alike two scenarios are: a pure rule."""

import re
from collections.abc import Iterable

NEAR_REPEAT = 0.6
# words that two scenarios share whatever they are about
_FILLERS = frozenset(
    ["a", "an", "the", "of", "to", "from", "in", "on", "at", "by", "with", "and", "then", "it", "its", "one"]
)


def words(scenario: str) -> frozenset[str]:
    """The words of a scenario that tell what it is about, in lower case and without a plural's s."""
    found = re.findall(r"[^\W\d_]+", scenario.lower())
    return frozenset(word.removesuffix("s") for word in found if word not in _FILLERS)


def is_near_repeat(scenario: str, others: Iterable[str]) -> bool:
    """Whether `scenario` shares NEAR_REPEAT or more of its words with one of `others` (Jaccard index)."""
    mine = words(scenario)
    return any(len(mine & theirs) >= NEAR_REPEAT * len(mine | theirs) for theirs in map(words, others))
