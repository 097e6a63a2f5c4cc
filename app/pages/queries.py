"""SQL for the pages: what a person wants to see at once, in at most three statements a page."""

from dataclasses import dataclass
from datetime import date, datetime
from typing import Any
from uuid import UUID

from sqlalchemy import text

from app.assessment.report import StageSeconds
from app.corrections.queries import JOIN_LAST
from app.db import fetch_all, fetch_one, fetch_value
from app.health.queries import SELECT_STAGES

# Counts beyond this are shown as "10,000 or more": exact ones would cost more the more there is to count.
COUNT_AT_MOST = 10_000
CORRECTIONS_AT_MOST = 100
# over how many of the latest evaluations acceptance and reasons are taken
LATEST = 1000
# and over how many the times of stages
STAGES_OVER = 200

_OVERVIEW = text(f"""
    SELECT c.id AS active_cycle_id, c.started_at AS active_started_at, c.ends_at AS active_ends_at,
        (SELECT count(*) FROM prompts WHERE is_active AND (expires_at IS NULL OR expires_at > now()))
            AS open_prompts,
        (SELECT coalesce(sum(n), 0)::bigint FROM prompt_submission_counts) AS total_submissions,
        -- with gold films, as for evaluators
        (SELECT count(*) FROM (SELECT FROM submissions WHERE status = 'PENDING' AND held_at IS NULL
                               UNION ALL SELECT FROM gold_showings WHERE status = 'PENDING'
                               LIMIT :most) open) AS pending,
        (SELECT count(*) FROM (SELECT FROM submissions WHERE status = 'EVALUATING'
                               UNION ALL SELECT FROM gold_showings WHERE status = 'EVALUATING'
                               LIMIT :most) open) AS evaluating,
        (SELECT extract(epoch FROM now() - not_before)::float8 FROM submissions
         WHERE status = 'PENDING' AND held_at IS NULL AND not_before <= now()
         ORDER BY not_before, id LIMIT 1) AS oldest_pending_seconds,
        (SELECT count(*)
         FROM (SELECT submitted_at FROM submissions ORDER BY id DESC LIMIT :most) latest
         WHERE submitted_at > now() - interval '1 hour') AS submitted_last_hour,
        (SELECT count(*)
         FROM (SELECT created_at FROM evaluations ORDER BY submission_id DESC LIMIT :most) latest
         WHERE created_at > now() - interval '1 hour') AS evaluated_last_hour,
        (SELECT max(last_started_at) FROM ticks) AS last_tick_at,
        -- the first words of a reason, up to where it becomes particular, say its kind
        (SELECT coalesce(json_agg(row_to_json(outcome) ORDER BY outcome.count DESC, outcome.reason), '[]')
         FROM (
            SELECT coalesce(substring(rejection_reason FROM '^[^:.,(0-9]{{4,100}}'),
                            left(rejection_reason, 100)) AS reason, count(*) AS count
            FROM (SELECT rejection_reason FROM evaluations ORDER BY submission_id DESC LIMIT :verdicts) latest
            GROUP BY 1) outcome) AS outcomes,
        (SELECT coalesce(json_agg(row_to_json(took)), '[]') FROM ({SELECT_STAGES}) took) AS stages,
        (SELECT coalesce(json_agg(row_to_json(unfinished) ORDER BY unfinished.id), '[]') FROM (
            SELECT y.id, y.closed_at,
                   (SELECT count(*) FROM (SELECT FROM submissions s WHERE s.cycle_id = y.id
                                          LIMIT :most) counted) AS submissions,
                   (SELECT count(*) FROM (SELECT FROM submissions s
                                          WHERE s.cycle_id = y.id AND s.status IN ('PENDING', 'EVALUATING')
                                          LIMIT :most) counted) AS open
            FROM cycles y WHERE y.status = 'EVALUATING') unfinished) AS unfinished
    FROM (SELECT) one LEFT JOIN cycles c ON c.status = 'ACTIVE'
""")
_LIST_CYCLES = text("""
    SELECT c.id, c.status, c.started_at, c.block_number,
        CASE WHEN c.status = 'COMPLETED' THEN recorded.miners END AS miners,
        CASE WHEN c.status = 'COMPLETED' THEN recorded.submissions
             ELSE (SELECT count(*) FROM (SELECT FROM submissions s WHERE s.cycle_id = c.id
                                         LIMIT :most) counted) END AS submissions,
        CASE WHEN c.status = 'COMPLETED' THEN recorded.accepted END AS accepted
    FROM cycles c, LATERAL (
        SELECT count(*) AS miners, coalesce(sum(total_submissions), 0)::bigint AS submissions,
               coalesce(sum(accepted_submissions), 0)::bigint AS accepted
        FROM miner_scores m WHERE m.cycle_id = c.id) recorded
    WHERE CAST(:before AS bigint) IS NULL OR c.id < :before
    ORDER BY c.id DESC LIMIT :limit
""")
# Corrections that count in a cycle: those of its own submissions, and the late ones since the cycle before.
_FIND_DETAILS = text("""
    SELECT
        (SELECT coalesce(json_object_agg(tenth, count), '{}') FROM (
            SELECT least(floor(final_score * 10)::integer, 9) AS tenth, count(*) AS count
            FROM (SELECT cycle_id, status, final_score FROM submissions
                  -- with cycle_id = :cycle_id the planner would walk through all later cycles to come to it
                  WHERE (cycle_id, id) <= (:cycle_id, 9223372036854775807)
                  ORDER BY cycle_id DESC, id DESC LIMIT :most) latest
            WHERE cycle_id = :cycle_id AND status = 'SCORED' GROUP BY 1) spread) AS spread,
        (SELECT root FROM ledgers WHERE cycle_id = :cycle_id) AS ledger_root,
        (SELECT coalesce(json_agg(row_to_json(decided) ORDER BY decided.id DESC), '[]') FROM (
            SELECT k.id, k.kind, k.status, k.final_score, k.decided_by, k.decided_at, k.is_late, s.uuid
            FROM corrections k JOIN submissions s ON s.id = k.submission_id
            WHERE NOT k.is_late AND k.cycle_id = :cycle_id
               OR k.is_late AND k.id <= :last_correction_id AND k.id > coalesce((
                    SELECT max(last_correction_id) FROM cycles
                    WHERE id < :cycle_id AND status = 'COMPLETED'), 0)
            ORDER BY k.id DESC LIMIT :limit) decided) AS corrections
""")
_LIST_MINER_CYCLES = text("""
    SELECT m.cycle_id, m.miner_uid AS uid, m.total_submissions AS submissions,
           m.accepted_submissions AS accepted, m.avg_score, m.total_score, m.adjustment::float8 AS adjustment,
           m.holds_uid, w.weight
    FROM miner_scores m LEFT JOIN computed_weights w
         ON w.cycle_id = m.cycle_id AND w.miner_uid = m.miner_uid AND m.holds_uid
    WHERE m.miner_hotkey = :hotkey ORDER BY m.cycle_id DESC LIMIT :limit
""")
_FIND_HOTKEY = text("""
    SELECT coalesce(
        (SELECT hotkey FROM metagraph WHERE uid = :uid),
        (SELECT miner_hotkey FROM miner_scores m
         WHERE m.miner_uid = :uid AND m.cycle_id = (SELECT max(id) FROM cycles WHERE status = 'COMPLETED')
         ORDER BY m.total_score DESC LIMIT 1)) AS hotkey
""")
_FIND_SUBMISSION = text(f"""
    SELECT s.uuid, s.miner_hotkey, s.miner_uid, s.prompt_id, p.category, p.scenario, s.prompt_weight,
        s.cycle_id, s.video_key, s.video_hash, s.submitted_at, s.evaluated_at, s.last_fault,
        s.not_before, s.held_at IS NOT NULL AS is_held, s.camera_type, s.actor_type, s.environment,
        s.robot_model, s.action_description, s.status AS evaluated_status, s.final_score AS evaluated_score,
        coalesce(last.status, s.status) AS status, coalesce(last.final_score, s.final_score) AS final_score,
        e.technical_score, e.relevance_score, e.quality_score, e.rejection_reason, e.judge_model,
        e.prompt_version, e.evaluated_by, v.report, r.state AS review_state, r.reason AS review_reason,
        last.status IS NOT NULL AS is_corrected, coalesce(last.decided_at, s.evaluated_at) AS result_at,
        t.submission_id IS NOT NULL AS is_taken_down, t.taken_down_at, t.reason AS takedown_reason,
        CASE WHEN t.by_miner THEN 'its miner' ELSE t.taken_down_by END AS taken_down_by,
        s.video_pruned_at, s.licence, s.consent_hash, s.consent_version, s.consent_date,
        t.submission_id IS NULL AND EXISTS (SELECT FROM contact_sheets k WHERE k.uuid = s.uuid) AS has_sheet
    FROM submissions s JOIN prompts p ON p.id = s.prompt_id
    LEFT JOIN takedowns t ON t.submission_id = s.id
    LEFT JOIN evaluations e ON e.submission_id = s.id
    LEFT JOIN verification_reports v ON v.submission_id = s.id
    LEFT JOIN reviews r ON r.submission_id = s.id {JOIN_LAST}
    WHERE s.uuid = :uuid
    UNION ALL
    -- a gold film is shown to its evaluator like a submission of its time
    SELECT g.uuid, g.miner_hotkey, g.miner_uid, g.prompt_id, p.category, p.scenario, p.weight,
        (SELECT max(c.id) FROM cycles c WHERE c.started_at <= g.submitted_at), g.video_key, g.video_hash,
        g.submitted_at, g.evaluated_at, NULL, g.not_before, false, g.camera_type, g.actor_type,
        NULL, NULL, NULL, g.status, g.final_score, g.status, g.final_score, g.technical_score,
        g.relevance_score, g.quality_score, g.rejection_reason, g.judge_model, g.prompt_version,
        CASE WHEN g.evaluator IS NOT NULL THEN 'evaluator' WHEN g.evaluated_at IS NOT NULL THEN 'worker' END,
        g.report, NULL, NULL, false, g.evaluated_at, false, NULL, NULL, NULL, NULL,
        g.licence, g.consent_hash, g.consent_version, g.consent_date, false
    FROM gold_showings g JOIN prompts p ON p.id = g.prompt_id WHERE g.uuid = :uuid
""")
_ACCEPTANCE = text("""
    SELECT s.prompt_id, count(*) AS evaluated, count(*) FILTER (WHERE s.status = 'SCORED') AS accepted
    FROM (SELECT submission_id FROM evaluations ORDER BY submission_id DESC LIMIT :latest) latest
    JOIN submissions s ON s.id = latest.submission_id GROUP BY s.prompt_id
""")
# one that is judged again waits for its result, and not for a person
_OPEN_REVIEWS = """
    reviews r JOIN submissions s ON s.id = r.submission_id
    WHERE r.state = 'OPEN' AND (s.held_at IS NOT NULL OR s.status IN ('SCORED', 'REJECTED'))
"""
_COUNT_OPEN_REVIEWS = text(f"SELECT count(*) FROM {_OPEN_REVIEWS}")
_FIND_NEXT_REVIEW = text(f"""
    SELECT s.uuid FROM {_OPEN_REVIEWS} AND (CAST(:after AS uuid) IS NULL OR (r.waits_since, s.id) > (
        SELECT own.waits_since, own.submission_id
        FROM reviews own JOIN submissions o ON o.id = own.submission_id
        WHERE o.uuid = :after))
    ORDER BY r.waits_since, s.id LIMIT 1
""")
# a gold film gets the answers of a submission
_FIND_HOTKEY_OF = text("""
    SELECT miner_hotkey FROM submissions WHERE uuid = :uuid
    UNION ALL SELECT miner_hotkey FROM gold_showings WHERE uuid = :uuid
""")
_FIND_VIDEO_KEY = text("""
    SELECT s.video_key FROM submissions s
    WHERE s.uuid = :uuid AND s.video_pruned_at IS NULL
      AND NOT EXISTS (SELECT FROM takedowns t WHERE t.submission_id = s.id)
""")
_FIND_WHY_GONE = text("""
    SELECT CASE WHEN EXISTS (SELECT FROM takedowns t WHERE t.submission_id = s.id) THEN 'was taken down'
                WHEN s.video_pruned_at IS NOT NULL THEN 'was rejected long ago and is deleted' END
    FROM submissions s WHERE s.uuid = :uuid
""")
_LIST_ACTIONS = text("""
    SELECT id, done_at, done_by, action, subject FROM admin_actions
    WHERE CAST(:before AS bigint) IS NULL OR id < :before ORDER BY id DESC LIMIT :limit
""")


