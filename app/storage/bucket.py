"""What makes a bucket fit for the videos: that it exists, and the rules and the policy it needs."""

import json
import math
from collections.abc import Callable, Sequence
from contextlib import suppress
from typing import Any

from botocore.exceptions import BotoCoreError, ClientError

from app.clients.storage import MIRROR_PREFIX, SHEETS_PREFIX, Storage
from app.clients.storage_faults import (
    NO_BUCKET,
    ErrorAnswer,
    StorageExaminer,
    StorageFault,
    explain,
)
from app.config import Settings
from app.errors import Unavailable

UPLOADS_PREFIX = "uploads/"
GOLD_PREFIX = "gold/"
LEDGERS_PREFIX = "ledgers/"
MIRROR_SID = "KibotosMirror"
CORS_ID = "kibotos-uploads"
RELEASES_PREFIX = "releases/"
EXPIRY_ID = "kibotos-expire-uploads"
# For miners' uploads, and for what we upload ourselves in parts. What is left at most two days, the nightly
# sweep aborts too where a store has no such rule.
ABORT_RULES: tuple[dict[str, Any], ...] = tuple(
    {
        "ID": id,
        "Status": "Enabled",
        "Filter": {"Prefix": prefix},
        "AbortIncompleteMultipartUpload": {"DaysAfterInitiation": 1},
    }
    for id, prefix in (
        ("kibotos-abort-incomplete-uploads", UPLOADS_PREFIX),
        ("kibotos-abort-incomplete-releases", RELEASES_PREFIX),
    )
)
# How stores say that they have no such thing.
_NOT_OFFERED = frozenset(
    {
        "InvalidArgument",
        "InvalidRequest",
        "MalformedXML",
        "MethodNotAllowed",
        "NotImplemented",
        "NotSupported",
        "UnsupportedOperation",
    }
)


class NotOffered(Exception):
    """The store has no such rules; the message is what it said."""


class Bucket:
    """A bucket, to be set up. Every method may raise StorageFault. What is set up twice stays as it is."""

    def __init__(self, settings: Settings):
        self._settings = settings
        self._storage = Storage(settings)

    def create(self) -> bool:
        """Create the bucket; return False if it is there already."""
        try:
            StorageExaminer(self._storage, self._settings).check_bucket()
            return False
        except StorageFault as fault:
            if fault.code != NO_BUCKET:
                raise
        try:
            self._storage.ensure_bucket()
        except Unavailable as error:
            raise self._fault(error.__cause__ or error, "s3:CreateBucket") from error
        return True

    def allow_browsers(self, origins: Sequence[str]) -> None:
        """Let pages of `origins` upload and play videos; other rules stay. Raises NotOffered."""
        rule = {
            "ID": CORS_ID,
            "AllowedMethods": ["GET", "HEAD", "PUT"],
            "AllowedOrigins": list(origins),
            "AllowedHeaders": ["*"],
            "ExposeHeaders": ["ETag"],
            "MaxAgeSeconds": 3600,
        }
        found = self._call("get_bucket_cors", "s3:GetBucketCORS", missing="NoSuchCORSConfiguration")
        # a store that does not keep ids must not get the rule once more
        others = [
            each
            for each in found.get("CORSRules", [])
            if each.get("ID") != CORS_ID and each | {"ID": CORS_ID} != rule
        ]
        configuration = {"CORSRules": [*others, rule]}
        self._call("put_bucket_cors", "s3:PutBucketCORS", CORSConfiguration=configuration)

    def add_lifecycle_rule(self, rule: dict[str, Any]) -> None:
        """Add `rule`, or replace the one of its ID; other rules stay. Raises NotOffered."""
        found = self._call(
            "get_bucket_lifecycle_configuration",
            "s3:GetLifecycleConfiguration",
            missing="NoSuchLifecycleConfiguration",
        )
        others = [each for each in found.get("Rules", []) if each.get("ID") != rule["ID"]]
        self._call(
            "put_bucket_lifecycle_configuration",
            "s3:PutLifecycleConfiguration",
            LifecycleConfiguration={"Rules": [*others, rule]},
        )

    def remove_lifecycle_rule(self, id: str) -> None:
        """Remove the rule of this ID, if there is one; other rules stay. Raises NotOffered."""
        found = self._call(
            "get_bucket_lifecycle_configuration",
            "s3:GetLifecycleConfiguration",
            missing="NoSuchLifecycleConfiguration",
        )
        rules = found.get("Rules", [])
        others = [each for each in rules if each.get("ID") != id]
        if len(others) == len(rules):
            return
        if others:
            self._call(
                "put_bucket_lifecycle_configuration",
                "s3:PutLifecycleConfiguration",
                LifecycleConfiguration={"Rules": others},
            )
        else:
            self._call("delete_bucket_lifecycle", "s3:PutLifecycleConfiguration")

    def publish_mirror(self) -> None:
        """Let anyone read the objects of the mirror, and nothing else; other statements stay.

        Nobody may list the bucket. Raises NotOffered.
        """
        with suppress(NotOffered):
            self._permit_public_policy()
        found = self._call("get_bucket_policy", "s3:GetBucketPolicy", missing="NoSuchBucketPolicy")
        policy = json.loads(found.get("Policy", "{}"))
        # a single statement may stand without a list
        statements = policy.get("Statement", [])
        statements = [statements] if isinstance(statements, dict) else statements
        others = [each for each in statements if each.get("Sid") != MIRROR_SID]
        statement = {
            "Sid": MIRROR_SID,
            "Effect": "Allow",
            "Principal": "*",
            "Action": "s3:GetObject",
            "Resource": f"{_arn(self._settings.s3_bucket, self._settings.s3_region)}/{MIRROR_PREFIX}*",
        }
        policy = {"Version": "2012-10-17"} | policy | {"Statement": [*others, statement]}
        self._call("put_bucket_policy", "s3:PutBucketPolicy", Policy=json.dumps(policy))

    def _permit_public_policy(self) -> None:
        """Lift the part of AWS's public access block that would refuse the policy. That on ACLs stays."""
        found = self._call(
            "get_public_access_block",
            "s3:GetBucketPublicAccessBlock",
            missing="NoSuchPublicAccessBlockConfiguration",
        )
        block = found.get("PublicAccessBlockConfiguration", {})
        lifted = block | {"BlockPublicPolicy": False, "RestrictPublicBuckets": False}
        if block and block != lifted:
            self._call(
                "put_public_access_block",
                "s3:PutBucketPublicAccessBlock",
                PublicAccessBlockConfiguration=lifted,
            )

    def _call(self, operation: str, permission: str, missing: str = "", **arguments: Any) -> dict[str, Any]:
        """Return the answer of an operation on the bucket, {} if what it asks for is `missing`."""
        call: Callable[..., dict[str, Any]] = getattr(self._storage.client, operation)
        try:
            return call(Bucket=self._settings.s3_bucket, **arguments)
        except ClientError as error:
            told = error.response["Error"]
            if missing and told.get("Code") == missing:
                return {}
            status = error.response["ResponseMetadata"]["HTTPStatusCode"]
            if told.get("Code") in _NOT_OFFERED or status in {405, 501}:
                raise NotOffered(f"{told.get('Code')}: {told.get('Message')}") from error
            raise self._fault(error, permission) from error
        except BotoCoreError as error:
            raise self._fault(error, permission) from error

    def _fault(self, error: BaseException, permission: str) -> StorageFault:
        where = self._settings.s3_endpoint or "AWS"
        if not isinstance(error, ClientError):
            return StorageFault(
                "Unreachable", f"{where} is out of reach: {str(error).rstrip('. ')}", "Try again."
            )
        told = error.response["Error"]
        code = told.get("Code", "")
        if code == "BucketAlreadyExists":
            return StorageFault(
                code, f"the bucket {self._settings.s3_bucket} is somebody else's", "Choose another S3_BUCKET."
            )
        status = error.response["ResponseMetadata"]["HTTPStatusCode"]
        answer = ErrorAnswer(status, code, told.get("Message", ""), told.get("Region"), 0.0)
        return explain(self._settings, where, answer, permission)


