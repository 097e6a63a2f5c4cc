"""SQL on releases and their episodes."""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any
from uuid import UUID

from sqlalchemy import text

from app.db import db, execute, fetch_all, fetch_one, fetch_value
from app.enums import DataFormat, Dependency
from app.errors import TransientError
from app.releases.models import LeftOut, Release, Rules
from app.releases.tasks import FilmWork

if TYPE_CHECKING:
    # they load numpy, which web processes do without
    from app.datasets.model import BuiltFile, Episode
    from app.datasets.plan import Part

PAGE = 500

# Films that are not made yet are counted, not those that are: towards the end there are few.
_COLUMNS = """
    r.id, r.name, r.rules, r.formats, r.recipe, p.name AS predecessor, r.frozen_at, r.software, r.chosen,
    r.state, r.failure, r.completed_at, r.manifest_sha256, r.figures,
    (SELECT count(*) FROM release_episodes e
     WHERE e.release_id = r.id AND e.left_out IS NOT NULL) AS left_out,
    r.chosen - (SELECT count(*) FROM release_episodes e
                WHERE e.release_id = r.id AND e.left_out IS NOT NULL AND e.film_id IS NULL)
             - CASE WHEN r.state = 'FILMS' THEN (
                    SELECT count(*) FROM release_episodes e JOIN release_films f ON f.id = e.film_id
                    WHERE e.release_id = r.id AND f.state = 'PENDING') ELSE 0 END AS films,
    (SELECT count(*) FROM release_parts q WHERE q.release_id = r.id) AS parts,
    (SELECT count(*) FROM release_parts q WHERE q.release_id = r.id AND q.state = 'DONE') AS parts_done,
    coalesce(r.last_fault, CASE WHEN r.state = 'FILMS' THEN (
        SELECT f.last_fault FROM release_episodes e JOIN release_films f ON f.id = e.film_id
        WHERE e.release_id = r.id AND f.state = 'PENDING' AND f.last_fault IS NOT NULL LIMIT 1)
        WHEN r.state = 'PARTS' THEN (
        SELECT q.last_fault FROM release_parts q
        WHERE q.release_id = r.id AND q.state = 'PENDING' AND q.last_fault IS NOT NULL LIMIT 1) END
    ) AS last_fault,
    CASE WHEN r.state = 'COMPLETE' THEN (
        SELECT count(*) FROM takedowns t JOIN release_episodes e ON e.submission_id = t.submission_id
        WHERE e.release_id = r.id AND e.index IS NOT NULL) ELSE 0 END AS taken_down
"""
_FROM = "FROM releases r LEFT JOIN releases p ON p.id = r.predecessor_id"
_FIND = text(f"SELECT {_COLUMNS} {_FROM} WHERE r.name = :name")
_LIST = text(f"""
    SELECT {_COLUMNS} {_FROM}
    WHERE CAST(:before AS text) IS NULL OR r.id < (SELECT id FROM releases WHERE name = :before)
    ORDER BY r.id DESC LIMIT :limit
""")
_FIND_CARD = text("SELECT card FROM releases WHERE id = :release_id")
_INSERT = text("""
    INSERT INTO releases (name, rules, formats, recipe, predecessor_id, software)
    VALUES (:name, CAST(:rules AS jsonb), CAST(:formats AS text[]), :recipe, :predecessor_id,
            CAST(:software AS jsonb))
    ON CONFLICT (name) DO NOTHING RETURNING id
""")
_SET_CHOSEN = text("UPDATE releases SET chosen = :chosen WHERE id = :release_id")
_TRY_AGAIN = text("""
    WITH parts AS (
        UPDATE release_parts SET state = 'PENDING', attempts = 0, not_before = now()
        WHERE release_id = :release_id AND state = 'FAILED' RETURNING 1)
    UPDATE releases SET state = CASE WHEN EXISTS (SELECT FROM parts) THEN 'PARTS' ELSE 'FILMS' END,
        failure = NULL, attempts = 0, not_before = now()
    WHERE id = :release_id AND state = 'FAILED'
""")
_LIST_LEFT_OUT = text("""
    SELECT e.submission_id, s.uuid AS submission_uuid, e.left_out AS reason
    FROM release_episodes e JOIN submissions s ON s.id = e.submission_id
    WHERE e.release_id = :release_id AND e.left_out IS NOT NULL AND e.submission_id > :after
    ORDER BY e.submission_id LIMIT :limit
""")
_LIST_TAKEN_DOWN = text("""
    SELECT s.uuid FROM takedowns t JOIN release_episodes e ON e.submission_id = t.submission_id
    JOIN submissions s ON s.id = t.submission_id
    WHERE e.release_id = :release_id AND e.index IS NOT NULL ORDER BY t.taken_down_at, s.id LIMIT :limit
""")

