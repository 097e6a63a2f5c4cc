"""Does a backend say of single submissions what their lines in its ledger say? Of some, drawn by lot.

A ledger that is right does not keep a backend from showing a miner something else.
"""

from collections.abc import Iterator, Sequence
from hashlib import sha256
from itertools import islice
from random import SystemRandom
from uuid import UUID

from pydantic import AwareDatetime, BaseModel, ValidationError

from app.audit.block import Sample
from app.audit.difference import Difference
from app.clients.published import Malformed
from app.clients.sites import NotThere, Site
from app.proofs.lines import SubmissionLine, write_score, write_time
from app.proofs.receipts import Receipt, read_receipt

# Of a ledger. Each takes three requests, which all must stay within the burst that deploy/nginx permits.
SAMPLES = 8
# lines that may become samples, since not all of them are submissions
CANDIDATES = 256
# as many as a ledger can have, whatever its head says
MAX_LINES = 10**9
MAX_BYTES = 4 * 1024 * 1024

# what is compared, what it must be, and what it is
Pair = tuple[str, object, object]


class ShownCorrection(BaseModel):
    kind: str
    status: str
    final_score: float
    reason: str
    decided_by: str
    decided_at: AwareDatetime
    is_late: bool


class ShownEvaluation(BaseModel):
    technical_score: float
    relevance_score: float
    quality_score: float
    final_score: float
    judge_model: str | None = None


class Shown(BaseModel):
    """The fields of an answer of /v1/submissions/{uuid} that stand in a ledger, too."""

    submission_uuid: UUID
    prompt_id: str
    miner_uid: int
    video_key: str
    status: str
    submitted_at: AwareDatetime
    cycle_id: int
    evaluation: ShownEvaluation
    corrections: list[ShownCorrection] = []


def draw(lines: int) -> frozenset[int]:
    """Draw numbers of lines of a ledger that has so many. No backend can know which ones they will be."""
    numbers = range(2, min(lines, MAX_LINES) + 1)
    return frozenset(SystemRandom().sample(numbers, min(CANDIDATES, len(numbers))))


def choose(candidates: Sequence[Sample]) -> list[Sample]:
    """Choose the samples among candidates, by lot."""
    return SystemRandom().sample(candidates, min(SAMPLES, len(candidates)))


def check_sample(backend: Site, sample: Sample, head: Receipt) -> None:
    """Compare receipt, result and report of a submission with its line. `head` is that of its ledger.

    Raises Difference or Malformed; NoAnswer, NotAsPublished or LeadsElsewhere as reading does.
    """
    path = f"/v1/submissions/{sample.line.uuid}"
    try:
        _check_receipt(sample, head, backend.read(f"{path}/receipt", MAX_BYTES), backend.called)
        _check_shown(sample, head, backend.read(path, MAX_BYTES), backend.called)
        if sample.line.report_hash is not None:
            found = sha256(backend.read(f"{path}/report", MAX_BYTES)).hexdigest()
            _check(sample.number, [("the hash of its report", sample.line.report_hash, found)])
    except NotThere as error:
        raise Difference(sample.number, "the submission", "one that the backend knows", str(error)) from error


def _check_receipt(sample: Sample, head: Receipt, content: bytes, called: str) -> None:
    try:
        receipt = read_receipt(content)
    except ValueError as error:
        raise Malformed(f"{called} gives no sound receipt for {sample.line.uuid}. {error}") from error
    pairs: list[Pair] = [
        ("the key of its receipt", head.key, receipt.key),
        ("the cycle of its receipt", head.cycle_id, receipt.cycle_id),
        ("the root of its receipt", head.root, receipt.root),
        ("the number of lines in its receipt", head.lines, receipt.lines),
        ("the index of its receipt", sample.number - 1, receipt.index),
        ("the line of its receipt", sample.text.decode(), receipt.line),
    ]
    _check(sample.number, pairs)


def _check_shown(sample: Sample, head: Receipt, content: bytes, called: str) -> None:
    try:
        shown = Shown.model_validate_json(content)
    except ValidationError as error:
        first = error.errors()[0]
        raise Malformed(
            f"{called} shows {sample.line.uuid} in a malformed way at {first['loc']}: {first['msg']}."
        ) from error
    line = sample.line
    status, score = line.status, line.final_score
    if shown.corrections:
        # later ones do not stand in this ledger
        status, score = shown.corrections[-1].status, write_score(shown.corrections[-1].final_score)
    evaluation = shown.evaluation
    pairs: list[Pair] = [
        ("submission_uuid", line.uuid, str(shown.submission_uuid)),
        ("prompt_id", line.prompt_id, shown.prompt_id),
        ("miner_uid", line.uid, shown.miner_uid),
        ("video_key", line.video_key, shown.video_key),
        ("submitted_at", line.submitted_at, write_time(shown.submitted_at)),
        ("cycle_id", head.cycle_id, shown.cycle_id),
        ("technical_score", line.technical_score, write_score(evaluation.technical_score)),
        ("relevance_score", line.relevance_score, write_score(evaluation.relevance_score)),
        ("quality_score", line.quality_score, write_score(evaluation.quality_score)),
        ("judge_model", line.judge_model, evaluation.judge_model),
        ("corrections", list(_of_line(line)), list(islice(_of_answer(shown), len(line.corrections)))),
        ("status", status, shown.status),
        ("final_score", score, write_score(evaluation.final_score)),
    ]
    _check(sample.number, [(f"{name}, as the backend shows it", due, found) for name, due, found in pairs])


def _of_line(line: SubmissionLine) -> Iterator[tuple[object, ...]]:
    for each in line.corrections:
        yield each.kind, each.status, each.final_score, each.reason, each.decided_by, each.decided_at, False


def _of_answer(shown: Shown) -> Iterator[tuple[object, ...]]:
    for each in shown.corrections:
        score, moment = write_score(each.final_score), write_time(each.decided_at)
        yield each.kind, each.status, score, each.reason, each.decided_by, moment, each.is_late


def _check(number: int, pairs: list[Pair]) -> None:
    for name, expected, found in pairs:
        if expected != found:
            raise Difference(number, name, expected, found)
