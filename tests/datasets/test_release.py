"""The files of a release, as they are laid out: read by pyarrow and tarfile, without the official readers."""

import json
import shutil
import tarfile
import tracemalloc
from itertools import groupby

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import yaml

from app.datasets.build import build
from app.datasets.columns import COLUMNS
from app.datasets.model import Limits
from app.datasets.plan import VIDEO_KEY, Part, PartKind, plan
from app.enums import DataFormat, Split
from app.errors import TransientError
from app.video import film as films
from app.video.probe import probe
from tests.datasets.releases import HEADER, RECIPE, TASKS, Release, assorted, episode
from tests.datasets.test_film import MARK, NAMES, TOOLS, decoded, tagged, with_boxes
from tests.videos import sha256

SIZES = ("128x72", "128x96")


@pytest.fixture(scope="module")
def release(own_videos):
    return Release(assorted(own_videos))


@pytest.fixture(scope="module")
def built(release, tmp_path_factory):
    """The directory of the release, and its files."""
    directory = tmp_path_factory.mktemp("release")
    return directory, release.build(directory)


def table(directory, pattern):
    return pa.concat_tables(pq.read_table(path) for path in sorted(directory.glob(pattern)))


def of_size(release, size):
    return [one for one in release.episodes if f"{one.film.width}x{one.film.height}" == size]


def test_what_is_told_is_what_was_written(built):
    directory, files = built
    written = {str(path.relative_to(directory)) for path in directory.rglob("*") if path.is_file()}
    assert written == {file.path for file in files}
    for file in files:
        path = directory / file.path
        assert (path.stat().st_size, sha256(path)) == (file.bytes, file.sha256)


def test_the_same_bytes_again(release, built, tmp_path):
    # other copies of the films, on other names, by a plan that is made anew
    copies = tmp_path / "films"
    copies.mkdir()
    again = Release([], release.header)
    again.episodes = release.episodes
    again.paths = [copies / str(index) / "film.mp4" for index in range(len(release.paths))]
    for path, copy in zip(release.paths, again.paths, strict=True):
        copy.parent.mkdir()
        shutil.copy(path, copy)
    assert again.build(tmp_path / "again") == built[1]


@pytest.mark.parametrize("size", SIZES)
def test_lerobot_info(release, built, size):
    root = built[0] / "lerobot" / size
    info = json.loads((root / "meta/info.json").read_text())
    episodes = of_size(release, size)
    width, height = map(int, size.split("x"))
    assert info["codebase_version"] == "v3.0" and info["fps"] == 10
    assert info["total_episodes"] == len(episodes)
    assert info["total_frames"] == sum(one.film.frames for one in episodes)
    assert info["total_tasks"] == 3
    assert info["features"][VIDEO_KEY]["shape"] == [height, width, 3]
    assert info["features"].keys() == {
        *(VIDEO_KEY, "timestamp", "frame_index", "episode_index", "index", "task_index")
    }
    begin = 0
    for split in Split:
        count = sum(one.split == split for one in episodes)
        assert info["splits"].get(split, f"{begin}:{begin}") == f"{begin}:{begin + count}"
        begin += count
    tasks = pq.read_table(root / "meta/tasks.parquet")
    assert tasks.to_pylist() == [{"task_index": index, "task": task} for index, task in enumerate(TASKS)]
    assert json.loads(tasks.schema.metadata[b"pandas"])["index_columns"] == ["task"]


