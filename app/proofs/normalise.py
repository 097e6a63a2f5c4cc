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


def normalise(totals: Mapping[int, Fraction]) -> list[Weight]:
    """Turn {uid: total}, none negative, into weights in the order of uids.

    The u16 weights are apportioned by largest remainder. In a tie the lower uid gets the unit. All numbers
    are exact until the last division: the same totals in any order give the same weights, bit by bit. Totals
    of 0 and shares too small for a float are left out. If no total is above 0, there are no weights.
    """
    scale = lcm(*(total.denominator for total in totals.values()))
    shares = {uid: int(totals[uid] * scale) for uid in sorted(totals) if totals[uid] > 0}
    whole = sum(shares.values())
    units = {uid: share * U16_MAX // whole for uid, share in shares.items()}
    by_remainder = sorted(shares, key=lambda uid: (-(shares[uid] * U16_MAX % whole), uid))
    for uid in by_remainder[: U16_MAX - sum(units.values())]:
        units[uid] += 1
    return [Weight(uid, share / whole, units[uid]) for uid, share in shares.items() if share / whole > 0]
