"""What a correction of a result is, inside and on the wire."""

from dataclasses import dataclass
from datetime import datetime
from typing import Any

from pydantic import BaseModel

from app.enums import CorrectionKind, SubmissionStatus
from app.fields import Timestamp


@dataclass(frozen=True)
class Effective:
    """The result that counts: that of the last correction, or else of the evaluation.

    `decided_by` is None where there is no correction.
    """

    status: str
    final_score: float
    decided_by: str | None


@dataclass(frozen=True)
class Decision:
    """What is to count for a submission from now on, with `reason`, and who decided it on what `evidence`.

    `decided_by` is SYSTEM, or the name of a person or of an appeal.
    """

    kind: CorrectionKind
    status: SubmissionStatus
    final_score: float
    reason: str
    decided_by: str
    evidence: dict[str, Any]


@dataclass(frozen=True)
class Correction:
    """A decision as it was recorded. `is_late`: it counts in the cycle that completed next."""

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
    """What was decided of a result after its evaluation; the last one is what counts."""

    kind: CorrectionKind
    status: SubmissionStatus
    final_score: float
    reason: str
    decided_by: str
    decided_at: Timestamp
    evidence: dict[str, Any]
    is_late: bool
