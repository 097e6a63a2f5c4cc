"""Opens an exported release by the readers that people have, unmodified, and compares what they read."""

import glob
import hashlib
import io
import json
import tarfile

import av
import duckdb
import mlcroissant
import numpy as np
import pandas
import pyarrow.parquet as pq
import pytest
import torch
import webdataset

# torchvision's compiled operators do not load beside a torch without CUDA, and none of them is needed
_register = torch.library.register_fake


def _register_fake(name, *arguments, **options):
    if isinstance(name, str) and name.startswith("torchvision::"):
        return lambda function: function
    return _register(name, *arguments, **options)


torch.library.register_fake = _register_fake

import datasets  # noqa: E402
from huggingface_hub import DatasetCard  # noqa: E402
from lerobot.datasets.lerobot_dataset import LeRobotDataset  # noqa: E402

VIDEO = "observation.images.ego"
# frames of a film that is decoded by another library differ by the rounding of colours alone
CLOSE = 3.0


@pytest.fixture(scope="session")
def samples(export):
    """What WebDataset's files hold, read by tarfile: {submission: {extension: bytes}}."""
    found = {}
    for shard in sorted(export.glob("webdataset/*.tar")):
        with tarfile.open(shard) as tar:
            for member in tar:
                key, extension = member.name.split(".", 1)
                found.setdefault(key, {})[extension] = tar.extractfile(member).read()
    return found


@pytest.fixture(scope="session")
def rows(export):
    return pq.read_table(export / "parquet/episodes.parquet").to_pylist()


def sizes(export):
    return sorted(path.name for path in export.glob("lerobot/*"))


def open_lerobot(export, size):
    return LeRobotDataset(f"kibotos/{size}", root=export / "lerobot" / size)


def frames_of(film):
    with av.open(io.BytesIO(film)) as container:
        return [frame.to_ndarray(format="rgb24") for frame in container.decode(video=0)]


