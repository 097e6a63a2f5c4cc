"""Which files a release has. It follows from its episodes, so it is the same each time."""

from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from enum import StrEnum

from pydantic import BaseModel, ConfigDict

from app.datasets.model import Filmed, Header, Limits
from app.enums import DataFormat, Split
from app.video.film import Film

# files in a directory of LeRobot's
CHUNK_FILES = 1000
# LeRobot's name for the pictures of the camera
VIDEO_KEY = "observation.images.ego"
# one file, in groups of rows that readers share out among themselves
PARQUET = "parquet/episodes.parquet"

_SPLITS = list(Split)


class PartKind(StrEnum):
    LEROBOT_VIDEO = "lerobot_video"
    LEROBOT_DATA = "lerobot_data"
    LEROBOT_EPISODES = "lerobot_episodes"
    LEROBOT_INFO = "lerobot_info"
    LEROBOT_STATS = "lerobot_stats"
    LEROBOT_TASKS = "lerobot_tasks"
    WEBDATASET = "webdataset"
    PARQUET = "parquet"
    CARD = "card"
    CROISSANT = "croissant"


class Cursor(BaseModel):
    """Where in a LeRobot data set the next episode goes, unless its file is full.

    `episode` and `frame` count over the data set, `video_frames` and the like within the file that is being
    filled. `parameters` are those of the films in that video file: only equal ones can be joined.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    episode: int = 0
    frame: int = 0
    episodes_file: int = 0
    episodes_rows: int = 0
    data_file: int = 0
    data_frames: int = 0
    data_episodes: int = 0
    video_file: int = 0
    video_frames: int = 0
    video_bytes: int = 0
    video_episodes: int = 0
    parameters: str = ""

    def place(self, film: Film, limits: Limits) -> "Cursor":
        """Return where an episode with this film begins: here, or at the start of new files."""
        changes: dict[str, int | str] = {"parameters": film.parameters}
        if self.episodes_rows >= limits.episodes:
            changes |= {"episodes_file": self.episodes_file + 1, "episodes_rows": 0}
        if self.data_episodes and (
            self.data_frames + film.frames > limits.data_frames or self.data_episodes >= limits.episodes
        ):
            changes |= {"data_file": self.data_file + 1, "data_frames": 0, "data_episodes": 0}
        if self.video_episodes and (
            self.video_bytes + film.bytes > limits.video_bytes
            or self.video_episodes >= limits.episodes
            or film.parameters != self.parameters
        ):
            changes |= {
                "video_file": self.video_file + 1,
                "video_frames": 0,
                "video_bytes": 0,
                "video_episodes": 0,
            }
        return self.model_copy(update=changes)

    def after(self, film: Film) -> "Cursor":
        """Return the place after the episode that begins here."""
        return self.model_copy(
            update={
                "episode": self.episode + 1,
                "frame": self.frame + film.frames,
                "episodes_rows": self.episodes_rows + 1,
                "data_frames": self.data_frames + film.frames,
                "data_episodes": self.data_episodes + 1,
                "video_frames": self.video_frames + film.frames,
                "video_bytes": self.video_bytes + film.bytes,
                "video_episodes": self.video_episodes + 1,
            }
        )


class Part(BaseModel):
    """A file of a release that is built at once.

    `path` is its place in the release. `episodes` are the indices of those it holds, in this order; None: it
    looks at all of the release. `needs_films`: the films of its episodes are needed, and their masks.
    `last`: it is built when all others are, since it names their hashes. `size` is the size of the pictures
    of its LeRobot data set, such as "1280x720", and `start` where in that its episodes begin.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    path: str
    kind: PartKind
    episodes: tuple[int, ...] | None = None
    needs_films: bool = False
    last: bool = False
    size: str | None = None
    start: Cursor | None = None


def size_of(film: Film) -> str:
    """Return the size that names the LeRobot data set of a film."""
    return f"{film.width}x{film.height}"


def numbered(file: int) -> str:
    """Return the chunk and file of LeRobot's that the number of a file stands for."""
    return f"chunk-{file // CHUNK_FILES:03d}/file-{file % CHUNK_FILES:03d}"


