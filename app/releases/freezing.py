"""SQL that chooses the episodes of a release. All of it runs in one transaction, under a lock.

The candidates stand in a temporary table, so that a million of them go through a few statements and never
through this process.
"""

from dataclasses import dataclass
from typing import Any

from sqlalchemy import text

from app.corrections.queries import JOIN_LAST
from app.db import db, execute, fetch_value
from app.enums import Split
from app.locks import RELEASES
from app.releases.models import Rules

_LOCK = text("SELECT pg_advisory_xact_lock(:key)")
# a million episodes take minutes
_TAKE_TIME = text("SET LOCAL statement_timeout = 0")

# What nobody doubts now: the effective result counts, no person is still to decide, the evaluator is not
# blocked for what it said then, and the cycle is not held. A file has one owner: the submission whose bytes
# were verified, else the first. A gold film is no submission, but somebody may have submitted the same file.
_CHOOSE = text(f"""
    CREATE TEMPORARY TABLE candidates ON COMMIT DROP AS
    SELECT s.id AS submission_id, s.video_hash, s.miner_hotkey,
           coalesce(last.final_score, s.final_score) AS final_score,
           coalesce(s.licence, CAST(:default_licence AS text)) AS licence, CAST(NULL AS text) AS left_out
    FROM submissions s JOIN prompts p ON p.id = s.prompt_id
    LEFT JOIN cycles y ON y.id = s.cycle_id
    JOIN evaluations v ON v.submission_id = s.id {JOIN_LAST}
    WHERE s.status IN ('SCORED', 'REJECTED') AND coalesce(last.status, s.status) = 'SCORED'
      AND coalesce(last.final_score, s.final_score) >= :min_score
      AND (CAST(:categories AS text[]) IS NULL OR p.category = ANY(CAST(:categories AS text[])))
      AND (CAST(:first_cycle AS bigint) IS NULL OR s.cycle_id >= CAST(:first_cycle AS bigint))
      AND (CAST(:last_cycle AS bigint) IS NULL OR s.cycle_id <= CAST(:last_cycle AS bigint))
      AND (CAST(:predecessor_id AS bigint) IS NULL OR EXISTS (
            SELECT FROM release_episodes e WHERE e.release_id = CAST(:predecessor_id AS bigint)
              AND e.submission_id = s.id AND e.index IS NOT NULL))
      AND NOT EXISTS (SELECT FROM takedowns t WHERE t.submission_id = s.id)
      AND NOT EXISTS (SELECT FROM reviews w WHERE w.submission_id = s.id AND w.state = 'OPEN')
      AND NOT EXISTS (SELECT FROM appeals a WHERE a.submission_id = s.id AND a.state IN ('OPEN', 'IN_REVIEW'))
      AND NOT EXISTS (SELECT FROM cycle_holds h WHERE h.cycle_id = s.cycle_id AND h.approved_at IS NULL
                      AND y.status <> 'COMPLETED')
      AND NOT EXISTS (SELECT FROM evaluator_blocks b WHERE b.evaluator = v.evaluator AND b.allowed_at IS NULL
                      AND v.created_at >= b.doubted_since)
      AND NOT EXISTS (SELECT FROM gold_films g WHERE g.video_hash = s.video_hash)
      AND NOT EXISTS (SELECT FROM gold_copies g WHERE g.video_hash = s.video_hash)
      -- its video is gone from storage; a film that was made before will do
      AND (s.video_pruned_at IS NULL OR EXISTS (
            SELECT FROM release_films f
            WHERE f.source_sha256 = s.video_hash AND f.recipe = :recipe AND f.state = 'DONE'))
      AND NOT EXISTS (SELECT FROM release_films f
                      WHERE f.source_sha256 = s.video_hash AND f.state = 'DELETED')
      AND coalesce(
            (SELECT f.submission_id = s.id FROM fingerprints f WHERE f.content_hash = s.video_hash),
            NOT EXISTS (SELECT FROM submissions o WHERE o.video_hash = s.video_hash AND o.id < s.id
                        AND o.status = 'SCORED'))
""")
_ANALYZE = text("ANALYZE candidates")
_ANALYZE_CHOSEN = text("ANALYZE release_films, release_episodes")
_DROP_UNLICENSED = text("DELETE FROM candidates WHERE licence IS NULL")
_DROP_OTHER_LICENCES = text("DELETE FROM candidates WHERE licence <> ALL(CAST(:licences AS text[]))")
_COUNT = text("SELECT count(*) FROM candidates")

