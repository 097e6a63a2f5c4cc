"""SQL on what workers do for releases: claims, leases, and what comes of them.

Films, files and the steps of a release are rows of three tables with the same columns for this. `not_before`
is the end of the lease while a row is claimed, so a row whose worker was lost is due again by itself.
"""

import json
from dataclasses import dataclass
from typing import Any
from uuid import UUID

from sqlalchemy import TextClause, text

from app.db import execute, fetch_all, fetch_one, fetch_value
from app.releases.models import Task, TaskKind

_TABLES = {TaskKind.FILM: "release_films", TaskKind.PART: "release_parts", TaskKind.STEP: "releases"}
_FREE = "claim_token = NULL, claimed_by = NULL"
_LEASED = """
    claim_token = gen_random_uuid(), claimed_by = :worker, attempts = attempts + 1,
    not_before = now() + make_interval(secs => :lease_seconds)
"""
_RETURN = "RETURNING x.id, x.claim_token, x.attempts, x.last_fault"
_MINE = "id = :id AND claim_token = :claim_token AND not_before > now()"
# 5 s after the first fault, doubled by each further one up to 10 min, plus or minus a quarter
_BACK_OFF = "make_interval(secs => least(600, 5 * 2 ^ least(faults, 10)) * (0.75 + 0.5 * random()))"

_PART_DUE = """
    x.state = 'PENDING' AND x.not_before <= now() AND NOT (x.is_last AND EXISTS (
        SELECT FROM release_parts other WHERE other.release_id = x.release_id AND other.state = 'PENDING'
          AND NOT other.is_last OFFSET 0))
    AND EXISTS (SELECT FROM releases r WHERE r.id = x.release_id AND r.state = 'PARTS' OFFSET 0)
"""
# looked at when no film is due: then the films that are not made are few
_STEP_DUE = """
    x.state IN ('FILMS', 'PARTS') AND x.not_before <= now()
    AND NOT (x.state = 'FILMS' AND EXISTS (
        SELECT FROM release_films f WHERE f.state = 'PENDING' AND EXISTS (
            SELECT FROM release_episodes e WHERE e.film_id = f.id AND e.release_id = x.id
              AND e.left_out IS NULL OFFSET 0) OFFSET 0))
    AND NOT (x.state = 'PARTS' AND EXISTS (
        SELECT FROM release_parts q WHERE q.release_id = x.id AND q.state = 'PENDING' OFFSET 0))
"""
_DUE = {
    TaskKind.PART: _PART_DUE,
    TaskKind.FILM: "x.state = 'PENDING' AND x.not_before <= now()",
    TaskKind.STEP: _STEP_DUE,
}
# in this order: what was begun is finished first
_CLAIM: dict[TaskKind, TextClause] = {
    kind: text(f"""
        UPDATE {_TABLES[kind]} x SET {_LEASED}
        WHERE x.id = (SELECT x.id FROM {_TABLES[kind]} x WHERE {due}
                      ORDER BY x.not_before, x.id LIMIT 1 FOR UPDATE SKIP LOCKED)
        {_RETURN}
    """)
    for kind, due in _DUE.items()
}
_COUNT_DUE = text(f"""
    SELECT (SELECT count(*) FROM (SELECT FROM release_parts x WHERE {_PART_DUE} LIMIT :at_most) p)
         + (SELECT count(*) FROM (SELECT FROM release_films x WHERE {_DUE[TaskKind.FILM]} LIMIT :at_most) f)
""")
_COUNT_STEPS = text(f"SELECT count(*) FROM releases x WHERE {_STEP_DUE}")
_EXTEND = {
    kind: text(f"""
        UPDATE {table} SET not_before = now() + make_interval(secs => :lease_seconds) WHERE {_MINE}
    """)
    for kind, table in _TABLES.items()
}
_GIVE_BACK = {
    kind: text(f"""
        UPDATE {table} SET {_FREE}, attempts = attempts - CAST(:is_innocent AS integer), faults = faults + 1,
            last_fault = :reason, not_before = now() + {_BACK_OFF}
        WHERE {_MINE}
    """)
    for kind, table in _TABLES.items()
}
_FAIL = {
    kind: text(f"UPDATE {table} SET {_FREE}, state = 'FAILED', {column} = :reason WHERE {_MINE}")
    for kind, (table, column) in {
        TaskKind.FILM: ("release_films", "last_fault"),
        TaskKind.PART: ("release_parts", "last_fault"),
        TaskKind.STEP: ("releases", "failure"),
    }.items()
}
_FAIL_RELEASE_OF = text("""
    UPDATE releases r SET state = 'FAILED', failure = left('The file ' || q.path || ' could not be written: '
        || q.last_fault, 1000), claim_token = NULL, claimed_by = NULL
    FROM release_parts q WHERE q.id = :id AND r.id = q.release_id AND r.state = 'PARTS'
""")
_RETURN_ALL = {
    kind: text(f"""
        UPDATE {table} SET {_FREE}, not_before = now(), attempts = attempts - CAST(:is_innocent AS integer),
            last_fault = :reason
        WHERE claimed_by = :worker AND claim_token IS NOT NULL AND state IN ('PENDING', 'FILMS', 'PARTS')
    """)
    for kind, table in _TABLES.items()
}