@dataclass(frozen=True)
class Overview:
    active_cycle_id: int | None
    active_started_at: datetime | None
    active_ends_at: datetime | None
    open_prompts: int
    total_submissions: int
    # the counts up to COUNT_AT_MOST
    pending: int
    evaluating: int
    oldest_pending_seconds: float | None
    submitted_last_hour: int
    evaluated_last_hour: int
    last_tick_at: datetime | None
    # how the latest evaluations ended: reason (None: accepted) and count, the most frequent first
    outcomes: list[dict[str, Any]]
    # of each stage of the latest evaluations: stage, median, p95
    stages: list[dict[str, Any]]
    # of each EVALUATING cycle: id, closed_at, submissions, open
    unfinished: list[dict[str, Any]]


@dataclass(frozen=True)
class CycleRow:
    """A cycle in the list. What is not known before it is completed is None.

    Until then `submissions` are counted up to COUNT_AT_MOST.
    """

    id: int
    status: str
    started_at: datetime
    block_number: int | None
    miners: int | None
    submissions: int
    accepted: int | None


@dataclass(frozen=True)
class CycleDetails:
    """What a cycle's page shows beside its scores.

    `spread`: how many of its latest COUNT_AT_MOST submissions are accepted, with a final score in each tenth
    of [0, 1]. `corrections`: those that count in it, the latest first, each with id, kind, status,
    final_score, decided_by, decided_at, is_late and the submission's uuid.
    """

    spread: dict[str, int]
    ledger_root: str | None
    corrections: list[dict[str, Any]]


