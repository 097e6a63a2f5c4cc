"""What corrections of completed cycles change in the scores of a later one: a pure rule."""

from collections.abc import Iterable, Mapping
from dataclasses import replace
from decimal import Decimal

from app.weights.models import MinerScore, SettledScore


def points(total: float) -> Decimal:
    """The exact decimal number of a total, not the binary number nearest to it.

    So 0.1 + 0.2 equals 0.3, as it does on paper.
    """
    return Decimal(repr(total))


def settle(
    scores: Iterable[MinerScore], due: Mapping[tuple[int, str], Decimal]
) -> dict[tuple[int, str], SettledScore]:
    """Return the scores by uid and hotkey, each adjusted by what is `due`. A negative amount is taken away.

    No total falls below 0: the rest of the amount remains due. A hotkey that earned nothing in this cycle
    gets a row of its own for what it is to get.
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
