"""The storage client and the download against a real S3 server."""

import dataclasses
import hashlib
import os
import uuid
from functools import partial

import pytest
import requests

from app.clients.storage import Storage, StoredObject
from app.errors import Unavailable
from app.video.download import download
from app.video.ffmpeg import MediaFault

BODY = os.urandom(700_000)


@pytest.fixture
def storage(settings):
    return Storage(settings)


@pytest.fixture
def key():
    return f"uploads/{uuid.uuid4()}/video.mp4"


def upload(storage, key, body=BODY, size=None, **headers):
    url, wanted = storage.presign_put(key, "video/mp4", size, 60)
    return requests.put(url, data=body, headers=wanted | headers, timeout=10)


def test_an_upload_comes_back_by_its_download(storage, key, tmp_path):
    assert storage.head(key) is None
    assert upload(storage, key, size=len(BODY)).status_code == 200
    assert storage.head(key) == StoredObject(len(BODY), "video/mp4")

    path = tmp_path / "video"
    digest = download(storage.presign_get(key, 60), path, 10**6, lambda: None)
    assert digest == hashlib.sha256(BODY).hexdigest()
    assert path.read_bytes() == BODY


def test_an_upload_of_another_type_or_size_is_refused(storage, key):
    assert upload(storage, key, **{"Content-Type": "text/html"}).status_code == 403
    assert (
        upload(storage, key, body=BODY + b"more", size=len(BODY), **{"Content-Length": None}).status_code
        == 403
    )
    assert storage.head(key) is None


def test_a_signature_for_another_key_or_after_its_time_is_refused(storage, key):
    url, headers = storage.presign_put(key, "video/mp4", None, 60)
    other = url.replace(key, f"uploads/{uuid.uuid4()}/video.mp4")
    assert requests.put(other, data=BODY, headers=headers, timeout=10).status_code == 403
    assert (
        requests.put(url.replace("X-Amz-Expires=60", "X-Amz-Expires=600"), data=BODY, timeout=10).status_code
        == 403
    )


def test_the_encoding_an_upload_claims_does_not_change_its_bytes(storage, key, tmp_path):
    upload(storage, key, **{"Content-Encoding": "gzip"})
    digest = download(storage.presign_get(key, 60), tmp_path / "video", 10**6, lambda: None)
    assert digest == hashlib.sha256(BODY).hexdigest()


def test_a_download_is_capped(storage, key, tmp_path):
    upload(storage, key)
    path = tmp_path / "video"
    with pytest.raises(MediaFault, match="larger than"):
        download(storage.presign_get(key, 60), path, 300_000, lambda: None)
    assert path.stat().st_size <= 300_000


def test_an_object_that_is_not_there(storage, key, tmp_path):
    with pytest.raises(MediaFault, match="no file under its video_key"):
        download(storage.presign_get(key, 60), tmp_path / "video", 10**6, lambda: None)


def test_public_urls_lead_to_the_public_endpoint(settings):
    storage = Storage(dataclasses.replace(settings, s3_public_endpoint="https://videos.example.org"))
    assert storage.presign_get("k", 60).startswith("https://videos.example.org/")
    assert storage.presign_put("k", "video/mp4", None, 60)[0].startswith("https://videos.example.org/")
    assert storage.presign_get("k", 60, public=False).startswith(settings.s3_endpoint)


def test_the_bucket_is_put_into_the_path_or_the_host(settings):
    def url(style):
        changes = {"s3_addressing_style": style, "s3_public_endpoint": "https://s3.example.org"}
        return Storage(dataclasses.replace(settings, **changes)).presign_get("k", 60)

    assert url("path").startswith(f"https://s3.example.org/{settings.s3_bucket}/k?")
    assert url("virtual").startswith(f"https://{settings.s3_bucket}.s3.example.org/k?")