@dataclass(frozen=True)
class MinerCycle:
    cycle_id: int
    uid: int
    submissions: int
    accepted: int
    avg_score: float
    total_score: float
    adjustment: float
    holds_uid: bool
    # of the uid; None if it has none
    weight: float | None


@dataclass(frozen=True)
class SubmissionPage:
    """A submission, its evaluation, and its effective result."""

    uuid: UUID
    miner_hotkey: str
    miner_uid: int
    prompt_id: str
    category: str
    scenario: str
    prompt_weight: float
    cycle_id: int | None
    video_key: str
    video_hash: str
    submitted_at: datetime
    evaluated_at: datetime | None
    last_fault: str | None
    not_before: datetime
    is_held: bool
    camera_type: str
    actor_type: str
    environment: str | None
    robot_model: str | None
    action_description: str | None
    evaluated_status: str
    evaluated_score: float | None
    status: str
    final_score: float | None
    technical_score: float | None
    relevance_score: float | None
    quality_score: float | None
    rejection_reason: str | None
    judge_model: str | None
    prompt_version: str | None
    evaluated_by: str | None
    report: dict[str, Any] | None
    review_state: str | None
    review_reason: str | None
    is_corrected: bool
    # since when the effective result stands
    result_at: datetime | None
    is_taken_down: bool
    taken_down_at: datetime | None
    takedown_reason: str | None
    taken_down_by: str | None
    # it was rejected for so long that its video was deleted
    video_pruned_at: datetime | None
    licence: str | None
    consent_hash: str | None
    consent_version: str | None
    consent_date: date | None
    # a contact sheet in storage
    has_sheet: bool

    @property
    def is_gone(self) -> bool:
        """Whether nobody can look at the video any more."""
        return self.is_taken_down or self.video_pruned_at is not None


