"""SQL on submissions."""

import json
from typing import Any
from uuid import UUID

from sqlalchemy import text

from app.corrections.queries import JOIN_LAST
from app.db import Prepared, fetch_one, fetch_value
from app.locks import MINER_SUBMISSIONS
from app.submissions.models import Admission, Receipt, Submission
from app.uploads.queries import HAS_METAGRAPH, QUOTA_WAIT

_WAIT = QUOTA_WAIT.format(table="submissions", moment="submitted_at")
_ADMISSION = f"""
    SELECT u.video_key IS NOT NULL AS is_presigned, u.miner_hotkey AS owner, u.content_type, u.size_bytes,
        s.uuid AS submission_uuid, s.status, s.cycle_id,
        s.prompt_id, s.miner_uid, s.miner_hotkey, s.video_hash,
        s.licence, s.consent_hash, s.consent_version, s.consent_date::text AS consent_date,
        p.is_active AND (p.expires_at IS NULL OR p.expires_at > now()) AS prompt_is_open,
        p.requirements, {HAS_METAGRAPH} AS has_metagraph,
        EXISTS (SELECT FROM metagraph WHERE uid = :miner_uid AND hotkey = :miner_hotkey) AS is_registered,
        {_WAIT} AS quota_wait_seconds,
        EXISTS (SELECT FROM gold_showings g WHERE g.video_key = :video_key) AS is_gold,
        -- not what another miner only claimed to be this file
        (SELECT d.uuid FROM submissions d JOIN takedowns t ON t.submission_id = d.id
         LEFT JOIN fingerprints f ON f.submission_id = d.id
         WHERE d.video_hash = :video_hash
           AND (d.miner_hotkey = :miner_hotkey OR NOT t.by_miner OR f.content_hash IS NOT NULL)
         ORDER BY d.id LIMIT 1) AS taken_down_as
    FROM (SELECT) one
    LEFT JOIN uploads u ON u.video_key = :video_key
    LEFT JOIN submissions s ON s.video_key = :video_key
    LEFT JOIN prompts p ON p.id = :prompt_id
"""
_GET_ADMISSION = Prepared(_ADMISSION)
_LOCK_SUBMISSIONS = f"""
    SELECT pg_advisory_xact_lock(hashtextextended(:miner_hotkey, {MINER_SUBMISSIONS})),
        (SELECT id FROM cycles WHERE status = 'ACTIVE' FOR SHARE),
        -- from here on the nightly sweep does not forget the upload
        (SELECT video_key FROM uploads WHERE video_key = :video_key FOR KEY SHARE)
"""
_INSERT_SUBMISSION = f"""
    WITH admission AS ({_ADMISSION}), new AS (
        INSERT INTO submissions (
            cycle_id, prompt_id, prompt_weight, requirements,
            video_key, video_hash, miner_uid, miner_hotkey, signature,
            duration_sec, resolution_width, resolution_height, fps, camera_type, actor_type,
            camera_intrinsics, robot_model, environment, action_description, task_success,
            licence, consent_hash, consent_version, consent_date
        )
        SELECT
            (SELECT id FROM cycles WHERE status = 'ACTIVE' FOR SHARE), p.id, p.weight, p.requirements,
            :video_key, :video_hash, :miner_uid, :miner_hotkey, encode(:signature, 'hex'),
            :duration_sec, :resolution_width, :resolution_height, :fps, :camera_type, :actor_type,
            CAST(:camera_intrinsics AS jsonb), :robot_model, :environment, :action_description,
            CAST(:task_success AS boolean),
            :licence, :consent_hash, :consent_version, CAST(:consent_date AS date)
        FROM prompts p, admission
        WHERE p.id = :prompt_id AND is_presigned AND prompt_is_open AND quota_wait_seconds IS NULL
          AND (CAST(:netuid AS integer) IS NULL OR has_metagraph AND is_registered)
        ON CONFLICT (video_key) DO NOTHING
        RETURNING uuid, status, cycle_id, prompt_id
    ), counted AS (
        INSERT INTO prompt_submission_counts AS c (prompt_id, shard, n)
        SELECT prompt_id, floor(random() * 16), 1 FROM new
        ON CONFLICT (prompt_id, shard) DO UPDATE SET n = c.n + 1
    )
    SELECT uuid AS submission_uuid, status, cycle_id FROM new
"""
# The second has a snapshot of its own, taken when the locks are held: it sees what the miner's request before
# this one inserted, and the cycle that a tick has just started. A single statement would see neither.
_LOCK_AND_INSERT_SUBMISSION = Prepared(_LOCK_SUBMISSIONS, _INSERT_SUBMISSION)
_GET_WAIT = text(f"SELECT {_WAIT}")
_COUNT_REQUESTS = text("""
    SELECT count(*) FROM nonces
    WHERE hotkey = :miner_hotkey AND used_at > now() - make_interval(secs => :seconds)
""")
# with the effective result: the status, score and reason of the last correction, if there is any
_FIND = Prepared(f"""
    SELECT s.uuid AS submission_uuid, s.prompt_id, s.miner_uid, s.video_key,
        coalesce(last.status, s.status) AS status, s.submitted_at,
        s.evaluated_at, s.cycle_id, s.attempts, coalesce(last.final_score, s.final_score) AS final_score,
        e.technical_score, e.relevance_score, e.quality_score,
        CASE coalesce(last.status, s.status)
            WHEN 'REJECTED' THEN coalesce(last.reason, e.rejection_reason) END AS rejection_reason,
        e.judge_model, last.status IS NOT NULL AS is_corrected,
        s.licence, s.consent_hash, s.consent_version, s.consent_date::text AS consent_date,
        (SELECT t.taken_down_at FROM takedowns t WHERE t.submission_id = s.id) AS taken_down_at
    FROM submissions s LEFT JOIN evaluations e ON e.submission_id = s.id {JOIN_LAST}
    WHERE s.uuid = :uuid
    UNION ALL
    -- a gold film is shown to its evaluator like a submission of its time
    SELECT g.uuid, g.prompt_id, g.miner_uid, g.video_key, g.status, g.submitted_at, g.evaluated_at,
        (SELECT max(c.id) FROM cycles c WHERE c.started_at <= g.submitted_at), g.attempts, g.final_score,
        g.technical_score, g.relevance_score, g.quality_score, g.rejection_reason, g.judge_model, false,
        g.licence, g.consent_hash, g.consent_version, g.consent_date::text, NULL
    FROM gold_showings g WHERE g.uuid = :uuid
""")


