"""What workers do for releases, one task at a time: a film, a file, or the step from one state to the next.

Each task ends in a state that is written once, under its lease. So any number of workers may be at it, and a
task whose worker was killed is done again, with the same bytes.
"""

import tempfile
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import structlog
from flask import current_app
from sqlalchemy.exc import SQLAlchemyError

from app.assessment.model import LeaseLost
from app.attributes.look import Look, look
from app.clients.storage import Storage
from app.datasets import build as datasets
from app.datasets.model import BuiltFile, Episode, Header
from app.datasets.plan import Part, plan
from app.db import db, describe, is_away
from app.enums import Dependency, ReleaseState
from app.errors import TransientError, Unavailable
from app.leases import Lease, kill_group
from app.releases import manifest, places, queries, service, tasks
from app.releases.models import Release, Task, TaskKind
from app.releases.recipes import read_recipe
from app.releases.tasks import FilmWork
from app.video import film
from app.video.download import download
from app.video.ffmpeg import MediaFault
from app.video.film import Film, Recipe

log = structlog.get_logger(__name__)

LEASE_SECONDS = 30.0
# attempts that end without a film or a file, though storage and database are there
MAX_ATTEMPTS = 5
URL_SECONDS = 6 * 3600
# far above what an evaluation accepts, and what a file of a release may have
MAX_BYTES = 2**36
MAX_CARD_CHARACTERS = 100_000


# of the film that a recipe makes of a source; the last checks the lease
TakeLook = Callable[[Path, Recipe, Callable[[], None]], Look]


class FilmLost(Exception):
    """The stored film of `episode` is not what was made."""

    def __init__(self, episode: Episode, release: Release):
        super().__init__(f"The stored film of {episode.uuid} is not what was made.")
        self.episode = episode
        self.release = release


class Spent(Exception):
    """A task ends without success. The message says why."""


def check_tools() -> None:
    """Raise TransientError, with what to do, if this machine lacks what builds releases."""
    datasets.check()


def work_next(
    worker: str, storage: Storage, on_loss: Callable[[], None] = kill_group, take_look: TakeLook = look
) -> bool:
    """Do what is due next, if nobody else has it; return False if nothing is due.

    `take_look` says what is seen of a film, and what is blurred in it. The task ends with a result, or waits
    for another attempt. Raises SQLAlchemyError if nothing can be claimed.
    """
    began = time.monotonic()
    task = tasks.claim(worker, LEASE_SECONDS)
    db.session.commit()
    if task is None:
        return False
    structlog.contextvars.bind_contextvars(task=task.kind.value, task_id=task.id, attempt=task.attempts)
    app = current_app._get_current_object()  # type: ignore[attr-defined]
    with Lease(app, task.subject, partial(_extend, task), began, LEASE_SECONDS, on_loss) as lease:
        _do(task, lease, storage, take_look)
    structlog.contextvars.unbind_contextvars("task", "task_id", "attempt")
    return True


def return_all(worker: str, reason: str, is_innocent: bool) -> None:
    """Let others claim at once what a worker held that was killed. To be asked to stop is nobody's fault."""
    tasks.return_all(worker, reason, is_innocent)
    db.session.commit()


def _extend(task: Task, seconds: float) -> None:
    extended = tasks.extend(task, seconds)
    db.session.commit()
    if not extended:
        raise LeaseLost(f"The lease on {task.subject} has ended.")


def _do(task: Task, lease: Lease, storage: Storage, take_look: TakeLook) -> None:
    try:
        if task.attempts > MAX_ATTEMPTS:
            # whoever had it before was lost with it
            raise Spent(task.last_fault or f"{MAX_ATTEMPTS} workers were lost with it.")
        with tempfile.TemporaryDirectory(prefix="release-") as directory:
            into = Path(directory)
            match task.kind:
                case TaskKind.FILM:
                    _make_film(task, lease, storage, into, take_look)
                case TaskKind.PART:
                    _write_part(task, lease, storage, into)
                case TaskKind.STEP:
                    _step(task, lease, storage, into)
    except LeaseLost as lost:
        log.warning("lease_lost", reason=str(lost))
    except FilmLost as lost:
        _make_again(lost, task, lease, storage)
    except (MediaFault, Spent) as fault:
        _fail(task, lease, str(fault))
    except Unavailable as fault:
        _give_back(task, lease, fault.detail, is_innocent=True)
    except TransientError as fault:
        _give_back(task, lease, fault.reason, is_innocent=fault.dependency == Dependency.STORAGE)
    except SQLAlchemyError as error:
        log.warning("release_task_broke_off", error=describe(error))
        _give_back(task, lease, f"The database: {describe(error)}", is_innocent=is_away(error))
    except Exception as error:
        log.exception("release_task_broke_off")
        _give_back(task, lease, f"{type(error).__name__}: {error}", is_innocent=False)


