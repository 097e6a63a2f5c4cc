"""The rules of corrections: a result is never edited. A later decision is stored beside it.

Nothing here commits: a correction is part of the transaction that causes it.
"""

from dataclasses import replace

import structlog

from app.corrections import queries
from app.corrections.models import Decision
from app.enums import CorrectionKind, SubmissionStatus
from app.errors import Conflict
from app.webhooks import service as webhooks
from app.webhooks.events import Corrected

log = structlog.get_logger(__name__)

# the name in `decided_by` where no person decided
SYSTEM = "system"


def correct(submission_id: int, decision: Decision) -> None:
    """Record `decision` as the effective result.

    Raise Conflict if the submission has not been evaluated. A correction of the kind takedown, by which older
    releases took the points back, is final for all but an operator.

    While the submission's cycle is not completed, the decision counts there. Later, the change that it makes
    counts in the cycle that completes next.
    """
    queries.lock()
    before = queries.find_effective(submission_id)
    if before is None:
        raise Conflict("This submission has no result yet that could be corrected.")
    if before.kind == CorrectionKind.TAKEDOWN and decision.kind != CorrectionKind.OPERATOR:
        raise Conflict("This video was taken down, which is final.")
    score = round(decision.final_score, 4) if decision.status == SubmissionStatus.SCORED else 0.0
    queries.insert(submission_id, replace(decision, final_score=score, reason=decision.reason[:2000]))
    webhooks.record_submission(
        submission_id, Corrected(kind=decision.kind, status=decision.status, final_score=score)
    )
    log.info(
        "result_corrected",
        submission_id=submission_id,
        kind=decision.kind,
        decided_by=decision.decided_by,
        before=[before.status, before.final_score],
        after=[decision.status, score],
    )