def get_admission(
    video_key: str | None,
    video_hash: str | None,
    prompt_id: str,
    miner_uid: int,
    miner_hotkey: str,
    quota: int,
    netuid: int | None,
) -> Admission:
    """Return what is known about this submission. Its miner may make `quota` submissions an hour."""
    row = fetch_one(
        Admission,
        _GET_ADMISSION,
        video_key=video_key,
        video_hash=video_hash,
        prompt_id=prompt_id,
        miner_uid=miner_uid,
        miner_hotkey=miner_hotkey,
        quota=quota,
        netuid=netuid,
    )
    assert row is not None
    return row


def insert_submission(
    values: dict[str, Any], signature: bytes | None, quota: int, netuid: int | None
) -> Receipt | None:
    """Insert a submission into the active cycle, if any, under its prompt's terms, and count it.

    Submissions of a miner pass here one by one, so the quota is exact. If a tick is just closing the cycle,
    this waits for it; a later tick waits for this. Returns None if the key has been submitted, the prompt is
    closed, the quota is used up or the miner is not registered.
    """
    intrinsics = values["camera_intrinsics"]
    consent = values.pop("consent") or {}
    binds = values | {
        "consent_hash": consent.get("hash"),
        "consent_version": consent.get("version"),
        "consent_date": consent.get("date"),
        "camera_intrinsics": None if intrinsics is None else json.dumps(intrinsics),
        "signature": signature,
    }
    return fetch_one(Receipt, _LOCK_AND_INSERT_SUBMISSION, **binds, quota=quota, netuid=netuid)


def get_quota_wait(miner_hotkey: str, quota: int) -> float | None:
    """Seconds until the miner may submit again; None if it may now."""
    return fetch_value(_GET_WAIT, miner_hotkey=miner_hotkey, quota=quota)


def count_requests(miner_hotkey: str, seconds: float) -> int:
    """How many signed requests of this miner came in the last seconds, as far as nonces are remembered."""
    return fetch_value(_COUNT_REQUESTS, miner_hotkey=miner_hotkey, seconds=seconds)


def find_submission(uuid: UUID) -> Submission | None:
    return fetch_one(Submission, _FIND, uuid=uuid)
