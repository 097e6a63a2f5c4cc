"""From miners' totals to weights: shares that sum to 1, and to exactly 65535 as the chain wants them."""

from collections.abc import Mapping
from dataclasses import dataclass
from fractions import Fraction
from math import lcm

U16_MAX = 65535


@dataclass(frozen=True)
class Weight:
    """A uid's share of a cycle: as a float in (0, 1], and in units of 1/65535 (0 if it rounds to that)."""

    uid: int
    weight: float
    weight_u16: int


def normalise(totals: Mapping[int, float | Fraction]) -> list[Weight]:
    """Turn {uid: total} into weights in the order of uids; without a total above 0 there are none.

    The u16 weights are apportioned by largest remainder, ties going to the lower uid, in exact
    arithmetic: the same totals give the same weights, bit by bit, whatever order they come in. Totals of
    0 and shares too small for a float are left out. Raises ValueError for a total that is negative or not
    finite.
    """
    shares = _integers({uid: totals[uid] for uid in sorted(totals)})
    whole = sum(shares.values())
    floors = {uid: share * U16_MAX // whole for uid, share in shares.items()}
    by_remainder = sorted(shares, key=lambda uid: (-(shares[uid] * U16_MAX % whole), uid))
    rounded_up = set(by_remainder[: U16_MAX - sum(floors.values())]) if shares else set()
    return [
        Weight(uid, share / whole, floors[uid] + (uid in rounded_up))
        for uid, share in shares.items()
        if share / whole > 0
    ]


def _integers(totals: dict[int, float | Fraction]) -> dict[int, int]:
    """Scale the totals above 0 to integers of the same ratios."""
    fractions = {}
    for uid, total in totals.items():
        try:
            fractions[uid] = Fraction(total)
        except (ValueError, OverflowError) as error:
            raise ValueError(f"the total of uid {uid} is {total}") from error
        if fractions[uid] < 0:
            raise ValueError(f"the total of uid {uid} is {total}")
    scale = lcm(*(fraction.denominator for fraction in fractions.values()))
    return {uid: int(fraction * scale) for uid, fraction in fractions.items() if fraction > 0}
