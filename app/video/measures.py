"""What can be measured on small grey frames: pure functions over numpy arrays.

A frame is an array of uint8, height x width, 0 black to 255 white.
"""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

GreyFrame = NDArray[np.uint8]

# a pixel this dark is black, this bright is burnt out
BLACK_LEVEL = 24
BURNT_LEVEL = 250
# share of such pixels that makes a frame black, or badly exposed
BLACK_SHARE = 0.98
BURNT_SHARE = 0.5
DIM_MEAN = 0.12
# blur of a frame: 0 sharp, 1 without any edge; sharp footage lies around 0.4
BLURRED = 0.72
# change of the most changed of 8 x 8 blocks, of 1, under which a frame equals the one before
FROZEN_CHANGE = 0.004
# mean change that makes a cut, if it also is so many times the usual one around it
CUT_CHANGE = 0.1
CUT_RATIO = 3.0

BLOCKS = 8


@dataclass(frozen=True)
class FrameMeasures:
    """Measures of one frame; shares and changes are of 1. `change` and `block_change` are against the frame
    before it: over the whole picture and in its most changed block, None for the first."""

    seconds: float
    mean: float
    black_share: float
    burnt_share: float
    blur: float
    change: float | None
    block_change: float | None

    @property
    def black(self) -> bool:
        return self.black_share >= BLACK_SHARE

    @property
    def badly_exposed(self) -> bool:
        return not self.black and (self.burnt_share >= BURNT_SHARE or self.mean < DIM_MEAN)

    @property
    def blurred(self) -> bool:
        return not self.black and self.blur >= BLURRED

    @property
    def frozen(self) -> bool:
        return self.block_change is not None and self.block_change < FROZEN_CHANGE


def measure(seconds: float, frame: GreyFrame, previous: GreyFrame | None) -> FrameMeasures:
    """Measure `frame`, shown at `seconds`, and how it differs from the `previous` one."""
    change = block_change = None
    if previous is not None:
        difference = np.abs(frame.astype(np.int16) - previous)
        change = float(difference.mean()) / 255
        block_change = float(_block_means(difference).max()) / 255
    return FrameMeasures(
        seconds=seconds,
        mean=float(frame.mean()) / 255,
        black_share=float((frame < BLACK_LEVEL).mean()),
        burnt_share=float((frame >= BURNT_LEVEL).mean()),
        blur=blur(frame),
        change=change,
        block_change=block_change,
    )


def blur(frame: GreyFrame) -> float:
    """Return how little a further blur changes the frame (Crete et al. 2007): 0 sharp, 1 featureless.

    Unlike the energy of edges it does not take a plain wall for a blurred one.
    """
    return max(_blur_along(frame), _blur_along(np.ascontiguousarray(frame.T)))


def _blur_along(frame: GreyFrame, size: int = 9) -> float:
    """The blur along the rows of `frame`, against a running mean of `size` pixels."""
    values = frame.astype(np.float32)
    total = np.cumsum(values, axis=1)
    smooth = (total[:, size:] - total[:, :-size]) / size
    margin = size // 2
    sharp = values[:, margin + 1 : margin + 1 + smooth.shape[1]]
    edges = np.abs(np.diff(sharp, axis=1))
    lost = np.maximum(edges - np.abs(np.diff(smooth, axis=1)), 0)
    strength = float(edges.sum())
    return 1 - float(lost.sum()) / strength if strength > 0 else 1.0


def _block_means(difference: NDArray[np.int16]) -> NDArray[np.float64]:
    height, width = (side // BLOCKS * BLOCKS for side in difference.shape)
    blocks = difference[:height, :width].reshape(BLOCKS, height // BLOCKS, BLOCKS, width // BLOCKS)
    return blocks.mean(axis=(1, 3))


def cuts(frames: list[FrameMeasures]) -> list[float]:
    """Return the times of the frames that start a new shot."""
    changes = np.array([frame.change or 0.0 for frame in frames])
    found = []
    for index in range(1, len(changes)):
        around = np.concatenate((changes[max(index - 4, 1) : index], changes[index + 1 : index + 5]))
        usual = float(np.median(around)) if len(around) else 0.0
        if changes[index] >= CUT_CHANGE and changes[index] >= CUT_RATIO * usual:
            found.append(frames[index].seconds)
    return found


@dataclass(frozen=True)
class Measures:
    """A video's measures: shares of its frames, means of 1, times in seconds."""

    frames: int
    black: float
    frozen: float
    blurred: float
    badly_exposed: float
    mean_brightness: float
    mean_blur: float
    mean_motion: float
    motion_peak: float
    cuts: tuple[float, ...]


def summarise(frames: list[FrameMeasures]) -> Measures:
    """Sum up all frames of a video, of which there is at least one."""
    start_of_shot = set(cuts(frames))
    moving = [(frame.change or 0.0, frame.seconds) for frame in frames if frame.seconds not in start_of_shot]
    middle = frames[-1].seconds
    inner = [entry for entry in moving if 0.05 * middle <= entry[1] <= 0.95 * middle] or moving
    count = len(frames)

    def share(name: str) -> float:
        return sum(getattr(frame, name) for frame in frames) / count

    return Measures(
        frames=count,
        black=share("black"),
        # the first frame has nothing to be equal to
        frozen=sum(frame.frozen for frame in frames[1:]) / max(count - 1, 1),
        blurred=share("blurred"),
        badly_exposed=share("badly_exposed"),
        mean_brightness=share("mean"),
        mean_blur=share("blur"),
        mean_motion=sum(change for change, _ in moving) / count,
        motion_peak=max(inner)[1],
        cuts=tuple(sorted(start_of_shot)),
    )