# What the comparisons of duplicates found, in reports and later; the server itself wrote it there.
_LINK = text(r"""
    INSERT INTO footage_links (submission_id, other_id)
    SELECT DISTINCT c.submission_id, o.id
    FROM candidates c
    CROSS JOIN LATERAL (
        SELECT r.report -> 'duplicates' AS found FROM verification_reports r
        WHERE r.submission_id = c.submission_id
        UNION ALL SELECT k.evidence -> 'duplicates' FROM corrections k
        WHERE k.submission_id = c.submission_id AND k.kind = 'late_copy'
        UNION ALL SELECT a.report -> 'duplicates' FROM appeals a WHERE a.submission_id = c.submission_id
    ) told
    CROSS JOIN LATERAL (
        SELECT jsonb_path_query(told.found, '$.matches[*].submission_uuid') #>> '{}' AS uuid
        UNION ALL SELECT told.found ->> 'one_recording_with'
        UNION ALL SELECT told.found ->> 'same_file'
    ) named
    JOIN submissions o ON o.uuid = CASE
        WHEN named.uuid ~ '^[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}$' THEN CAST(named.uuid AS uuid) END
    WHERE o.id <> c.submission_id
    ON CONFLICT DO NOTHING
""")
# miners of candidates, and of what shares footage with these; the one with the oldest submission first
_LIST_HOTKEYS = text("""
    SELECT miner_hotkey FROM (
        SELECT miner_hotkey, min(submission_id) AS first FROM candidates GROUP BY 1
        UNION ALL
        SELECT o.miner_hotkey, min(o.id) FROM candidates c
        JOIN footage_links l ON l.submission_id = c.submission_id JOIN submissions o ON o.id = l.other_id
        GROUP BY 1
    ) miners GROUP BY 1 ORDER BY min(first), 1
""")
_LIST_LINKS = text("""
    SELECT DISTINCT s.miner_hotkey, o.miner_hotkey FROM footage_links l
    JOIN submissions s ON s.id = l.submission_id JOIN submissions o ON o.id = l.other_id
    WHERE s.miner_hotkey <> o.miner_hotkey ORDER BY 1, 2
""")
_LIST_SPLITS = text("SELECT miner_hotkey, split FROM release_splits ORDER BY number")
_INSERT_SPLITS = text("""
    INSERT INTO release_splits (miner_hotkey, split)
    SELECT hotkey, split
    FROM unnest(CAST(:hotkeys AS text[]), CAST(:splits AS text[]))
         WITH ORDINALITY AS new (hotkey, split, place)
    ORDER BY place
""")
# Of two that share footage and are in different splits, the one stays that was in a release before, else the
# first submitted. Also left out is what shares footage with a video in no release: others may share that.
_LEAVE_OUT = text("""
    UPDATE candidates c SET left_out =
        'It shows footage of submission ' || other.uuid || ', which is in the split ' || other.split || '.'
    FROM (
        SELECT DISTINCT ON (pair.one) pair.one, so.uuid, po.split
        FROM (
            SELECT submission_id AS one, other_id AS other, true AS is_named FROM footage_links
            UNION ALL SELECT other_id, submission_id, false FROM footage_links
        ) pair
        JOIN candidates own ON own.submission_id = pair.one
        JOIN submissions so ON so.id = pair.other
        JOIN release_splits ps ON ps.miner_hotkey = own.miner_hotkey
        JOIN release_splits po ON po.miner_hotkey = so.miner_hotkey
        CROSS JOIN LATERAL (
            SELECT EXISTS (SELECT FROM release_episodes e WHERE e.submission_id = pair.one
                           AND e.left_out IS NULL) AS one,
                   EXISTS (SELECT FROM release_episodes e WHERE e.submission_id = pair.other
                           AND e.left_out IS NULL) AS other
        ) was_in
        CROSS JOIN LATERAL (
            SELECT EXISTS (SELECT FROM candidates d WHERE d.submission_id = pair.other) AS other) is_in
        WHERE ps.split <> po.split AND CASE
            WHEN was_in.one THEN was_in.other AND pair.one > pair.other
            ELSE was_in.other OR is_in.other AND pair.one > pair.other
                 OR pair.is_named AND NOT is_in.other END
        ORDER BY pair.one, pair.other
    ) other
    WHERE other.one = c.submission_id
""")
# a film that could not be made gets another try
_INSERT_FILMS = text("""
    INSERT INTO release_films AS f (submission_id, source_sha256, recipe)
    SELECT submission_id, video_hash, :recipe FROM candidates WHERE left_out IS NULL ORDER BY submission_id
    ON CONFLICT (source_sha256, recipe) DO UPDATE SET
        state = 'PENDING', submission_id = excluded.submission_id, attempts = 0, faults = 0,
        not_before = now()
    WHERE f.state = 'FAILED'
""")
_INSERT_EPISODES = text("""
    INSERT INTO release_episodes (release_id, submission_id, split, final_score, licence, film_id, left_out)
    SELECT :release_id, c.submission_id, p.split, c.final_score, c.licence, f.id, c.left_out
    FROM candidates c JOIN release_splits p ON p.miner_hotkey = c.miner_hotkey
    LEFT JOIN release_films f ON f.source_sha256 = c.video_hash AND f.recipe = :recipe AND c.left_out IS NULL
    ORDER BY c.submission_id
""")


