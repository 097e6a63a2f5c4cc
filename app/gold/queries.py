"""SQL on gold films, their copies and their showings.

Whatever an evaluator may do to a submission under a lease, it may do to a showing.
"""

from collections.abc import Iterator
from dataclasses import asdict
from datetime import datetime
from typing import Any
from uuid import UUID

from sqlalchemy import text

from app.assessment.model import Claim
from app.db import Prepared, db, execute, fetch_all, fetch_one, fetch_value
from app.gold.agreement import LEVELS, NOTHING, Cell, Tally
from app.gold.models import (
    Block,
    Companion,
    Copy,
    EvaluatorAnswers,
    Film,
    Group,
    HumanScores,
    LastShowing,
    PlannedCopy,
)
from app.locks import GOLD

_FREE = "claim_token = NULL, claimed_by = NULL, lease_expires_at = NULL"
_UNSEEN = """
    NOT EXISTS (SELECT FROM gold_showings shown
                WHERE shown.copy_id = c.id AND cardinality(shown.seen_by) > 0)
"""
_LOCK = text("SELECT pg_advisory_xact_lock(:key)")
_FIND_FILM_ID = text("""
    SELECT id FROM gold_films
    WHERE prompt_id = :prompt_id AND video_hash = :video_hash AND retired_at IS NULL
""")
_GET_SCORES = text("""
    SELECT action_match, perspective_correct, demonstration_quality, training_utility
    FROM gold_films WHERE id = :film_id
""")
_INSERT_FILM = text("""
    INSERT INTO gold_films (prompt_id, video_hash, action_match, perspective_correct, demonstration_quality,
                            training_utility, relevance_score, accepted, scored_by)
    VALUES (:prompt_id, :video_hash, :action_match, :perspective_correct, :demonstration_quality,
            :training_utility, :relevance_score, :accepted, :scored_by)
    RETURNING id
""")
_INSERT_COPY = text("""
    INSERT INTO gold_copies (film_id, object_key, content_type, video_hash, duration_sec, resolution_width,
                             resolution_height, fps)
    VALUES (:film_id, :object_key, :content_type, :video_hash, :duration_sec, :resolution_width,
            :resolution_height, :fps)
""")
_LIST_COPY_HASHES = text("SELECT video_hash FROM gold_copies WHERE film_id = :film_id")
_FIND_SUBMITTED = text("""
    SELECT uuid FROM submissions WHERE video_hash = :video_hash ORDER BY id LIMIT 1
""")
_RETIRE = text("""
    UPDATE gold_films SET retired_at = now() WHERE uuid = :uuid AND retired_at IS NULL RETURNING id
""")
_LIST_FILMS = text(f"""
    SELECT f.uuid, f.prompt_id, f.accepted, f.relevance_score, f.scored_by, f.added_at, f.retired_at,
           (SELECT count(*) FROM gold_copies c WHERE c.film_id = f.id) AS copies,
           (SELECT count(*) FROM gold_copies c WHERE c.film_id = f.id AND {_UNSEEN}) AS copies_left,
           (SELECT count(*) FROM gold_showings g
            WHERE g.film_id = f.id AND g.evaluated_at IS NOT NULL) AS answers
    FROM gold_films f WHERE :retired OR f.retired_at IS NULL ORDER BY f.id
""")
_COUNT_FILMS = text("SELECT count(*) FROM gold_films WHERE retired_at IS NULL")
_COUNT_COPIES_LEFT = text(f"""
    SELECT count(*) FROM gold_copies c JOIN gold_films f ON f.id = c.film_id
    WHERE f.retired_at IS NULL AND {_UNSEEN}
""")
# What nobody has claimed can vanish without a trace.
_DISCARD = text("""
    DELETE FROM gold_showings g USING gold_films f
    WHERE f.id = g.film_id AND g.status = 'PENDING' AND (
        -- nobody could answer it
        g.attempts >= 10 OR g.attempts = 0
            AND (:everything OR f.retired_at IS NOT NULL OR g.submitted_at < now() - interval '1 day'))
""")
_FIND_LAST = text("SELECT id, draw FROM gold_showings ORDER BY id DESC LIMIT 1")
_COUNT_SUBMITTED_AFTER = text("""
    SELECT count(*) FROM (SELECT 1 FROM submissions WHERE id > :id LIMIT :at_most) later
""")
# Only for prompts that miners film at present: for others nobody would expect a video. The films that were
# shown least come first.
_PICK = text(f"""
    SELECT c.id, c.object_key, c.content_type
    FROM gold_copies c JOIN gold_films f ON f.id = c.film_id JOIN prompts p ON p.id = f.prompt_id
    WHERE f.retired_at IS NULL AND p.is_active AND (p.expires_at IS NULL OR p.expires_at > now())
      AND EXISTS (SELECT FROM prompt_submission_counts n WHERE n.prompt_id = p.id)
      AND NOT EXISTS (SELECT FROM gold_showings o
                      WHERE o.film_id = f.id AND o.status IN ('PENDING', 'EVALUATING'))
      AND {_UNSEEN}
    ORDER BY (SELECT count(*) FROM gold_showings o WHERE o.film_id = f.id), random() LIMIT 1
""")
_FIND_COMPANION = text("""
    SELECT miner_uid, miner_hotkey, video_key, camera_type, actor_type,
           licence, consent_hash, consent_version, consent_date
    FROM (SELECT miner_uid, miner_hotkey, video_key, camera_type, actor_type,
                 licence, consent_hash, consent_version, consent_date
          FROM submissions ORDER BY id DESC LIMIT 200) recent
    ORDER BY random() LIMIT 1
""")
_INSERT_SHOWING = text("""
    INSERT INTO gold_showings (id, film_id, copy_id, prompt_id, requirements, video_key, video_hash,
                               miner_uid, miner_hotkey, duration_sec, resolution_width, resolution_height,
                               fps, camera_type, actor_type,
                               licence, consent_hash, consent_version, consent_date)
    SELECT nextval(pg_get_serial_sequence('submissions', 'id')), f.id, c.id, p.id, p.requirements, :video_key,
           c.video_hash, :miner_uid, :miner_hotkey, c.duration_sec, c.resolution_width, c.resolution_height,
           c.fps, :camera_type, :actor_type,
           :licence, :consent_hash, :consent_version, CAST(:consent_date AS date)
    FROM gold_copies c JOIN gold_films f ON f.id = c.film_id JOIN prompts p ON p.id = f.prompt_id
    WHERE c.id = :copy_id AND f.retired_at IS NULL
    ON CONFLICT (film_id) WHERE status IN ('PENDING', 'EVALUATING') DO NOTHING
""")
_EXTEND = text("""
    UPDATE gold_showings SET lease_expires_at = now() + make_interval(secs => :lease_seconds)
    WHERE id = :id AND claim_token = :claim_token AND lease_expires_at > now()
""")
_BACK_OFF = "make_interval(secs => least(1800, 30 * 2 ^ least(faults, 10)) * (0.75 + 0.5 * random()))"
_RELEASE = text(f"""
    UPDATE gold_showings SET
        status = 'PENDING', {_FREE}, faults = faults + CAST(:is_fault AS integer),
        not_before = now() + greatest(
            make_interval(secs => :at_least), CASE WHEN :is_fault THEN {_BACK_OFF} ELSE interval '0' END)
    WHERE id = :id AND claim_token = :claim_token RETURNING not_before
""")
_IS_SHOWING = text("SELECT EXISTS (SELECT FROM gold_showings WHERE id = :id)")
_RETURN_EXPIRED = text(f"""
    UPDATE gold_showings SET
        status = 'PENDING', {_FREE}, faults = faults + 1,
        not_before = CASE WHEN faults = 0 THEN not_before ELSE now() + {_BACK_OFF} END
    WHERE status = 'EVALUATING' AND lease_expires_at <= now()
""")
_RECORD = text(f"""
    UPDATE gold_showings SET
        status = :status, {_FREE}, evaluated_at = now(), final_score = :final_score,
        technical_score = :technical_score, relevance_score = :relevance_score,
        quality_score = :quality_score, rejection_reason = :rejection_reason, judge_model = :judge_model,
        prompt_version = :prompt_version, evaluator = :evaluator, report = CAST(:report AS jsonb)
    WHERE id = :id AND claim_token = :claim_token AND lease_expires_at > now()
""")
# An answer counts for GOLD_MIN_KAPPA as a level: floor(x * 4 + 0.5) of 0 to 1.
_LIST_GROUPS = text(f"""
    SELECT p.category, coalesce(g.judge_model, 'not named') AS judge_model,
           coalesce(g.prompt_version, 'not named') AS prompt_version,
           coalesce(g.evaluator, 'worker') AS evaluator,
           floor(f.relevance_score * {LEVELS - 1} + 0.5)::integer AS human,
           floor(g.relevance_score * {LEVELS - 1} + 0.5)::integer AS judged,
           count(*) AS n,
           count(*) FILTER (WHERE f.accepted) AS acceptable,
           count(*) FILTER (WHERE f.accepted AND g.status = 'REJECTED') AS wrongly_rejected,
           count(*) FILTER (WHERE NOT f.accepted) AS unacceptable,
           count(*) FILTER (WHERE NOT f.accepted AND g.status = 'SCORED') AS wrongly_accepted
    FROM gold_showings g JOIN gold_films f ON f.id = g.film_id JOIN prompts p ON p.id = g.prompt_id
    WHERE g.evaluated_at > now() - make_interval(days => :days) AND f.retired_at IS NULL
    GROUP BY 1, 2, 3, 4, 5, 6 ORDER BY 1, 2, 3, 4, 5, 6
""")