@pytest.mark.parametrize("size", SIZES)
def test_lerobot_rows_lead_to_their_frames(release, built, size):
    """Each row of data leads, by what meta/episodes says of it, to its frame, far within half a frame."""
    root = built[0] / "lerobot" / size
    info = json.loads((root / "meta/info.json").read_text())
    episodes = table(root, "meta/episodes/*/*.parquet").to_pylist()
    expected = of_size(release, size)
    assert [row["submission"] for row in episodes] == [one.uuid for one in expected]
    times, files, total = {}, set(), 0
    for number, (row, one) in enumerate(zip(episodes, expected, strict=True)):
        assert row["episode_index"] == number and row["tasks"] == [one.task]
        assert (row["dataset_from_index"], row["dataset_to_index"]) == (total, total + one.film.frames)
        total += one.film.frames
        data = root / info["data_path"].format(
            chunk_index=row["data/chunk_index"], file_index=row["data/file_index"]
        )
        frames = pq.read_table(data, filters=[("episode_index", "=", number)])
        assert frames["index"].to_pylist() == list(range(row["dataset_from_index"], row["dataset_to_index"]))
        assert frames["frame_index"].to_pylist() == list(range(one.film.frames))
        assert set(frames["task_index"].to_pylist()) == {one.task_index}
        video = root / info["video_path"].format(
            video_key=VIDEO_KEY,
            chunk_index=row[f"videos/{VIDEO_KEY}/chunk_index"],
            file_index=row[f"videos/{VIDEO_KEY}/file_index"],
        )
        files.add((data, video))
        if video not in times:
            width, height = map(int, size.split("x"))
            times[video] = np.array(probe(video).times), decoded(video, width, height)
        at, shown = times[video]
        begin = row[f"videos/{VIDEO_KEY}/from_timestamp"]
        wanted = begin + frames["timestamp"].to_numpy()
        nearest = np.abs(at[None] - wanted[:, None]).argmin(axis=1)
        assert np.abs(at[nearest] - wanted).max() < 0.5 / 10 / 100
        assert row[f"videos/{VIDEO_KEY}/to_timestamp"] == pytest.approx(begin + one.film.seconds)
        alone = decoded(release.paths[one.index], one.film.width, one.film.height)
        assert (shown[nearest] == alone).all()
    # they lie in several files, so borders were crossed
    assert size == "128x96" or len({data for data, _ in files}) > 1 < len({video for _, video in files})
    assert sum(len(shown) for _, shown in times.values()) == info["total_frames"]


@pytest.mark.parametrize("size", SIZES)
def test_lerobot_statistics(release, built, size):
    root = built[0] / "lerobot" / size
    stats = json.loads((root / "meta/stats.json").read_text())
    data = table(root, "data/*/*.parquet")
    for name in ("timestamp", "frame_index", "episode_index", "index", "task_index"):
        values = data[name].to_numpy().astype(float)
        found = {key: value[0] for key, value in stats[name].items()}
        assert found["count"] == len(values)
        assert (found["min"], found["max"]) == pytest.approx((values.min(), values.max()))
        assert (found["mean"], found["std"]) == pytest.approx((values.mean(), values.std()))
    episodes = of_size(release, size)
    mean, weights = (
        [one.film.statistics.mean for one in episodes],
        [one.film.statistics.count for one in episodes],
    )
    assert np.array(stats[VIDEO_KEY]["mean"]).shape == (3, 1, 1)
    assert np.ravel(stats[VIDEO_KEY]["mean"]) == pytest.approx(np.average(mean, axis=0, weights=weights))
    row = table(root, "meta/episodes/*/*.parquet").to_pylist()[0]
    assert np.ravel(row[f"stats/{VIDEO_KEY}/q50"]) == pytest.approx(episodes[0].film.statistics.q50)
    assert row[f"stats/{VIDEO_KEY}/count"] == [episodes[0].film.statistics.count]


def test_all_formats_tell_the_same(release, built):
    rows = pq.read_table(built[0] / "parquet/episodes.parquet").to_pylist()
    assert list(rows[0]) == [column.name for column in COLUMNS]
    assert [row["task"] for row in rows] == [one.task for one in release.episodes]
    by_submission = {row["submission"]: row for row in rows}
    for size in SIZES:
        for row in table(built[0] / "lerobot" / size, "meta/episodes/*/*.parquet").to_pylist():
            assert {name: row[name] for name in rows[0]} == by_submission[row["submission"]]
    facts = {
        name: json.loads(data)
        for name, data in members(built[0]).items()
        if name.count(".") == 1 and name.endswith(".json")
    }
    assert len(facts) == len(rows)
    for told in facts.values():
        row = by_submission[told["submission"]]
        assert told == {
            name: value.isoformat() if hasattr(value, "isoformat") else value for name, value in row.items()
        }
    # what is not known is told as such
    assert rows[0]["camera_intrinsics"] is rows[0]["consent_hash"] is rows[0]["attribute_hands_none"] is None
    assert rows[1]["attribute_hands_none"] == 0.25 and json.loads(rows[1]["camera_intrinsics"])["fx"] == 500
    assert rows[1]["attribute_faces"] is None and rows[0]["cycle"] is None


def members(directory):
    found = {}
    for shard in sorted(directory.glob("webdataset/*.tar")):
        with tarfile.open(shard) as tar:
            for member in tar:
                assert (member.mtime, member.uid, member.gid, member.uname, member.gname) == (0, 0, 0, "", "")
                found[member.name] = tar.extractfile(member).read()
    return found


