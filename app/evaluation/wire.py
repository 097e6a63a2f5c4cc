"""Evaluation over HTTP: the bodies of fetch and submit, and how a claim and an outcome travel in them.

Any evaluator may report the four scores of the contract. Ours sends along what else it found, inside
`metadata` under the key `kibotos`, an object with the fields of `Findings`. Other keys of `metadata` are
the evaluator's own: they are kept in the report and mean nothing to us.
"""

import base64
import json
import struct
from typing import Annotated, Any
from uuid import UUID

from pydantic import AfterValidator, BaseModel, Field

from app.api import JsonObject, QueryModel, RequestModel, ShortText, Text, Timestamp, at_most_kib
from app.enums import Category
from app.evaluation import scoring
from app.evaluation.model import Claim, FrameHash, Outcome

MAX_METADATA_KIB = 64
FINDINGS = "kibotos"

# seconds, PDQ hash, PDQ hash of the mirror image
_FRAME = struct.Struct("!f32s32s")

Score = Annotated[float, Field(ge=0, le=1)]
SubmissionId = Annotated[int, Field(ge=1, lt=2**63)]
Token = Annotated[UUID, Field(strict=False)]


def _pack(frames: tuple[FrameHash, ...], max_bytes: int) -> str:
    """As many frames, evenly spread, as base64 takes `max_bytes` for."""
    fitting = max(1, max_bytes * 3 // 4 // _FRAME.size)
    frames = frames[:: -(-len(frames) // fitting) or 1]
    packed = b"".join(_FRAME.pack(frame.seconds, frame.pdq, frame.mirrored) for frame in frames)
    return base64.b64encode(packed).decode()


def _unpack(fingerprint: str) -> tuple[FrameHash, ...]:
    """Raises ValueError if it is no base64 of whole frames."""
    packed = base64.b64decode(fingerprint, validate=True)
    if len(packed) % _FRAME.size:
        raise ValueError("must be the base64 of whole frames")
    frames = tuple(FrameHash(*fields) for fields in _FRAME.iter_unpack(packed))
    if not all(0 <= frame.seconds <= 86_400 for frame in frames):
        raise ValueError("must hold frames between 0 and 86400 seconds")
    return frames


def _check_fingerprint(value: str) -> str:
    _unpack(value)
    return value


class Findings(RequestModel):
    """What an evaluator of ours found beyond the scores.

    `reasoning` is the judge's, told to the miner if the backend's gates reject the video.
    `fingerprint` is the base64 of 68 bytes a frame: seconds as a big-endian float32, the PDQ hash, and
    the PDQ hash of the mirror image.
    """

    action_match: Score | None = None
    judge_model: ShortText | None = None
    prompt_version: Annotated[ShortText, Field(max_length=50)] | None = None
    report: JsonObject = Field(default_factory=dict)
    fingerprint: Annotated[str, AfterValidator(_check_fingerprint)] = ""
    reasoning: Annotated[Text, Field(max_length=2000)] = ""


class FetchIn(RequestModel):
    limit: Annotated[int, Field(ge=0, le=100)] = 5


class ClaimOut(BaseModel):
    """A submission under a lease of this evaluator's."""

    id: int
    submission_uuid: UUID
    prompt_id: str
    video_key: str
    category: Category
    task: str
    scenario: str
    requirements: dict[str, Any]
    video_url: str
    video_hash: str
    lease_expires_at: Timestamp
    attempt: int
    claim_token: UUID
    duration_sec: float
    resolution_width: int
    resolution_height: int
    fps: float


class FetchOut(BaseModel):
    """`pending` and `evaluating` are exact for `limit` 0, and otherwise counted up to 1,000."""

    submissions: list[ClaimOut]
    pending: int
    evaluating: int


def _check_metadata(value: dict[str, Any]) -> dict[str, Any]:
    if FINDINGS in value:
        Findings.model_validate(value[FINDINGS])
    return value


class SubmitIn(RequestModel):
    submission_id: SubmissionId
    technical_score: Score
    relevance_score: Score
    quality_score: Score
    final_score: Score
    rejection_reason: Annotated[Text, Field(min_length=1, max_length=2000)] | None = None
    metadata: Annotated[JsonObject, at_most_kib(MAX_METADATA_KIB), AfterValidator(_check_metadata)] | None = (
        None
    )
    claim_token: Token | None = None


class ReleaseIn(RequestModel):
    submission_id: SubmissionId
    claim_token: Token
    reason: Annotated[Text, Field(min_length=1, max_length=1000)]


class ReleaseOut(BaseModel):
    success: bool
    submission_uuid: UUID


class SubmitOut(BaseModel):
    success: bool
    submission_uuid: UUID
    final_score: float


class ReviewQuery(QueryModel):
    limit: Annotated[int, Field(ge=1, le=1000)] = 100


class ReviewOut(BaseModel):
    """Why a person should look at a submission."""

    submission_uuid: UUID
    miner_uid: int
    status: str
    reason: str
    opened_at: Timestamp


def show_claim(claim: Claim, video_url: str) -> ClaimOut:
    """A claim, as /v1/evaluate/fetch hands it out."""
    return ClaimOut.model_validate(vars(claim) | {"video_url": video_url})


def read_claim(row: dict[str, Any]) -> tuple[Claim, str]:
    """The claim and its video's URL from a row of /v1/evaluate/fetch: what a remote evaluator starts from."""
    fields = dict(ClaimOut.model_validate(row))
    video_url = fields.pop("video_url")
    return Claim(**fields | {"category": fields["category"].value}), video_url


def show_outcome(claim: Claim, outcome: Outcome) -> dict[str, Any]:
    """The body of /v1/evaluate/submit with which a remote evaluator reports `outcome`.

    The final score is the formula's, or 0 for a fault of the video. The gates are the backend's.
    """
    findings = {
        "action_match": outcome.action_match,
        "judge_model": outcome.judge_model,
        "prompt_version": outcome.prompt_version,
        "report": outcome.report,
        "reasoning": outcome.reasoning[:2000],
    }
    room = MAX_METADATA_KIB * 1024 - len(json.dumps(findings, ensure_ascii=False).encode()) - 100
    return {
        "submission_id": claim.id,
        "claim_token": str(claim.claim_token),
        "technical_score": outcome.technical_score,
        "relevance_score": outcome.relevance_score,
        "quality_score": outcome.quality_score,
        "final_score": 0.0 if outcome.rejection_reason else scoring.final_score(*outcome.scores),
        "rejection_reason": outcome.rejection_reason,
        "metadata": {FINDINGS: findings | {"fingerprint": _pack(outcome.fingerprint, room)}},
    }


def read_outcome(body: SubmitIn) -> Outcome:
    """The outcome that a body of /v1/evaluate/submit reports."""
    metadata = dict(body.metadata or {})
    findings = Findings.model_validate(metadata.pop(FINDINGS, {}))
    return Outcome(
        technical_score=body.technical_score,
        relevance_score=body.relevance_score,
        quality_score=body.quality_score,
        action_match=findings.action_match,
        rejection_reason=body.rejection_reason,
        judge_model=findings.judge_model,
        prompt_version=findings.prompt_version,
        report=findings.report | ({"metadata": metadata} if metadata else {}),
        fingerprint=_unpack(findings.fingerprint),
        reasoning=findings.reasoning,
    )
