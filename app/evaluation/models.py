"""Evaluation over HTTP: the bodies of fetch, submit and release."""

import re
from typing import Annotated, Any
from uuid import UUID

from pydantic import AfterValidator, BaseModel, BeforeValidator, Field, WithJsonSchema

from app.assessment.model import MAX_JUDGE_CALLS, Claim, Outcome
from app.assessment.wire import (
    FINDINGS,
    MAX_METADATA_KIB,
    ClaimOut,
    Findings,
    PackedFeatures,
    PackedFingerprint,
    Score,
    unpack_features,
    unpack_fingerprint,
    unpack_sheet,
)
from app.enums import Dependency
from app.fields import JsonObject, RequestModel, Text, Whole, at_most_kib
from app.redaction import stripped, stripped_json

SubmissionId = Annotated[Whole, Field(ge=1, lt=2**63, json_schema_extra={"format": "int64"})]
Token = Annotated[UUID, Field(strict=False)]
# anybody may read this later
Reason = Annotated[
    Text, Field(min_length=1, max_length=2000), AfterValidator(lambda reason: stripped(reason)[:2000])
]
ContactSheet = Annotated[
    bytes, BeforeValidator(unpack_sheet), WithJsonSchema({"type": "string", "contentEncoding": "base64"})
]
# fields of the findings that look like keys: hashes, and names of models and programs
_IDENTIFIERS = frozenset(
    {"features", "fingerprint", "frame_seed", "verified_sha256", "sha256", "submission_uuid"}
    | {"judge_model", "model", "prompt_version", "kibotos", "ffmpeg", "ffprobe"}
)
# What programs say of themselves, in the way they write it: a judge may well say that it sees no connection.
_ERROR = re.compile(
    r"^error\b|^(?:[\w-]+ ){0,3}(?:error|exception|timeout)(?= ?:|\W*$)"
    r"|(?-i:[a-zA-Z](?:Error|Exception|Timeout)\b)|\btraceback \(most recent"
    r"|\b[45]\d\d\b.{0,20}\b(?:error|unavailable|unauthorized|forbidden|timeout|too many requests)\b"
    r"|\btimed out\b|\bservice unavailable\b|\bconnection (?:refused|reset|aborted|closed|error|timeout)\b",
    re.IGNORECASE,
)


class FetchIn(RequestModel):
    limit: Annotated[Whole, Field(ge=0, le=100)] = 5


class FetchOut(BaseModel):
    """The claimed submissions, and the number of open ones.

    `pending` and `evaluating` are exact if `limit` is 0. Otherwise they are counted up to 1,000, and where so
    many are pending, they may be a second old.
    """

    submissions: list[ClaimOut]
    pending: int
    evaluating: int


def _read_metadata(value: dict[str, Any]) -> dict[str, Any]:
    """Anybody may read it later, in the report: no address or key stays in it."""
    findings = {}
    if FINDINGS in value:
        findings = {FINDINGS: stripped_json(value[FINDINGS], _IDENTIFIERS)}
        Findings.model_validate(findings[FINDINGS])
    others = {name: child for name, child in value.items() if name != FINDINGS}
    return stripped_json(others) | findings


def _without_features(value: Any) -> Any:
    """The features have a limit of their own."""
    findings = value.get(FINDINGS) if isinstance(value, dict) else None
    if not isinstance(findings, dict):
        return value
    return value | {FINDINGS: {name: child for name, child in findings.items() if name != "features"}}


class SubmitIn(RequestModel):
    """The result of a claimed submission.

    `contact_sheet` is base64 of a WebP of at most 60,000 bytes: some pictures of the video, for its miner and
    for admins. One that is anything else is left out, and the result counts all the same.
    """

    submission_id: SubmissionId
    technical_score: Score
    relevance_score: Score
    quality_score: Score
    final_score: Score
    rejection_reason: Reason | None = None
    metadata: (
        Annotated[
            JsonObject,
            at_most_kib(MAX_METADATA_KIB, besides=_without_features),
            AfterValidator(_read_metadata),
        ]
        | None
    ) = None
    claim_token: Token | None = None
    contact_sheet: ContactSheet = b""


class JudgeCallsIn(RequestModel):
    """`calls` is the number of requests to the judge that will be sent.

    A negative number takes back requests that failed because of the judge.
    """

    submission_id: SubmissionId
    claim_token: Token
    calls: Annotated[Whole, Field(ge=-MAX_JUDGE_CALLS, le=MAX_JUDGE_CALLS)]


class JudgeCallsOut(BaseModel):
    """`granted` is false if the submission has used up its requests to a judge. Then send none."""

    granted: bool


class ReleaseIn(RequestModel):
    """Why the submission is released.

    `suspect_video`: the evaluator and its judge are in order, so the video is probably the cause.
    `video_changes`: storage returned other bytes each time. `dependency`: the cause is storage or the
    evaluator's judge.
    """

    submission_id: SubmissionId
    claim_token: Token
    reason: Annotated[Reason, Field(max_length=1000)]

    suspect_video: bool = False
    video_changes: bool = False
    dependency: Annotated[Dependency, Field(strict=False)] | None = None


class PrecheckIn(RequestModel):
    """Fingerprint and features of a video whose bytes have the submitted hash, as in `metadata.kibotos`."""

    submission_id: SubmissionId
    claim_token: Token
    fingerprint: PackedFingerprint
    features: PackedFeatures = ""


class PrecheckOut(BaseModel):
    """Why the video will be rejected for known footage. If it is null, ask the judge."""

    rejection_reason: str | None


class ReleaseOut(BaseModel):
    success: bool
    submission_uuid: UUID


class SubmitOut(BaseModel):
    success: bool
    submission_uuid: UUID
    final_score: float


def show_claim(claim: Claim, video_url: str) -> ClaimOut:
    """A claim, in the form in which /v1/evaluate/fetch returns it."""
    return ClaimOut.model_validate(vars(claim) | {"video_url": video_url})


def find_own_fault(body: SubmitIn) -> str | None:
    """Return the evaluator's own error, if the body reports one and no result; else None.

    Other people's evaluators report an exception of their own as four zeros with a reason. The miner must
    lose nothing by it.
    """
    metadata = body.metadata or {}
    if FINDINGS in metadata or body.technical_score or body.relevance_score or body.quality_score:
        return None
    if error := metadata.get("error"):
        return stripped(str(error))[:1000]
    return body.rejection_reason if _ERROR.search(body.rejection_reason or "") else None


def read_outcome(body: SubmitIn) -> Outcome:
    """The outcome that is reported in a body of /v1/evaluate/submit."""
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
        report=findings.report.model_copy(update={"metadata": metadata} if metadata else {}),
        fingerprint=unpack_fingerprint(findings.fingerprint),
        features=unpack_features(findings.features),
        reasoning=findings.reasoning,
    )