def _make_again(lost: FilmLost, task: Task, lease: Lease, storage: Storage) -> None:
    """Have a film made again, and then the files of its release."""

    def let_go_back() -> bool:
        tasks.remake_film(lost.episode.source_sha256, lost.episode.film.recipe)
        service.restart(lost.release.id, lost.release.name, storage)
        return True

    log.warning("release_film_lost", reason=str(lost))
    try:
        _write(lease, let_go_back)
    except Unavailable as fault:
        _give_back(task, lease, fault.detail, is_innocent=True)


def _fail(task: Task, lease: Lease, reason: str) -> None:
    db.session.rollback()
    log.warning("release_task_failed", reason=reason)
    _write(lease, lambda: tasks.fail(task, reason))


def _give_back(task: Task, lease: Lease, reason: str, is_innocent: bool) -> None:
    db.session.rollback()
    if not is_innocent and task.attempts >= MAX_ATTEMPTS:
        _fail(task, lease, reason)
        return
    log.warning("release_task_waits", reason=reason)
    _write(lease, lambda: tasks.give_back(task, reason, is_innocent))


def _write(lease: Lease, access: Callable[[], bool]) -> None:
    """Write what came of a task, if its lease still lasts."""

    def write() -> bool:
        written = access()
        db.session.commit()
        return written

    try:
        if not lease.ride_out(write):
            log.warning("lease_lost", reason="What came of it was not written.")
    except LeaseLost as lost:
        log.warning("lease_lost", reason=str(lost))


def _read(lease: Lease, access: Callable[[], Any]) -> Any:
    """Return what `access` reads, and hold no connection afterwards."""

    def read() -> Any:
        found = access()
        db.session.rollback()
        return found

    return lease.ride_out(read)


def _make_film(task: Task, lease: Lease, storage: Storage, directory: Path, take_look: TakeLook) -> None:
    """Make the film of a submission's video, with what is seen in it, and store both."""
    work = _read(lease, lambda: tasks.find_film(task))
    made, seen, into = make_film(work, storage, directory, lease.check, take_look)
    masks, told = directory / "masks.json", directory / "film.json"
    seen.masks.write(masks)
    told.write_text(f'{{"film":{made.model_dump_json()},"attributes":{seen.attributes.model_dump_json()}}}\n')
    for ending, path in {".mp4": into, ".json": told, ".masks.json": masks}.items():
        lease.check()
        key = places.film_key(work.source_sha256, work.recipe, ending)
        storage.put_file(key, path, places.FILM_ENDINGS[ending])
    _write(
        lease,
        lambda: tasks.finish_film(task, made.model_dump_json(), seen.attributes.model_dump_json()),
    )
    log.info("film_made", submission=str(work.submission_uuid), seconds=made.seconds, bytes=made.bytes)


def make_film(
    work: FilmWork, storage: Storage, directory: Path, check: Callable[[], None], take_look: TakeLook
) -> tuple[Film, Look, Path]:
    """Make a film in `directory`: return what it is, what was seen in it, and its path.

    Raises MediaFault if it cannot be made of these bytes, or if they are not those that were submitted.
    """
    source, into = directory / "source", directory / "film" / "film.mp4"
    into.parent.mkdir()
    url = storage.presign_get(work.video_key, URL_SECONDS, public=False)
    found = download(url, source, MAX_BYTES, check)
    if found != work.source_sha256:
        raise MediaFault(f"The stored bytes have the hash {found}, not the one that the miner signed.")
    recipe = read_recipe(work.recipe)
    seen = take_look(source, recipe, check)
    return film.make(source, into, recipe, edit=seen.masks.blur, check_lease=check), seen, into


class Films:
    """The films of a part, downloaded when they are asked for. They go with their directory."""

    def __init__(self, release: Release, storage: Storage, directory: Path, check: Callable[[], None]):
        self._release = release
        self._storage = storage
        self._directory = directory
        self._check = check

    def film(self, episode: Episode) -> Path:
        path = self._fetch(episode, ".mp4")
        if places.hash_file(path) != episode.film.sha256:
            raise FilmLost(episode, self._release)
        return path

    def masks(self, episode: Episode) -> Path:
        return self._fetch(episode, ".masks.json")

    def _fetch(self, episode: Episode, ending: str) -> Path:
        path = self._directory / f"{episode.source_sha256}{ending}"
        if not path.exists():
            key = places.film_key(episode.source_sha256, episode.film.recipe, ending)
            url = self._storage.presign_get(key, URL_SECONDS, public=False)
            part = path.with_suffix(".part")
            try:
                download(url, part, MAX_BYTES, self._check)
            except MediaFault as fault:
                raise FilmLost(episode, self._release) from fault
            part.rename(path)
        return path


