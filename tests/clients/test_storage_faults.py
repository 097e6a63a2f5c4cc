"""Each fault of a store has its own sentence: SeaweedFS's, and the errors that AWS and others document."""

import dataclasses
import json
import os
from datetime import UTC, datetime, timedelta
from email.utils import format_datetime

import pytest

from app.clients.storage import Storage
from app.clients.storage_faults import StorageExaminer, StorageFault
from app.config import Settings


def examine(settings):
    StorageExaminer(Storage(settings), settings).check_bucket()


def fault_of(settings):
    with pytest.raises(StorageFault) as raised:
        examine(settings)
    assert "X-Amz" not in raised.value.detail
    assert raised.value.advice
    return f"{raised.value.detail} -> {raised.value.advice}"


def test_a_sound_store_has_none(settings):
    examiner = StorageExaminer(Storage(settings), settings)
    examiner.check_bucket()
    assert "PUT, GET and DELETE" in examiner.check_objects()


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"s3_bucket": "no-such-bucket"}, "bucket no-such-bucket does not exist"),
        ({"s3_bucket": "no-such-bucket"}, "kibotos storage init"),
        (
            {"aws_access_key_id": "another"},
            "does not know the access key another -> Correct AWS_ACCESS_KEY_ID.",
        ),
        (
            {"aws_secret_access_key": "wrong"},
            "AWS_SECRET_ACCESS_KEY does not belong to the access key kibotos -> Correct it.",
        ),
        ({"s3_endpoint": "http://127.0.0.1:1"}, "out of reach: the connection failed (Connection refused)"),
        ({"s3_endpoint": "http://no.invalid"}, "http://no.invalid is out of reach: the connection failed ("),
    ],
)
def test_faults_of_seaweedfs(settings, changes, said):
    assert said in fault_of(dataclasses.replace(settings, **changes))


def error(status, code, message="", more="", *headers):
    body = f"<?xml version='1.0'?><Error><Code>{code}</Code><Message>{message}</Message>{more}</Error>"
    return answer(status, body.encode(), *headers)


def answer(status, body, *headers):
    lines = [f"HTTP/1.1 {status} X", "Connection: close", f"Content-Length: {len(body)}", *headers]
    return "\r\n".join([*lines, "", ""]).encode() + body


def date(**away):
    return f"Date: {format_datetime(datetime.now(UTC) + timedelta(**away), usegmt=True)}"


