"""Releases made without a server: real films of real footage, and what is told of them."""

import hashlib
import uuid
from datetime import UTC, date, datetime, timedelta

from app.attributes.masks import Masks
from app.attributes.model import Attributes
from app.datasets.build import build
from app.datasets.model import Episode, Header, Judged, Limits
from app.datasets.plan import plan
from app.enums import ActorType, CameraType, Category, DataFormat, Split
from app.video import film as films

RECIPE = films.Recipe(long_side=128, fps=10, gop=5)
HEADER = Header(
    name="egg-2026",
    created_at=datetime(2026, 3, 1, 12, tzinfo=UTC),
    formats=tuple(DataFormat),
    rules={"min_score": 0.7, "category": ["household"]},
    versions={"kibotos": "0.1.0"},
    # small, so that few films fill several files
    limits=Limits(video_bytes=30_000, shard_bytes=40_000, data_frames=60, episodes=4),
)
SEEN = Attributes(
    hands_none=0.25,
    hands_one=0.25,
    hands_two=0.5,
    shake=0.01,
    motion=0.4,
    cuts=0,
    by={"hands_none": "palms 1"},
)
TASKS = ("Crack an egg", "Розбити яйце | 敲开一个鸡蛋 🥚", "Open `a` <drawer>\nslowly")


def filmed(videos, seconds=2.0, recipe=RECIPE, edit=None, **wish):
    """Return the path of a film made of footage, and its Film."""
    source = videos.make(seconds=seconds, **wish)
    name = hashlib.sha256(f"{source.name} {recipe.name}".encode()).hexdigest()[:16]
    directory = videos.directory / f"film-{name}"
    directory.mkdir(exist_ok=True)
    path = directory / "film.mp4"
    return path, films.make(source, path, recipe, edit)


def episode(index, film, split=Split.TRAIN, **changes):
    """Return an episode with this film; `changes` are other values."""
    values = {
        "index": index,
        "split": split,
        "uuid": str(uuid.UUID(int=index + 1)),
        "source_sha256": hashlib.sha256(str(index).encode()).hexdigest(),
        "prompt_id": f"prompt-{index % 3}",
        "task": TASKS[index % 3],
        "task_index": index % 3,
        "category": Category.HOUSEHOLD,
        "scenario": "A kitchen",
        "technical_score": 1.0,
        "relevance_score": 0.8,
        "quality_score": 0.9,
        "final_score": 0.87,
        "camera_type": CameraType.EGO_HEAD,
        "actor_type": ActorType.HUMAN,
        "intrinsics": {"fx": 500.0, "fy": 500.0} if index % 2 else None,
        "hotkey": f"5F{index % 4:046}",
        "cycle": index // 4 or None,
        "submitted_at": datetime(2026, 1, 1, 10, 30, tzinfo=UTC) + timedelta(days=index),
        "licence": "CC-BY-4.0",
        "consent_hash": "ab" * 32 if index % 2 else None,
        "consent_version": "2" if index % 2 else None,
        "consent_date": date(2026, 1, 1) if index % 2 else None,
        "judged": Judged(model="judge-7b", prompt_version="judge-v2", software="0.1.0"),
        "film": film,
        "attributes": SEEN if index % 2 else None,
    }
    return Episode(**values | changes)


class Release:
    """A release of the films given: (path, Film, split) each, in order."""

    def __init__(self, made, header=HEADER, **changes):
        self.header = header
        self.paths = [path for path, _, _ in made]
        self.episodes = [
            episode(index, film, split, **changes) for index, (_, film, split) in enumerate(made)
        ]

    def masks(self, one):
        path = self.paths[one.index].with_name("masks.json")
        Masks(by="faces 1", frames=one.film.frames, boxes={0: ((1, 2, 3, 4),)}).write(path)
        return path if one.index % 2 else None

    def build(self, into):
        """Build all files into a directory, and return them."""
        parts = list(plan(self.header, iter(self.episodes)))
        assert [part.last for part in parts] == sorted(part.last for part in parts)
        built = []
        for part in parts:
            chosen = self.episodes if part.episodes is None else [self.episodes[i] for i in part.episodes]
            # as a part comes back from a database
            part = type(part).model_validate_json(part.model_dump_json())
            built.append(
                build(
                    part,
                    self.header,
                    iter(chosen),
                    lambda one: self.paths[one.index],
                    into,
                    self.masks,
                    built,
                )
            )
        return built


def assorted(videos):
    """Return films of two shapes and several lengths, in all splits."""
    wishes = [
        ("bikes", 0, 2.0, "320x180", Split.TRAIN),
        ("bunny", 1, 1.1, "320x180", Split.TRAIN),
        ("bikes", 3, 3.0, "320x240", Split.TRAIN),
        ("bunny", 2, 0.7, "320x180", Split.TRAIN),
        ("bikes", 5, 2.5, "320x180", Split.TRAIN),
        ("bikes", 2, 0.1, "320x180", Split.VALIDATION),
        ("bikes", 1, 1.3, "320x180", Split.VALIDATION),
        ("bunny", 0, 1.9, "320x240", Split.TEST),
        ("bunny", 3, 1.0, "320x180", Split.TEST),
    ]
    return [
        (*filmed(videos, seconds=seconds, source=source, start=start, size=size), split)
        for source, start, seconds, size, split in wishes
    ]