def header(release: Release) -> Header:
    """What the files of a release say of it."""
    return Header(
        name=release.name,
        created_at=release.frozen_at,
        formats=tuple(release.formats),  # type: ignore[arg-type]  # pydantic makes enumerations of them
        rules=release.rules,
        versions=release.software,
        predecessor=release.predecessor,
    )


def _write_part(task: Task, lease: Lease, storage: Storage, directory: Path) -> None:
    """Write a file of a release, and store it."""
    work = _read(lease, lambda: tasks.find_part(task))
    if work is None:
        raise LeaseLost("The release has gone back to its films.")
    release = _read(lease, lambda: queries.find(work.release))
    part = Part.model_validate(work.part)
    built, path = write_part(part, release, storage, directory, lease.check)
    storage.put_file(places.file_key(work.release, part.path), path, places.content_type(part.path))
    _write(lease, lambda: tasks.finish_part(task, built.sha256, built.bytes))
    log.info("release_file_written", release=work.release, path=part.path, bytes=built.bytes)


def write_part(
    part: Part, release: Release, storage: Storage, directory: Path, check: Callable[[], None]
) -> tuple[BuiltFile, Path]:
    """Write a file of a release in `directory`; return what it is, and its path. Raises FilmLost."""
    if part.episodes is None:
        episodes = queries.iterate_episodes(release.id)
    else:
        episodes = queries.iterate_episodes_of(release.id, part.episodes)
    into, kept = directory / "out", directory / "films"
    into.mkdir()
    kept.mkdir()
    films = Films(release, storage, kept, check)
    others = queries.iterate_files(release.id, but_last=True) if part.last else ()
    built = datasets.build(part, header(release), episodes, films.film, into, films.masks, others)
    db.session.rollback()
    check()
    return built, into / part.path


def _step(task: Task, lease: Lease, storage: Storage, directory: Path) -> None:
    """Bring a release to its next state."""
    release = _read(lease, lambda: queries.find(tasks.find_step(task)))
    if release.state == ReleaseState.FILMS:
        _plan(task, release)
    else:
        _complete(task, release, lease, storage, directory)


def _plan(task: Task, release: Release) -> None:
    """Settle what is in a release, and of which files it is. One transaction, that asks the database."""
    tasks.take_time()
    if not queries.settle(release.id):
        db.session.rollback()
        raise Spent("None of its films could be made. Its episodes that were left out say why.")
    queries.insert_parts(release.id, plan(header(release), queries.iterate_episodes(release.id)))
    if not tasks.step(task, ReleaseState.PARTS):
        db.session.rollback()
        raise LeaseLost("The release was planned by another worker.")
    db.session.commit()
    log.info("release_planned", release=release.name)


def _complete(task: Task, release: Release, lease: Lease, storage: Storage, directory: Path) -> None:
    """Write the manifest of a release all of whose files are written."""
    if _read(lease, lambda: queries.has_taken_down(release.id)):
        # the tick lets it go back to its films
        raise TransientError("A film of it was taken down meanwhile.")
    path = directory / places.MANIFEST
    digest = manifest.write(
        path,
        _describe(release),
        queries.iterate_episodes(release.id),
        queries.iterate_left_out(release.id),
        queries.iterate_files(release.id),
    )
    db.session.rollback()
    card = storage.read(places.file_key(release.name, "README.md"), 4 * MAX_CARD_CHARACTERS) or b""
    storage.put_file(
        places.file_key(release.name, places.MANIFEST), path, places.content_type(places.MANIFEST)
    )

    def complete() -> bool:
        figures = queries.find_figures(release.id)
        return tasks.complete(task, digest, figures, card.decode()[:MAX_CARD_CHARACTERS])

    _write(lease, complete)
    log.info("release_complete", release=release.name, manifest_sha256=digest)


def _describe(release: Release) -> dict[str, Any]:
    """The first line of a manifest."""
    return {
        "name": release.name,
        "rules": release.rules,
        "formats": release.formats,
        "recipe": release.recipe,
        "predecessor": release.predecessor,
        "frozen_at": release.frozen_at.isoformat(),
        "software": release.software,
    }
