"""Where a video jumps to another picture, and what of it is too short to be a shot. Pure, over numpy arrays.

Every decoded frame counts here, as a row of the few grey pixels of its thumbnail: a single foreign frame is
found.
"""

from dataclasses import dataclass
from itertools import pairwise

import numpy as np
from numpy.typing import NDArray

from app.video.measures import Found

Thumbnails = NDArray[np.uint8]

# A step to the next frame can be a jump if the thumbnail changes by this much of its own contrast. It is one
# if the steps beside it are so many times smaller; if the picture is back soon after, as the way there shows
# that is so much shorter than the step; or if it changes by so much that no camera moves that fast.
JUMP = 0.35
CALM = 2.5
BACK = 0.5
JUMP_ANYWAY = 1.0
# a frame that changes by less repeats the one before; so often it may be repeated
REPEATED = 0.02
REPEATS = 5
# so many usual frames' time counts at the most of what passes between two frames
LONGEST_WAIT = 6
# Frames that a picture may be away: the shot goes on when it is back.
AWAY_FRAMES = 5
# frames that are compared at once
BATCH = 256
# grey levels that count as contrast in the plainest picture
LEAST_CONTRAST = 6.0
# Shots shorter than this, in seconds, are no shots. The film cuts the first and the last short.
BRIEF_SECONDS = 1.0
BRIEF_AT_EDGE_SECONDS = 0.25
# a frame may be shown this much before its time, in seconds, by how times are rounded
ROUNDING = 0.001


@dataclass(frozen=True)
class Shots:
    """The times at which new shots begin, and the spans (start, end) of what is too brief to be one."""

    starts: tuple[float, ...]
    brief: tuple[tuple[float, float], ...]

    def is_brief(self, seconds: float) -> bool:
        return any(start - ROUNDING <= seconds < end for start, end in self.brief)

    def brief_shots(self, duration: float) -> Found:
        """Return how much of a video is too brief to be a shot."""
        share = sum(end - start for start, end in self.brief) / duration if duration > 0 else 0.0
        return Found(min(share, 1.0), self.brief[0][0] if self.brief else None, self.brief)


def find(thumbnails: Thumbnails, seconds: NDArray[np.float64], duration: float) -> Shots:
    """Split a video, given by all its frames and their times, into shots."""
    ways = _Ways(thumbnails, seconds)
    starts, brief = [0.0], []
    # where the picture came last
    came, index = 0, 1
    while index < len(seconds):
        # of two pictures that take turns, the one that stays for longer is the shot
        if away := ways.frames_away(index, min(AWAY_FRAMES, index - came)):
            brief.append((float(seconds[index]), float(seconds[index + away])))
            came = index = index + away
        elif ways.jumps(index):
            starts.append(float(seconds[index]))
            came = index
        index += 1
    # without a jump there is one shot, however short the video
    for start, end in pairwise([*starts, duration]) if len(starts) > 1 else ():
        is_at_edge = start == 0.0 or end == duration
        if end - start < (BRIEF_AT_EDGE_SECONDS if is_at_edge else BRIEF_SECONDS):
            brief.append((start, end))
    return Shots(tuple(starts[1:]), tuple(_joined(brief)))


def _joined(spans: list[tuple[float, float]]) -> list[tuple[float, float]]:
    """Return the spans in order, those that overlap or touch as one."""
    joined: list[tuple[float, float]] = []
    for start, end in sorted(spans):
        if joined and start <= joined[-1][1]:
            joined[-1] = (joined[-1][0], max(end, joined[-1][1]))
        else:
            joined.append((start, end))
    return joined


class _Ways:
    """How far frames are from each other, in parts of the larger contrast of both."""

    def __init__(self, thumbnails: Thumbnails, seconds: NDArray[np.float64]):
        self._thumbnails = thumbnails
        self._contrast = np.empty(len(thumbnails), np.float32)
        # the step to each frame from the one before; none to the first, and none behind the last
        self._steps = np.zeros(len(thumbnails) + 1, np.float32)
        # some at once: a video may have hundreds of thousands of frames
        for first in range(0, len(thumbnails), BATCH):
            frames = self._levels(slice(max(0, first - 1), first + BATCH))
            after_one_before = min(first, 1)
            past = first + len(frames) - after_one_before
            contrast = np.maximum(np.abs(frames).mean(axis=1), LEAST_CONTRAST)
            self._contrast[first:past] = contrast[after_one_before:]
            changes = np.diff(frames, axis=0)
            np.abs(changes, out=changes)
            steps = changes.mean(axis=1) / np.maximum(contrast[1:], contrast[:-1])
            self._steps[past - len(steps) : past] = steps
        # For how many usual frames the picture before each step was shown: a camera moves on meanwhile.
        changed = np.flatnonzero(self._steps > REPEATED)
        since = np.concatenate([seconds[:1], seconds[changed]])
        waits = np.diff(since)
        self._waits = np.ones(len(self._steps), np.float32)
        if len(waits):
            self._waits[changed] = np.clip(waits / max(float(np.median(waits)), 1e-3), 1, LONGEST_WAIT)

    def _levels(self, some: slice) -> NDArray[np.float32]:
        """Return frames, each without its mean: lamps that flicker make no other picture."""
        frames = self._thumbnails[some].astype(np.float32)
        frames -= frames.mean(axis=1, keepdims=True)
        return frames

    def _between(self, one: int, other: int) -> float:
        before, after = (self._levels(slice(index, index + 1)) for index in (one, other))
        change = np.abs(before - after).mean()
        return float(change / max(self._contrast[one], self._contrast[other]))

    def jumps(self, index: int) -> bool:
        """Whether the frame is of another shot than the one before."""
        step = self._steps[index]
        if step < JUMP:
            return False
        beside = max(self._nearest(index, -1), self._nearest(index, 1))
        return bool(step >= min(JUMP_ANYWAY, CALM * beside) * self._waits[index])

    def _nearest(self, index: int, direction: int) -> float:
        """Return the step beside, in a usual frame's time, past frames that repeat the one before."""
        for away in range(1, REPEATS + 1):
            beside = index + away * direction
            if not 0 <= beside < len(self._steps):
                break
            if self._steps[beside] > REPEATED:
                return float(self._steps[beside] / self._waits[beside])
        return 0.0

    def frames_away(self, index: int, most: int) -> int:
        """For how many frames, up to `most`, another picture stands in the shot from this one on; or 0."""
        step = self._steps[index]
        if step >= JUMP:
            for away in range(1, most + 1):
                back = index + away
                if back == len(self._thumbnails):
                    break
                if self._steps[back] >= JUMP and self._between(index - 1, back) <= BACK * min(
                    step, self._steps[back]
                ):
                    return away
        return 0
