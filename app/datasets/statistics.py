"""The statistics of LeRobot's: of each feature of an episode, and of many episodes together."""

from collections.abc import Iterable
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from app.datasets.model import Episode
from app.datasets.plan import VIDEO_KEY, Cursor

QUANTILES = {"q01": 0.01, "q10": 0.1, "q50": 0.5, "q90": 0.9, "q99": 0.99}
NAMES = ("min", "max", "mean", "std", *QUANTILES)
# those of a frame that are numbers
NUMBERS = ("timestamp", "frame_index", "episode_index", "index", "task_index")
FEATURES = (VIDEO_KEY, *NUMBERS)

Values = NDArray[np.float64]


@dataclass(frozen=True)
class Statistics:
    """Of a feature: a value a channel under each of NAMES, over `count` samples."""

    count: int
    values: dict[str, Values]


def of_episode(episode: Episode, place: Cursor) -> dict[str, Statistics]:
    """Return the statistics of all features of an episode that begins at `place`."""
    film = episode.film
    seen = film.statistics
    found = {VIDEO_KEY: Statistics(seen.count, {name: np.asarray(getattr(seen, name)) for name in NAMES})}
    found["timestamp"] = _of_steps(0.0, 1 / film.fps, film.frames)
    found["frame_index"] = _of_steps(0, 1, film.frames)
    found["episode_index"] = _of_steps(place.episode, 0, film.frames)
    found["index"] = _of_steps(place.frame, 1, film.frames)
    found["task_index"] = _of_steps(episode.task_index, 0, film.frames)
    return found


def _of_steps(first: float, step: float, count: int) -> Statistics:
    """Return the statistics of `first`, `first + step` and so on."""
    last = count - 1
    values = {
        "min": first,
        "max": first + step * last,
        "mean": first + step * last / 2,
        "std": step * ((count * count - 1) / 12) ** 0.5,
        **{name: first + step * last * share for name, share in QUANTILES.items()},
    }
    return Statistics(count, {name: np.array([value], np.float64) for name, value in values.items()})


@dataclass
class Together:
    """Gathers the statistics of a feature as LeRobot does: quantiles are the mean of the episodes'."""

    count: int = 0
    low: Values | None = None
    high: Values | None = None
    sums: dict[str, Values] = field(default_factory=dict)

    def add(self, one: Statistics) -> None:
        values = one.values
        self.low = values["min"] if self.low is None else np.minimum(self.low, values["min"])
        self.high = values["max"] if self.high is None else np.maximum(self.high, values["max"])
        added = {name: values[name] for name in ("mean", *QUANTILES)}
        added["square"] = values["std"] ** 2 + values["mean"] ** 2
        for name, value in added.items():
            self.sums[name] = self.sums.get(name, 0.0) + value * one.count
        self.count += one.count

    def result(self) -> Statistics:
        assert self.low is not None and self.high is not None
        means = {name: total / self.count for name, total in self.sums.items()}
        std = np.sqrt(np.maximum(means.pop("square") - means["mean"] ** 2, 0))
        return Statistics(self.count, {"min": self.low, "max": self.high, "std": std, **means})


def gather(each: Iterable[dict[str, Statistics]]) -> dict[str, Statistics]:
    """Return the statistics of all episodes together, by feature."""
    together = {name: Together() for name in FEATURES}
    for episode in each:
        for name, one in episode.items():
            together[name].add(one)
    return {name: one.result() for name, one in together.items()}


def shaped(feature: str, values: Values) -> list[object]:
    """Return the values of a feature in LeRobot's shape: that of pictures is (3, 1, 1)."""
    rounded = [round(float(value), 9) for value in values]
    return [[[value]] for value in rounded] if feature == VIDEO_KEY else list(rounded)