_FIND_FILM = text("""
    SELECT s.uuid AS submission_uuid, s.video_key, f.source_sha256, f.recipe
    FROM release_films f JOIN submissions s ON s.id = f.submission_id WHERE f.id = :id
""")
_FINISH_FILM = text(f"""
    UPDATE release_films SET {_FREE}, state = 'DONE', film = CAST(:film AS jsonb),
        attributes = CAST(:attributes AS jsonb), last_fault = NULL, not_before = now()
    WHERE {_MINE}
""")
_FIND_PART = text("""
    SELECT q.release_id, r.name AS release, q.part FROM release_parts q JOIN releases r ON r.id = q.release_id
    WHERE q.id = :id AND r.state = 'PARTS'
""")
_FINISH_PART = text(f"""
    UPDATE release_parts SET {_FREE}, state = 'DONE', sha256 = :sha256, bytes = :bytes, last_fault = NULL,
        not_before = now()
    WHERE {_MINE}
""")
_TAKE_TIME = text("SET LOCAL statement_timeout = 0")
_FIND_STEP = text("SELECT name FROM releases WHERE id = :id")
_STEP = text(f"""
    UPDATE releases SET {_FREE}, state = :state, attempts = 0, faults = 0, last_fault = NULL,
        not_before = now()
    WHERE {_MINE}
""")
_COMPLETE = text(f"""
    UPDATE releases SET {_FREE}, state = 'COMPLETE', completed_at = now(), manifest_sha256 = :manifest_sha256,
        figures = CAST(:figures AS jsonb), card = :card, last_fault = NULL
    WHERE {_MINE}
""")
_REMAKE_FILM = text("""
    UPDATE release_films SET state = 'PENDING', film = NULL, attributes = NULL, attempts = 0,
        not_before = now()
    WHERE source_sha256 = :source_sha256 AND recipe = :recipe AND state = 'DONE'
""")

# By the submission that a film was made of, and by those that share its bytes.
_LIST_TAKEN_DOWN = text("""
    SELECT f.id, f.source_sha256, f.recipe FROM takedowns t
    JOIN release_films f ON f.submission_id = t.submission_id
        OR f.id IN (SELECT e.film_id FROM release_episodes e WHERE e.submission_id = t.submission_id)
    WHERE f.state <> 'DELETED' AND (f.claim_token IS NULL OR f.not_before <= now())
    ORDER BY f.id LIMIT :limit
""")
_NOTE_FILM_DELETED = text("""
    UPDATE release_films SET state = 'DELETED', film = NULL, attributes = NULL, claim_token = NULL,
        claimed_by = NULL
    WHERE id = :id AND (claim_token IS NULL OR not_before <= now())
""")
# Files of published releases that hold pictures or a row of a video that was taken down.
# The others only tell of all episodes together.
_LIST_FILES_TAKEN_DOWN = text("""
    SELECT q.id, r.name AS release, q.path FROM takedowns t
    JOIN release_episodes e ON e.submission_id = t.submission_id AND e.index IS NOT NULL
    JOIN releases r ON r.id = e.release_id AND r.state = 'COMPLETE'
    JOIN release_parts q ON q.release_id = r.id AND q.deleted_at IS NULL AND q.state = 'DONE'
        AND (q.part ->> 'kind' = 'parquet' OR q.part -> 'episodes' @> to_jsonb(e.index))
    ORDER BY q.id LIMIT :limit
""")
# Releases that hold such a film and are not complete: their files are written anew.
_LIST_TO_RESTART = text("""
    SELECT DISTINCT r.id, r.name FROM releases r JOIN release_episodes e ON e.release_id = r.id
    JOIN takedowns t ON t.submission_id = e.submission_id
    WHERE r.state = 'PARTS' AND e.index IS NOT NULL ORDER BY r.id LIMIT :limit
""")
_RESTART = text("""
    UPDATE releases SET state = 'FILMS', claim_token = NULL, claimed_by = NULL, not_before = now()
    WHERE id = :release_id AND state = 'PARTS'
""")
_NOTE_FILE_DELETED = text("UPDATE release_parts SET deleted_at = now() WHERE id = :id")


@dataclass(frozen=True)
class FilmWork:
    """What a film is made of. `source_sha256` is what the miner asserted, and is compared with the bytes."""

    submission_uuid: UUID
    video_key: str
    source_sha256: str
    recipe: str


@dataclass(frozen=True)
class PartWork:
    release_id: int
    release: str
    part: dict[str, Any]


