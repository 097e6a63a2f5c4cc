"""The rules of appeals: who may appeal against what, and how an appeal is decided.

The evaluation of an appeal is a claim like any other (app/evaluation). What a person decides comes through a
review (app/reviews). Appeals change under the lock of corrections, which is taken after all other locks.
"""

from math import ceil
from uuid import UUID

import structlog
from redis import Redis, RedisError

from app.appeals import queries, rule
from app.appeals.models import Admission, Appeal, NewAppeal, Statistics, reason_hash
from app.appeals.rule import Result
from app.config import Settings
from app.corrections import queries as corrections
from app.corrections import service as correcting
from app.corrections.models import Decision
from app.db import db
from app.enums import AppealState, CorrectionKind, SubmissionStatus
from app.errors import Conflict, Forbidden, NotFound, TooManyRequests, Unauthorized, invalid_field
from app.hotkeys import appeal_statement, is_signed
from app.queue import enqueue_evaluations
from app.submissions.models import read_signature
from app.webhooks import service as webhooks
from app.webhooks.events import AppealDecided

log = structlog.get_logger(__name__)

# by the database's clock, from the effective result on
HOURS_TO_APPEAL = 24


def appeal(
    uuid: UUID, new: NewAppeal, unsigned_allowed: bool, settings: Settings, redis: Redis
) -> tuple[Appeal, bool]:
    """Accept an appeal. Return it, and whether it is new.

    The same statement again gets the same appeal. If the result cannot be appealed against, this raises a
    DomainError and writes nothing.
    """
    signature = _check_signature(uuid, new, unsigned_allowed)
    # first without a lock: who has no such submission makes nobody wait, and waits for nobody
    _get_admission(uuid, new.miner_hotkey, settings)
    queries.lock_miner(new.miner_hotkey)
    queries.lock_submission(uuid)
    # until the end no review of the submission opens, and its result does not change
    corrections.lock()
    admission = _get_admission(uuid, new.miner_hotkey, settings)
    known = queries.find(uuid)
    if known:
        if known.reason != new.reason:
            raise Conflict("You appealed in this matter before; a submission has one appeal.")
        return known, False
    _check(admission, settings.max_appeals_per_day)
    queries.insert(admission, new.reason, signature)
    db.session.commit()
    log.info("appealed", submission=str(uuid), against=[admission.status, admission.final_score])
    try:
        enqueue_evaluations(redis, 1, settings.job_timeout_seconds)
    except RedisError as error:
        # the row is safe; the next reconciliation queues it
        log.warning("enqueue_failed", error=type(error).__name__, submission=str(uuid))
    return get_appeal(uuid), True


def get_appeal(uuid: UUID) -> Appeal:
    """Return the appeal against the result of a submission; raise NotFound if there is none."""
    found = queries.find(uuid)
    if found is None:
        raise NotFound("There is no appeal against the result of this submission; check its UUID.")
    return found


def count() -> Statistics:
    """Return how many appeals there are, by state."""
    return queries.count()


def conclude(appeal: Appeal) -> bool:
    """Decide an appeal whose evaluation is there, if that agrees with the result. False if it disagrees.

    The caller holds the lock of corrections and commits.
    """
    standing, new = standing_result(appeal), appeal.new_result
    assert new is not None
    if rule.disagree(standing, new):
        return False
    decide(appeal, standing, correcting.SYSTEM, "The new evaluation agrees with the result.")
    return True


def standing_result(appeal: Appeal) -> Result:
    """The effective result of the submission that an appeal is about."""
    effective = corrections.find_effective(appeal.submission_id)
    assert effective is not None, "what has an appeal has a result"
    return Result(effective.status, effective.final_score)


def decide(appeal: Appeal, result: Result | None, decided_by: str, reason: str) -> AppealState:
    """Decide an appeal: every decision comes through here. The caller holds the lock and commits.

    `result` is what counts from now on: a correction is recorded if it changes anything. None closes the
    appeal without a decision.
    """
    standing = standing_result(appeal)
    state = AppealState.CLOSED
    if result is not None:
        state = AppealState.UPHELD if result == standing else AppealState.OVERTURNED
    if result is not None and state == AppealState.OVERTURNED:
        new = appeal.new_result
        evidence = {
            "reason_sha256": reason_hash(appeal.reason),
            "appealed_at": appeal.appealed_at.isoformat(),
            "evaluation": vars(new) | {"judge_model": appeal.judge_model} if new else None,
        }
        status = SubmissionStatus(result.status)
        correcting.correct(
            appeal.submission_id,
            Decision(CorrectionKind.APPEAL, status, result.final_score, reason, decided_by, evidence),
        )
    queries.decide(appeal.submission_id, state, decided_by, reason[:2000])
    if result is not None:
        webhooks.record_submission(
            appeal.submission_id,
            AppealDecided(
                status=SubmissionStatus(result.status),
                final_score=result.final_score,
                is_overturned=state == AppealState.OVERTURNED,
            ),
        )
    log.info("appeal_decided", submission_id=appeal.submission_id, state=state, decided_by=decided_by)
    return state


def _check_signature(uuid: UUID, new: NewAppeal, unsigned_allowed: bool) -> bytes | None:
    """Return the signature, or None if there is none and none is needed."""
    signature = read_signature(new.signature)
    if signature is None:
        if unsigned_allowed:
            return None
        raise invalid_field(
            "signature", "must be 128 hexadecimal digits, made with the hotkey; /docs says what to sign."
        )
    statement = appeal_statement(new.miner_hotkey, str(uuid), reason_hash(new.reason))
    if not is_signed(statement, signature, new.miner_hotkey):
        raise Unauthorized(
            "The signature is not an sr25519 signature of this appeal by miner_hotkey; "
            "/docs says what to sign.",
            "Signature",
        )
    return signature


def _get_admission(uuid: UUID, miner_hotkey: str, settings: Settings) -> Admission:
    """Return what is known of a submission; raise NotFound or Forbidden unless it is this hotkey's."""
    admission = queries.find_admission(uuid, HOURS_TO_APPEAL * 3600, settings.max_appeals_per_day)
    if admission is None:
        raise NotFound("There is no such submission; use the UUID that you got when you submitted the video.")
    if admission.miner_hotkey != miner_hotkey:
        raise Forbidden("Only the hotkey that submitted the video can appeal; sign with that hotkey.")
    return admission


def _check(admission: Admission, quota: int) -> None:
    """Raise the first reason to refuse an appeal."""
    if admission.is_taken_down:
        raise Conflict("This video was taken down, which is final.")
    if admission.is_pruned:
        raise Conflict(
            "This video was rejected long ago and is deleted, so nobody can look again; ask the operator."
        )
    if admission.has_open_review:
        raise Conflict(
            "A person will review this submission anyway; appeal within "
            f"{HOURS_TO_APPEAL} hours after that decision if it is wrong."
        )
    if admission.status is None or admission.seconds_left is None:
        raise Conflict("This submission has no result yet; appeal when it has one.")
    if admission.seconds_left <= 0:
        raise Conflict(f"A result can be appealed against for {HOURS_TO_APPEAL} hours, and these are over.")
    if admission.quota_wait_seconds is not None:
        raise TooManyRequests(
            f"This hotkey has used up its {quota} appeals a day; "
            f"try again in {ceil(admission.quota_wait_seconds)} seconds.",
            admission.quota_wait_seconds,
        )
