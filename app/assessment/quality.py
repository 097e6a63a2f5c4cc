"""Quality: 1 less what was measured against the video. Pure rules."""

from app.assessment.report import Deduction
from app.video.measures import Measures

# A video of which this share stands still or is black is a picture, not a video: it is rejected.
STILL_SHARE = 0.95


# name, share of the video that is let pass, factor on what is above it, what to tell the miner
_RULES = (
    ("black", 0.02, 1.0, "black"),
    ("frozen", 0.1, 1.0, "a still picture"),
    ("blurred", 0.1, 0.7, "blurred"),
    ("badly_exposed", 0.1, 0.5, "too dark or burnt out"),
    ("damaged", 0.0, 1.0, "damaged"),
)


def deductions(measures: Measures, damaged: float) -> list[Deduction]:
    """Return all deductions, those of 0 points included. `damaged` is the share of damaged frames."""
    values = {**vars(measures), "damaged": damaged}
    return [
        Deduction(
            name=name,
            value=round(values[name], 4),
            threshold=threshold,
            factor=factor,
            points=round(factor * max(values[name] - threshold, 0.0), 4),
            reason=f"{values[name]:.0%} of the video is {noun}.",
        )
        for name, threshold, factor, noun in _RULES
    ]


def score(found: list[Deduction]) -> float:
    return max(0.0, 1.0 - sum(deduction.points for deduction in found))


def still(measures: Measures) -> str | None:
    """Return why this is not a video but a picture, or None if it is one."""
    if measures.black >= STILL_SHARE:
        return "it is black throughout."
    if measures.frozen >= STILL_SHARE:
        return "it shows one still picture throughout."
    return None