def sheets_rule(days: float) -> dict[str, Any]:
    """The lifecycle rule that deletes contact sheets, should the scheduler not come to it."""
    return {
        "ID": "kibotos-expire-contact-sheets",
        "Status": "Enabled",
        "Filter": {"Prefix": SHEETS_PREFIX},
        "Expiration": {"Days": math.ceil(days) + 1},
    }


def make_policy(bucket: str, region: str, mirror_bucket: str = "") -> dict[str, Any]:
    """The IAM policy of a key that can do what the service does, and no more."""
    arn = _arn(bucket, region)
    mirror_arn = _arn(mirror_bucket, region)
    mirror = [
        {
            "Sid": "Mirror",
            "Effect": "Allow",
            "Action": ["s3:PutObject", "s3:GetObject"],
            "Resource": f"{mirror_arn}/{MIRROR_PREFIX}*",
        },
        {"Sid": "MirrorBucket", "Effect": "Allow", "Action": "s3:ListBucket", "Resource": mirror_arn},
    ]
    return {
        "Version": "2012-10-17",
        "Statement": [
            {
                "Sid": "Videos",
                "Effect": "Allow",
                # to delete is for takedowns, for what is over its time, and for what the doctor uploads
                "Action": [
                    "s3:PutObject",
                    "s3:GetObject",
                    "s3:DeleteObject",
                    "s3:AbortMultipartUpload",
                ],
                "Resource": f"{arn}/{UPLOADS_PREFIX}*",
            },
            {
                "Sid": "ContactSheets",
                "Effect": "Allow",
                "Action": ["s3:PutObject", "s3:GetObject", "s3:DeleteObject"],
                "Resource": f"{arn}/{SHEETS_PREFIX}*",
            },
            {
                "Sid": "GoldFilms",
                "Effect": "Allow",
                "Action": ["s3:PutObject", "s3:GetObject", "s3:DeleteObject"],
                "Resource": f"{arn}/{GOLD_PREFIX}*",
            },
            {
                "Sid": "Ledgers",
                "Effect": "Allow",
                "Action": ["s3:PutObject", "s3:GetObject"],
                "Resource": f"{arn}/{LEDGERS_PREFIX}*",
            },
            {
                "Sid": "Releases",
                "Effect": "Allow",
                # large files go up in parts; to delete is for takedowns
                "Action": [
                    "s3:PutObject",
                    "s3:GetObject",
                    "s3:DeleteObject",
                    "s3:AbortMultipartUpload",
                ],
                "Resource": f"{arn}/{RELEASES_PREFIX}*",
            },
            # without it a missing object is a 403, which looks like an outage
            {
                "Sid": "Bucket",
                "Effect": "Allow",
                "Action": ["s3:ListBucket", "s3:ListBucketMultipartUploads"],
                "Resource": arn,
            },
            *(mirror if mirror_bucket else []),
        ],
    }


def _arn(bucket: str, region: str) -> str:
    partition = {"cn-": "aws-cn", "us-gov-": "aws-us-gov"}
    name = next((value for prefix, value in partition.items() if region.startswith(prefix)), "aws")
    return f"arn:{name}:s3:::{bucket}"
