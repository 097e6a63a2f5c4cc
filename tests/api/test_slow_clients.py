"""Clients that send or read slowly, or do nothing at all, keep nobody out: `kibotos api` without a proxy."""

import random
from contextlib import ExitStack

import psycopg2
import pytest
import requests

from tests.api.conftest import running
from tests.slow_clients import connect, connect_all, dawdle


@pytest.fixture
def large_answer(database):
    """GET /v1/prompts answers with far more than the buffers of a connection hold."""
    with psycopg2.connect(database) as connection, connection.cursor() as cursor:
        cursor.execute(
            "INSERT INTO prompts (id, category, task, scenario)"
            " SELECT 'p-' || i, 'household', 'wash', repeat('x', 2000) FROM generate_series(1, 4000) i"
        )
    connection.close()


def test_two_hundred_slow_clients_keep_nobody_out(settings, large_answer, redis, tmp_path):
    chance = random.Random(12)
    with running(settings, tmp_path, web_workers=1, web_threads=4) as url, ExitStack() as stack:
        clients = connect_all(url, stack)
        for _ in range(100):
            dawdle(*chance.choice(clients))
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