@dataclass(frozen=True)
class Acceptance:
    prompt_id: str
    evaluated: int
    accepted: int


@dataclass(frozen=True)
class Action:
    """What an admin did."""

    id: int
    done_at: datetime
    done_by: str
    action: str
    subject: str


def get_overview() -> Overview:
    overview = fetch_one(
        Overview,
        _OVERVIEW,
        most=COUNT_AT_MOST,
        verdicts=LATEST,
        latest=STAGES_OVER,
        stages=list(StageSeconds.model_fields),
    )
    assert overview is not None
    return overview


def list_cycles(before: int | None, limit: int) -> list[CycleRow]:
    """The cycles before the given one (None: the newest of all), the newest first."""
    return fetch_all(CycleRow, _LIST_CYCLES, before=before, limit=limit, most=COUNT_AT_MOST)


def get_details(cycle_id: int, last_correction_id: int | None) -> CycleDetails:
    """Spread, ledger and corrections of a cycle, of these at most CORRECTIONS_AT_MOST."""
    details = fetch_one(
        CycleDetails,
        _FIND_DETAILS,
        cycle_id=cycle_id,
        last_correction_id=last_correction_id or 0,
        limit=CORRECTIONS_AT_MOST,
        most=COUNT_AT_MOST,
    )
    assert details is not None
    return details