def chosen_episodes(meta):
    """The episodes at the borders of files, and a few others."""
    episodes = list(meta.episodes)
    files = [
        (e[f"videos/{VIDEO}/file_index"], e["data/file_index"], e["meta/episodes/file_index"])
        for e in episodes
    ]
    last = len(episodes) - 1
    borders = {i for i in range(last) if files[i] != files[i + 1]} | {
        i + 1 for i in range(last) if files[i] != files[i + 1]
    }
    return sorted({0, last // 2, last} | set(sorted(borders)[:12]))


def test_lerobot_reads_the_frames_of_the_films(export, samples):
    compared = 0
    for size in sizes(export):
        data = open_lerobot(export, size)
        for number in chosen_episodes(data.meta):
            episode = data.meta.episodes[number]
            expected = frames_of(samples[episode["submission"]]["mp4"])
            first, past = episode["dataset_from_index"], episode["dataset_to_index"]
            assert past - first == episode["length"] == len(expected)
            for index in range(first, past):
                item = data[index]
                assert item["episode_index"] == number and item["index"] == index
                assert item["frame_index"] == index - first
                assert item["timestamp"].item() == pytest.approx((index - first) / data.fps, abs=1e-4)
                assert item["task"] == episode["task"] == episode["tasks"][0]
                picture = (item[VIDEO].permute(1, 2, 0) * 255).numpy()
                difference = np.abs(picture - expected[index - first]).mean()
                others = [
                    expected[other]
                    for other in (index - first - 1, index - first + 1)
                    if 0 <= other < len(expected)
                ]
                assert difference < CLOSE
                assert all(difference <= np.abs(picture - other).mean() for other in others)
                compared += 1
    print(f"\n{compared} frames compared")
    assert compared


def test_lerobot_knows_all_episodes(export, rows):
    by_submission = {row["submission"]: row for row in rows}
    seen = {}
    for size in sizes(export):
        data = open_lerobot(export, size)
        assert len(data) == data.meta.total_frames == sum(data.meta.episodes["length"])
        assert "action" not in data.features
        assert data.meta.shapes[VIDEO] == (*map(int, reversed(size.split("x"))), 3)
        for split, span in data.meta.info["splits"].items():
            begin, end = map(int, span.split(":"))
            for episode in data.meta.episodes.select(range(begin, end)):
                assert episode["split"] == split
                seen[episode["submission"]] = {name: episode[name] for name in rows[0]}
        stats = data.meta.stats[VIDEO]
        assert stats["mean"].shape == stats["q99"].shape == (3, 1, 1)
        assert (
            (stats["min"] >= 0).all() and (stats["min"] <= stats["mean"]).all() and (stats["max"] <= 1).all()
        )
    assert seen == by_submission


def test_lerobot_batches_and_looks_back(export):
    size = sizes(export)[0]
    data = LeRobotDataset(
        f"kibotos/{size}", root=export / "lerobot" / size, delta_timestamps={VIDEO: [-0.2, 0.0]}
    )
    batch = next(iter(torch.utils.data.DataLoader(data, batch_size=4)))
    assert batch[VIDEO].shape[:3] == (4, 2, 3)


def test_lerobot_reads_some_episodes_alone(export):
    size = sizes(export)[0]
    last = open_lerobot(export, size).meta.total_episodes - 1
    data = LeRobotDataset(f"kibotos/{size}", root=export / "lerobot" / size, episodes=[last])
    assert {data[index]["episode_index"].item() for index in range(len(data))} == {last}


def test_webdataset(export, samples, rows):
    shards = sorted(glob.glob(str(export / "webdataset/*.tar")))
    found = {
        sample["__key__"]: sample
        for sample in webdataset.WebDataset(shards, shardshuffle=False, empty_check=False)
    }
    assert found.keys() == samples.keys() == {row["submission"] for row in rows}
    for key, sample in found.items():
        facts = json.loads(sample["json"])
        assert hashlib.sha256(sample["mp4"]).hexdigest() == facts["film_sha256"]
        assert len(frames_of(sample["mp4"])) == facts["frames"]
        if "masks.json" in sample:
            assert json.loads(sample["masks.json"])["frames"] == facts["frames"]
        assert facts["submission"] == key
    by_split = webdataset.WebDataset(
        sorted(glob.glob(str(export / "webdataset/train-*.tar"))), shardshuffle=False
    ).decode()
    assert {sample["json"]["split"] for sample in by_split} == {"train"}


def test_parquet(export, rows, samples):
    path = str(export / "parquet/episodes.parquet")
    by_duckdb = duckdb.sql(
        f"SELECT submission, task, seconds FROM '{path}' ORDER BY release_index"
    ).fetchall()
    by_pandas = pandas.read_parquet(path)
    assert by_duckdb == [(row["submission"], row["task"], row["seconds"]) for row in rows]
    assert list(by_pandas["task"]) == [row["task"] for row in rows]
    for row in rows:
        facts = json.loads(samples[row["submission"]]["json"])
        assert {
            name: str(value) for name, value in facts.items() if "_at" not in name and value is not None
        } == {name: str(value) for name, value in row.items() if "_at" not in name and value is not None}


def test_croissant(export, rows):
    described = mlcroissant.Dataset(str(export / "croissant.json"))
    assert not described.metadata.ctx.issues.errors, described.metadata.ctx.issues.report()
    assert not described.metadata.ctx.issues.warnings, described.metadata.ctx.issues.report()
    assert str(described.metadata.ctx.conforms_to.value).endswith("/1.1")
    records = list(described.records("episodes"))
    assert [record["episodes/submission"].decode() for record in records] == [
        row["submission"] for row in rows
    ]
    assert [record["episodes/task"].decode() for record in records] == [row["task"] for row in rows]


def test_the_card_is_one_of_hugging_face(export, rows, tmp_path):
    card = DatasetCard.load(export / "README.md")
    assert card.data.license
    card.data.to_yaml()
    loaded = datasets.load_dataset(str(export), "episodes", cache_dir=str(tmp_path))["train"]
    assert loaded["submission"] == [row["submission"] for row in rows]
