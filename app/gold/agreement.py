"""How well a judge agrees with people: pure rules over counted answers.

People's relevance and the judge's are compared in LEVELS levels. The measure is Cohen's kappa with quadratic
weights: 1 is full agreement, 0 is what chance would give. Its interval comes from a bootstrap with a fixed
seed, so the same answers always give the same interval.
"""

from dataclasses import dataclass

# 0, a quarter, a half, three quarters, 1
LEVELS = 5
RESAMPLES = 1000
SEED = 20260114
# kappa of a sample with people's scores all on one level says nothing; where more samples than this share
# are so, the interval says nothing either
MOST_UNDEFINED = 0.5


@dataclass(frozen=True)
class Cell:
    """How often people gave the level `human` and the judge gave the level `judged`."""

    human: int
    judged: int
    count: int


@dataclass(frozen=True)
class Tally:
    """Answers by level, and by what people accept: `wrong` ones are those in which the verdict differs."""

    cells: tuple[Cell, ...]
    acceptable: int
    wrongly_rejected: int
    unacceptable: int
    wrongly_accepted: int

    @property
    def answers(self) -> int:
        return sum(cell.count for cell in self.cells)

    def __add__(self, other: "Tally") -> "Tally":
        return Tally(
            self.cells + other.cells,
            self.acceptable + other.acceptable,
            self.wrongly_rejected + other.wrongly_rejected,
            self.unacceptable + other.unacceptable,
            self.wrongly_accepted + other.wrongly_accepted,
        )


NOTHING = Tally((), 0, 0, 0, 0)


@dataclass(frozen=True)
class Agreement:
    """Kappa with its interval of 95 %. All three are None if they are not defined.

    That is so while people's scores are all on one level: nothing was there to tell apart.
    """

    kappa: float | None
    low: float | None
    high: float | None


def measure(tally: Tally) -> Agreement:
    """Return the agreement of all answers of `tally`."""
    # numpy takes 11 MB, and most processes never come here
    import numpy as np

    if len({cell.human for cell in tally.cells if cell.count}) < 2:
        return Agreement(None, None, None)
    human = np.array([cell.human for cell in tally.cells], dtype=float)
    judged = np.array([cell.judged for cell in tally.cells], dtype=float)
    counts = np.array([cell.count for cell in tally.cells], dtype=float)
    total = counts.sum()
    # each row is one sample: the share of each cell
    drawn = np.random.default_rng(SEED).multinomial(int(total), counts / total, RESAMPLES)
    shares = np.vstack([counts, drawn]) / total
    mean_human, mean_judged = shares @ human, shares @ judged
    observed = shares @ (human - judged) ** 2
    expected = shares @ human**2 + shares @ judged**2 - 2 * mean_human * mean_judged
    spread = shares @ human**2 - mean_human**2
    is_defined = spread > 1e-12
    kappas = 1 - observed[is_defined] / expected[is_defined]
    if is_defined[1:].mean() < 1 - MOST_UNDEFINED:
        return Agreement(round(float(kappas[0]), 4), None, None)
    low, high = np.percentile(kappas[1:], [2.5, 97.5])
    return Agreement(*(round(float(value), 4) for value in (kappas[0], low, high)))


def is_doubtful(agreement: Agreement, answers: int, min_kappa: float, least_answers: int) -> bool:
    """Whether answers show that a judge is not sound: even the upper end of the interval is too low.

    Few answers never show it, nor do answers without a kappa.
    """
    return answers >= least_answers and agreement.high is not None and agreement.high < min_kappa


def describe(tally: Tally, agreement: Agreement) -> str:
    """Say how well answers agree with people's."""
    if agreement.kappa is None:
        return f"{tally.answers} answers; people gave all films the same score, so kappa is not defined"
    interval = (
        "" if agreement.low is None else f" (95 % interval {agreement.low:.2f} to {agreement.high:.2f})"
    )
    return f"kappa {agreement.kappa:.2f}{interval} over {tally.answers} answers"
