"""The files of a LeRobot data set, version 3.0, of observations only: nobody knows the actions."""

import json
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa

from app.datasets import arrow, statistics
from app.datasets.columns import record
from app.datasets.model import Episode, Header, Limits
from app.datasets.plan import CHUNK_FILES, VIDEO_KEY, Cursor, Part, size_of
from app.enums import Split
from app.errors import TransientError
from app.video import film as films

VERSION = "v3.0"
MEGABYTE = 2**20
# a frame takes so many bytes in a data file, before it is compressed
FRAME_BYTES = 36

_FRAMES = pa.schema(
    [
        pa.field("timestamp", pa.float32()),
        *(pa.field(name, pa.int64()) for name in ("frame_index", "episode_index", "index", "task_index")),
    ]
)
_OWN = [
    *[pa.field(name, pa.int64()) for name in ("episode_index", "length")],
    pa.field("tasks", pa.list_(pa.string())),
    *[pa.field(name, pa.int64()) for name in ("dataset_from_index", "dataset_to_index")],
    *[
        pa.field(f"{where}/chunk_index", pa.int64())
        for where in ("data", f"videos/{VIDEO_KEY}", "meta/episodes")
    ],
    *[
        pa.field(f"{where}/file_index", pa.int64())
        for where in ("data", f"videos/{VIDEO_KEY}", "meta/episodes")
    ],
    *[pa.field(f"videos/{VIDEO_KEY}/{end}_timestamp", pa.float64()) for end in ("from", "to")],
]


def write_video(part: Part, episodes: Iterable[Episode], film: Callable[[Episode], Path], path: Path) -> None:
    """Join the films of the episodes. Raises TransientError."""
    chosen = list(episodes)
    frames = films.join([film(episode) for episode in chosen], path, chosen[0].film.fps)
    expected = sum(episode.film.frames for episode in chosen)
    if frames != expected:
        raise TransientError(f"{part.path} came out with {frames} frames instead of {expected}.")


def write_data(part: Part, header: Header, episodes: Iterable[Episode], path: Path) -> None:
    """Write a row for each frame."""
    with arrow.writer(path, _FRAMES) as file:
        for episode, place in _placed(part, header.limits, episodes):
            count = episode.film.frames
            index = np.arange(count)
            columns = {
                "timestamp": (index / episode.film.fps).astype(np.float32),
                "frame_index": index,
                "episode_index": np.full(count, place.episode),
                "index": index + place.frame,
                "task_index": np.full(count, episode.task_index),
            }
            file.write_table(pa.table(columns, _FRAMES))


def write_episodes(part: Part, header: Header, episodes: Iterable[Episode], path: Path) -> None:
    """Write a row for each episode: where it is in the data set, its statistics, and all that is known."""
    seen = [_statistics_field(feature, name) for feature in statistics.FEATURES for name in statistics.NAMES]
    seen += [pa.field(f"stats/{feature}/count", pa.list_(pa.int64())) for feature in statistics.FEATURES]
    schema = pa.schema([*_OWN, *arrow.fields(), *seen])
    arrow.write(path, schema, (_row(each, place) for each, place in _placed(part, header.limits, episodes)))


def _statistics_field(feature: str, name: str) -> pa.Field:
    of_channel = pa.list_(pa.float64())
    return pa.field(
        f"stats/{feature}/{name}", pa.list_(pa.list_(of_channel)) if feature == VIDEO_KEY else of_channel
    )


def _row(episode: Episode, place: Cursor) -> dict[str, Any]:
    film = episode.film
    row = {
        "episode_index": place.episode,
        "length": film.frames,
        "tasks": [episode.task],
        "dataset_from_index": place.frame,
        "dataset_to_index": place.frame + film.frames,
        f"videos/{VIDEO_KEY}/from_timestamp": place.video_frames / film.fps,
        f"videos/{VIDEO_KEY}/to_timestamp": (place.video_frames + film.frames) / film.fps,
        **record(episode),
    }
    for where, number in (
        ("data", place.data_file),
        (f"videos/{VIDEO_KEY}", place.video_file),
        ("meta/episodes", place.episodes_file),
    ):
        row[f"{where}/chunk_index"], row[f"{where}/file_index"] = divmod(number, CHUNK_FILES)
    for feature, found in statistics.of_episode(episode, place).items():
        row[f"stats/{feature}/count"] = [found.count]
        for name, values in found.values.items():
            row[f"stats/{feature}/{name}"] = statistics.shaped(feature, values)
    return row


