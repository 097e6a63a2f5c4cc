"""S3-compatible object storage (AWS, R2, MinIO, SeaweedFS)."""

import os
import threading
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from datetime import datetime
from functools import cache, cached_property
from pathlib import Path
from types import MappingProxyType
from typing import Any
from urllib.parse import quote, urlsplit

import structlog

from app.clients import signatures
from app.clients.heads import Heads
from app.config import Settings
from app.errors import Unavailable

log = structlog.get_logger(__name__)

# What begins with it is public, by the policy of `kibotos storage init`.
MIRROR_PREFIX = "public/"
SHEETS_PREFIX = "sheets/"
CONNECT_TIMEOUT_SECONDS = 2
READ_TIMEOUT_SECONDS = 3
_NOT_THESE_PARTS = frozenset({"EntityTooSmall", "InvalidPart", "InvalidPartOrder", "NoSuchUpload"})


class StorageRefused(Unavailable):
    """Storage answered, and did not do what it was asked for."""


@dataclass(frozen=True)
class StoredObject:
    size_bytes: int
    content_type: str


@dataclass(frozen=True)
class ListedObject:
    key: str
    size_bytes: int
    modified_at: datetime


@dataclass(frozen=True)
class ListedMultipart:
    """An upload in parts that is neither complete nor aborted."""

    key: str
    upload_id: str
    begun_at: datetime