_HAS_JUDGED = text("""
    SELECT EXISTS (
        SELECT FROM submissions s JOIN evaluations e ON e.submission_id = s.id
        WHERE s.cycle_id = :cycle_id AND coalesce(e.judge_model, 'not named') = :judge_model
              AND coalesce(e.prompt_version, 'not named') = :prompt_version AND e.relevance_score > 0)
""")
# The latest answers of each remote evaluator since a person last allowed it.
_LIST_EVALUATORS = text(f"""
    WITH answers AS (
        SELECT g.evaluator, g.evaluated_at, f.accepted, g.status,
               floor(f.relevance_score * {LEVELS - 1} + 0.5)::integer AS human,
               floor(g.relevance_score * {LEVELS - 1} + 0.5)::integer AS judged,
               row_number() OVER (PARTITION BY g.evaluator ORDER BY g.evaluated_at DESC) AS place
        FROM gold_showings g JOIN gold_films f ON f.id = g.film_id
        WHERE g.evaluated_at > now() - make_interval(days => :days) AND f.retired_at IS NULL
              AND g.evaluator IS NOT NULL
              AND NOT EXISTS (SELECT FROM evaluator_blocks b
                              WHERE b.evaluator = g.evaluator AND b.allowed_at >= g.evaluated_at)
    )
    SELECT evaluator, human, judged, count(*) AS n,
           min(evaluated_at) FILTER (
               WHERE abs(human - judged) >= 2 OR accepted <> (status = 'SCORED')) AS differs_since,
           count(*) FILTER (WHERE accepted) AS acceptable,
           count(*) FILTER (WHERE accepted AND status = 'REJECTED') AS wrongly_rejected,
           count(*) FILTER (WHERE NOT accepted) AS unacceptable,
           count(*) FILTER (WHERE NOT accepted AND status = 'SCORED') AS wrongly_accepted
    FROM answers WHERE place <= :latest GROUP BY 1, 2, 3 ORDER BY 1, 2, 3
""")
_INSERT_BLOCK = text("""
    INSERT INTO evaluator_blocks (evaluator, reason, doubted_since)
    VALUES (:evaluator, :reason, :doubted_since)
    ON CONFLICT (evaluator) WHERE allowed_at IS NULL DO NOTHING
""")
_FIND_BLOCK = Prepared("""
    SELECT evaluator, reason, doubted_since, blocked_at FROM evaluator_blocks
    WHERE evaluator = :evaluator AND allowed_at IS NULL
""")
_FIND_LAST_BLOCK = text("""
    SELECT evaluator, reason, doubted_since, blocked_at FROM evaluator_blocks
    WHERE evaluator = :evaluator ORDER BY id DESC LIMIT 1
""")
_LIST_BLOCKS = text("""
    SELECT evaluator, reason, doubted_since, blocked_at FROM evaluator_blocks
    WHERE allowed_at IS NULL ORDER BY id
""")
_ALLOW = text("""
    UPDATE evaluator_blocks SET allowed_at = now(), allowed_by = :by, allow_reason = :reason
    WHERE evaluator = :evaluator AND allowed_at IS NULL
""")