# From films to files: what has no film is left out, and the rest is numbered, split after split.
_SETTLE = text("""
    UPDATE release_episodes e SET left_out = CASE
        WHEN t.submission_id IS NOT NULL THEN 'It was taken down.'
        WHEN f.state = 'DELETED' THEN 'It was taken down, under another submission.'
        ELSE 'Its film could not be made: ' || f.last_fault END
    FROM release_films f, release_episodes own LEFT JOIN takedowns t ON t.submission_id = own.submission_id
    WHERE e.release_id = :release_id AND own.release_id = e.release_id AND own.submission_id = e.submission_id
      AND f.id = e.film_id AND e.left_out IS NULL AND (f.state <> 'DONE' OR t.submission_id IS NOT NULL)
""")
_NUMBER = text("""
    UPDATE release_episodes e SET index = placed.index, task_index = placed.task_index
    FROM (
        SELECT e.submission_id,
               row_number() OVER (ORDER BY array_position(ARRAY['train', 'validation', 'test'], e.split),
                                           e.submission_id) - 1 AS index,
               dense_rank() OVER (ORDER BY p.task COLLATE "C") - 1 AS task_index
        FROM release_episodes e JOIN submissions s ON s.id = e.submission_id
        JOIN prompts p ON p.id = s.prompt_id
        WHERE e.release_id = :release_id AND e.left_out IS NULL
    ) placed
    WHERE e.release_id = :release_id AND e.submission_id = placed.submission_id
""")
_INSERT_PART = text("""
    INSERT INTO release_parts (release_id, number, path, part, is_last)
    SELECT :release_id, number, part ->> 'path', part, (part ->> 'last')::boolean
    FROM unnest(CAST(:numbers AS integer[]), CAST(:parts AS jsonb[])) AS new (number, part)
""")
# What a release was to be, but a film of it was taken down before it was complete.
_HAS_TAKEN_DOWN = text("""
    SELECT EXISTS (SELECT FROM takedowns t JOIN release_episodes e ON e.submission_id = t.submission_id
                   WHERE e.release_id = :release_id AND e.index IS NOT NULL)
""")
_UNDO_PARTS = text("""
    WITH numbers AS (
        UPDATE release_episodes SET index = NULL, task_index = NULL
        WHERE release_id = :release_id AND index IS NOT NULL)
    DELETE FROM release_parts WHERE release_id = :release_id RETURNING path
""")
_EPISODES = """
    SELECT e.index, e.split, s.uuid::text AS uuid, f.source_sha256, s.prompt_id, p.task, e.task_index,
           p.category, p.scenario, v.technical_score, v.relevance_score, v.quality_score, e.final_score,
           s.camera_type, s.actor_type, s.camera_intrinsics AS intrinsics, s.miner_hotkey AS hotkey,
           s.cycle_id AS cycle,
           s.submitted_at, e.licence, s.consent_hash, s.consent_version, s.consent_date, v.judge_model,
           v.prompt_version, r.report #>> '{software,kibotos}' AS software, f.film, f.attributes
    FROM release_episodes e JOIN submissions s ON s.id = e.submission_id JOIN prompts p ON p.id = s.prompt_id
    JOIN evaluations v ON v.submission_id = s.id JOIN release_films f ON f.id = e.film_id
    LEFT JOIN verification_reports r ON r.submission_id = s.id
"""
_LIST_EPISODES = text(f"""
    {_EPISODES} WHERE e.release_id = :release_id AND e.index > :after
    ORDER BY e.index LIMIT :limit
""")
_LIST_EPISODES_OF = text(f"""
    {_EPISODES} WHERE e.release_id = :release_id AND e.index = ANY(CAST(:indices AS integer[]))
    ORDER BY e.index
""")
_LIST_FILES = text("""
    SELECT q.number, q.path, q.sha256, q.bytes FROM release_parts q
    WHERE q.release_id = :release_id AND q.number > :after AND q.state = 'DONE'
      AND NOT (q.is_last AND :but_last)
    ORDER BY q.number LIMIT :limit
""")
# in the order of episodes, without what was taken down since
_LIST_FILMS = text("""
    SELECT e.index AS place, s.uuid AS submission_uuid, s.video_key, f.source_sha256, f.recipe,
           f.film ->> 'sha256' AS sha256
    FROM release_episodes e JOIN release_films f ON f.id = e.film_id AND f.state = 'DONE'
    JOIN submissions s ON s.id = e.submission_id
    WHERE e.release_id = :release_id AND e.index > :after ORDER BY e.index LIMIT :limit
""")
_LIST_PARTS = text("""
    SELECT q.number, q.part, q.sha256 FROM release_parts q
    WHERE q.release_id = :release_id AND q.number > :after AND q.deleted_at IS NULL
    ORDER BY q.number LIMIT :limit
""")
_FIND_FIGURES = text("""
    WITH held AS (
        SELECT e.split, e.licence, p.category, s.miner_hotkey,
               (f.film ->> 'frames')::float8 / (f.film ->> 'fps')::float8 / 3600 AS hours
        FROM release_episodes e JOIN submissions s ON s.id = e.submission_id
        JOIN prompts p ON p.id = s.prompt_id JOIN release_films f ON f.id = e.film_id
        WHERE e.release_id = :release_id AND e.index IS NOT NULL AND f.state = 'DONE'
    )
    SELECT json_build_object(
        'episodes', (SELECT count(*) FROM held), 'hours', (SELECT coalesce(sum(hours), 0) FROM held),
        'miners', (SELECT count(DISTINCT miner_hotkey) FROM held),
        'bytes', (SELECT coalesce(sum(bytes), 0) FROM release_parts WHERE release_id = :release_id),
        'by_category', (SELECT coalesce(json_object_agg(category, n), '{}') FROM (
            SELECT category, count(*) AS n FROM held GROUP BY 1 ORDER BY 1) c),
        'hours_by_category', (SELECT coalesce(json_object_agg(category, h), '{}') FROM (
            SELECT category, sum(hours) AS h FROM held GROUP BY 1 ORDER BY 1) c),
        'by_split', (SELECT coalesce(json_object_agg(split, n), '{}') FROM (
            SELECT split, count(*) AS n FROM held GROUP BY 1 ORDER BY 1) c),
        'by_licence', (SELECT coalesce(json_object_agg(licence, n), '{}') FROM (
            SELECT licence, count(*) AS n FROM held GROUP BY 1 ORDER BY 1) c))
""")


