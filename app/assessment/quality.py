"""The quality score: 1, minus a deduction for each fault that was measured. Pure rules."""

from collections.abc import Mapping

from app.assessment.report import Deduction
from app.video.measures import Faults, Found

# A video is rejected if this share of it stands still or is black: it is a picture, not a video.
STILL_SHARE = 0.95
# It is also rejected if this share is in shots too short to follow, or has too little detail to be
# recognised.
BRIEF_SHARE = 0.3
UNKNOWABLE_SHARE = 0.5
# Painted-over writing may take this share of what the judge sees. More hides what is done.
WRITTEN_SHARE = 0.35

# name, permitted share of the video, factor for the share above it, what to tell the miner, the remedy
_RULES = (
    ("black", 0.02, 1.0, "is black", "Cut that off, or film with light"),
    # waiting is a part of many tasks
    ("frozen", 0.65, 2.0, "shows nothing that moves", "Film the action itself, and cut long waits short"),
    ("repeated", 0.1, 1.0, "shows what it showed before", "Show everything once"),
    ("brief_shots", 0.02, 1.5, "is in shots of under 1 s", "Film in one take, without inserted frames"),
    ("blurred", 0.25, 0.9, "is blurred", "Clean the lens and set the focus"),
    ("badly_exposed", 0.1, 0.15, "is too dark or burnt out", "Change the light or the exposure"),
    ("drawn", 0.1, 0.7, "is drawn, or moves like a picture that is laid over another", "Film with a camera"),
    ("unhashable", 0.1, 1.0, "has too little contrast or detail", "Film with more light and contrast"),
    ("damaged", 0.0, 1.0, "is damaged", "Record or encode it again"),
)


def deductions(faults: Faults) -> list[Deduction]:
    """Return all deductions, those of 0 points included."""
    found: dict[str, Found] = vars(faults)
    return [
        Deduction(
            name=name,
            value=round(found[name].share, 4),
            threshold=threshold,
            factor=factor,
            points=round(factor * max(found[name].share - threshold, 0.0), 4),
            reason=_reason(found[name], what, threshold, remedy),
        )
        for name, threshold, factor, what, remedy in _RULES
    ]


def _reason(found: Found, what: str, threshold: float, remedy: str) -> str:
    told = f"{found.share:.0%} of the video {what}{found.onset}; {threshold:.0%} is allowed."
    return f"{told} {remedy}." if found.share > threshold else told


def written(covered: Mapping[float, float]) -> Deduction:
    """Return what writing costs: nothing up to WRITTEN_SHARE, above it the whole share that it takes.

    `covered` has the share of each still, by its seconds, that was painted over.
    """
    share = sum(covered.values()) / len(covered)
    told = f"{share:.0%} of what the judge sees is writing, which was painted over"
    if too_much := share > WRITTEN_SHARE:
        at = ", ".join(f"{seconds:.1f}" for seconds, part in covered.items() if part > WRITTEN_SHARE)
        told += f", most of it at {at} s" if at else ""
    told += f"; {WRITTEN_SHARE:.0%} is allowed."
    return Deduction(
        name="written",
        value=round(share, 4),
        threshold=WRITTEN_SHARE,
        factor=1.0,
        points=round(share, 4) if too_much else 0.0,
        reason=f"{told} Film without captions, and without screens or papers that fill the picture."
        if too_much
        else told,
    )


def score(found: list[Deduction]) -> float:
    return max(0.0, 1.0 - sum(deduction.points for deduction in found))


def rejection(faults: Faults) -> str | None:
    """Return why this video cannot be used, or None if it can."""
    unknowable = Found(faults.black.share + faults.unhashable.share, faults.unhashable.at)
    for found, limit, what, remedy in (
        (faults.black, STILL_SHARE, "It is black throughout", "Film with light"),
        # Before what is still: of shots this short, chance decides which moments are looked at, and whether
        # they move.
        (
            faults.brief_shots,
            BRIEF_SHARE,
            "It flickers: other pictures are put in, or its shots are under 1 s long",
            "Film in one take",
        ),
        (
            faults.frozen,
            STILL_SHARE,
            "It shows a still picture, or nothing in it moves of itself",
            "Film the action itself, with a camera",
        ),
        (
            unknowable,
            UNKNOWABLE_SHARE,
            "It has too little contrast or detail to be told from other videos",
            "Film with more light and contrast",
        ),
    ):
        if found.share >= limit:
            return f"{what} ({found.share:.0%} of it{found.onset}; under {limit:.0%} is accepted). {remedy}."
    return None
