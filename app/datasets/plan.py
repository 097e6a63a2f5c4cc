"""Which files a release has. It follows from its episodes, so it is the same each time."""

from collections.abc import Iterable, Iterator
from enum import StrEnum

from pydantic import BaseModel, ConfigDict

from app.datasets.model import Episode, Header


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
    """Where in the files of a LeRobot data set the next episode goes."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    episode: int = 0
    frame: int = 0
    data_file: int = 0
    data_frames: int = 0
    video_file: int = 0
    video_frames: int = 0
    video_bytes: int = 0
    parameters: str = ""


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


def plan(header: Header, episodes: Iterable[Episode]) -> Iterator[Part]:
    """Yield the files of a release with these episodes, which come in the order of their index.

    Raises ValueError if the order is another. Memory does not grow with the number of episodes.
    """
    raise NotImplementedError
