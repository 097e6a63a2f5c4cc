"""What a correction of a result is, inside and on the wire."""

from dataclasses import dataclass
from datetime import datetime
from typing import Any

from pydantic import BaseModel

from app.enums import CorrectionKind, SubmissionStatus
from app.fields import Timestamp


@dataclass(frozen=True)
class Effective:
    """The effective result: that of the last correction, or of the evaluation if there is no correction.

    `kind` and `decided_by` are None if there is no correction.
    """

    status: str
    final_score: float
    kind: str | None
    decided_by: str | None


@dataclass(frozen=True)
class Decision:
    """A new effective result for a submission, with its `reason` and its `evidence`.

    `decided_by` is SYSTEM or the name of a person.
    """

    kind: CorrectionKind
    status: SubmissionStatus
    final_score: float
    reason: str
    decided_by: str
    evidence: dict[str, Any]


@dataclass(frozen=True)
class Correction:
    """A recorded decision. `is_late`: its cycle was completed, so it counts in the next that completes."""

    id: int
    kind: str
    status: str
    final_score: float
    reason: str
    decided_by: str
    decided_at: datetime
    evidence: dict[str, Any]
    is_late: bool


class CorrectionOut(BaseModel):
    """A decision about a result after its evaluation. The last correction is the effective result.

    `is_late`: the submission's cycle was completed, so the change counts in the cycle that completes next.
    """

    kind: CorrectionKind
    status: SubmissionStatus
    final_score: float
    reason: str
    decided_by: str
    decided_at: Timestamp
    evidence: dict[str, Any]
    is_late: bool