@dataclass(frozen=True)
class PlacedFile:
    """A file of a release, and its place in the order in which they are listed."""

    number: int
    path: str
    sha256: str
    bytes: int


def find(name: str) -> Release | None:
    return fetch_one(Release, _FIND, name=name)


def list_releases(before: str | None, limit: int) -> list[Release]:
    """Releases, the newest first; with `before`, those that are older than the one of this name."""
    return fetch_all(Release, _LIST, before=before, limit=limit)


def find_card(release_id: int) -> str | None:
    """The data card of a complete release."""
    return fetch_value(_FIND_CARD, release_id=release_id)


def insert(
    name: str,
    rules: Rules,
    formats: Iterable[DataFormat],
    recipe: str,
    predecessor_id: int | None,
    software: dict[str, str],
) -> int | None:
    """Insert a release and return its id, or None if there is one of this name."""
    return fetch_value(
        _INSERT,
        name=name,
        rules=rules.model_dump_json(exclude_none=True),
        formats=[each.value for each in formats],
        recipe=recipe,
        predecessor_id=predecessor_id,
        software=json.dumps(software),
    )


def set_chosen(release_id: int, chosen: int) -> None:
    execute(_SET_CHOSEN, release_id=release_id, chosen=chosen)


def try_again(release_id: int) -> None:
    """Let a release that failed go on where it failed."""
    execute(_TRY_AGAIN, release_id=release_id)


def iterate_left_out(release_id: int) -> Iterator[LeftOut]:
    """What was chosen for a release and is not in it, in the order of submissions. No connection is held."""
    after = 0
    while True:
        rows = fetch_all(LeftOut, _LIST_LEFT_OUT, release_id=release_id, after=after, limit=PAGE)
        yield from rows
        if len(rows) < PAGE:
            return
        after = rows[-1].submission_id


