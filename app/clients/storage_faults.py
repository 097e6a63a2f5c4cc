"""What is wrong with a store, told from its answers: each fault in a sentence, and what to do about it."""

import re
import time
import uuid
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime

import requests

from app.clients.http import exchange, read_bounded
from app.clients.retry import RetryableError, http_date
from app.clients.storage import Storage
from app.config import Settings
from app.errors import Unavailable

NO_BUCKET = "NoSuchBucket"
DOCTOR_PREFIX = "uploads/doctor/"
URL_SECONDS = 60
ASK_SECONDS = 15.0
MAX_ANSWER_BYTES = 256 * 1024
# Stores refuse a request whose clock is 15 minutes off.
MAX_SKEW_SECONDS = 60

_SESSION = frozenset({"ExpiredToken", "InvalidToken", "TokenRefreshRequired"})
_CLOCK = frozenset({"RequestTimeTooSkewed", "RequestExpired"})
_REGION = frozenset(
    {"IllegalLocationConstraintException", "InvalidRegionName", "PermanentRedirect", "TemporaryRedirect"}
)
# these speak of a region only where they name one
_PERHAPS_REGION = frozenset({"AuthorizationHeaderMalformed", "AuthorizationQueryParametersError"})


class StorageFault(Exception):
    """A store does not do what it was asked: its error `code`, a sentence, and what to do."""

    def __init__(self, code: str, detail: str, advice: str):
        super().__init__(detail)
        self.code = code
        self.detail = detail
        self.advice = advice


@dataclass(frozen=True)
class ErrorAnswer:
    """An error as S3 answers it. `region` is the bucket's, where the answer names it."""

    status: int
    code: str
    message: str
    region: str | None
    skew_seconds: float


class StorageExaminer:
    """Tries out a store the way its users do: by presigned requests. Every method may raise StorageFault."""

    def __init__(self, storage: Storage, settings: Settings):
        self._storage = storage
        self._settings = settings

    def check_bucket(self) -> None:
        """Return if the bucket can be listed at S3_ENDPOINT."""
        try:
            url = self._storage.presign_list(URL_SECONDS)
        except Unavailable as error:
            raise StorageFault(
                "NoCredentials",
                f"there are no credentials to sign with: {error.__cause__}",
                "Set AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY, or AWS_PROFILE, or use an instance role.",
            ) from error
        self._ask("GET", url, "s3:ListBucket")

    def check_objects(self) -> str:
        """Put an object into storage, read it and delete it, at the public endpoint. Return the outcome."""
        key, content = f"{DOCTOR_PREFIX}{uuid.uuid4()}.mp4", uuid.uuid4().bytes * 64
        url, headers = self._storage.presign_put(key, "video/mp4", len(content), URL_SECONDS)
        self._ask("PUT", url, "s3:PutObject", headers, content)
        returned, skew = self._ask("GET", self._storage.presign_get(key, URL_SECONDS), "s3:GetObject")
        url = self._storage.presign_delete(key, URL_SECONDS)
        self._ask("DELETE", url, f"s3:DeleteObject on {DOCTOR_PREFIX}*")
        if returned != content:
            raise StorageFault("", "it returned other bytes than were stored", "Use another S3 server.")
        if skew > MAX_SKEW_SECONDS:
            raise StorageFault(
                "", f"its clock is {skew:.0f} s away from ours", "Run an NTP client on both machines."
            )
        return f"PUT, GET and DELETE through {self._name(url)}, clocks {skew:.0f} s apart"

    def _ask(
        self,
        method: str,
        url: str,
        permission: str,
        headers: Mapping[str, str] | None = None,
        data: bytes | None = None,
    ) -> tuple[bytes, float]:
        """Return the body of the answer, and by how many seconds the clocks differ."""
        deadline = time.monotonic() + ASK_SECONDS
        try:
            with exchange(method, url, deadline, headers=headers, data=data) as answer:
                body = read_bounded(answer, MAX_ANSWER_BYTES, deadline)
        except RetryableError as error:
            raise StorageFault(
                "Unreachable",
                f"{self._name(url)} is out of reach: {error}",
                "Check S3_ENDPOINT and S3_PUBLIC_ENDPOINT, that the store runs, and any proxy between.",
            ) from error
        moment = http_date(answer.headers.get("Date"))
        skew = abs((moment - datetime.now(UTC)).total_seconds()) if moment else 0.0
        if not 200 <= answer.status_code < 300:
            raise explain(self._settings, self._name(url), _read_error(answer, body, skew), permission)
        return body, skew

    def _name(self, url: str) -> str:
        """What to call the store that `url` leads to."""
        public = self._settings.s3_public_endpoint
        return public if public and url.startswith(public) else self._settings.s3_endpoint or "AWS"


