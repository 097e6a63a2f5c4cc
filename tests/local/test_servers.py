"""The embedded servers: they keep their data, refuse strangers and die with their starter."""

import os
import subprocess
import sys
import time

import boto3
import psycopg2
import pytest
import redis
import requests
from botocore.config import Config

from app.local import process
from app.local.process import ServerError, free_ports, start_all, stop_all
from app.local.servers import Postgres, Seaweed, Valkey

STARTER = """
import sys, time
from pathlib import Path
from app.local.process import start_all
from app.local.servers import Postgres, Seaweed, Valkey

directory = Path(sys.argv[1])
start_all([Postgres(directory / "postgres"), Valkey(directory / "valkey"), Seaweed(directory / "seaweed")])
print("started", flush=True)
time.sleep(60)
"""


@pytest.fixture
def directory(services):
    """A directory that PostgreSQL's user can enter, beside those of the session's servers.

    Its path is what some program may not expect: commas, quotes, spaces, and too long for a socket.
    """
    name = f'Anne\'s "own", long {"x" * 100} {time.monotonic_ns()}'
    path = services["postgres"].directory.parent / name
    path.mkdir(mode=0o711)
    return path


@pytest.fixture
def run():
    """Starts services and stops them after the test."""
    started = []

    def start(*servers):
        started.extend(servers)
        start_all(servers)

    yield start
    stop_all(started)


def _s3(server):
    return boto3.client(
        "s3",
        endpoint_url=server.url,
        region_name="us-east-1",
        aws_access_key_id=server.access_key,
        aws_secret_access_key=server.password,
        config=Config(signature_version="s3v4", retries={"total_max_attempts": 1}),
    )


def _sql(server, statement):
    connection = psycopg2.connect(server.url)
    try:
        with connection, connection.cursor() as cursor:
            cursor.execute(statement)
            return cursor.fetchall() if cursor.description else None
    finally:
        connection.close()


@pytest.mark.parametrize("end", ["stop", "kill"])
def test_data_passwords_and_ports_outlive_the_servers(directory, run, end):
    def build():
        return [cls(directory / cls.__name__) for cls in (Postgres, Valkey, Seaweed)]

    postgres, valkey, seaweed = first = build()
    run(*first)
    _sql(postgres, "CREATE TABLE t AS SELECT 42 AS n")
    redis.Redis.from_url(valkey.url).set("n", 42)
    _s3(seaweed).create_bucket(Bucket="videos")
    _s3(seaweed).put_object(Bucket="videos", Key="n", Body=b"42")
    time.sleep(1.1)  # Valkey puts its log of writes on disk every second
    for server in first:
        getattr(server, end)()

    again = build()
    assert [(s.port, s.password) for s in again] == [(s.port, s.password) for s in first]
    run(*again)
    assert _sql(again[0], "SELECT n FROM t") == [(42,)]
    assert redis.Redis.from_url(again[1].url).get("n") == b"42"
    assert _s3(again[2]).get_object(Bucket="videos", Key="n")["Body"].read() == b"42"


def test_postgres_wants_its_password(postgres):
    with pytest.raises(psycopg2.OperationalError, match="password authentication failed"):
        psycopg2.connect(postgres.url.replace(postgres.password, "wrong"))


def test_valkey_wants_its_password(valkey):
    with pytest.raises(redis.AuthenticationError):
        redis.Redis.from_url(valkey.url.replace(valkey.password, "wrong")).ping()


def test_seaweed_verifies_presigned_urls_and_their_expiry(seaweed, settings):
    s3 = _s3(seaweed)
    s3.put_object(Bucket=settings.s3_bucket, Key="k", Body=b"data")

    def presigned(seconds):
        return s3.generate_presigned_url(
            "get_object", Params={"Bucket": settings.s3_bucket, "Key": "k"}, ExpiresIn=seconds
        )

    url, short = presigned(60), presigned(1)
    assert requests.get(url).content == b"data"
    assert requests.get(url.replace("/k?", "/other?")).status_code == 403
    assert requests.get(url.split("?")[0]).status_code == 403
    time.sleep(2)
    assert requests.get(short).status_code == 403


def test_postgres_never_runs_as_root(postgres):
    connection = psycopg2.connect(postgres.url)
    with connection.cursor() as cursor:
        cursor.execute("SELECT pg_backend_pid()")
        (pid,) = cursor.fetchone()
    owner = os.stat(f"/proc/{pid}").st_uid
    connection.close()
    assert owner != 0


def test_a_second_server_on_the_same_data_is_refused(directory, run, monkeypatch):
    monkeypatch.setattr(process, "STOP_SECONDS", 0.2)
    run(Valkey(directory / "valkey"))
    with pytest.raises(ServerError, match="already runs in"):
        Valkey(directory / "valkey").start()


def test_a_server_that_cannot_start_shows_the_end_of_its_log(directory, run):
    port = free_ports(1)[0]
    run(Valkey(directory / "first", port))
    with pytest.raises(ServerError, match=r"(?s)ended while starting.*Address already in use"):
        Valkey(directory / "second", port).start()


def test_one_that_fails_takes_the_others_down(directory, run):
    port = free_ports(1)[0]
    run(Valkey(directory / "first", port))
    valkey = Valkey(directory / "valkey")
    with pytest.raises(ServerError):
        start_all([valkey, Valkey(directory / "second", port)])
    with pytest.raises(redis.ConnectionError):
        redis.Redis.from_url(valkey.url).ping()


def test_servers_end_when_their_starter_is_killed(directory, run):
    starter = subprocess.Popen(
        [sys.executable, "-c", STARTER, directory], stdout=subprocess.PIPE, stdin=subprocess.PIPE, text=True
    )
    assert starter.stdout.readline() == "started\n"
    starter.kill()
    starter.communicate()
    # takes the data over as soon as the orphans have ended
    run(Postgres(directory / "postgres"), Valkey(directory / "valkey"), Seaweed(directory / "seaweed"))


def test_ctrl_c_in_a_terminal_does_not_reach_a_server(valkey):
    assert os.getsid(valkey.pid) != os.getsid(0)


def test_a_paused_server_accepts_and_does_not_answer(directory, run):
    server = Valkey(directory / "valkey")
    run(server)
    client = redis.Redis.from_url(server.url, socket_timeout=0.3, retry=None)
    assert client.ping()
    server.pause()
    with pytest.raises(redis.TimeoutError):
        client.ping()
    server.resume()
    assert client.ping()