def list_miner_cycles(hotkey: str, limit: int) -> list[MinerCycle]:
    """The miner's completed cycles, the newest first."""
    return fetch_all(MinerCycle, _LIST_MINER_CYCLES, hotkey=hotkey, limit=limit)


def find_hotkey(uid: int) -> str | None:
    """The hotkey that holds the uid, or that earned most with it in the last completed cycle."""
    return fetch_value(_FIND_HOTKEY, uid=uid)


def find_submission(uuid: UUID) -> SubmissionPage | None:
    return fetch_one(SubmissionPage, _FIND_SUBMISSION, uuid=uuid)


def list_acceptance() -> list[Acceptance]:
    """How many of the latest evaluations were accepted, by prompt."""
    return fetch_all(Acceptance, _ACCEPTANCE, latest=2 * LATEST)


def count_open_reviews() -> int:
    """How many reviews wait for a person."""
    return fetch_value(_COUNT_OPEN_REVIEWS)


def find_next_review(after: UUID | None) -> UUID | None:
    """The submission whose review waits longest, of those that wait for less long than `after`'s."""
    return fetch_value(_FIND_NEXT_REVIEW, after=after)


def find_hotkey_of(uuid: UUID) -> str | None:
    """The hotkey that submitted a submission."""
    return fetch_value(_FIND_HOTKEY_OF, uuid=uuid)


def find_video_key(uuid: UUID) -> str | None:
    return fetch_value(_FIND_VIDEO_KEY, uuid=uuid)


def find_why_gone(uuid: UUID) -> str | None:
    """Why nobody can look at a video any more: what follows "This video". None: they can."""
    return fetch_value(_FIND_WHY_GONE, uuid=uuid)


def list_actions(before: int | None, limit: int) -> list[Action]:
    """What admins did, the latest first."""
    return fetch_all(Action, _LIST_ACTIONS, before=before, limit=limit)