def test_the_bucket_is_made_once(settings):
    storage = Storage(dataclasses.replace(settings, s3_bucket=f"bucket-{uuid.uuid4()}"))
    with pytest.raises(Unavailable):
        storage.check()
    storage.ensure_bucket()
    storage.ensure_bucket()
    storage.check()


@pytest.mark.parametrize("call", ["head", "check", "ensure_bucket"])
def test_storage_out_of_reach_or_with_other_keys_is_unavailable(settings, call):
    arguments = ["k"] if call == "head" else []
    for changes in ({"s3_endpoint": "http://127.0.0.1:1"}, {"aws_secret_access_key": "another"}):
        with pytest.raises(Unavailable):
            getattr(Storage(dataclasses.replace(settings, **changes)), call)(*arguments)


def test_a_client_is_not_shared_across_a_fork(storage, key):
    assert storage.head(key) is None
    child = os.fork()
    if child == 0:
        # a shared connection would mix up its answers with the parent's
        os._exit(0 if all(storage.head(key) is None for _ in range(20)) else 1)
    assert all(storage.head(key) is None for _ in range(20))
    assert os.waitpid(child, 0)[1] == 0


@pytest.mark.parametrize("token", [None, "a session token of a role"])
@pytest.mark.parametrize("style", ["path", "virtual"])
@pytest.mark.parametrize(
    "endpoint",
    ["", "https://s3.example.org:8443", "http://s3.example.org/base", "https://S3.Example.org:443"],
)
def test_urls_are_signed_as_boto3_signs_them(settings, monkeypatch, endpoint, style, token):
    if token:
        monkeypatch.setenv("AWS_ACCESS_KEY_ID", "role's key")
        monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "role's secret")
        monkeypatch.setenv("AWS_SESSION_TOKEN", token)
        settings = dataclasses.replace(settings, aws_access_key_id="", aws_secret_access_key="")
    changes = {"s3_endpoint": endpoint, "s3_addressing_style": style, "s3_region": "eu-central-1"}
    storage = Storage(dataclasses.replace(settings, **changes))
    size = {"ContentType": "video/mp4", "ContentLength": 5}

    def signed(key, ours, operation, **params):
        boto3 = storage._inner.client.generate_presigned_url
        params = {"Bucket": settings.s3_bucket, "Key": key} | params
        for _ in range(3):  # the second may change between the two
            theirs = boto3(operation, Params=params, ExpiresIn=60)
            if (url := ours()) == theirs:
                return
        assert url == theirs

    for key in ("uploads/caf\u00e9 ~1/video.mp4", "a+b%20&c=d/'(e)'*!/\u7535.mp4"):
        signed(key, partial(storage.presign_get, key, 60), "get_object")
        signed(key, partial(storage.presign_delete, key, 60), "delete_object")
        signed(key, lambda key=key: storage.presign_put(key, "video/mp4", 5, 60)[0], "put_object", **size)
        part = {"PartNumber": 7, "UploadId": "a/b+c=~", "ContentLength": 5}
        ours = partial(storage.presign_part, key, part["UploadId"], 7, 5, 60)
        signed(key, lambda ours=ours: ours()[0], "upload_part", **part)


@pytest.mark.parametrize(
    ("environ", "changes"),
    [
        ({"AWS_EC2_METADATA_DISABLED": "true"}, {}),
        ({"AWS_PROFILE": "missing"}, {}),
        ({}, {"aws_access_key_id": "key"}),
    ],
)
def test_without_keys_nothing_can_be_signed(settings, monkeypatch, environ, changes):
    for name, value in environ.items():
        monkeypatch.setenv(name, value)
    storage = Storage(
        dataclasses.replace(settings, **{"aws_access_key_id": "", "aws_secret_access_key": ""} | changes)
    )
    with pytest.raises(Unavailable):
        storage.presign_get("k", 60)
    with pytest.raises(Unavailable):
        storage.presign_put("k", "video/mp4", None, 60)
