"""What a submission is, inside and on the wire."""

import re
from dataclasses import dataclass
from datetime import UTC, date, datetime, timedelta
from typing import Annotated, Any
from uuid import UUID

from pydantic import AfterValidator, BaseModel, Field

from app.corrections.models import CorrectionOut
from app.enums import ActorType, CameraType, SubmissionStatus
from app.fields import Id, JsonObject, RequestModel, Text, Timestamp, Whole, at_most_kib
from app.hotkeys import CONSENT_VERSION, LICENCE, is_canonical, statement_head
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


def _check_date(value: str) -> str:
    try:
        found = date.fromisoformat(value)
    except ValueError:
        raise ValueError("must be a date, e.g. 2026-01-15") from None
    # it is tomorrow already in some places
    if found > datetime.now(UTC).date() + timedelta(days=1):
        raise ValueError("must not lie in the future")
    return value


class Consent(RequestModel):
    """What the filmed people agreed to: the SHA-256 of its text, the text's version, and when they agreed.

    Send no text that names them. Everybody can read the hash.
    """

    hash: Sha256
    version: Annotated[str, Field(pattern=f"^{CONSENT_VERSION}$")]
    date: Annotated[
        str,
        Field(pattern=r"^[0-9]{4}-[01][0-9]-[0-3][0-9]$", json_schema_extra={"format": "date"}),
        AfterValidator(_check_date),
    ]


class Terms(RequestModel):
    """Under which licence a video is given, and what the filmed people agreed to."""

    licence: Annotated[str, Field(pattern=f"^{LICENCE}$")] | None = None
    consent: Consent | None = None

    @property
    def statement_head(self) -> str:
        """How the statement begins that the miner signs."""
        if self.consent is None:
            return statement_head(self.licence, None, None, None)
        return statement_head(self.licence, self.consent.hash, self.consent.version, self.consent.date)


class NewSubmission(Terms):
    """An uploaded video, what the miner declares of it, and the hotkey's signature.

    The signature is an sr25519 signature of six lines, joined by newlines: `kibotos.submission.v1`,
    miner_hotkey, miner_uid, prompt_id, video_key and video_hash (in lower case). In development it may be
    left out, and a malformed signature counts as left out.

    Who gives a licence or a consent signs ten lines instead: `kibotos.submission.v2`, licence, the consent's
    hash (in lower case), version and date, then the last five of the six. What is not given is an empty line.
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


class SubmissionCheck(Terms):
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
    licence: str | None
    consent_hash: str | None
    consent_version: str | None
    consent_date: str | None
    # null: no such prompt
    prompt_is_open: bool | None
    requirements: dict[str, Any] | None
    has_metagraph: bool
    is_registered: bool
    # seconds until the quota has room; null: it has
    quota_wait_seconds: float | None
    # the key is that of a gold film
    is_gold: bool
    # the submission as which this file was taken down
    taken_down_as: UUID | None

    @property
    def receipt(self) -> Receipt | None:
        """The receipt of the submission that this key was used for, or None."""
        if self.submission_uuid is None or self.status is None:
            return None
        return Receipt(self.submission_uuid, self.status, self.cycle_id)

    @property
    def statement_head(self) -> str:
        """How the statement began with which this key was submitted."""
        return statement_head(self.licence, self.consent_hash, self.consent_version, self.consent_date)


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
    licence: str | None
    consent_hash: str | None
    consent_version: str | None
    consent_date: str | None
    taken_down_at: datetime | None


class EvaluationOut(BaseModel):
    technical_score: float
    relevance_score: float
    quality_score: float
    final_score: float
    rejection_reason: str | None
    judge_model: str | None
    evaluated_at: Timestamp


class ConsentOut(BaseModel):
    """What the filmed people agreed to: SHA-256 of its text, its version, and the date, as the miner says."""

    hash: str
    version: str
    date: str


class LicencesOut(BaseModel):
    """The SPDX ids that a submission may give as its `licence`, and that of the operator's default terms.

    These terms count for a submission without a licence. If `default` is null, there are none, and such a
    submission is in no release.
    """

    licences: list[str]
    default: str | None


class SubmissionOut(BaseModel):
    """A submission with its effective result: the evaluation's, or that of the last correction.

    Its `licence` is null if the operator's default terms count. A video that was taken down is gone; its
    result stands.
    """

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
    licence: str | None
    consent: ConsentOut | None
    taken_down_at: Timestamp | None
