"""What the card says of all episodes together, found in one pass."""

from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import Any

from app.attributes.model import Attributes
from app.datasets.model import Episode
from app.datasets.plan import size_of

SCORES = ("technical_score", "relevance_score", "quality_score", "final_score")
SCORE_STEPS = 10
# the median length is told to a tenth of a second
LENGTH_STEPS = 10
# shorter sides of recordings, and what they are called
RESOLUTIONS = ((2160, "2160p and more"), (1080, "1080p"), (720, "720p"), (480, "480p"), (0, "less than 480p"))


@dataclass
class Tally:
    """Episodes of one kind, and their seconds."""

    episodes: int = 0
    seconds: float = 0.0

    def add(self, seconds: float) -> None:
        self.episodes += 1
        self.seconds += seconds


@dataclass
class Spread:
    """Values of a number: how many, the smallest, the largest, and the mean weighted by seconds."""

    episodes: int = 0
    low: float = 0.0
    high: float = 0.0
    seconds: float = 0.0
    weighted: float = 0.0

    def add(self, value: float, seconds: float) -> None:
        self.low = min(self.low, value) if self.episodes else value
        self.high = max(self.high, value) if self.episodes else value
        self.episodes += 1
        self.seconds += seconds
        self.weighted += value * seconds

    @property
    def mean(self) -> float:
        return self.weighted / self.seconds if self.seconds else 0.0


@dataclass
class Summary:
    """All episodes together. A tally is by the value that its name says.

    `by` are the names of what measured each attribute; `scores` are histograms of SCORE_STEPS steps.
    """

    total: Tally = field(default_factory=Tally)
    frames: int = 0
    bytes: int = 0
    fps: int = 0
    recipe: str = ""
    first: Any = None
    last: Any = None
    hotkeys: set[str] = field(default_factory=set)
    lengths: Counter[int] = field(default_factory=Counter)
    scores: dict[str, list[int]] = field(default_factory=lambda: {name: [0] * SCORE_STEPS for name in SCORES})
    score_sums: Counter[str] = field(default_factory=Counter)
    splits: dict[str, Tally] = field(default_factory=dict)
    categories: dict[str, Tally] = field(default_factory=dict)
    tasks: dict[str, Tally] = field(default_factory=dict)
    cameras: dict[str, Tally] = field(default_factory=dict)
    actors: dict[str, Tally] = field(default_factory=dict)
    licences: dict[str, Tally] = field(default_factory=dict)
    consents: dict[str, Tally] = field(default_factory=dict)
    sizes: dict[str, Tally] = field(default_factory=dict)
    resolutions: dict[str, Tally] = field(default_factory=dict)
    judges: dict[tuple[str, str, str], Tally] = field(default_factory=dict)
    tools: dict[str, Tally] = field(default_factory=dict)
    attributes: dict[str, Spread] = field(default_factory=dict)
    by: dict[str, set[str]] = field(default_factory=dict)
    flags: Counter[str] = field(default_factory=Counter)
    intrinsics: int = 0

    @property
    def median_seconds(self) -> float:
        middle, seen = (self.total.episodes + 1) // 2, 0
        for length in sorted(self.lengths):
            seen += self.lengths[length]
            if seen >= middle:
                return length / LENGTH_STEPS
        return 0.0

    def mean_score(self, name: str) -> float:
        return self.score_sums[name] / self.total.episodes

    def add(self, episode: Episode) -> None:
        film, seconds = episode.film, episode.film.seconds
        self.total.add(seconds)
        self.frames += film.frames
        self.bytes += film.bytes
        self.fps, self.recipe = film.fps, film.recipe
        self.first = min(self.first or episode.submitted_at, episode.submitted_at)
        self.last = max(self.last or episode.submitted_at, episode.submitted_at)
        self.hotkeys.add(episode.hotkey)
        self.lengths[round(seconds * LENGTH_STEPS)] += 1
        self.intrinsics += episode.intrinsics is not None
        for name in SCORES:
            score = getattr(episode, name)
            self.scores[name][min(int(score * SCORE_STEPS), SCORE_STEPS - 1)] += 1
            self.score_sums[name] += score
        shorter = min(film.source_width, film.source_height)
        resolution = next(name for least, name in RESOLUTIONS if shorter >= least)
        judged = episode.judged
        consent = "no consent stated"
        if episode.consent_hash:
            consent = f"version {episode.consent_version}, SHA-256 {episode.consent_hash}"
        kinds: list[tuple[dict[Any, Tally], Any]] = [
            (self.splits, str(episode.split)),
            (self.categories, str(episode.category)),
            (self.tasks, episode.task),
            (self.cameras, str(episode.camera_type)),
            (self.actors, str(episode.actor_type)),
            (self.licences, episode.licence),
            (self.consents, consent),
            (self.sizes, size_of(film)),
            (self.resolutions, resolution),
            (self.judges, (judged.model or "a person", judged.prompt_version or "-", judged.software)),
            (self.tools, film.made_by),
        ]
        for tallies, kind in kinds:
            tallies.setdefault(kind, Tally()).add(seconds)
        if episode.attributes:
            self._add_attributes(episode.attributes, seconds)

    def _add_attributes(self, attributes: Attributes, seconds: float) -> None:
        for name in Attributes.model_fields:
            value = getattr(attributes, name)
            if isinstance(value, int | float):
                self.attributes.setdefault(name, Spread()).add(value, seconds)
        for name, model in attributes.by.items():
            self.by.setdefault(name, set()).add(model)
        for kind in {flag.kind for flag in attributes.flags}:
            self.flags[kind] += 1


def summarise(episodes: Iterable[Episode]) -> Summary:
    """Memory grows with the number of miners and of different tasks, not with that of episodes."""
    summary = Summary()
    for episode in episodes:
        summary.add(episode)
    return summary
