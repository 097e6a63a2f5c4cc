"""`kibotos storage init` against SeaweedFS, and against stores that offer less."""

import dataclasses
import json
import uuid

import pytest
import requests

from app.clients.storage import Storage
from app.storage.bucket import make_policy
from tests.clients.conftest import RawServer
from tests.clients.test_storage_faults import answer, error
from tests.processes import environment


@pytest.fixture
def init(run_kibotos, settings):
    """Runs `kibotos storage init` for a new bucket: its result; `init.client` speaks to the store."""
    changed = dataclasses.replace(settings, s3_bucket=f"bucket-{uuid.uuid4()}")

    def run(*options, **changes):
        return run_kibotos("storage", "init", *options, **environment(changed, **changes))

    run.client, run.bucket = Storage(changed).client, changed.s3_bucket
    return run


def test_it_makes_the_bucket_and_its_rules_and_prints_the_policy(init):
    result = init("--origin", "https://a.example", "--origin", "https://b.example")
    assert result.exit_code == 0, result.output
    assert json.loads(result.stdout) == make_policy(init.bucket, "us-east-1")
    assert f"Bucket {init.bucket}: created." in result.stderr
    (cors,) = init.client.get_bucket_cors(Bucket=init.bucket)["CORSRules"]
    assert cors["AllowedOrigins"] == ["https://a.example", "https://b.example"]
    assert "PUT" in cors["AllowedMethods"]
    rules = init.client.get_bucket_lifecycle_configuration(Bucket=init.bucket)["Rules"]
    abort = {"DaysAfterInitiation": 1}
    assert [(rule["Filter"]["Prefix"], rule.get("AbortIncompleteMultipartUpload")) for rule in rules] == [
        ("uploads/", abort),
        ("releases/", abort),
        ("sheets/", None),
    ]
    # a day later than the scheduler
    assert rules[2]["Expiration"] == {"Days": 31}


def test_the_rule_of_older_releases_that_deletes_what_was_accepted_is_removed(init):
    assert init().exit_code == 0
    old = {
        "ID": "kibotos-expire-uploads",
        "Status": "Enabled",
        "Filter": {"Prefix": "uploads/"},
        "Expiration": {"Days": 180},
    }
    for others in ([], [old | {"ID": "theirs", "Filter": {"Prefix": "x/"}}]):
        init.client.put_bucket_lifecycle_configuration(
            Bucket=init.bucket, LifecycleConfiguration={"Rules": [old, *others]}
        )
        assert init().exit_code == 0
        rules = init.client.get_bucket_lifecycle_configuration(Bucket=init.bucket)["Rules"]
        assert old["ID"] not in {rule["ID"] for rule in rules}
        assert len(rules) == 3 + len(others)


def test_twice_is_harmless_and_rules_of_others_stay(init):
    assert init().exit_code == 0
    theirs = {"ID": "theirs", "Status": "Enabled", "Filter": {"Prefix": "x/"}, "Expiration": {"Days": 3}}
    init.client.put_bucket_lifecycle_configuration(
        Bucket=init.bucket, LifecycleConfiguration={"Rules": [theirs]}
    )
    cors = {"ID": "theirs", "AllowedMethods": ["GET"], "AllowedOrigins": ["https://theirs.example"]}
    init.client.put_bucket_cors(Bucket=init.bucket, CORSConfiguration={"CORSRules": [cors]})
    for _ in range(2):
        result = init()
        assert result.exit_code == 0, result.output
        assert "is there already" in result.stderr
    rules = init.client.get_bucket_lifecycle_configuration(Bucket=init.bucket)["Rules"]
    assert [rule["ID"] for rule in rules] == [
        "theirs",
        "kibotos-abort-incomplete-uploads",
        "kibotos-abort-incomplete-releases",
        "kibotos-expire-contact-sheets",
    ]
    rules = init.client.get_bucket_cors(Bucket=init.bucket)["CORSRules"]
    assert [rule["ID"] for rule in rules] == ["theirs", "kibotos-uploads"]


