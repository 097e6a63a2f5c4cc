"""How much of a video is damaged, by what ffmpeg's log says, and which parts of it show nothing certain.

The log is in the words of 5.1 and of 9.
"""

import math
from bisect import bisect_right
from collections.abc import Iterable, Sequence

# one a picture, but not for every codec and every version
_PICTURES = ("corrupt decoded frame", " MV errors in ")
_PACKETS = ("Error submitting packet to decoder", "Decoding error", "Error while decoding stream")
# a picture of HEVC whose references are gone is not shown; 9 does not report its packet as well
_LOST = "Error constructing the frame RPS"
# a packet of which nothing is to be shown: parameters, or the end of a picture
_NO_PICTURE = "no frame!"


def damaged(log: str, pictures: int, uncovered: float = 0.0) -> float:
    """Return the share of a video's `pictures` that do not decode, or not cleanly.

    `uncovered` is the share of its time, at its end, for which nothing was decoded. A packet that gave no
    picture does not count: it may be a second field, a frame that is never shown, or hold parameters.
    """
    unclean = max(log.count(sign) for sign in _PICTURES)
    packets = sum(log.count(sign) for sign in _PACKETS) - log.count(_NO_PICTURE)
    failed = max(packets, log.count(_LOST))
    return min(1.0, (unclean + failed) / pictures + max(uncovered, 0.0))


def undefined(differ: Iterable[float], keyframes: Sequence[float]) -> list[tuple[float, float]]:
    """Return the spans to leave out, in order, by the times of frames that two runs decode differently.

    Each goes on to the next keyframe, since the frames up to there are made of the ones before; the last one
    may have no end.
    """
    spans: list[tuple[float, float]] = []
    for first in sorted(differ):
        if not spans or first >= spans[-1][1]:
            later = bisect_right(keyframes, first)
            spans.append((first, keyframes[later] if later < len(keyframes) else math.inf))
    return spans
