"""Which moments of a video are looked at, and which of them the judge sees. Pure rules.

The times follow only from the video's length and a seed that its maker cannot know. Anybody who has the
report can compute them again.
"""

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass

from app.video.probe import Probe

# moments a second; fewer in videos of more than MOST in all, more in those of fewer than LEAST
RATE = 8
LEAST_MOMENTS = 48
MOST_MOMENTS = 2400
# Pictures that are kept in the judge's size, spread over the video without the margins: this share of its
# length at either end. The judge is shown some of them.
CANDIDATES = 32
MARGIN = 0.05
# a still this near to the peak of motion, in seconds, shows it
PEAK_DISTANCE = 0.3


def moments(probe: Probe, seed: str) -> list[float]:
    """Return the seconds that are looked at: one in each of equal slices of the video.

    Slice k of n begins at k / rate seconds, where rate is 8 a second, but at least 48 and at most 2400 in
    all, and at most one a frame. Its moment lies u / rate later, where u is the first eight bytes of the
    SHA-256 of "{seed}:{k}", as a big-endian number divided by 2 ** 64. At each moment the frame counts that a
    player shows then: the last one that begins no later.
    """
    duration = max(probe.duration, 0.001)
    rate = min(max(RATE, LEAST_MOMENTS / duration), MOST_MOMENTS / duration, max(probe.fps, 1 / duration))
    found = [(number + _chance(seed, number)) / rate for number in range(max(1, round(duration * rate)))]
    return [time for time in found if time < duration] or [0.0]


def _chance(seed: str, number: int) -> float:
    return int.from_bytes(hashlib.sha256(f"{seed}:{number}".encode()).digest()[:8]) / 2**64


def candidates(seconds: Sequence[float], duration: float) -> list[int]:
    """Return which of the moments, by index, are kept in the judge's size."""
    inner = [
        index for index, time in enumerate(seconds) if MARGIN * duration <= time <= (1 - MARGIN) * duration
    ] or list(range(len(seconds)))
    count = min(CANDIDATES, len(inner))
    return [inner[(2 * number + 1) * len(inner) // (2 * count)] for number in range(count)]


@dataclass(frozen=True)
class Candidate:
    """A picture that the judge may be shown: its second, how much moves in it, and whether it belongs to its
    neighbours in time."""

    seconds: float
    motion: float
    belongs: bool


def choose(found: Sequence[Candidate], count: int) -> list[int]:
    """Choose `count` stills, by index, uniform over the candidates, plus the one in which most moves.

    A picture that does not belong to its neighbours is never shown: it may have been put in for the judge.
    """
    eligible = [index for index, candidate in enumerate(found) if candidate.belongs]
    if not eligible:
        return []
    chosen: list[int] = []
    for number in range(min(count, len(eligible))):
        middle = (2 * number + 1) * (len(found) - 1) / (2 * count)
        chosen.append(min(set(eligible) - set(chosen), key=lambda index: (abs(index - middle), index)))
    peak = max(eligible, key=lambda index: found[index].motion)
    if all(abs(found[index].seconds - found[peak].seconds) >= PEAK_DISTANCE for index in chosen):
        chosen.append(peak)
    return sorted(chosen)