def plan(header: Header, episodes: Iterable[Filmed]) -> Iterator[Part]:
    """Yield the files of a release with these episodes, which come in the order of their index.

    Memory grows with the number of files that are open, not of episodes. Raises ValueError if the order is
    another, or if there are none.
    """
    lerobot: dict[str, _LeRobot] = {}
    shard = _Shard(header.limits)
    count, split = 0, _SPLITS[0]
    for episode in episodes:
        if episode.index != count or _SPLITS.index(episode.split) < _SPLITS.index(split):
            raise ValueError(f"Episode {episode.index} of {episode.split} is not the next of its release.")
        count, split = count + 1, episode.split
        if DataFormat.LEROBOT in header.formats:
            size = size_of(episode.film)
            yield from lerobot.setdefault(size, _LeRobot(size, header.limits)).add(episode)
        if DataFormat.WEBDATASET in header.formats:
            yield from shard.add(episode)
    if not count:
        raise ValueError("A release without episodes has no files.")
    for size in sorted(lerobot):
        yield from lerobot[size].finish()
    yield from shard.finish()
    if DataFormat.PARQUET in header.formats:
        yield Part(path=PARQUET, kind=PartKind.PARQUET)
    yield Part(path="README.md", kind=PartKind.CARD)
    yield Part(path="croissant.json", kind=PartKind.CROISSANT, last=True)


@dataclass
class _Open:
    """A file that is being filled."""

    number: int
    start: Cursor
    episodes: list[int] = field(default_factory=list)


class _LeRobot:
    """The files of one LeRobot data set."""

    FILES = (
        (PartKind.LEROBOT_VIDEO, "video_file", f"videos/{VIDEO_KEY}/{{}}.mp4"),
        (PartKind.LEROBOT_DATA, "data_file", "data/{}.parquet"),
        (PartKind.LEROBOT_EPISODES, "episodes_file", "meta/episodes/{}.parquet"),
    )
    WHOLE = (
        (PartKind.LEROBOT_INFO, "meta/info.json"),
        (PartKind.LEROBOT_STATS, "meta/stats.json"),
        (PartKind.LEROBOT_TASKS, "meta/tasks.parquet"),
    )

    def __init__(self, size: str, limits: Limits):
        self.size = size
        self.limits = limits
        self.cursor = Cursor()
        self.open: dict[PartKind, _Open] = {}

    def add(self, episode: Filmed) -> Iterator[Part]:
        place = self.cursor.place(episode.film, self.limits)
        for kind, counter, _ in self.FILES:
            number = getattr(place, counter)
            if kind in self.open and self.open[kind].number != number:
                yield self._part(kind)
            self.open.setdefault(kind, _Open(number, place)).episodes.append(episode.index)
        self.cursor = place.after(episode.film)

    def finish(self) -> Iterator[Part]:
        for kind in list(self.open):
            yield self._part(kind)
        for kind, path in self.WHOLE:
            yield Part(path=f"lerobot/{self.size}/{path}", kind=kind, size=self.size)

    def _part(self, kind: PartKind) -> Part:
        filled = self.open.pop(kind)
        (pattern,) = (pattern for each, _, pattern in self.FILES if each == kind)
        return Part(
            path=f"lerobot/{self.size}/{pattern.format(numbered(filled.number))}",
            kind=kind,
            episodes=tuple(filled.episodes),
            needs_films=kind == PartKind.LEROBOT_VIDEO,
            size=self.size,
            start=filled.start,
        )


class _Shard:
    """The WebDataset shards, numbered by split."""

    def __init__(self, limits: Limits):
        self.limits = limits
        self.split = _SPLITS[0]
        self.number = self.bytes = 0
        self.episodes: list[int] = []

    def add(self, episode: Filmed) -> Iterator[Part]:
        new_split = episode.split != self.split
        full = self.bytes + episode.film.bytes > self.limits.shard_bytes
        if new_split or full or len(self.episodes) >= self.limits.episodes:
            yield from self.finish()
        if new_split:
            self.split, self.number = episode.split, 0
        self.episodes.append(episode.index)
        self.bytes += episode.film.bytes

    def finish(self) -> Iterator[Part]:
        if self.episodes:
            yield Part(
                path=f"webdataset/{self.split}-{self.number:06d}.tar",
                kind=PartKind.WEBDATASET,
                episodes=tuple(self.episodes),
                needs_films=True,
            )
            self.number += 1
        self.episodes, self.bytes = [], 0
