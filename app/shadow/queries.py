"""SQL on the results of a cycle, to judge them anew. Nothing is written."""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any
from uuid import UUID

from sqlalchemy import text

from app.corrections.queries import JOIN_LAST
from app.db import db, execute, fetch_all, fetch_one

PAGE = 200

_READ_ONLY = text("SET TRANSACTION READ ONLY")
_COUNT = text("""
    SELECT c.id AS cycle_id, c.status, count(s.id) AS results
    FROM cycles c LEFT JOIN submissions s ON s.cycle_id = c.id AND s.status IN ('SCORED', 'REJECTED')
         AND (CAST(:evaluator AS text) IS NULL
              OR EXISTS (SELECT FROM evaluations e WHERE e.submission_id = s.id AND e.evaluator = :evaluator))
    WHERE c.id = :cycle_id GROUP BY c.id
""")
_PAGE = text(f"""
    SELECT s.id, s.uuid AS submission_uuid, s.miner_uid, s.miner_hotkey, s.prompt_weight, s.prompt_id,
           p.category, p.task, p.scenario, s.requirements, s.video_key, s.video_hash, s.frame_seed,
           s.duration_sec, s.resolution_width, s.resolution_height, s.fps,
           coalesce(last.status, s.status) AS status,
           coalesce(last.final_score, s.final_score) AS final_score,
           last.status IS NOT NULL AS is_corrected, e.technical_score, e.relevance_score, e.quality_score,
           e.rejection_reason, e.judge_model, r.report
    FROM submissions s JOIN prompts p ON p.id = s.prompt_id JOIN evaluations e ON e.submission_id = s.id
    LEFT JOIN verification_reports r ON r.submission_id = s.id {JOIN_LAST}
    WHERE s.cycle_id = :cycle_id AND s.id > :after AND s.status IN ('SCORED', 'REJECTED')
          AND (CAST(:evaluator AS text) IS NULL OR e.evaluator = :evaluator)
    ORDER BY s.id LIMIT :limit
""")


@dataclass(frozen=True)
class ResultCount:
    cycle_id: int
    status: str
    results: int


@dataclass(frozen=True)
class StoredResult:
    """A result as it counts now, and what the evaluation found."""

    id: int
    submission_uuid: UUID
    miner_uid: int
    miner_hotkey: str
    prompt_weight: float
    prompt_id: str
    category: str
    task: str
    scenario: str
    requirements: dict[str, Any]
    video_key: str
    video_hash: str
    frame_seed: UUID
    duration_sec: float
    resolution_width: int
    resolution_height: int
    fps: float
    status: str
    final_score: float
    is_corrected: bool
    technical_score: float
    relevance_score: float
    quality_score: float
    rejection_reason: str | None
    judge_model: str | None
    report: dict[str, Any] | None


def count_results(cycle_id: int, evaluator: str | None) -> ResultCount | None:
    """How many results a cycle has; None if there is no such cycle."""
    return fetch_one(ResultCount, _COUNT, cycle_id=cycle_id, evaluator=evaluator)


def iterate_results(cycle_id: int, evaluator: str | None, page_size: int = PAGE) -> Iterator[StoredResult]:
    """The results in the order of submission. No transaction is open while one is looked at."""
    after = 0
    while True:
        execute(_READ_ONLY)
        page = fetch_all(
            StoredResult, _PAGE, cycle_id=cycle_id, evaluator=evaluator, after=after, limit=page_size
        )
        db.session.rollback()
        yield from page
        if len(page) < page_size:
            return
        after = page[-1].id
