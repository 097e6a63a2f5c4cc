"""Rows for the benchmarks, made inside PostgreSQL."""

from collections.abc import Iterator
from contextlib import contextmanager
from random import randbytes
from typing import Any

from app.assessment.wire import pack_fingerprint
from app.video.frames import FrameHash

PROMPTS = 50
MINERS = 256
HOTKEY = "'5' || rpad(md5({uid}::text), 47, 'x')"

_PROMPTS = f"""
    INSERT INTO prompts (id, category, task, scenario, weight)
    SELECT 'prompt-' || i,
           (ARRAY['manipulation', 'locomotion', 'navigation', 'household', 'industrial'])[1 + i % 5],
           'grasp', 'Pick up a mug from a table using one hand', 0.5 + 0.25 * (i % 10)
    FROM generate_series(0, {PROMPTS - 1}) i
"""
_UPLOADS = """
    INSERT INTO uploads (video_key, content_type, expires_at)
    SELECT 'uploads/' || md5(i::text)::uuid || '/video.mp4', 'video/mp4', now() + interval '1 hour'
    FROM generate_series(%(first)s::bigint, %(last)s::bigint) i
"""
_SUBMISSIONS = f"""
    INSERT INTO submissions (
        cycle_id, prompt_id, prompt_weight, video_key, video_hash, miner_uid, miner_hotkey, signature,
        duration_sec, resolution_width, resolution_height, fps, camera_type, actor_type,
        status, final_score, evaluated_at, submitted_at)
    SELECT %(cycle_id)s, 'prompt-' || prompt, 0.5 + 0.25 * (prompt %% 10),
           'uploads/' || md5(i::text)::uuid || '/video.mp4', md5(i::text) || md5('x' || i), uid,
           {HOTKEY.format(uid="uid")}, repeat('ab', 64), 10, 1280, 720, 30, 'ego_head', 'human', status,
           CASE status WHEN 'SCORED' THEN round(random()::numeric, 4) WHEN 'REJECTED' THEN 0 END,
           CASE WHEN status <> 'PENDING' THEN now() END, now() - interval '2 hours'
    FROM (
        SELECT i, hashint8(i) & {MINERS - 1} AS uid, (hashint8(i) >> 8 & 65535) %% {PROMPTS} AS prompt,
               CASE WHEN %(pending)s THEN 'PENDING' WHEN i %% 5 = 0 THEN 'REJECTED' ELSE 'SCORED' END
                   AS status
        FROM generate_series(%(first)s::bigint, %(last)s::bigint) i
    ) rows
"""

_EVALUATIONS = """
    INSERT INTO evaluations (submission_id, technical_score, relevance_score, quality_score, rejection_reason,
                             evaluated_by, judge_model, prompt_version)
    SELECT id, final_score, final_score, final_score,
           CASE status WHEN 'REJECTED' THEN 'The video does not show the requested task.' END,
           'worker', 'judge', '1'
    FROM submissions WHERE cycle_id = %s
"""


@contextmanager
def bulk(cursor: Any) -> Iterator[None]:
    """Load without foreign key checks and without secondary indexes, which are built at the end."""
    cursor.execute("SET session_replication_role = replica; SET synchronous_commit = off")
    cursor.execute("""
        SELECT indexname, indexdef FROM pg_indexes i
        WHERE tablename = 'submissions'
          AND NOT EXISTS (SELECT 1 FROM pg_constraint c WHERE c.conname = i.indexname)
    """)
    indexes = cursor.fetchall()
    for name, _ in indexes:
        cursor.execute(f"DROP INDEX {name}")
    yield
    cursor.execute("SET maintenance_work_mem = '512MB'")
    for _, definition in indexes:
        cursor.execute(definition)
    cursor.execute("VACUUM ANALYZE submissions")
    cursor.execute("RESET session_replication_role; RESET synchronous_commit")


def insert_prompts(cursor: Any) -> None:
    cursor.execute(_PROMPTS)


def insert_submissions(cursor: Any, first: int, last: int, cycle_id: int, pending: bool = False) -> None:
    """Insert submissions number `first` to `last` with their uploads: evaluated ones, or pending."""
    binds = {"first": first, "last": last, "cycle_id": cycle_id, "pending": pending}
    cursor.execute(_UPLOADS, binds)
    cursor.execute(_SUBMISSIONS, binds)


def lease_pending(cursor: Any) -> list[tuple[int, str, str]]:
    """Lease all pending submissions to one evaluator; return their ids, tokens and hashes of the video."""
    cursor.execute(
        "UPDATE submissions SET status = 'EVALUATING', attempts = 1, claim_token = gen_random_uuid(), "
        "claimed_by = 'x', lease_expires_at = now() + interval '1 hour' "
        "WHERE status = 'PENDING' RETURNING id, claim_token, video_hash"
    )
    return cursor.fetchall()


def make_result(id: int, token: str, verified: str | None) -> dict[str, Any]:
    """A result of four scores; with the hash of its `verified` bytes it has a fingerprint of 40 moments."""
    findings: dict[str, Any] = {"model": "some-judge", "frames": 12}
    if verified:
        frames = tuple(FrameHash(i / 2, randbytes(32), randbytes(32)) for i in range(40))
        findings["kibotos"] = {
            "judge_model": "some-judge",
            "fingerprint": pack_fingerprint(frames, 10_000),
            "report": {"verified_sha256": verified},
        }
    scores = {"technical_score": 0.9, "relevance_score": 0.8, "quality_score": 0.7, "final_score": 0.79}
    return {"submission_id": id, "claim_token": token, "metadata": findings, **scores}


def insert_evaluations(cursor: Any, cycle_id: int) -> None:
    """Insert the evaluations that the cycle's results come from."""
    cursor.execute(_EVALUATIONS, (cycle_id,))
    cursor.execute("VACUUM ANALYZE evaluations")


def insert_cycle(cursor: Any, status: str) -> int:
    """Insert a cycle that ended an hour ago, or an ACTIVE one, and return its id."""
    closed = "NULL" if status == "ACTIVE" else "now() - interval '1 hour'"
    completed = "now()" if status == "COMPLETED" else "NULL"
    ends = "now() + interval '1 day'" if status == "ACTIVE" else "now() - interval '1 hour'"
    cursor.execute(
        "INSERT INTO cycles (status, started_at, ends_at, closed_at, completed_at) "
        f"VALUES (%s, now() - interval '2 hours', {ends}, {closed}, {completed}) RETURNING id",
        (status,),
    )
    return cursor.fetchone()[0]