def test_webdataset_shards(release, built):
    found = members(built[0])
    for one in release.episodes:
        assert found[f"{one.uuid}.mp4"] == release.paths[one.index].read_bytes()
        assert (f"{one.uuid}.masks.json" in found) == (one.index % 2 == 1)
    for shard in built[0].glob("webdataset/*.tar"):
        with tarfile.open(shard) as tar:
            keys = [name.partition(".")[0] for name in tar.getnames()]
            # those of an episode follow one another
            assert [key for key, _ in groupby(keys)] == list(dict.fromkeys(keys))
            splits = {json.loads(found[f"{key}.json"])["split"] for key in keys}
        assert splits == {shard.name.partition("-")[0]}
        assert shard.stat().st_size < 3 * release.header.limits.shard_bytes


def test_nothing_of_a_camera_is_in_a_release(tmp_path):
    source = with_boxes(tagged(tmp_path, "tagged.mov"))
    path = tmp_path / "film" / "film.mp4"
    path.parent.mkdir()
    made = films.make(source, path, RECIPE)
    Release([(path, made, Split.TRAIN)] * 2).build(tmp_path / "out")
    searched = 0
    for file in (tmp_path / "out").rglob("*"):
        if file.is_file():
            data = file.read_bytes()
            assert MARK not in data
            if file.suffix in (".mp4", ".tar"):
                assert not any(text in data for text in (*NAMES, *TOOLS[:4]))
            searched += 1
    assert searched >= 10


def test_the_card(release, built):
    text = (built[0] / "README.md").read_text()
    _, head, body = text.split("---\n", 2)
    front = yaml.safe_load(head)
    assert front["license"] == "cc-by-4.0" and front["size_categories"] == ["n<1K"]
    assert {each["config_name"] for each in front["configs"]} == {"episodes", "webdataset"}
    for said in (
        "| episodes | 9 |",
        "| frames | 136 |",
        "judge-7b",
        "judge-v2",
        "| no hand | 25.0% |",
        "h264-128-10fps",
    ):
        assert said in body
    # what miners and prompts say is no Markdown, and breaks no table
    assert "Open &#96;a&#96; &#60;drawer&#62; slowly" in body and "яйце &#124; 敲开" in body
    rows = [line for line in body.splitlines() if line.startswith("|")]
    assert all(line.endswith("|") for line in rows)


@pytest.mark.parametrize(
    ("licence", "expected"),
    [("CC0-1.0", "cc0-1.0"), ("ODbL-1.0", "odbl"), ("LicenseRef-own", "other")],
)
def test_licences_by_their_names_at_hugging_face(release, tmp_path, licence, expected):
    one = Release([(release.paths[0], release.episodes[0].film, Split.TRAIN)], licence=licence)
    one.header = HEADER.model_copy(update={"formats": ()})
    assert [file.path for file in one.build(tmp_path)] == ["README.md", "croissant.json"]
    front = yaml.safe_load((tmp_path / "README.md").read_text().split("---\n")[1])
    assert front["license"] == expected
    assert json.loads((tmp_path / "croissant.json").read_text())["license"] == [licence]


def test_croissant(built):
    described = json.loads((built[0] / "croissant.json").read_text())
    files = {file.path: file.sha256 for file in built[1]}
    (parquet,) = (each for each in described["distribution"] if each["@type"] == "cr:FileObject")
    assert parquet["sha256"] == files[parquet["contentUrl"]]
    for each in described["distribution"]:
        if each["@type"] == "cr:FileSet":
            assert list(built[0].glob(each["includes"]))
    fields = {field["name"] for field in described["recordSet"][0]["field"]}
    assert fields == {column.name for column in COLUMNS}
    assert "http://mlcommons.org/croissant/RAI/1.0" in described["conformsTo"]
    assert all(
        described[f"rai:{name}"]
        for name in ("dataCollection", "dataLimitations", "personalSensitiveInformation")
    )


@pytest.mark.parametrize("chosen", [*DataFormat])
def test_one_format_alone(release, tmp_path, chosen):
    one = Release([], HEADER.model_copy(update={"formats": (chosen,)}))
    one.episodes, one.paths = release.episodes[:1], release.paths[:1]
    files = {file.path.partition("/")[0] for file in one.build(tmp_path)}
    assert files == {str(chosen), "README.md", "croissant.json"}


