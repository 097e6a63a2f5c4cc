"""What a submission is, inside and on the wire."""

import re
from dataclasses import dataclass
from datetime import datetime
from typing import Annotated, Any
from uuid import UUID

from pydantic import AfterValidator, BaseModel, Field

from app.corrections.models import CorrectionOut
from app.enums import ActorType, CameraType, SubmissionStatus
from app.fields import Id, JsonObject, RequestModel, Text, Timestamp, Whole, at_most_kib
from app.hotkeys import is_canonical
from app.prompts.models import PromptId
from app.uploads.models import VideoKey


def _check_canonical(address: str) -> str:
    if not is_canonical(address):
        raise ValueError("must be an SS58 address with prefix 42, spelled canonically")
    return address


_SIGNATURE = re.compile(r"(0x)?[0-9a-f]{128}", re.IGNORECASE)


def read_signature(text: str) -> bytes | None:
    """Return the bytes of a hexadecimal signature; None if `text` is none."""
    return bytes.fromhex(text[-128:]) if _SIGNATURE.fullmatch(text) else None


HotkeyAddress = Annotated[
    str, Field(pattern=r"^[1-9A-HJ-NP-Za-km-z]{47,48}$"), AfterValidator(_check_canonical)
]
Sha256 = Annotated[str, Field(pattern=r"^[0-9a-fA-F]{64}$"), AfterValidator(str.lower)]
# A malformed signature is refused later. In development, where none is needed, it counts as missing.
Signature = Annotated[
    Text, Field(max_length=200, json_schema_extra={"pattern": f"^({_SIGNATURE.pattern})?$"})
]
Word = Annotated[Text, Field(max_length=200)]


class NewSubmission(RequestModel):
    """An uploaded video, what the miner declares of it, and the hotkey's signature.

    The signature is an sr25519 signature of six lines, joined by newlines: `kibotos.submission.v1`,
    miner_hotkey, miner_uid, prompt_id, video_key and video_hash (in lower case). In development it may be
    left out, and a malformed signature counts as left out.
    """

    prompt_id: PromptId
    video_key: VideoKey
    video_hash: Sha256
    miner_uid: Annotated[Whole, Field(ge=0, le=65535)]
    miner_hotkey: HotkeyAddress
    signature: Signature = ""
    duration_sec: Annotated[float, Field(ge=0, le=86400)]
    resolution_width: Annotated[Whole, Field(ge=1, le=65536)]
    resolution_height: Annotated[Whole, Field(ge=1, le=65536)]
    fps: Annotated[float, Field(ge=0, le=1000)]
    camera_type: Annotated[CameraType, Field(strict=False)]
    actor_type: Annotated[ActorType, Field(strict=False)]
    camera_intrinsics: Annotated[JsonObject, at_most_kib(16)] | None = None
    robot_model: Word | None = None
    environment: Word | None = None
    action_description: Annotated[Text, Field(max_length=2000)] | None = None
    task_success: bool | None = None


class SubmissionCheck(RequestModel):
    """A submission that is intended. Before the upload there is no `video_key` yet.

    `size_bytes` is the size of the file. `in_parts`: it is to be uploaded in parts.
    """

    prompt_id: PromptId
    miner_uid: Annotated[Whole, Field(ge=0, le=65535)]
    miner_hotkey: HotkeyAddress
    size_bytes: Annotated[Whole, Field(ge=1)] | None = None
    in_parts: bool = False
    video_key: VideoKey | None = None
    video_hash: Sha256 | None = None


class Obstacle(BaseModel):
    """Why it would be refused: the status and the sentence of the refusal, which says what to do.

    `retry_after` is the number of seconds until it may be accepted, if that is known.
    """

    status: int
    detail: str
    retry_after: int | None


class CheckOut(BaseModel):
    """What would refuse the submission, in the order of the rules; nothing, if `is_acceptable`.

    `max_size_bytes` is the largest file that the prompt accepts.
    """

    is_acceptable: bool
    obstacles: list[Obstacle]
    max_size_bytes: Id


@dataclass(frozen=True)
class Receipt:
    submission_uuid: UUID
    status: str
    cycle_id: int | None


class ReceiptOut(BaseModel):
    submission_uuid: UUID
    status: SubmissionStatus
    cycle_id: Id | None


@dataclass(frozen=True)
class Admission:
    """What the database knows about a submission that is to be accepted."""

    is_presigned: bool
    owner: str | None
    content_type: str | None
    size_bytes: int | None
    # the submission that this key was used for before, or nulls
    submission_uuid: UUID | None
    status: str | None
    cycle_id: int | None
    prompt_id: str | None
    miner_uid: int | None
    miner_hotkey: str | None
    video_hash: str | None
    # null: no such prompt
    prompt_is_open: bool | None
    requirements: dict[str, Any] | None
    has_metagraph: bool
    is_registered: bool
    # seconds until the quota has room; null: it has
    quota_wait_seconds: float | None
    # the key is that of a gold film
    is_gold: bool

    @property
    def receipt(self) -> Receipt | None:
        """The receipt of the submission that this key was used for, or None."""
        if self.submission_uuid is None or self.status is None:
            return None
        return Receipt(self.submission_uuid, self.status, self.cycle_id)


@dataclass(frozen=True)
class Submission:
    submission_uuid: UUID
    prompt_id: str
    miner_uid: int
    video_key: str
    status: str
    submitted_at: datetime
    evaluated_at: datetime | None
    cycle_id: int | None
    attempts: int
    final_score: float | None
    technical_score: float | None
    relevance_score: float | None
    quality_score: float | None
    rejection_reason: str | None
    judge_model: str | None
    is_corrected: bool


class EvaluationOut(BaseModel):
    technical_score: float
    relevance_score: float
    quality_score: float
    final_score: float
    rejection_reason: str | None
    judge_model: str | None
    evaluated_at: Timestamp


class SubmissionOut(BaseModel):
    """A submission with its effective result: the evaluation's, or that of the last correction."""

    submission_uuid: UUID
    prompt_id: str
    miner_uid: int
    video_key: str
    status: SubmissionStatus
    submitted_at: Timestamp
    evaluated_at: Timestamp | None
    evaluation: EvaluationOut | None
    cycle_id: Id | None
    attempts: int
    corrections: list[CorrectionOut]