def write_info(part: Part, header: Header, episodes: Iterable[Episode], path: Path) -> None:
    """Write what the data set is as a whole."""
    counts = dict.fromkeys(Split, 0)
    frames = tasks = 0
    first = None
    for episode in episodes:
        tasks = max(tasks, episode.task_index + 1)
        if size_of(episode.film) == part.size:
            first = first or episode
            counts[episode.split] += 1
            frames += episode.film.frames
    assert first
    info = {
        "codebase_version": VERSION,
        "robot_type": None,
        "total_episodes": sum(counts.values()),
        "total_frames": frames,
        "total_tasks": tasks,
        "chunks_size": CHUNK_FILES,
        "data_files_size_in_mb": -(-header.limits.data_frames * FRAME_BYTES // MEGABYTE),
        "video_files_size_in_mb": -(-header.limits.video_bytes // MEGABYTE),
        "fps": first.film.fps,
        "splits": _ranges(counts),
        "data_path": "data/chunk-{chunk_index:03d}/file-{file_index:03d}.parquet",
        "video_path": "videos/{video_key}/chunk-{chunk_index:03d}/file-{file_index:03d}.mp4",
        "features": _features(first.film),
    }
    _write_json(path, info)


def _ranges(counts: dict[Split, int]) -> dict[str, str]:
    ranges, begin = {}, 0
    for split, count in counts.items():
        if count:
            ranges[str(split)] = f"{begin}:{begin + count}"
        begin += count
    return ranges


def _features(film: films.Film) -> dict[str, Any]:
    features: dict[str, Any] = {
        VIDEO_KEY: {
            "dtype": "video",
            "shape": [film.height, film.width, 3],
            "names": ["height", "width", "channels"],
            "info": {
                "video.height": film.height,
                "video.width": film.width,
                "video.codec": str(film.codec),
                "video.pix_fmt": "yuv420p",
                "video.is_depth_map": False,
                "video.fps": film.fps,
                "video.channels": 3,
                "has_audio": False,
            },
        }
    }
    for field in _FRAMES:
        dtype = "float32" if field.type == pa.float32() else "int64"
        features[field.name] = {"dtype": dtype, "shape": [1], "names": None}
    return features


def write_stats(part: Part, header: Header, episodes: Iterable[Episode], path: Path) -> None:
    """Write the statistics of all episodes together."""
    chosen = (episode for episode in episodes if size_of(episode.film) == part.size)
    placed = _placed(part.model_copy(update={"start": Cursor()}), header.limits, chosen)
    found = statistics.gather(statistics.of_episode(episode, place) for episode, place in placed)
    _write_json(
        path,
        {
            feature: {name: statistics.shaped(feature, values) for name, values in sorted(one.values.items())}
            | {"count": [one.count]}
            for feature, one in found.items()
        },
    )


def write_tasks(episodes: Iterable[Episode], path: Path) -> None:
    """Write the tasks of the whole release by index. Raises ValueError if one is missing."""
    tasks: dict[int, str] = {}
    for episode in episodes:
        if tasks.setdefault(episode.task_index, episode.task) != episode.task:
            raise ValueError(f"Two tasks have the index {episode.task_index}.")
    if sorted(tasks) != list(range(len(tasks))):
        raise ValueError("The indices of tasks have gaps.")
    # as pandas writes a frame whose index is the task
    described = {
        "index_columns": ["task"],
        "column_indexes": [],
        "columns": [
            {
                "name": "task_index",
                "field_name": "task_index",
                "pandas_type": "int64",
                "numpy_type": "int64",
                "metadata": None,
            },
            {
                "name": "task",
                "field_name": "task",
                "pandas_type": "unicode",
                "numpy_type": "object",
                "metadata": None,
            },
        ],
        "creator": {"library": "pyarrow", "version": pa.__version__},
        "pandas_version": "2.2.0",
    }
    schema = pa.schema(
        [pa.field("task_index", pa.int64()), pa.field("task", pa.string())],
        {"pandas": json.dumps(described)},
    )
    rows = ({"task_index": index, "task": tasks[index]} for index in range(len(tasks)))
    arrow.write(path, schema, rows)


def _placed(part: Part, limits: Limits, episodes: Iterable[Episode]) -> Iterator[tuple[Episode, Cursor]]:
    """Yield each episode with its place in the data set."""
    cursor = part.start
    assert cursor
    for episode in episodes:
        place = cursor.place(episode.film, limits)
        yield episode, place
        cursor = place.after(episode.film)


def _write_json(path: Path, value: Any) -> None:
    path.write_text(json.dumps(value, indent=2, ensure_ascii=False) + "\n")
