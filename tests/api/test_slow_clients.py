"""Clients that send or read slowly, or do nothing at all, keep nobody out: `kibotos api` without a proxy."""

import random
import socket
from contextlib import ExitStack
from urllib.parse import urlsplit

import psycopg2
import pytest
import requests

from tests.api.conftest import running

CLIENTS_A_KIND = 50

HEAD = b"POST /v1/submissions HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\n"
SLOW = {
    "idle": b"",
    "slow headers": b"GET /health HTTP/1.1\r\nHost: localhost\r\nX-Slow: ",
    "slow bodies": HEAD + b"Content-Length: 1000\r\n\r\n{",
    "slow chunks": HEAD + b"Transfer-Encoding: chunked\r\n\r\n5\r\n{",
    "slow readers": b"GET /v1/prompts HTTP/1.1\r\nHost: localhost\r\n\r\n",
}


@pytest.fixture
def large_answer(database):
    """GET /v1/prompts answers with far more than the buffers of a connection hold."""
    with psycopg2.connect(database) as connection, connection.cursor() as cursor:
        cursor.execute(
            "INSERT INTO prompts (id, category, task, scenario)"
            " SELECT 'p-' || i, 'household', 'wash', repeat('x', 2000) FROM generate_series(1, 4000) i"
        )
    connection.close()


def connect(url, receive_buffer=None):
    parts = urlsplit(url)
    client = socket.socket()
    if receive_buffer:
        client.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, receive_buffer)
    client.settimeout(60)
    client.connect((parts.hostname, parts.port))
    return client


def test_two_hundred_slow_clients_keep_nobody_out(settings, large_answer, redis, tmp_path):
    chance = random.Random(12)
    with running(settings, tmp_path, web_workers=1, web_threads=4) as url, ExitStack() as stack:
        clients = []
        for kind, sent in SLOW.items():
            for _ in range(CLIENTS_A_KIND):
                client = stack.enter_context(connect(url, 4096 if kind == "slow readers" else None))
                client.sendall(sent)
                clients.append((kind, client))
        for _ in range(100):
            kind, client = chance.choice(clients)
            if kind == "slow readers":
                client.recv(10)
            elif kind != "idle":
                client.sendall(b"a")
            # far above what it takes, far under what a thread that is held would make it wait
            assert requests.get(f"{url}/health", timeout=5).ok


def test_a_slow_reader_gets_all_of_its_answer(settings, large_answer, redis, tmp_path):
    with running(settings, tmp_path, web_workers=1, web_threads=1) as url, connect(url, 4096) as client:
        client.sendall(b"GET /v1/prompts HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n")
        answer = bytearray(client.recv(1000))
        # the only thread is free again
        whole = requests.get(f"{url}/v1/prompts", timeout=30).content
        while part := client.recv(1 << 20):
            answer += part
    assert bytes(answer).partition(b"\r\n\r\n")[2] == whole
