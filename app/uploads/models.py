"""What an upload is, whole or in parts, inside and on the wire."""

from dataclasses import dataclass
from typing import Annotated

from pydantic import BaseModel, Field

from app.enums import ContentType, MultipartState
from app.fields import RequestModel, Text, Whole

# what S3 takes in a single PUT
MAX_UPLOAD_BYTES = 5 * 1024**3
# The least that S3 takes as a part, but for the last one. A broken connection costs half a part on average.
PART_BYTES = 5 * 1024**2
MAX_PARTS = MAX_UPLOAD_BYTES // PART_BYTES
# whose addresses one answer gives
MAX_SIGNED_PARTS = 100

VideoKey = Annotated[str, Field(pattern=r"^uploads/[0-9a-f-]{36}/[A-Za-z0-9._-]{1,100}$")]
# as storage gave it, with its quotes or without them
Etag = Annotated[str, Field(pattern=r'^"?[A-Za-z0-9+/=_.-]{1,128}"?$')]


class NewUpload(RequestModel):
    filename: Annotated[Text, Field(min_length=1, max_length=1024)]
    content_type: Annotated[ContentType, Field(strict=False)] = ContentType.MP4
    size_bytes: Annotated[Whole, Field(ge=1, le=MAX_UPLOAD_BYTES)] | None = None


class UploadOut(BaseModel):
    """PUT the video to `upload_url` within `expires_in` seconds, with exactly these `headers`."""

    upload_url: str
    video_key: str
    expires_in: int
    headers: dict[str, str]


class NewMultipart(NewUpload):
    """A file that is to be uploaded in parts. `size_bytes` is its exact size."""

    size_bytes: Annotated[Whole, Field(ge=1, le=MAX_UPLOAD_BYTES)]


class WantedParts(RequestModel):
    """Parts, by their numbers from 1 on, whose addresses are wanted."""

    video_key: VideoKey
    part_numbers: Annotated[
        list[Annotated[Whole, Field(ge=1, le=MAX_PARTS)]], Field(min_length=1, max_length=MAX_SIGNED_PARTS)
    ]


class UploadedParts(RequestModel):
    """The ETag of each part, in the order of the parts."""

    video_key: VideoKey
    etags: Annotated[list[Etag], Field(min_length=1, max_length=MAX_PARTS)]


class NamedMultipart(RequestModel):
    video_key: VideoKey


class PartOut(BaseModel):
    """PUT the part to `upload_url` with exactly these `headers`. You may add `Content-MD5`."""

    part_number: int
    upload_url: str
    headers: dict[str, str]


class PartsOut(BaseModel):
    """Addresses of parts, good for `parts_expire_in` seconds."""

    parts_expire_in: int
    parts: list[PartOut]


class MultipartOut(BaseModel):
    """An upload in `part_count` parts of `part_size` bytes each; the last one has what is left.

    After `expires_in` seconds it is aborted, unless it is complete.
    """

    video_key: str
    upload_id: str
    part_size: int
    part_count: int
    expires_in: int


class MultipartStateOut(BaseModel):
    video_key: str
    state: MultipartState


@dataclass(frozen=True)
class UploadAdmission:
    """What the database knows about a hotkey that asks for an upload."""

    has_metagraph: bool
    is_registered: bool
    quota_wait_seconds: float | None
    # uploads in parts that are neither complete nor aborted, and the seconds until the first of them expires
    open_multiparts: int
    multipart_wait_seconds: float | None


@dataclass(frozen=True)
class Multipart:
    """An upload in parts. `owner` is None for an unsigned request, in development."""

    video_key: str
    owner: str | None
    content_type: str
    size_bytes: int
    upload_id: str
    part_bytes: int
    state: MultipartState
    seconds_left: float

    @property
    def part_count(self) -> int:
        return -(-self.size_bytes // self.part_bytes)

    def length(self, part_number: int) -> int:
        """How many bytes the part has."""
        return min(self.part_bytes, self.size_bytes - (part_number - 1) * self.part_bytes)


@dataclass(frozen=True)
class StaleMultipart:
    video_key: str
    upload_id: str
