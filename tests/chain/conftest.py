import pytest

from tests.chain.node import ChainNode
from tests.factories import miner


@pytest.fixture
def node(tmp_path, monkeypatch):
    """A chain whose subnet 5 has a validator (uid 0) and two miners; the SDK's caches go with the test."""
    monkeypatch.setenv("BITTENSOR_RUNTIME_CACHE_DIR", str(tmp_path / "metadata"))
    monkeypatch.setenv("BTCLI_TOKEN_SYMBOLS_CACHE", str(tmp_path / "symbols.json"))
    with ChainNode() as node:
        hotkeys = [miner(name).ss58_address for name in ("validator", "one", "two")]
        node.add_subnet(5, hotkeys, validators=(0,))
        yield node
