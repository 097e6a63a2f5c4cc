"""The form of a claim and an outcome over HTTP, between the backend and our remote evaluators.

Any evaluator may report the four scores of the contract. Our evaluator also sends its other findings, in
`metadata` under the key `kibotos`: an object with the fields of `Findings`. Other keys of `metadata` belong
to the evaluator. They are kept in the report and mean nothing to us.
"""

import base64
import json
import struct
from typing import Annotated, Any
from uuid import UUID

from pydantic import AfterValidator, BaseModel, Field

from app.assessment import formula
from app.assessment.model import Claim, Outcome
from app.assessment.report import Report
from app.enums import Category
from app.fields import Id, RequestModel, ShortText, Text, Timestamp, storable
from app.video.frames import FrameHash
from app.video.sheet import MAX_BYTES as MAX_SHEET_BYTES
from app.video.sheet import is_sheet

MAX_METADATA_KIB = 64
# What a report may take of that; the rest is the fingerprint's, which the search for duplicates needs.
MAX_REPORT_KIB = 24
# What the features of a video take besides, in base64; the database takes them and no report shows them.
MAX_FEATURES_KIB = 592
MAX_SHEET_CHARACTERS = -(-MAX_SHEET_BYTES // 3) * 4
MAX_REASON = 2000
FINDINGS = "kibotos"

# seconds, PDQ hash, PDQ hash of the mirror image
_FRAME = struct.Struct("!f32s32s")

Score = Annotated[float, Field(ge=0, le=1)]


def pack_fingerprint(frames: tuple[FrameHash, ...], max_bytes: int) -> str:
    """As many frames, evenly spread, as base64 takes `max_bytes` for."""
    fitting = max(1, max_bytes * 3 // 4 // _FRAME.size)
    frames = frames[:: -(-len(frames) // fitting) or 1]
    packed = b"".join(_FRAME.pack(frame.seconds, frame.pdq, frame.mirrored) for frame in frames)
    return base64.b64encode(packed).decode()


def drop_features(body: dict[str, Any]) -> bool:
    """Take the features out of what show_outcome() made; False if there are none."""
    return bool(body["metadata"][FINDINGS].pop("features", None))


def _fit(report: Report) -> dict[str, Any]:
    """Return the report as JSON has it, its texts and lists cut until it takes MAX_REPORT_KIB at the most.

    What stands in a video, or what a judge says of it, must not make a result too large to be reported.
    """
    whole = report.dump()
    for longest in (4000, 1000, 250, 60):
        fitting = _cut(whole, longest)
        if len(json.dumps(fitting, ensure_ascii=False).encode()) <= MAX_REPORT_KIB * 1024:
            return fitting
    return {}


def _cut(node: Any, longest: int) -> Any:
    """Return JSON with its texts storable, and no text or list longer than `longest`."""
    if isinstance(node, str):
        return storable(node)[:longest]
    if isinstance(node, list):
        return [_cut(child, longest) for child in node[:longest]]
    if isinstance(node, dict):
        return {name: _cut(child, longest) for name, child in node.items()}
    return node


def unpack_fingerprint(fingerprint: str) -> tuple[FrameHash, ...]:
    """Raises ValueError if it is no base64 of whole frames."""
    packed = base64.b64decode(fingerprint, validate=True)
    if len(packed) % _FRAME.size:
        raise ValueError("must be the base64 of whole frames")
    frames = tuple(FrameHash(*fields) for fields in _FRAME.iter_unpack(packed))
    if not all(0 <= frame.seconds <= 86_400 for frame in frames):
        raise ValueError("must hold frames between 0 and 86400 seconds")
    return frames


def _check_fingerprint(value: str) -> str:
    unpack_fingerprint(value)
    return value


def pack_features(features: bytes) -> str:
    return base64.b64encode(features).decode()


def unpack_features(packed: str) -> bytes:
    """Raises ValueError if it is no base64 of the features of a video."""
    if len(packed) > MAX_FEATURES_KIB * 1024:
        raise ValueError(f"must not be longer than {MAX_FEATURES_KIB} KiB")
    features = base64.b64decode(packed, validate=True)
    if features:
        # OpenCV is large: a web process that gets no results does not need it
        from app.video.features import unpack

        unpack(features)
    return features


def _check_features(value: str) -> str:
    unpack_features(value)
    return value


def pack_sheet(sheet: bytes) -> str:
    return base64.b64encode(sheet).decode()


def unpack_sheet(packed: Any) -> bytes:
    """Return a contact sheet, or b"" if it is no base64 of one: a result never fails because of it."""
    if not isinstance(packed, str) or len(packed) > MAX_SHEET_CHARACTERS:
        return b""
    try:
        sheet = base64.b64decode(packed, validate=True)
    except ValueError:
        return b""
    return sheet if is_sheet(sheet) else b""


PackedFeatures = Annotated[str, AfterValidator(_check_features)]
PackedFingerprint = Annotated[str, AfterValidator(_check_fingerprint)]


class Findings(RequestModel):
    """What our evaluator found besides the scores.

    `reasoning` is the judge's. The miner can read it if the backend's gates reject the video. `fingerprint`
    is base64 with 68 bytes for each frame: the seconds as a big-endian float32, the PDQ hash, and the PDQ
    hash of the mirror image. `features` is base64 of what app/video/features.py packs; with an older
    evaluator's results it is empty.
    """

    action_match: Score | None = None
    judge_model: ShortText | None = None
    prompt_version: Annotated[ShortText, Field(max_length=50)] | None = None
    report: Report = Field(default_factory=Report)
    fingerprint: PackedFingerprint = ""
    features: PackedFeatures = ""
    reasoning: Annotated[Text, Field(max_length=MAX_REASON)] = ""


class ClaimOut(BaseModel):
    """A submission that this evaluator holds under a lease."""

    id: Id
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
    # null from backends of before this field
    frame_seed: UUID | None = None
    # it has a result, which is appealed against: judge it by another model, if you have one
    is_appeal: bool = False


def read_claim(row: dict[str, Any]) -> tuple[Claim, str]:
    """The claim and its video's URL, from a row of /v1/evaluate/fetch."""
    fields = dict(ClaimOut.model_validate(row))
    video_url = fields.pop("video_url")
    fields["frame_seed"] = fields["frame_seed"] or fields["claim_token"]
    return Claim(**fields | {"category": fields["category"].value}), video_url


def show_outcome(claim: Claim, outcome: Outcome) -> dict[str, Any]:
    """The body of /v1/evaluate/submit with which a remote evaluator reports `outcome`.

    The final score is the formula's, or 0 for a fault of the video. The backend applies the gates. The
    backend accepts the body in every case: otherwise the judge would have been paid for nothing.
    """
    findings = {
        "action_match": outcome.action_match,
        "judge_model": _cut(outcome.judge_model, 200) or None,
        "prompt_version": _cut(outcome.prompt_version, 50) or None,
        "report": _fit(outcome.report),
        "reasoning": _cut(outcome.reasoning, MAX_REASON),
    }
    room = MAX_METADATA_KIB * 1024 - len(json.dumps(findings, ensure_ascii=False).encode()) - 100
    return {
        "submission_id": claim.id,
        "claim_token": str(claim.claim_token),
        "technical_score": outcome.technical_score,
        "relevance_score": outcome.relevance_score,
        "quality_score": outcome.quality_score,
        "final_score": 0.0 if outcome.rejection_reason else formula.final_score(*outcome.scores),
        "rejection_reason": _cut(outcome.rejection_reason, MAX_REASON),
        "metadata": {
            FINDINGS: findings
            | {
                "fingerprint": pack_fingerprint(outcome.fingerprint, room),
                "features": pack_features(outcome.features),
            }
        },
        # not among the findings: an older backend, which knows nothing of it, bounds their size
        "contact_sheet": pack_sheet(outcome.contact_sheet),
    }