class Storage:
    """The bucket of the videos. Connects on first use; every method raises Unavailable while it is away.

    A request to storage gives up within seconds and is not repeated here: a web client gets a 503 and a
    job goes back to its queue.
    """

    def __init__(self, settings: Settings):
        self._settings = settings
        self._endpoints: dict[tuple[int, str], _Endpoint] = {}
        self._making = threading.Lock()

    def _at(self, endpoint: str) -> "_Endpoint":
        """Return this process's access to `endpoint` ("": AWS itself).

        A client that is connected must not be shared across a fork, hence the process id in its key. Threads
        share it, and only one makes it: the first costs a quarter of a second and 20 MB.
        """
        key = (os.getpid(), endpoint)
        with self._making:
            if key not in self._endpoints:
                self._endpoints[key] = _Endpoint(self._settings, endpoint)
        return self._endpoints[key]

    def prepare(self) -> None:
        """Make the client that signs uploads now, without connecting it."""
        # without credentials it cannot be made, and answers 503 until there are some
        with suppress(Unavailable), _translated():
            _ = self._public

    def take_over(self) -> None:
        """After a fork, use the clients of the process before, which has connected none of them."""
        self._endpoints = {(os.getpid(), endpoint): each for (_, endpoint), each in self._endpoints.items()}

    @property
    def _inner(self) -> "_Endpoint":
        return self._at(self._settings.s3_endpoint)

    @property
    def _public(self) -> "_Endpoint":
        return self._at(self._settings.s3_public_endpoint or self._settings.s3_endpoint)

    def presign_put(
        self, key: str, content_type: str, size_bytes: int | None, expires_seconds: int
    ) -> tuple[str, dict[str, str]]:
        """Return the URL that takes the upload of `key`, and the headers the PUT must carry.

        They are signed: another type, or another length where `size_bytes` is known, is refused by storage.
        """
        headers = {"Content-Type": content_type}
        if size_bytes is not None:
            headers["Content-Length"] = str(size_bytes)
        with _translated():
            return self._public.presign("PUT", key, expires_seconds, headers), headers

    def start_multipart(self, key: str, content_type: str) -> str:
        """Begin an upload of `key` in parts. Return the store's name for it."""
        with _translated():
            answer = self._inner.client.create_multipart_upload(
                Bucket=self._settings.s3_bucket, Key=key, ContentType=content_type
            )
            return answer["UploadId"]

    def presign_part(
        self, key: str, upload_id: str, number: int, size_bytes: int, expires_seconds: int
    ) -> tuple[str, dict[str, str]]:
        """Return the URL that takes a part, and the headers the PUT must carry. Its length is signed."""
        headers = {"Content-Length": str(size_bytes)}
        query = {"partNumber": str(number), "uploadId": upload_id}
        with _translated():
            return self._public.presign("PUT", key, expires_seconds, headers, query), headers

    def complete_multipart(self, key: str, upload_id: str, etags: Sequence[str]) -> bool:
        """Make one object of all parts, by their ETags.

        Returns False if the store has not these parts, or no such upload.
        """
        from botocore.exceptions import ClientError

        parts = [{"PartNumber": number, "ETag": f'"{etag}"'} for number, etag in enumerate(etags, 1)]
        with _translated():
            try:
                self._inner.client.complete_multipart_upload(
                    Bucket=self._settings.s3_bucket,
                    Key=key,
                    UploadId=upload_id,
                    MultipartUpload={"Parts": parts},
                )
            except ClientError as error:
                if error.response.get("Error", {}).get("Code") not in _NOT_THESE_PARTS:
                    raise
                return False
        return True

    def presign_get(self, key: str, expires_seconds: int, public: bool = True) -> str:
        """Return the URL to download `key` from: at the public endpoint, or at the one we use ourselves."""
        with _translated():
            return (self._public if public else self._inner).presign("GET", key, expires_seconds)

    def presign_delete(self, key: str, expires_seconds: int) -> str:
        """Return the URL at the public endpoint that deletes `key`."""
        with _translated():
            return self._public.presign("DELETE", key, expires_seconds)

    def presign_list(self, expires_seconds: int) -> str:
        """Return the URL, at the endpoint we use ourselves, that lists one object of the bucket."""
        params = {"Bucket": self._settings.s3_bucket, "MaxKeys": 1}
        with _translated():
            return self._inner.client.generate_presigned_url(
                "list_objects_v2", Params=params, ExpiresIn=expires_seconds
            )

    @property
    def client(self) -> Any:
        """boto3's client at the endpoint we use ourselves."""
        with _translated():
            return self._inner.client

    def head(self, key: str) -> StoredObject | None:
        """Return size and type of `key`, or None if there is no such object."""
        with _translated():
            status, headers = self._inner.head(key)
        if status == 200:
            return StoredObject(int(headers["content-length"]), headers.get("content-type", ""))
        if status == 404:
            return None
        # boto3 goes through a proxy, follows a bucket to its region, and tells what else is wrong
        with _translated(missing_ok=True):
            answer = self._inner.client.head_object(Bucket=self._settings.s3_bucket, Key=key)
            return StoredObject(answer["ContentLength"], answer.get("ContentType", ""))
        return None

    def put_file(self, key: str, path: Path, content_type: str) -> None:
        """Put a file of any size under `key`; in parts, so that none takes longer than storage may."""
        with _translated():
            self._inner.client.upload_file(
                str(path), self._settings.s3_bucket, key, ExtraArgs={"ContentType": content_type}
            )

    def put(self, key: str, content: bytes, content_type: str, cache_control: str) -> None:
        """Put a small object under `key`."""
        with _translated():
            self._inner.client.put_object(
                Bucket=self._settings.s3_bucket,
                Key=key,
                Body=content,
                ContentType=content_type,
                CacheControl=cache_control,
            )

    def read(self, key: str, max_bytes: int) -> bytes | None:
        """Return the first `max_bytes` of `key`, or None if there is no such object."""
        with _translated(missing_ok=True):
            answer = self._inner.client.get_object(Bucket=self._settings.s3_bucket, Key=key)
            return answer["Body"].read(max_bytes)
        return None

    def copy(
        self,
        key: str,
        to_key: str,
        content_type: str,
        *,
        to_bucket: str | None = None,
        cache_control: str | None = None,
        metadata: Mapping[str, str] | None = None,
    ) -> None:
        """Copy an object of any size within the store, by default to our bucket; in parts, like put_file().

        The copy has nothing of the age or the name of the first.
        """
        source = {"Bucket": self._settings.s3_bucket, "Key": key}
        headers: dict[str, Any] = {"ContentType": content_type, "MetadataDirective": "REPLACE"}
        if metadata:
            headers["Metadata"] = dict(metadata)
        if cache_control:
            headers["CacheControl"] = cache_control
        with _translated():
            self._inner.client.copy(source, to_bucket or self._settings.s3_bucket, to_key, ExtraArgs=headers)

    def find_metadata(self, bucket: str, key: str) -> dict[str, str] | None:
        """Return what copy() noted with an object in any bucket of the store, or None if it is not there."""
        with _translated(missing_ok=True):
            return self._inner.client.head_object(Bucket=bucket, Key=key)["Metadata"]
        return None

    def delete(self, key: str) -> None:
        """Delete the object `key`; there may be none."""
        with _translated(missing_ok=True):
            self._inner.client.delete_object(Bucket=self._settings.s3_bucket, Key=key)

    def list_objects(self, prefix: str, after_key: str = "", limit: int = 1000) -> list[ListedObject]:
        """The objects under `prefix` with keys after the given one, at most `limit`, by their keys."""
        start = {"StartAfter": after_key} if after_key else {}
        with _translated():
            answer = self._inner.client.list_objects_v2(
                Bucket=self._settings.s3_bucket, Prefix=prefix, MaxKeys=limit, **start
            )
        return [
            ListedObject(each["Key"], each["Size"], each["LastModified"])
            for each in answer.get("Contents", [])
        ]

    def list_multiparts(self, prefix: str) -> list[ListedMultipart]:
        """Uploads in parts under `prefix` that are under way or abandoned, at most 1,000."""
        with _translated():
            answer = self._inner.client.list_multipart_uploads(Bucket=self._settings.s3_bucket, Prefix=prefix)
        return [
            ListedMultipart(each["Key"], each["UploadId"], each["Initiated"])
            for each in answer.get("Uploads", [])
        ]

    def abort_multipart(self, key: str, upload_id: str) -> None:
        """Abort an upload in parts and free what it holds; it may be gone."""
        with _translated(missing_ok=True):
            self._inner.client.abort_multipart_upload(
                Bucket=self._settings.s3_bucket, Key=key, UploadId=upload_id
            )

    def check(self) -> None:
        """Return if the bucket can be reached."""
        with _translated():
            self._inner.client.head_bucket(Bucket=self._settings.s3_bucket)

    def ensure_bucket(self) -> None:
        """Create the bucket if it does not exist."""
        bucket = self._settings.s3_bucket
        with _translated(missing_ok=True):
            self._inner.client.head_bucket(Bucket=bucket)
            return
        region = self._settings.s3_region
        # AWS refuses its default region when it is named, and R2's `auto` is none
        named = region not in {"us-east-1", "auto"}
        where = {"CreateBucketConfiguration": {"LocationConstraint": region}} if named else {}
        with _translated():
            self._inner.client.create_bucket(Bucket=bucket, **where)


