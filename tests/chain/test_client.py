import asyncio
import os
import socket
import subprocess
import sys
import time
from contextlib import suppress
from threading import Thread

import pytest

from app.clients.chain import CLOSE_SECONDS, Chain, ChainError, Neuron, _run
from tests.factories import miner


def test_block_and_neurons(node):
    assert Chain(node.url).read().block_number == 1000
    node.subnets[5].last_update[2] = 990
    reading = Chain(node.url).read(5)
    assert reading.block_number == 1000
    assert list(reading.neurons) == [
        Neuron(0, miner("validator").ss58_address, True, 0),
        Neuron(1, miner("one").ss58_address, False, 0),
        Neuron(2, miner("two").ss58_address, False, 990),
    ]
    assert node.key("Commitments", "CommitmentOf", 5) not in node.listed


def test_unknown_subnet(node):
    with pytest.raises(ChainError, match="There is no subnet 6"):
        Chain(node.url).read(6)


def test_unknown_network():
    with pytest.raises(ChainError, match="Unknown network 'fini'"):
        Chain("fini").read()


def test_nobody_listens():
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        with pytest.raises(ChainError, match="out of reach"):
            Chain(f"ws://127.0.0.1:{taken.getsockname()[1]}").read()


def test_silent_chain_is_given_up_in_time(node):
    node.silent = True
    began = time.monotonic()
    with pytest.raises(ChainError, match=r"did not answer within 0\.5 s"):
        Chain(node.url, read_timeout_seconds=0.5).read(5)
    assert time.monotonic() - began < 5


def test_reading_ends_in_time_wherever_it_is_given_up(node):
    """The SDK loses a cancellation that comes while its session opens, some milliseconds after the start."""
    Chain(node.url).read(5)
    for milliseconds in range(1, 40):
        began = time.monotonic()
        with suppress(ChainError):
            Chain(node.url, read_timeout_seconds=milliseconds / 1000).read(5)
        assert time.monotonic() - began < 2 * CLOSE_SECONDS + 2


def test_what_does_not_heed_its_cancellation_is_left_behind():
    async def deaf():
        while True:
            with suppress(asyncio.CancelledError):
                await asyncio.sleep(60)

    def run():
        with pytest.raises(TimeoutError):
            _run(deaf(), 0.1)

    thread = Thread(target=run, daemon=True)
    thread.start()
    thread.join(2 * CLOSE_SECONDS + 5)
    assert not thread.is_alive()


def test_chain_can_be_read_before_and_after_a_fork(node):
    chain = Chain(node.url)
    assert chain.read().block_number == 1000
    child = os.fork()
    if child == 0:
        os._exit(0 if chain.read().block_number == 1000 else 1)
    assert os.waitpid(child, 0)[1] == 0


def test_web_process_starts_without_the_sdk(settings):
    program = """
import sys
from app import create_app
from app.config import Settings
create_app(Settings(app_env="development", database_url="postgresql+psycopg2://u@localhost/x"))
sys.exit("bittensor" in sys.modules)
"""
    assert subprocess.run([sys.executable, "-c", program], check=False).returncode == 0