def _tally(row: Any) -> Tally:
    return Tally(
        (Cell(row.human, row.judged, row.n),),
        row.acceptable,
        row.wrongly_rejected,
        row.unacceptable,
        row.wrongly_accepted,
    )


def lock() -> None:
    """Until this transaction ends, no other one adds to a film."""
    execute(_LOCK, key=GOLD)


def find_film_id(prompt_id: str, video_hash: str) -> int | None:
    """The film that was added as a file of this hash for the prompt, unless it is retired."""
    return fetch_value(_FIND_FILM_ID, prompt_id=prompt_id, video_hash=video_hash)


def get_scores(film_id: int) -> HumanScores:
    scores = fetch_one(HumanScores, _GET_SCORES, film_id=film_id)
    assert scores is not None
    return scores


def insert_film(
    prompt_id: str, video_hash: str, scores: HumanScores, relevance: float, accepted: bool, scored_by: str
) -> int:
    return fetch_value(
        _INSERT_FILM,
        prompt_id=prompt_id,
        video_hash=video_hash,
        relevance_score=relevance,
        accepted=accepted,
        scored_by=scored_by,
        **asdict(scores),
    )


def insert_copy(film_id: int, copy: Copy) -> None:
    execute(_INSERT_COPY, film_id=film_id, **asdict(copy))


