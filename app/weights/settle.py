"""What corrections of completed cycles change in the scores of a later one: a pure rule."""

from collections.abc import Iterable, Mapping
from dataclasses import replace
from decimal import Decimal

from app.weights.models import MinerScore, SettledScore


def points(total: float) -> Decimal:
    """The decimal number that a total was aggregated to, not the binary one nearest to it.

    So 0.1 and 0.2 tie with 0.3 as they do on paper.
    """
    return Decimal(repr(total))


def settle(
    scores: Iterable[MinerScore], due: Mapping[tuple[int, str], Decimal]
) -> dict[tuple[int, str], SettledScore]:
    """Return the scores by uid and hotkey, each adjusted by what is `due` to it, or from it (then negative).

    No total falls below 0: what is left of a debt remains due. Who earned nothing gets a score of its own
    for what it is owed.
    """
    settled = {
        (score.miner_uid, score.miner_hotkey): SettledScore(**vars(score), adjustment=Decimal(0))
        for score in scores
    }
    for miner, amount in due.items():
        score = settled.get(miner) or SettledScore(*miner, 0, 0, 0.0, 0.0, {}, adjustment=Decimal(0))
        earned = points(score.total_score)
        adjustment = max(amount, -earned)
        if adjustment:
            settled[miner] = replace(score, total_score=float(earned + adjustment), adjustment=adjustment)
    return settled
