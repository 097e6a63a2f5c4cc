"""Attacks on validators: a backend, or whoever sits in front of it, that drips, swells or leads elsewhere."""

import gzip
import json
import resource
import threading
import zlib

import bittensor
import pytest

from tests.attacks.arena import ended_children
from tests.chain.node import ChainNode
from tests.chain.test_validator import Backend, start_command
from tests.clients.conftest import RawServer, drip
from tests.factories import miner

# more than the command may take, of which it needs some 250 MB by itself
BOMB_MIB = 700
MOST_BYTES = 512 * 1024**2
OK = b"HTTP/1.1 200 OK\r\nContent-Type: application/json\r\n"


def draw_drip(chance):
    name, first, piece = chance.choice(
        [
            ("head", b"HTTP/1.1 200 OK\r\n", b"X-Header: 1\r\n"),
            ("status line", b"HTTP/1.1 200 O", b"K"),
            ("body", OK + b"Content-Length: 100000\r\n\r\n{", b" "),
            ("body without a length", OK + b"\r\n{", b" "),
            ("chunks", OK + b"Transfer-Encoding: chunked\r\n\r\n", b"1\r\n \r\n"),
            ("chunk's size", OK + b"Transfer-Encoding: chunked\r\n\r\n", b"0"),
        ]
    )
    return f"drips in its {name}", tuple(drip(piece, first))


def swollen(bits):
    """BOMB_MIB of zeros, compressed: by gzip for 31 bits, by deflate for 15."""
    compressor = zlib.compressobj(1, wbits=bits)
    return b"".join(compressor.compress(bytes(1024**2)) for _ in range(BOMB_MIB)) + compressor.flush()


def draw_bomb(chance):
    name = chance.choice(["gzip", "deflate", "gzip in gzip"])
    bomb = swollen(15) if name == "deflate" else swollen(31)
    coding = name
    if name == "gzip in gzip":
        bomb, coding = gzip.compress(bomb, 1), "gzip, gzip"
    head = OK + f"Content-Encoding: {coding}\r\nContent-Length: {len(bomb)}\r\n\r\n".encode()
    return f"a bomb: {name}", (head, bomb)


def draw_redirect(chance, backend):
    code = chance.choice([301, 302, 303, 307, 308])
    location = chance.choice(
        [f"{backend.url}/v1/weights/latest", backend.url.removeprefix("http:") + "/v1/weights/latest"]
    )
    return f"redirects by {code}", (
        f"HTTP/1.1 {code} Elsewhere\r\nLocation: {location}\r\nContent-Length: 0\r\n\r\n".encode(),
    )


@pytest.fixture
def elsewhere():
    """A backend that publishes weights nobody should set."""
    backend = Backend()
    thread = threading.Thread(target=backend.server.serve_forever)
    thread.start()
    yield backend
    backend.server.shutdown()
    thread.join()
    backend.server.server_close()


def test_no_validator_sets_weights_of_elsewhere_or_is_held(settings, elsewhere, tmp_path, chance, attack):
    attacks = [draw_drip(chance), draw_bomb(chance), draw_redirect(chance, elsewhere)]
    homes = [tmp_path / str(number) for number in range(len(attacks))]
    wallets = [bittensor.Wallet("cold", "hot", str(home)) for home in homes]
    for wallet in wallets:
        wallet.create_new_hotkey(use_password=False, overwrite=True)
    hotkeys = [wallet.hotkey.ss58_address for wallet in wallets]
    started = []
    with ChainNode() as node:
        node.add_subnet(5, [*hotkeys, miner("one").ss58_address], validators=range(len(hotkeys)))
        try:
            for home, (name, answer) in zip(homes, attacks, strict=True):
                server = RawServer()
                server.answer(*answer)
                options = ("--hotkey-name", "hot", "--once")
                process = start_command(settings, node, home, server.url, *options)
                resource.prlimit(process.pid, resource.RLIMIT_DATA, (MOST_BYTES, MOST_BYTES))
                started.append((name, server, process))
            for name, _, process in started:
                with attack("14 validators", name, ended_children) as it:
                    said, complaint = process.communicate(timeout=120)
                    assert process.returncode == 1, complaint
                    it.outcome = json.loads(said)["event"]
                assert it.outcome in {"refused", "backend_unavailable"}, said
        finally:
            for _, server, process in started:
                server.close()
                process.kill()
        assert node.calls == []