def list_copy_hashes(film_id: int) -> set[str]:
    return set(db.session.scalars(_LIST_COPY_HASHES, {"film_id": film_id}))


def find_submitted(video_hash: str) -> UUID | None:
    """The first submission of a miner that names this hash."""
    return fetch_value(_FIND_SUBMITTED, video_hash=video_hash)


def retire(uuid: UUID) -> bool:
    """False if there is no such film, or if it is retired already."""
    return fetch_value(_RETIRE, uuid=uuid) is not None


def list_films(retired: bool) -> list[Film]:
    """The films in the order in which they were added, with the retired ones or without."""
    return fetch_all(Film, _LIST_FILMS, retired=retired)


def count_films() -> int:
    return fetch_value(_COUNT_FILMS)


def count_copies_left() -> int:
    """How many copies no remote evaluator has seen."""
    return fetch_value(_COUNT_COPIES_LEFT)


def discard_unclaimed(everything: bool) -> int:
    """Delete showings that nobody has claimed: those of retired films and old ones, or all of them."""
    return execute(_DISCARD, everything=everything)


def find_last() -> LastShowing | None:
    return fetch_one(LastShowing, _FIND_LAST)


def count_submitted_after(id: int, at_most: int) -> int:
    return fetch_value(_COUNT_SUBMITTED_AFTER, id=id, at_most=at_most)


