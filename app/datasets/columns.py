"""What is told of each episode, under the same names in all formats."""

import json
import types
import typing
from collections.abc import Callable
from dataclasses import dataclass
from datetime import UTC, date, datetime
from typing import Any

from app.attributes.model import Attributes
from app.datasets.model import Episode

# the types of columns: a value of none of them is told as JSON
TYPES = (bool, int, float, str, date, datetime)
# of the attributes
MEANINGS = {
    "hands_none": "share of frames without a hand",
    "hands_one": "share of frames with one hand",
    "hands_two": "share of frames with two hands or more",
    "shake": "how far the camera is from its own smoothed path, of the picture's width",
    "motion": "mean difference of pictures half a second apart, of 1",
    "cuts": "jumps to another picture",
    "faces": "share of frames with a face, before it is blurred",
    "faces_most": "most faces in a frame",
    "text": "share of frames with writing",
    "speech": "share of the original sound that is speech; the sound itself is not in the release",
    "plates": "share of frames with what may be a number plate that can be read",
    "screens": "share of frames with a screen or a page that can be read",
    "flags": "where plates and screens can be read: kind, second of the film, box; JSON",
    "by": "what measured each attribute; JSON",
}


@dataclass(frozen=True)
class Column:
    """A column: its name, one of TYPES, how to read it off an episode, and what it means."""

    name: str
    type: type
    read: Callable[[Episode], Any]
    meaning: str


def record(episode: Episode) -> dict[str, Any]:
    """Return the values of all columns; None where nothing is known."""
    return {column.name: column.read(episode) for column in COLUMNS}


def json_record(episode: Episode) -> dict[str, Any]:
    """Return the values of all columns as JSON holds them."""
    return {
        name: value.isoformat() if isinstance(value, date) else value
        for name, value in record(episode).items()
    }


def canonical_json(value: Any) -> str:
    """Return JSON that is the same for equal values."""
    return json.dumps(value, ensure_ascii=False, sort_keys=True, separators=(",", ":"))


def _attributes() -> list[Column]:
    return [_attribute(name, info.annotation) for name, info in Attributes.model_fields.items()]


def _attribute(name: str, annotation: Any) -> Column:
    is_union = typing.get_origin(annotation) in (types.UnionType, typing.Union)
    options = typing.get_args(annotation) if is_union else (annotation,)
    (found,) = (option for option in options if option is not type(None))
    # a number with bounds
    found = typing.get_args(found)[0] if typing.get_origin(found) is typing.Annotated else found
    plain = found in TYPES

    def read(episode: Episode) -> Any:
        if episode.attributes is None:
            return None
        if plain:
            return getattr(episode.attributes, name)
        value = episode.attributes.model_dump(mode="json", include={name})[name]
        return None if value is None else canonical_json(value)

    return Column(f"attribute_{name}", found if plain else str, read, MEANINGS.get(name, ""))


COLUMNS = (
    Column("release_index", int, lambda e: e.index, "place in the release, from 0"),
    Column("split", str, lambda e: str(e.split), "train, validation or test; it never changes"),
    Column("submission", str, lambda e: e.uuid, "UUID of the submission"),
    Column("prompt_id", str, lambda e: e.prompt_id, "what the miner was asked to film"),
    Column("task", str, lambda e: e.task, "the task in words"),
    Column("category", str, lambda e: str(e.category), "kind of task"),
    Column("scenario", str, lambda e: e.scenario, "where and how the task was to be done"),
    Column("camera_type", str, lambda e: str(e.camera_type), "where the camera was worn, declared"),
    Column("actor_type", str, lambda e: str(e.actor_type), "who acts, declared"),
    Column(
        "camera_intrinsics",
        str,
        lambda e: None if e.intrinsics is None else canonical_json(e.intrinsics),
        "declared by the miner, of the original picture; JSON",
    ),
    Column("score_technical", float, lambda e: e.technical_score, "share of technical checks passed"),
    Column("score_relevance", float, lambda e: e.relevance_score, "how well it shows the task, by the judge"),
    Column("score_quality", float, lambda e: e.quality_score, "measured quality"),
    Column("score_final", float, lambda e: e.final_score, "0.2 technical + 0.5 relevance + 0.3 quality"),
    Column("judge_model", str, lambda e: e.judged.model, "model that judged"),
    Column("judge_prompt_version", str, lambda e: e.judged.prompt_version, "version of what it was asked"),
    Column("judge_software", str, lambda e: e.judged.software, "version of Kibotos that evaluated"),
    Column("miner_hotkey", str, lambda e: e.hotkey, "who filmed: a public key"),
    Column("cycle", int, lambda e: e.cycle, "cycle of the submission"),
    Column("submitted_at", datetime, lambda e: e.submitted_at.astimezone(UTC), "when it was submitted"),
    Column("licence", str, lambda e: e.licence, "SPDX identifier"),
    Column("consent_hash", str, lambda e: e.consent_hash, "SHA-256 of what the filmed people agreed to"),
    Column("consent_version", str, lambda e: e.consent_version, "version of that text"),
    Column("consent_date", date, lambda e: e.consent_date, "when they agreed"),
    Column("source_sha256", str, lambda e: e.source_sha256, "of the file that was submitted"),
    Column("source_width", int, lambda e: e.film.source_width, "of the original, in square pixels"),
    Column("source_height", int, lambda e: e.film.source_height, "of the original, in square pixels"),
    Column("source_fps", float, lambda e: e.film.source_fps, "mean frame rate of the original"),
    Column("film_sha256", str, lambda e: e.film.sha256, "of the film alone, as in WebDataset"),
    Column("film_bytes", int, lambda e: e.film.bytes, "length of the film alone"),
    Column("film_recipe", str, lambda e: e.film.recipe, "how the film was made"),
    Column("codec", str, lambda e: str(e.film.codec), "of the film"),
    Column("fps", int, lambda e: e.film.fps, "frames a second, constant"),
    Column("frames", int, lambda e: e.film.frames, "of the film"),
    Column("seconds", float, lambda e: e.film.seconds, "frames / fps"),
    Column("width", int, lambda e: e.film.width, "of the film, in pixels"),
    Column("height", int, lambda e: e.film.height, "of the film, in pixels"),
    Column("picture_left", int, lambda e: e.film.picture[0], "where the picture begins; the rest is black"),
    Column("picture_top", int, lambda e: e.film.picture[1], "where the picture begins"),
    Column("picture_width", int, lambda e: e.film.picture[2], "of the picture in the film"),
    Column("picture_height", int, lambda e: e.film.picture[3], "of the picture in the film"),
    *_attributes(),
)