def borders(film, limits, count=5):
    episodes = [episode(index, film) for index in range(count)]
    parts = list(plan(HEADER.model_copy(update={"limits": limits}), iter(episodes)))
    return {
        kind: [part.episodes for part in parts if part.kind == kind]
        for kind in (
            PartKind.LEROBOT_VIDEO,
            PartKind.LEROBOT_DATA,
            PartKind.LEROBOT_EPISODES,
            PartKind.WEBDATASET,
        )
    }


def test_a_file_that_is_exactly_full(release):
    film = release.episodes[0].film
    full = Limits(
        video_bytes=2 * film.bytes, shard_bytes=2 * film.bytes, data_frames=2 * film.frames, episodes=2
    )
    pairs = [(0, 1), (2, 3), (4,)]
    assert set(map(tuple, borders(film, full).values())) == {tuple(pairs)}
    less = Limits(
        video_bytes=2 * film.bytes - 1,
        shard_bytes=2 * film.bytes - 1,
        data_frames=2 * film.frames - 1,
        episodes=9,
    )
    found = borders(film, less)
    assert found.pop(PartKind.LEROBOT_EPISODES) == [(0, 1, 2, 3, 4)]
    assert set(map(tuple, found.values())) == {((0,), (1,), (2,), (3,), (4,))}


def test_a_film_larger_than_a_file_has_one_for_itself(release):
    found = borders(
        release.episodes[0].film, Limits(video_bytes=1, shard_bytes=1, data_frames=1, episodes=9), 2
    )
    assert (
        found[PartKind.LEROBOT_VIDEO]
        == found[PartKind.LEROBOT_DATA]
        == found[PartKind.WEBDATASET]
        == [(0,), (1,)]
    )


def test_films_of_other_parameters_are_not_joined(release):
    film = release.episodes[0].film
    other = film.model_copy(update={"parameters": "0" * 64})
    episodes = [episode(0, film), episode(1, other), episode(2, other), episode(3, film)]
    parts = plan(HEADER.model_copy(update={"limits": Limits()}), iter(episodes))
    assert [part.episodes for part in parts if part.kind == PartKind.LEROBOT_VIDEO] == [(0,), (1, 2), (3,)]


@pytest.mark.parametrize(
    "numbers", [[(1, "train")], [(0, "train"), (2, "train")], [(0, "test"), (1, "train")], []]
)
def test_episodes_in_another_order(release, numbers):
    film = release.episodes[0].film
    with pytest.raises(ValueError):
        list(plan(HEADER, iter([episode(index, film, Split(split)) for index, split in numbers])))


@pytest.mark.parametrize("indices", [(0, 2), (0, 0)])
def test_tasks_that_are_not_numbered(release, tmp_path, indices):
    film = release.episodes[0].film
    episodes = [
        episode(number, film, task=TASKS[number], task_index=index) for number, index in enumerate(indices)
    ]
    part = Part(path="tasks.parquet", kind=PartKind.LEROBOT_TASKS, size="128x72")
    with pytest.raises(ValueError, match="tasks"):
        build(part, HEADER, episodes, lambda one: None, tmp_path)
    assert list(tmp_path.iterdir()) == []


def test_a_film_that_is_another_is_noticed(release, tmp_path):
    (part,) = (part for part in plan(HEADER, release.episodes[:1]) if part.kind == PartKind.LEROBOT_VIDEO)
    with pytest.raises(TransientError, match="frames instead of"):
        build(part, HEADER, release.episodes[:1], lambda one: release.paths[4], tmp_path)
    assert not list(tmp_path.rglob("*.mp4"))


def test_a_plan_of_many_episodes_takes_little_memory(release):
    film = release.episodes[0].film.model_copy(update={"bytes": 5_000_000, "frames": 900})
    one = episode(0, film)

    class Numbered:
        split, film = one.split, one.film

        def __init__(self, index):
            self.index = index

    header = HEADER.model_copy(update={"limits": Limits()})

    def peak(count):
        tracemalloc.start()
        files = sum(1 for _ in plan(header, map(Numbered, range(count))))
        memory = tracemalloc.get_traced_memory()[1]
        tracemalloc.stop()
        return files, memory

    few, many = peak(2_000), peak(20_000)
    assert many[0] > 9 * few[0]
    assert many[1] < few[1] + 2**20