def list_taken_down(release_id: int, limit: int) -> list[UUID]:
    """Submissions in a release that were taken down, in the order of takedowns."""
    return list(db.session.scalars(_LIST_TAKEN_DOWN, {"release_id": release_id, "limit": limit}))


def settle(release_id: int) -> int:
    """Leave out what has no film, and number the rest; return how many are left."""
    execute(_SETTLE, release_id=release_id)
    return execute(_NUMBER, release_id=release_id)


def insert_parts(release_id: int, parts: Iterable[Part]) -> None:
    """Insert the files that are to be written, a page of them in a statement."""
    page: list[str] = []
    first = 0

    def flush() -> None:
        numbers = list(range(first, first + len(page)))
        execute(_INSERT_PART, release_id=release_id, numbers=numbers, parts=page)

    for part in parts:
        page.append(part.model_dump_json())
        if len(page) == PAGE:
            flush()
            first += PAGE
            page = []
    if page:
        flush()


def has_taken_down(release_id: int) -> bool:
    return fetch_value(_HAS_TAKEN_DOWN, release_id=release_id)


def undo_parts(release_id: int) -> list[str]:
    """Forget the files of a release and the numbers of its episodes; return the paths of those files."""
    return list(db.session.scalars(_UNDO_PARTS, {"release_id": release_id}))


def iterate_episodes(release_id: int) -> Iterator[Episode]:
    """All episodes of a release by index, a page at a time. Raises TransientError if one has no film now."""
    after = -1
    while True:
        rows = db.session.execute(
            _LIST_EPISODES, {"release_id": release_id, "after": after, "limit": PAGE}
        ).mappings()
        page = [_episode(row) for row in rows]
        yield from page
        if len(page) < PAGE:
            return
        after = page[-1].index


def iterate_episodes_of(release_id: int, indices: tuple[int, ...]) -> Iterator[Episode]:
    """The episodes with these indices, which ascend."""
    for start in range(0, len(indices), PAGE):
        rows = db.session.execute(
            _LIST_EPISODES_OF, {"release_id": release_id, "indices": list(indices[start : start + PAGE])}
        ).mappings()
        yield from [_episode(row) for row in rows]


def _episode(row: Any) -> Episode:
    from app.datasets.model import Episode, Judged

    values = dict(row)
    if values["film"] is None:
        # it was taken down, or lost: its release goes back to its films
        raise TransientError(f"The film of {values['uuid']} is gone.", dependency=Dependency.STORAGE)
    judged = Judged(
        model=values.pop("judge_model"),
        prompt_version=values.pop("prompt_version"),
        software=values.pop("software") or "unknown",
    )
    return Episode.model_validate(values | {"judged": judged})


def iterate_files(release_id: int, but_last: bool = False) -> Iterator[BuiltFile]:
    """The files that are written, in the order of their parts."""
    from app.datasets.model import BuiltFile

    after = -1
    while True:
        rows = fetch_all(
            PlacedFile, _LIST_FILES, release_id=release_id, after=after, limit=PAGE, but_last=but_last
        )
        for row in rows:
            yield BuiltFile(path=row.path, sha256=row.sha256, bytes=row.bytes)
        if len(rows) < PAGE:
            return
        after = rows[-1].number


def iterate_films(release_id: int) -> Iterator[tuple[FilmWork, str]]:
    """What the films of a release are made of, and their hashes."""
    binds = {"release_id": release_id, "after": -1, "limit": PAGE}
    while rows := db.session.execute(_LIST_FILMS, binds).all():
        for row in rows:
            yield FilmWork(row.submission_uuid, row.video_key, row.source_sha256, row.recipe), row.sha256
        binds["after"] = rows[-1].place


def iterate_parts(release_id: int) -> Iterator[tuple[Part, str]]:
    """The files of a complete release as they were planned, and their hashes."""
    from app.datasets.plan import Part

    binds = {"release_id": release_id, "after": -1, "limit": PAGE}
    while rows := db.session.execute(_LIST_PARTS, binds).all():
        for row in rows:
            yield Part.model_validate(row.part), row.sha256
        binds["after"] = rows[-1].number


def find_figures(release_id: int) -> dict[str, Any]:
    """How much is in a release."""
    return fetch_value(_FIND_FIGURES, release_id=release_id)