@cache
def _loader(data_path: str | None) -> Any:
    """What boto3 knows of S3, read from its files once a process: that takes 70 ms and 12 MB."""
    from botocore.loaders import create_loader

    return create_loader(data_path)


class _Endpoint:
    """The bucket at one endpoint: boto3's client, and URLs that are signed with its keys."""

    def __init__(self, settings: Settings, endpoint: str):
        # here, so that commands without storage are spared it
        import boto3
        import botocore.session
        from botocore.config import Config

        self._settings = settings
        keys = {
            "aws_access_key_id": settings.aws_access_key_id or None,
            "aws_secret_access_key": settings.aws_secret_access_key or None,
            "aws_session_token": settings.aws_session_token or None,
        }
        if not settings.aws_access_key_id and not settings.aws_secret_access_key:
            # boto3's own chain: a profile, a container's or an instance's role
            keys = {}
        style = settings.s3_addressing_style
        if style == "auto" and not endpoint:
            # by itself boto3 signs for AWS's global name, which redirects what is meant for another region
            style = "virtual"
        self._botocore = botocore.session.get_session()
        self._botocore.register_component(
            "data_loader", _loader(self._botocore.get_config_variable("data_path"))
        )
        self._session = boto3.session.Session(botocore_session=self._botocore, **keys)
        self.client = self._session.client(
            "s3",
            endpoint_url=endpoint or None,
            region_name=settings.s3_region,
            # the session's, once more: only a client complains of one without the other
            **keys,
            config=Config(
                signature_version="s3v4",
                s3={"addressing_style": style},
                connect_timeout=CONNECT_TIMEOUT_SECONDS,
                read_timeout=READ_TIMEOUT_SECONDS,
                retries={"total_max_attempts": 1},
                # else a presigned PUT demands a checksum header that an upload by curl does not send
                request_checksum_calculation="when_required",
                response_checksum_validation="when_required",
            ),
        )

    @cached_property
    def _bucket_url(self) -> str:
        """What precedes a key in its URL, as boto3 works it out from endpoint, region and style."""
        params = {"Bucket": self._settings.s3_bucket, "Key": "k"}
        return self.client.generate_presigned_url("get_object", Params=params).partition("?")[0][:-1]

    @cached_property
    def _heads(self) -> Heads | None:
        """None where a proxy leads to the endpoint. Certificates are checked as boto3 checks them."""
        from botocore.httpsession import get_cert_path
        from botocore.utils import get_environ_proxies

        if get_environ_proxies(self._bucket_url):
            return None
        configured = self._botocore.get_config_variable("ca_bundle") or os.environ.get("REQUESTS_CA_BUNDLE")
        cafile = configured or get_cert_path(True)
        return Heads(self._bucket_url, cafile, CONNECT_TIMEOUT_SECONDS, READ_TIMEOUT_SECONDS)

    def head(self, key: str) -> tuple[int | None, Mapping[str, str]]:
        """Ask for `key`; return status and headers, in a tenth of the time of boto3's head_object.

        That goes through endpoint rules, validation, parsers and events. The status is None if it was not
        asked, since a proxy leads there.
        """
        from botocore.exceptions import HTTPClientError

        url = self._url(key)
        try:
            if self._heads is None:
                return None, {}
            headers = signatures.sign(self._credentials, self._settings.s3_region, "HEAD", url)
            return self._heads.ask(urlsplit(url).path, headers)
        except OSError as error:
            raise HTTPClientError(error=error) from error

    def presign(
        self,
        method: str,
        key: str,
        expires_seconds: int,
        headers: Mapping[str, str] = MappingProxyType({}),
        query: Mapping[str, str] = MappingProxyType({}),
    ) -> str:
        """Return what boto3's generate_presigned_url does.

        That goes through endpoint rules, validation and events for each URL anew.
        """
        return signatures.presign(
            self._credentials,
            self._settings.s3_region,
            method,
            self._url(key),
            expires_seconds,
            headers,
            query,
        )

    def _url(self, key: str) -> str:
        return self._bucket_url + quote(key, safe="/~")

    @property
    def _credentials(self) -> Any:
        """Those of the moment: a role's change every hour. Raises NoCredentialsError."""
        from botocore.exceptions import NoCredentialsError

        credentials = self._session.get_credentials()
        if credentials is None:
            raise NoCredentialsError
        return credentials.get_frozen_credentials()


@contextmanager
def _translated(missing_ok: bool = False) -> Iterator[None]:
    """Turn what botocore raises into Unavailable or StorageRefused; swallow a 404 if `missing_ok`."""
    from boto3.exceptions import Boto3Error
    from botocore.exceptions import BotoCoreError, ClientError

    try:
        yield
    except ClientError as error:
        status = error.response.get("ResponseMetadata", {}).get("HTTPStatusCode")
        if missing_ok and status == 404:
            return
        log.warning("storage_unavailable", status=status, code=error.response.get("Error", {}).get("Code"))
        raise StorageRefused("Storage refused the request at the moment; try again shortly.") from error
    except (BotoCoreError, Boto3Error) as error:
        # boto3's own error of an upload in parts tells in its message what storage said
        log.warning("storage_unavailable", error=f"{type(error).__name__}: {error}"[:500])
        raise Unavailable("Storage is out of reach at the moment; try again shortly.") from error