# what makes the answer: its date must be of the moment
SERVED = [
    (
        lambda: error(
            403, "InvalidAccessKeyId", "The AWS Access Key Id you provided does not exist in our records."
        ),
        "does not know the access key AKIA",
    ),
    (
        lambda: error(403, "SignatureDoesNotMatch", "The request signature …"),
        "AWS_SECRET_ACCESS_KEY does not belong to the access key AKIA",
    ),
    (
        lambda: error(404, "NoSuchBucket", "The specified bucket does not exist"),
        "the bucket videos does not exist",
    ),
    # a wrong region, as AWS tells it to who signs in the query, in the header, and by redirects
    (
        lambda: error(
            400,
            "AuthorizationQueryParametersError",
            "Error parsing the X-Amz-Credential parameter; the region 'us-east-1' is wrong; "
            "expecting 'eu-central-1'",
            "<Region>eu-central-1</Region>",
        ),
        "Set S3_REGION=eu-central-1.",
    ),
    (
        lambda: error(
            400, "AuthorizationHeaderMalformed", "the region 'us-east-1' is wrong; expecting 'eu-central-1'"
        ),
        "Set S3_REGION=eu-central-1.",
    ),
    (
        lambda: error(301, "PermanentRedirect", "…", "", "x-amz-bucket-region: eu-central-1"),
        "Set S3_REGION=eu-central-1.",
    ),
    (
        lambda: error(
            301,
            "PermanentRedirect",
            "The bucket you are attempting to access must be addressed using the specified endpoint.",
            "<Endpoint>videos.s3.eu-central-1.amazonaws.com</Endpoint>",
        ),
        "Set S3_REGION=eu-central-1.",
    ),
    (
        lambda: error(
            307, "TemporaryRedirect", "…", "<Endpoint>videos.s3-eu-central-1.amazonaws.com</Endpoint>"
        ),
        "Set S3_REGION=eu-central-1.",
    ),
    # R2
    (
        lambda: error(
            400, "InvalidRegionName", "The region name 'x' is not valid. Must be one of: wnam, auto"
        ),
        "wnam, auto -> Set S3_REGION to the region of the bucket",
    ),
    (
        lambda: error(400, "AuthorizationQueryParametersError", "The expiry must be less than"),
        "answers 400 Auth",
    ),
    # a skewed clock: by its own code, and as AWS tells it to who signs in the query
    (
        lambda: error(403, "RequestTimeTooSkewed", "The difference …", "", date(minutes=20)),
        "clock and ours are 1",
    ),
    (
        lambda: error(403, "AccessDenied", "Request is not valid yet", "", date(hours=-1)),
        "s apart, so it refuses what we sign",
    ),
    (
        lambda: error(403, "AccessDenied", "Request has expired", "", date(hours=1)),
        "s apart, so it refuses what we sign",
    ),
    # temporary keys
    (lambda: error(400, "ExpiredToken", "The provided token has expired."), "Renew AWS_SESSION_TOKEN"),
    (lambda: error(400, "InvalidToken", "The provided token is malformed"), "Renew AWS_SESSION_TOKEN"),
    # permissions
    (lambda: error(403, "AccessDenied", "Access Denied", "", date()), "Give it s3:ListBucket"),
    (lambda: error(401, "Unauthorized", "Unauthorized"), "may not do that: 401 Unauthorized"),
    # others
    (
        lambda: error(503, "SlowDown", "Please reduce your request rate."),
        "answers 503 SlowDown Please reduce",
    ),
    (lambda: answer(200, b"", "Content-Encoding: br"), "out of reach: its answer is encoded as 'br'"),
    (lambda: answer(302, b"", "Location: /login"), "does not answer like an S3 store: 302"),
    (lambda: answer(404, b"<html>Not found</html>"), "not of a console"),
    (lambda: answer(403, b"", date()), "does not answer like an S3 store: 403"),
    (lambda: b"SSH-2.0-OpenSSH_9.2\r\n", "out of reach: the connection failed"),
]


@pytest.fixture
def served(server):
    """Settings of a store that is `server`."""
    return Settings(
        s3_endpoint=server.url,
        s3_bucket="videos",
        aws_access_key_id="AKIA",
        aws_secret_access_key="secret",
    )


@pytest.mark.parametrize(("served_answer", "said"), SERVED)
def test_documented_errors(server, served, served_answer, said):
    server.answer(served_answer())
    assert said in fault_of(served)


def test_a_skewed_clock_is_told_though_all_is_accepted(settings, server):
    def answers():
        body = b""
        while True:
            request = server.requests[-1]
            if request.startswith("PUT"):
                body = request.partition("\r\n\r\n")[2].encode("latin-1")
            yield [answer(200, body if request.startswith("GET") else b"", date(minutes=-10))]

    server.answers = answers()
    changed = dataclasses.replace(settings, s3_endpoint=server.url)
    with pytest.raises(StorageFault, match=r"its clock is \d+ s away from ours"):
        StorageExaminer(Storage(changed), changed).check_objects()