@dataclass(frozen=True)
class StoredFilm:
    id: int
    source_sha256: str
    recipe: str


@dataclass(frozen=True)
class StoredFile:
    id: int
    release: str
    path: str


@dataclass(frozen=True)
class Restart:
    id: int
    name: str


@dataclass(frozen=True)
class _Claimed:
    id: int
    claim_token: UUID
    attempts: int
    last_fault: str | None


def claim(worker: str, lease_seconds: float) -> Task | None:
    """Lease what is due next, or return None. Commit before the work begins."""
    for kind, statement in _CLAIM.items():
        if row := fetch_one(_Claimed, statement, worker=worker, lease_seconds=lease_seconds):
            return Task(kind, row.id, row.claim_token, row.attempts, row.last_fault)
    return None


def count_due(at_most: int) -> int:
    """How many films, files and steps are due, counted up to about `at_most`."""
    due = fetch_value(_COUNT_DUE, at_most=at_most)
    return due or fetch_value(_COUNT_STEPS)


def has_due() -> bool:
    return count_due(1) > 0


def _binds(task: Task) -> dict[str, Any]:
    return {"id": task.id, "claim_token": task.claim_token}


def extend(task: Task, lease_seconds: float) -> bool:
    return execute(_EXTEND[task.kind], lease_seconds=lease_seconds, **_binds(task)) == 1


def give_back(task: Task, reason: str, is_innocent: bool) -> bool:
    """Let a task wait for another attempt; one that is innocent of the fault has as many left as before."""
    return execute(_GIVE_BACK[task.kind], reason=reason[:1000], is_innocent=is_innocent, **_binds(task)) == 1


def fail(task: Task, reason: str) -> bool:
    """End a task for good. A file that cannot be written is the end of its release."""
    failed = execute(_FAIL[task.kind], reason=reason[:1000], **_binds(task)) == 1
    if failed and task.kind == TaskKind.PART:
        execute(_FAIL_RELEASE_OF, id=task.id)
    return failed


def return_all(worker: str, reason: str, is_innocent: bool) -> None:
    """Let all that a worker holds be claimed by others, now."""
    for statement in _RETURN_ALL.values():
        execute(statement, worker=worker, reason=reason[:1000], is_innocent=is_innocent)


def find_film(task: Task) -> FilmWork | None:
    return fetch_one(FilmWork, _FIND_FILM, id=task.id)


def finish_film(task: Task, film: str, attributes: str) -> bool:
    """Record the JSON of what was made and seen."""
    return execute(_FINISH_FILM, film=film, attributes=attributes, **_binds(task)) == 1


def find_part(task: Task) -> PartWork | None:
    """What is to be written, or None if its release has gone back to films."""
    return fetch_one(PartWork, _FIND_PART, id=task.id)


def finish_part(task: Task, sha256: str, size: int) -> bool:
    return execute(_FINISH_PART, sha256=sha256, bytes=size, **_binds(task)) == 1


def find_step(task: Task) -> str:
    """The name of the release."""
    return fetch_value(_FIND_STEP, id=task.id)


def step(task: Task, state: str) -> bool:
    """Bring a release to its next state."""
    return execute(_STEP, state=state, **_binds(task)) == 1


def complete(task: Task, manifest_sha256: str, figures: dict[str, Any], card: str) -> bool:
    return (
        execute(
            _COMPLETE, manifest_sha256=manifest_sha256, figures=json.dumps(figures), card=card, **_binds(task)
        )
        == 1
    )


def remake_film(source_sha256: str, recipe: str) -> None:
    """Let a film be made again whose stored bytes are lost."""
    execute(_REMAKE_FILM, source_sha256=source_sha256, recipe=recipe)


def list_films_taken_down(limit: int) -> list[StoredFilm]:
    """Films of videos that were taken down, with objects in storage that nobody is at work on."""
    return fetch_all(StoredFilm, _LIST_TAKEN_DOWN, limit=limit)


def note_film_deleted(id: int) -> None:
    execute(_NOTE_FILM_DELETED, id=id)


def list_files_taken_down(limit: int) -> list[StoredFile]:
    """Files in storage, of complete releases, that hold something of a video that was taken down."""
    return fetch_all(StoredFile, _LIST_FILES_TAKEN_DOWN, limit=limit)


def note_file_deleted(id: int) -> None:
    execute(_NOTE_FILE_DELETED, id=id)


def list_to_restart(limit: int) -> list[Restart]:
    """Releases that are being written and hold a video that was taken down."""
    return fetch_all(Restart, _LIST_TO_RESTART, limit=limit)


def restart(release_id: int) -> None:
    """Let a release go back to its films. Who is at work on its next step loses the lease."""
    execute(_RESTART, release_id=release_id)


def take_time() -> None:
    """Let the statements of this transaction take long."""
    execute(_TAKE_TIME)