@dataclass(frozen=True)
class Chosen:
    """How many candidates there are, and how many more there would be if they had a licence."""

    episodes: int
    unlicensed: int


def lock() -> None:
    """Until this transaction ends, no other release is frozen. Its statements may take long."""
    execute(_LOCK, key=RELEASES)
    execute(_TAKE_TIME)


def choose(rules: Rules, recipe: str, predecessor_id: int | None, default_licence: str | None) -> Chosen:
    """Make the table of candidates."""
    execute(
        _CHOOSE,
        min_score=rules.min_score,
        recipe=recipe,
        categories=list(rules.categories) if rules.categories else None,
        first_cycle=rules.first_cycle,
        last_cycle=rules.last_cycle,
        predecessor_id=predecessor_id,
        default_licence=default_licence,
    )
    unlicensed = execute(_DROP_UNLICENSED)
    if rules.licences:
        execute(_DROP_OTHER_LICENCES, licences=list(rules.licences))
    execute(_ANALYZE)
    return Chosen(fetch_value(_COUNT), unlicensed)


def link() -> None:
    """Remember which footage the candidates share with other submissions."""
    execute(_LINK)


def list_hotkeys() -> list[str]:
    return list(db.session.scalars(_LIST_HOTKEYS))


def list_links() -> list[tuple[str, str]]:
    """Pairs of miners who share footage."""
    return [(one, other) for one, other in db.session.execute(_LIST_LINKS)]


def list_splits() -> dict[str, Split]:
    """The split of each miner who has one, in the order in which they got it."""
    rows: Any = db.session.execute(_LIST_SPLITS)
    return {hotkey: Split(split) for hotkey, split in rows}


def insert_splits(splits: dict[str, Split]) -> None:
    execute(_INSERT_SPLITS, hotkeys=list(splits), splits=list(splits.values()))


def leave_out_shared() -> None:
    """Leave out the candidates whose footage would lie in two splits."""
    execute(_LEAVE_OUT)


def insert_episodes(release_id: int, recipe: str) -> int:
    """Make the candidates the episodes of a release, with the films that are to be made; return how many."""
    execute(_INSERT_FILMS, recipe=recipe)
    chosen = execute(_INSERT_EPISODES, release_id=release_id, recipe=recipe)
    # a claim that was planned for an empty table would read all films
    execute(_ANALYZE_CHOSEN)
    return chosen