@pytest.mark.parametrize(
    ("region", "bucket", "style", "url"),
    [
        ("us-east-1", "videos", "auto", "https://videos.s3.amazonaws.com/k"),
        ("eu-central-1", "videos", "auto", "https://videos.s3.eu-central-1.amazonaws.com/k"),
        ("il-central-1", "videos", "auto", "https://videos.s3.il-central-1.amazonaws.com/k"),
        ("cn-north-1", "videos", "auto", "https://videos.s3.cn-north-1.amazonaws.com.cn/k"),
        # a certificate for *.s3… does not cover two labels
        ("eu-central-1", "my.videos", "auto", "https://s3.eu-central-1.amazonaws.com/my.videos/k"),
        ("eu-central-1", "videos", "path", "https://s3.eu-central-1.amazonaws.com/videos/k"),
    ],
)
def test_urls_of_aws_name_the_host_of_the_region(region, bucket, style, url):
    storage = Storage(
        Settings(
            s3_region=region,
            s3_bucket=bucket,
            s3_addressing_style=style,
            aws_access_key_id="a",
            aws_secret_access_key="b",
        )
    )
    assert storage.presign_get("k", 60).partition("?")[0] == url
    assert storage.presign_put("k", "video/mp4", 5, 60)[0].partition("?")[0] == url


@pytest.fixture
def keyless(settings, monkeypatch):
    """Settings without keys, where boto3 finds none by itself either."""
    for name in ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY", "AWS_SESSION_TOKEN", "AWS_PROFILE"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("AWS_EC2_METADATA_DISABLED", "true")
    monkeypatch.setenv("AWS_CONFIG_FILE", "/nonexistent")
    return dataclasses.replace(settings, aws_access_key_id="", aws_secret_access_key="")


def test_without_credentials_it_says_which_there_may_be(keyless):
    said = fault_of(keyless)
    assert "Unable to locate credentials" in said
    assert "AWS_PROFILE" in said


def test_a_process_without_credentials_starts(keyless, monkeypatch):
    Storage(keyless).prepare()
    monkeypatch.setenv("AWS_PROFILE", "missing")
    Storage(keyless).prepare()
    assert "profile (missing) could not be found" in fault_of(keyless)


def test_a_process_takes_over_the_client_that_was_made_before_the_fork(keyless, monkeypatch):
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", "key")
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "secret")
    storage = Storage(keyless)
    storage.prepare()
    # whoever made another one now would find no key
    monkeypatch.delenv("AWS_ACCESS_KEY_ID")
    monkeypatch.delenv("AWS_SECRET_ACCESS_KEY")
    child = os.fork()
    if not child:
        status = 1
        try:
            storage.take_over()
            status = 0 if "X-Amz-Signature" in storage.presign_get("k", 60) else 2
        finally:
            os._exit(status)
    assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0


def test_a_profile_is_used(settings, keyless, monkeypatch, tmp_path):
    file = tmp_path / "credentials"
    file.write_text(
        f"[video]\naws_access_key_id = {settings.aws_access_key_id}\n"
        f"aws_secret_access_key = {settings.aws_secret_access_key}\n"
    )
    monkeypatch.setenv("AWS_SHARED_CREDENTIALS_FILE", str(file))
    monkeypatch.setenv("AWS_PROFILE", "video")
    examine(keyless)


def test_a_role_is_used_with_its_token(keyless, monkeypatch, server):
    role = {"AccessKeyId": "ROLE", "SecretAccessKey": "s", "Token": "token of the role"}
    role["Expiration"] = (datetime.now(UTC) + timedelta(hours=6)).isoformat()
    server.answer(answer(200, json.dumps(role).encode()))
    monkeypatch.setenv("AWS_CONTAINER_CREDENTIALS_FULL_URI", f"{server.url}/role")
    storage = Storage(keyless)
    for url in (storage.presign_get("k", 60), storage.presign_put("k", "video/mp4", 5, 60)[0]):
        assert "X-Amz-Security-Token=token%20of%20the%20role" in url
        assert "X-Amz-Credential=ROLE%2F" in url


def test_a_session_token_goes_with_its_keys(settings):
    temporary = dataclasses.replace(settings, aws_session_token="token of the session")
    url, _ = Storage(temporary).presign_put("k", "video/mp4", 5, 60)
    assert "X-Amz-Security-Token=token%20of%20the%20session" in url
    assert "token of the session" not in repr(temporary)