def explain(settings: Settings, where: str, answer: ErrorAnswer, permission: str) -> StorageFault:
    """Tell what the store `where` means by `answer`. `permission` is what the key needs for the request."""
    bucket, key, code = settings.s3_bucket, settings.aws_access_key_id or "in use", answer.code
    said = " ".join(filter(None, [str(answer.status), code, answer.message[:200]]))
    if code == NO_BUCKET:
        detail = f"the bucket {bucket} does not exist at {where}"
        advice = "Run: kibotos storage init; or correct S3_BUCKET."
    elif code == "InvalidAccessKeyId":
        detail = f"{where} does not know the access key {key}"
        advice = "Correct AWS_ACCESS_KEY_ID."
    elif code == "SignatureDoesNotMatch":
        detail = f"AWS_SECRET_ACCESS_KEY does not belong to the access key {key}"
        advice = (
            "Correct it. If it is right, a proxy changes the requests: S3_ENDPOINT and "
            "S3_PUBLIC_ENDPOINT must name the store as it names itself."
        )
    elif code in _SESSION:
        detail = f"the session token is no longer valid, or not the one of the access key {key}"
        advice = "Renew AWS_SESSION_TOKEN and its keys, or remove it; an instance role renews itself."
    elif code in _REGION | _PERHAPS_REGION and answer.region not in {None, settings.s3_region}:
        detail = f"the bucket {bucket} is in the region {answer.region}, not in {settings.s3_region}"
        advice = f"Set S3_REGION={answer.region}."
    elif code in _REGION:
        detail = f"the bucket {bucket} is not in the region {settings.s3_region}: {said}"
        advice = "Set S3_REGION to the region of the bucket, and S3_ENDPOINT, if it is set, to its address."
    elif code in _CLOCK or (answer.status == 403 and answer.skew_seconds > MAX_SKEW_SECONDS):
        detail = f"its clock and ours are {answer.skew_seconds:.0f} s apart, so it refuses what we sign"
        advice = "Set the clocks: run an NTP client on this machine and on the store's."
    elif answer.status in {401, 403} and code:
        detail = f"the access key {key} may not do that: {said}"
        advice = f"Give it {permission}; kibotos storage init prints a policy with all that it needs."
    elif not code:
        detail = f"{where} does not answer like an S3 store: {said}"
        advice = "S3_ENDPOINT must be the address of the S3 API, not of a console or a web page."
    else:
        detail = f"{where} answers {said}"
        advice = "Look for that code in the manual of the store."
    return StorageFault(code, detail, advice)


def _read_error(answer: requests.Response, body: bytes, skew: float) -> ErrorAnswer:
    text = body.decode(errors="replace")

    def find(element: str) -> str:
        # all that is read of so small a document
        found = re.search(rf"<{element}>([^<]*)</{element}>", text)
        return found[1] if found else ""

    message = find("Message")
    named = re.search(r"expecting '([a-z0-9-]+)'", message)
    host = re.search(r"\bs3[.-]([a-z0-9-]+)\.amazonaws\.com", find("Endpoint"))
    region = (
        answer.headers.get("x-amz-bucket-region")
        or find("Region")
        or (named[1] if named else None)
        or (host[1] if host else None)
    )
    return ErrorAnswer(answer.status_code, find("Code"), message, region, skew)
