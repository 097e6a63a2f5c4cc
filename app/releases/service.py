"""The rules of releases: what is in one, and what becomes of it when a video is taken down."""

from __future__ import annotations

import re
from collections.abc import Sequence
from importlib.metadata import PackageNotFoundError, version
from typing import TYPE_CHECKING

import structlog
from redis import Redis

from app.clients.storage import Storage
from app.config import Settings
from app.db import autocommit, db
from app.enums import DataFormat
from app.errors import Conflict, NotFound, Unavailable, invalid_field
from app.queue import MAX_QUEUED, RELEASES, count_queued, enqueue_releases
from app.releases import freezing, places, queries, splits, tasks
from app.releases.models import Release, Rules
from app.version import VERSION

if TYPE_CHECKING:
    # it loads numpy, which web processes do without
    from app.video.film import Recipe

log = structlog.get_logger(__name__)

NAME = re.compile(r"[a-z0-9]([a-z0-9._-]{0,61}[a-z0-9])?")
# where the films lie, which all releases share
RESERVED = ("films",)
# what the bytes of a release follow from, besides ffmpeg, which each film names itself
_PACKAGES = ("pyarrow", "numpy", "opencv-python-headless")
# of each kind, in one round of the tick
AT_MOST = 100


def create(
    name: str,
    rules: Rules,
    formats: Sequence[DataFormat],
    recipe: Recipe,
    settings: Settings,
    predecessor: str | None = None,
) -> Release:
    """Freeze a release and return it. Workers build it from then on.

    If there is one of this name that is made by the same rules, it goes on; a failed one tries again. With a
    `predecessor`, the release holds of that one's episodes those that may still be given out, and no others.
    Raises Invalid for the name, Conflict if another release has it or if no submission fits the rules, and
    NotFound if there is no such predecessor.
    """
    if not NAME.fullmatch(name) or name in RESERVED:
        raise invalid_field(
            "name",
            "use 1 to 63 small letters, digits, dots, hyphens and underscores, with a letter or digit at "
            f"both ends, and not the name {', '.join(RESERVED)}.",
        )
    formats = [each for each in DataFormat if each in formats]
    before = get(predecessor) if predecessor is not None else None
    if (found := queries.find(name)) is None:
        _freeze(name, rules, formats, recipe, settings, before)
    else:
        _check_same(found, rules, formats, recipe, predecessor)
        queries.try_again(found.id)
        db.session.commit()
    return get(name)


def _check_same(
    found: Release, rules: Rules, formats: Sequence[DataFormat], recipe: Recipe, predecessor: str | None
) -> None:
    given = {
        "rules": (Rules.model_validate(found.rules), rules),
        "formats": (found.formats, [each.value for each in formats]),
        "recipe": (found.recipe, recipe.name),
        "predecessor": (found.predecessor, predecessor),
    }
    if differing := [what for what, (old, new) in given.items() if old != new]:
        raise Conflict(
            f"There is a release {found.name} already, with other {' and '.join(differing)}, and a release "
            "never changes. Choose another name, or give the same options."
        )


def _freeze(
    name: str,
    rules: Rules,
    formats: Sequence[DataFormat],
    recipe: Recipe,
    settings: Settings,
    predecessor: Release | None,
) -> None:
    """Choose the episodes of a release. One transaction: it is frozen, or nothing has happened."""
    freezing.lock()
    predecessor_id = predecessor.id if predecessor else None
    id = queries.insert(name, rules, formats, recipe.name, predecessor_id, _software())
    if id is None:
        db.session.rollback()
        raise Conflict(f"A release {name} was just created; try again to go on with it.")
    chosen = freezing.choose(rules, recipe.name, predecessor_id, settings.default_licence)
    freezing.link()
    new = splits.assign(freezing.list_hotkeys(), freezing.list_links(), freezing.list_splits())
    freezing.insert_splits(new)
    freezing.leave_out_shared()
    if not chosen.episodes or not _has_any(id, recipe):
        db.session.rollback()
        raise Conflict(_why_empty(chosen))
    db.session.commit()
    log.info("release_frozen", release=name, chosen=chosen.episodes, unlicensed=chosen.unlicensed)


def _has_any(id: int, recipe: Recipe) -> bool:
    chosen = freezing.insert_episodes(id, recipe.name)
    queries.set_chosen(id, chosen)
    return chosen > 0


def _why_empty(chosen: freezing.Chosen) -> str:
    if chosen.unlicensed:
        return (
            f"{chosen.unlicensed:,} accepted submissions fit, but for their licence: they have none that the "
            "release may hold. Set DEFAULT_LICENCE if your terms give them one, or choose others."
        )
    return "No accepted submission fits these rules. Nothing was created; choose others."


def _software() -> dict[str, str]:
    versions = {"kibotos": VERSION}
    for package in _PACKAGES:
        try:
            versions[package] = version(package)
        except PackageNotFoundError:
            continue
    return versions


def get(name: str) -> Release:
    """Return a release; raise NotFound if there is none of this name."""
    found = queries.find(name)
    if found is None:
        raise NotFound(f"There is no release {name[:80]!r}; the list of releases has all there are.")
    return found


def tend(storage: Storage, redis: Redis) -> None:
    """Delete what was taken down, let releases go back that held it, and queue what is due.

    Storage comes last: nothing waits while it is away.
    """
    dispatch(redis)
    delete_taken_down(storage)


def dispatch(redis: Redis) -> int:
    """Queue a job for what is due and has none; return how many. Raises RedisError."""
    with autocommit():
        due = tasks.count_due(MAX_QUEUED)
    return enqueue_releases(redis, due - count_queued(redis, RELEASES))


def delete_taken_down(storage: Storage) -> None:
    """Delete the films of videos that were taken down, and the files of releases that hold something of them.

    A release that was being written goes back to its films, and is written without them. Ends without an
    error when storage is away; the next round goes on.
    """
    try:
        for release in tasks.list_to_restart(AT_MOST):
            restart(release.id, release.name, storage)
        films = tasks.list_films_taken_down(AT_MOST)
        db.session.rollback()
        for film in films:
            for ending in places.FILM_ENDINGS:
                storage.delete(places.film_key(film.source_sha256, film.recipe, ending))
            tasks.note_film_deleted(film.id)
            db.session.commit()
            log.info("release_film_deleted", source_sha256=film.source_sha256)
        files = tasks.list_files_taken_down(AT_MOST)
        db.session.rollback()
        for file in files:
            storage.delete(places.file_key(file.release, file.path))
            tasks.note_file_deleted(file.id)
            db.session.commit()
            log.info("release_file_deleted", release=file.release, path=file.path)
    except Unavailable as error:
        db.session.rollback()
        log.warning("taken_down_not_deleted", reason=error.detail)


def restart(id: int, name: str, storage: Storage) -> None:
    """Let a release that is being written go back to its films. Raises Unavailable, changing nothing."""
    tasks.restart(id)
    # nobody writes them any longer: what is deleted stays deleted, whoever dies now
    for path in queries.undo_parts(id):
        storage.delete(places.file_key(name, path))
    db.session.commit()
    log.warning("release_restarted", release=name)


def inherit(predecessor: str, formats: Sequence[str]) -> tuple[Rules, Recipe, tuple[str, ...]]:
    """What a successor has of a release: its rules, its films, and its formats unless others are given."""
    from app.releases.recipes import read_recipe

    before = get(predecessor)
    return Rules.model_validate(before.rules), read_recipe(before.recipe), tuple(formats or before.formats)
