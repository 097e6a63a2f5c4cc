"""When an appeal's evaluation disagrees with the result, and what counts if no person decides: pure rules.

A judge's scores are noisy. If a second evaluation counted wherever it is better, every appeal would pay,
since the better of two throws is better than one. So:

- if both agree, the first result stands to the last digit, also where the second is a little better;
- if they disagree, a person decides, and may decide against the miner;
- if no person decides in time, a better second result counts by half: nobody knows which of the two is right.
"""

from dataclasses import dataclass

from app.enums import SubmissionStatus

# Twice the deviation that we suppose a judge's score to have; docs/design.md reckons with it.
MAX_DISTANCE = 0.1


@dataclass(frozen=True)
class Result:
    """What a submission gets, by one evaluation or in effect."""

    status: str
    final_score: float


def disagree(standing: Result, new: Result) -> bool:
    """Whether one result accepts and the other rejects, or both accept with scores that lie far apart."""
    # the slack keeps 0.6 - 0.5 within 0.1 in binary, too
    return standing.status != new.status or abs(standing.final_score - new.final_score) > MAX_DISTANCE + 1e-9


def without_a_person(standing: Result, new: Result) -> Result:
    """The result if nobody decided between two that disagree. It is never worse than the one that stands."""
    if new.final_score <= standing.final_score:
        return standing
    return Result(SubmissionStatus.SCORED, round((standing.final_score + new.final_score) / 2, 4))
