"""Builds a complete release once more, from the miners' videos on: the bytes must be the same."""

import tempfile
from collections.abc import Callable
from pathlib import Path

from app.attributes.look import Look
from app.attributes.masks import Masks
from app.attributes.model import Attributes
from app.clients.storage import Storage
from app.db import db
from app.releases import building, places, queries
from app.releases.building import FilmLost, TakeLook
from app.releases.exporting import Problem, require_complete
from app.releases.models import Release
from app.releases.tasks import FilmWork
from app.video.ffmpeg import MediaFault

MAX_MASKS_BYTES = 2**28


def rebuild(release: Release, storage: Storage, tell: Callable[[], None]) -> list[Problem]:
    """Make each film and write each file again; return what is not as it was. `tell` is called after each.

    Nothing is stored. Faces are blurred where the stored masks say: on another kind of processor a box that
    is looked for anew may differ by a rounding. Other versions of the tools may well give other bytes. What
    was taken down is passed over.
    """
    require_complete(release)
    problems = []
    for work, sha256 in queries.iterate_films(release.id):
        db.session.rollback()
        with tempfile.TemporaryDirectory(prefix="release-") as directory:
            try:
                take_look = _stored_look(work, storage)
                made, _, _ = building.make_film(work, storage, Path(directory), _go_on, take_look)
                if made.sha256 != sha256:
                    problems.append(_other(f"the film of {work.submission_uuid}", made.sha256, sha256))
            except MediaFault as fault:
                problems.append(Problem(f"the film of {work.submission_uuid}", str(fault)))
        tell()
    for part, sha256 in queries.iterate_parts(release.id):
        db.session.rollback()
        with tempfile.TemporaryDirectory(prefix="release-") as directory:
            try:
                built, _ = building.write_part(part, release, storage, Path(directory), _go_on)
                if built.sha256 != sha256:
                    problems.append(_other(part.path, built.sha256, sha256))
            except FilmLost as lost:
                problems.append(Problem(part.path, str(lost)))
        tell()
    return problems


def _stored_look(work: FilmWork, storage: Storage) -> TakeLook:
    """What gives the masks that are stored with a film, instead of looking at it once more."""
    stored = storage.read(places.film_key(work.source_sha256, work.recipe, ".masks.json"), MAX_MASKS_BYTES)
    if stored is None:
        raise MediaFault("Its masks are not in storage.")
    masks = Masks.model_validate_json(stored)
    return lambda source, recipe, check: Look(attributes=Attributes(by={}), masks=masks)


def _go_on() -> None:
    """Nothing is leased."""


def _other(path: str, found: str, wanted: str) -> Problem:
    return Problem(path, f"Built again it has the hash {found}, and not {wanted}.")