def pick_copy() -> PlannedCopy | None:
    """A copy that no remote evaluator has seen, of a film that is not under way."""
    return fetch_one(PlannedCopy, _PICK)


def find_companion() -> Companion | None:
    """One of the latest submissions, by lot."""
    return fetch_one(Companion, _FIND_COMPANION)


def insert_showing(copy_id: int, video_key: str, companion: Companion) -> bool:
    """Put a copy into the queue; False if its film is under way already, or retired."""
    return bool(execute(_INSERT_SHOWING, copy_id=copy_id, **asdict(companion) | {"video_key": video_key}))


def extend_lease(claim: Claim, lease_seconds: float) -> bool:
    """False if the lease has ended."""
    return bool(execute(_EXTEND, id=claim.id, claim_token=claim.claim_token, lease_seconds=lease_seconds))


def release(claim: Claim, at_least: float, *, is_fault: bool) -> datetime | None:
    """Return the showing to PENDING and say when it is due; None if no showing is under `claim`."""
    return fetch_value(
        _RELEASE, id=claim.id, claim_token=claim.claim_token, at_least=at_least, is_fault=is_fault
    )


def is_showing(claim: Claim) -> bool:
    return fetch_value(_IS_SHOWING, id=claim.id)


def return_expired() -> int:
    """Return the showings whose lease has ended to PENDING."""
    return execute(_RETURN_EXPIRED)


def record(claim: Claim, values: dict[str, Any], report: str) -> bool:
    """Write the answer; False, having written nothing, if the lease has ended."""
    return bool(execute(_RECORD, id=claim.id, claim_token=claim.claim_token, report=report, **values))


def list_groups(days: int) -> Iterator[Group]:
    """The answers of the last `days` days to films that are not retired, counted."""
    for row in db.session.execute(_LIST_GROUPS, {"days": days}):
        yield Group(row.category, row.judge_model, row.prompt_version, row.evaluator, _tally(row))


def has_judged(cycle_id: int, judge_model: str, prompt_version: str) -> bool:
    """Whether a judge gave a submission of the cycle its relevance."""
    return fetch_value(_HAS_JUDGED, cycle_id=cycle_id, judge_model=judge_model, prompt_version=prompt_version)


def list_evaluators(days: int, latest: int) -> list[EvaluatorAnswers]:
    """The `latest` answers of each remote evaluator since it was last allowed, of the last `days` days."""
    found: dict[str, EvaluatorAnswers] = {}
    for row in db.session.execute(_LIST_EVALUATORS, {"days": days, "latest": latest}):
        known = found.get(row.evaluator, EvaluatorAnswers(row.evaluator, NOTHING, None))
        times = [time for time in (known.differs_since, row.differs_since) if time is not None]
        found[row.evaluator] = EvaluatorAnswers(
            row.evaluator, known.tally + _tally(row), min(times, default=None)
        )
    return list(found.values())


def insert_block(evaluator: str, reason: str, doubted_since: datetime) -> bool:
    """False if it is blocked already."""
    return bool(execute(_INSERT_BLOCK, evaluator=evaluator, reason=reason, doubted_since=doubted_since))


def find_block(evaluator: str) -> Block | None:
    """The block under which an evaluator is now."""
    return fetch_one(Block, _FIND_BLOCK, evaluator=evaluator)


def find_last_block(evaluator: str) -> Block | None:
    """The last block of an evaluator, whether it has been allowed since or not."""
    return fetch_one(Block, _FIND_LAST_BLOCK, evaluator=evaluator)


def list_blocks() -> list[Block]:
    """The evaluators that are blocked now."""
    return fetch_all(Block, _LIST_BLOCKS)


def allow(evaluator: str, by: str, reason: str) -> bool:
    """End the block of an evaluator; False if there is none."""
    return bool(execute(_ALLOW, evaluator=evaluator, by=by, reason=reason))
