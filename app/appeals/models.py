"""What an appeal is, inside and on the wire."""

from dataclasses import dataclass
from datetime import datetime
from hashlib import sha256
from typing import Annotated, Any
from uuid import UUID

from pydantic import BaseModel, Field

from app.appeals.rule import Result
from app.assessment.report import Report
from app.enums import AppealState, EvaluatedBy, SubmissionStatus
from app.fields import Prose, RequestModel, Timestamp
from app.submissions.models import HotkeyAddress, Signature

MAX_REASON = 1000


class NewAppeal(RequestModel):
    """Why the result is wrong, and the hotkey's signature.

    The signature is an sr25519 signature of four lines, joined by newlines: `kibotos.appeal.v1`,
    miner_hotkey, submission_uuid, and the SHA-256 of the reason in UTF-8, in hexadecimal and lower case. In
    development it may be left out. A person may read the reason. The judge never does.
    """

    miner_hotkey: HotkeyAddress
    reason: Annotated[Prose, Field(min_length=1, max_length=MAX_REASON)]
    signature: Signature = ""


@dataclass(frozen=True)
class Admission:
    """What the database knows about a submission whose result is appealed against.

    `status` and `final_score` are the effective result, None if there is none. `seconds_left` is the time
    left to appeal against it. `quota_wait_seconds` is None if the hotkey's budget has room.
    """

    submission_id: int
    miner_hotkey: str
    status: str | None
    final_score: float | None
    seconds_left: float | None
    is_taken_down: bool
    # its video was deleted, since it was rejected long ago
    is_pruned: bool
    has_open_review: bool
    quota_wait_seconds: float | None


@dataclass(frozen=True)
class Appeal:
    """An appeal, with the result that it is against and the new evaluation, if that is there already."""

    submission_id: int
    submission_uuid: UUID
    miner_hotkey: str
    reason: str
    signature: str | None
    appealed_at: datetime
    state: str
    against_status: str
    against_score: float
    status: str | None
    final_score: float | None
    technical_score: float | None
    relevance_score: float | None
    quality_score: float | None
    rejection_reason: str | None
    evaluated_by: str | None
    judge_model: str | None
    evaluated_at: datetime | None
    report: dict[str, Any] | None
    decided_at: datetime | None
    decided_by: str | None
    decision_reason: str | None

    @property
    def new_result(self) -> Result | None:
        """What the new evaluation gives, or None if it is not there."""
        if self.status is None or self.final_score is None:
            return None
        return Result(self.status, self.final_score)


class NewEvaluationOut(BaseModel):
    """The evaluation because of the appeal: of other frames, and by another judge if one is configured."""

    status: SubmissionStatus
    final_score: float
    technical_score: float
    relevance_score: float
    quality_score: float
    rejection_reason: str | None
    evaluated_by: EvaluatedBy
    judge_model: str | None
    evaluated_at: Timestamp
    report: Report


class AppealOut(BaseModel):
    """An appeal against the result `against_status`, `against_score`.

    OPEN: the video is evaluated anew. IN_REVIEW: the two evaluations disagree, or the video could not be
    evaluated again, and a person decides. UPHELD: the result stands. OVERTURNED: it was corrected. CLOSED:
    the video was taken down. `reason_sha256` and `signature` prove who appealed; the reason is not public.
    """

    submission_uuid: UUID
    state: AppealState
    appealed_at: Timestamp
    reason_sha256: str
    signature: str | None
    against_status: SubmissionStatus
    against_score: float
    evaluation: NewEvaluationOut | None
    decided_at: Timestamp | None
    decided_by: str | None
    decision_reason: str | None


@dataclass(frozen=True)
class Statistics:
    """How many appeals there are by state; of those decided in the last 30 days, how many were overturned."""

    open: int
    in_review: int
    upheld: int
    overturned: int
    closed: int
    decided_in_30_days: int
    overturned_in_30_days: int


class StatisticsOut(BaseModel):
    """How many appeals there are by state, and how many of the decided ones changed a result.

    The rates are null while no appeal is decided. CLOSED ones count in no rate.
    """

    open: int
    in_review: int
    upheld: int
    overturned: int
    closed: int
    overturn_rate: float | None
    decided_in_30_days: int
    overturned_in_30_days: int
    overturn_rate_of_30_days: float | None


def show_statistics(found: Statistics) -> StatisticsOut:
    """The counts of appeals with the rates that follow from them."""
    return StatisticsOut(
        **vars(found),
        overturn_rate=_rate(found.overturned, found.upheld + found.overturned),
        overturn_rate_of_30_days=_rate(found.overturned_in_30_days, found.decided_in_30_days),
    )


def _rate(part: int, whole: int) -> float | None:
    return round(part / whole, 4) if whole else None


def show(appeal: Appeal) -> AppealOut:
    """An appeal as everybody may see it."""
    found = vars(appeal)
    evaluation = None
    if appeal.new_result:
        evaluation = NewEvaluationOut.model_validate(found | {"report": Report.read(appeal.report or {})})
    return AppealOut.model_validate(
        found | {"reason_sha256": reason_hash(appeal.reason), "evaluation": evaluation}
    )


def reason_hash(reason: str) -> str:
    """The SHA-256 of an appeal's reason, as its statement has it."""
    return sha256(reason.encode()).hexdigest()