@pytest.mark.parametrize("apart", [False, True])
def test_the_mirror_is_all_that_anyone_may_read(init, settings, apart):
    """Asked as a stranger asks: without a signature."""
    mirror = f"mirror-{uuid.uuid4()}" if apart else init.bucket
    assert init().exit_code == 0
    theirs = {"Sid": "theirs", "Effect": "Deny", "Principal": "*", "Action": "s3:GetObject"}
    theirs["Resource"] = f"arn:aws:s3:::{init.bucket}/x/*"
    policy = {"Version": "2012-10-17", "Statement": theirs}
    init.client.put_bucket_policy(Bucket=init.bucket, Policy=json.dumps(policy))
    for _ in range(2):
        result = init(mirror_bucket=mirror)
        assert result.exit_code == 0, result.output
        assert "Policy that lets anyone read the mirror: set." in result.stderr
    assert json.loads(result.stdout) == make_policy(init.bucket, "us-east-1", mirror)
    for bucket in {init.bucket, mirror}:
        for key in ("public/v1/weights/latest", "uploads/1/video.mp4", "ledgers/1", "publicity", "x"):
            init.client.put_object(Bucket=bucket, Key=key, Body=b"content")

    def ask(method, path):
        return requests.request(method, f"{settings.s3_endpoint}/{path}", timeout=10).status_code

    assert ask("GET", f"{mirror}/public/v1/weights/latest") == 200
    closed = [f"{mirror}/uploads/1/video.mp4", f"{mirror}/ledgers/1", f"{mirror}/publicity", f"{mirror}/x"]
    closed += [
        mirror,
        f"{mirror}/",
        f"{mirror}/?list-type=2&prefix=public/",
        f"{mirror}/?policy",
        init.bucket,
    ]
    closed += [f"{init.bucket}/public/v1/weights/latest"] if apart else []
    assert [ask("GET", path) for path in closed] == [403] * len(closed)
    assert ask("PUT", f"{mirror}/public/v1/weights/latest") == ask("DELETE", f"{mirror}/public/x") == 403
    kept = json.loads(init.client.get_bucket_policy(Bucket=init.bucket)["Policy"])["Statement"]
    assert [each["Sid"] for each in kept] == ["theirs"] + ["KibotosMirror"] * (not apart)


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        (
            {"aws_secret_access_key": "wrong"},
            "Error: Storage: AWS_SECRET_ACCESS_KEY does not belong to the access key",
        ),
        (
            {"s3_endpoint": "http://127.0.0.1:1"},
            "is out of reach: the connection failed (Connection",
        ),
        ({"s3_bucket": "No Bucket"}, "Error: "),
    ],
)
def test_what_is_wrong_is_told_in_a_sentence(init, changes, said):
    result = init(**changes)
    assert result.exit_code == 1
    assert said in result.stderr
    assert "Traceback" not in result.output


@pytest.fixture
def store():
    server = RawServer()
    yield server
    server.close()


@pytest.mark.parametrize(
    "refusal",
    [
        error(501, "NotImplemented", "A header you provided implies functionality that is not implemented"),
        error(405, "MethodNotAllowed", "The specified method is not allowed against this resource."),
        error(400, "MalformedXML", "The XML you provided was not well-formed"),
    ],
)
def test_what_a_store_does_not_offer_is_told_and_left_out(init, store, refusal):
    store.answer(answer(200, b"<ListBucketResult/>"))
    store.answer(refusal)
    result = init(s3_endpoint=store.url)
    assert result.exit_code == 0, result.output
    assert result.stderr.count("left out, since this store does not offer it") == 5
    assert json.loads(result.stdout)["Statement"]


def test_a_key_that_may_not_is_told_what_it_lacks(init, store):
    store.answer(answer(200, b"<ListBucketResult/>"))
    store.answer(error(403, "AccessDenied", "Access Denied"))
    result = init(s3_endpoint=store.url)
    assert result.exit_code == 1
    assert "Give it s3:GetBucketCORS" in result.stderr


def test_a_bucket_of_somebody_else_is_told(init, store):
    store.answer(error(404, "NoSuchBucket"))
    store.answer(answer(404, b""))
    store.answer(error(409, "BucketAlreadyExists", "The requested bucket name is not available."))
    result = init(s3_endpoint=store.url)
    assert result.exit_code == 1
    assert "is somebody else's. Choose another S3_BUCKET." in result.stderr


@pytest.mark.parametrize(
    ("region", "partition"),
    [("eu-central-1", "aws"), ("cn-north-1", "aws-cn"), ("us-gov-west-1", "aws-us-gov")],
)
def test_the_policy_names_the_partition_and_nothing_but_the_bucket(region, partition):
    policy = make_policy("videos", region)
    resources = []
    for statement in policy["Statement"]:
        given = statement["Resource"]
        resources += [given] if isinstance(given, str) else given
    assert all(resource.startswith(f"arn:{partition}:s3:::videos") for resource in resources)
    assert "*" not in json.dumps([statement["Action"] for statement in policy["Statement"]])
