"""How much of a video is damaged, by what ffmpeg's log says, and which parts of it show nothing certain.

The log is in the words of 5.1 and of 9.
"""

import math
import re
from bisect import bisect_right
from collections.abc import Iterable, Sequence
from pathlib import Path

from app.errors import TransientError
from app.video.ffmpeg import INPUT_OPTIONS, MediaFault, ResourceLimits, start
from app.video.probe import Probe

# one a picture, but not for every codec and every version
_PICTURES = ("corrupt decoded frame", " MV errors in ")
_PACKETS = ("Error submitting packet to decoder", "Decoding error", "Error while decoding stream")
# a picture of HEVC whose references are gone is not shown; 9 does not report its packet as well
_LOST = "Error constructing the frame RPS"
# a packet of which nothing is to be shown: parameters, or the end of a picture
_NO_PICTURE = "no frame!"
# to find where the damage begins
LIMITS = ResourceLimits(cpu_seconds=30, wall_seconds=40)
# times of one frame by packets and by decoding differ by less
ROUNDING = 0.001


class _Came(Exception):
    """The search is over: there is no need to decode on."""

    def __init__(self, at: float):
        super().__init__()
        self.at = at


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


def begins(path: Path, probe: Probe, limits: ResourceLimits = LIMITS) -> float | None:
    """Return the second of the first frame that comes with an error, or of HEVC is not shown.

    None if ffprobe tells of none in the time, or does not decode the codec, as that of the wheel AV1. It
    decodes with one thread, so it finds the same each time, and no further than it must.
    """
    wanted = ["-threads", "1", "-select_streams", str(probe.stream), "-show_log", "16", "-of", "csv"]
    wanted += ["-show_entries", "frame=best_effort_timestamp_time:log=level"]
    due = iter(probe.times if probe.codec == "hevc" else ())
    try:
        with start("ffprobe", [*INPUT_OPTIONS, *wanted, f"file:{path}"], limits, reads=path) as running:
            for line in running.stdout:
                if frame := re.match(rb"frame,([-\d.]+)(,log)?", line):
                    time = float(frame[1]) - probe.start
                    missing = next(due, time)
                    if frame[2] or missing < time - ROUNDING:
                        raise _Came(min(missing, time))
    except _Came as came:
        return came.at
    except (MediaFault, TransientError):
        return None
    return next(due, None)
