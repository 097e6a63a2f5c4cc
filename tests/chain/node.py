"""A node that speaks the chain's JSON-RPC over a websocket, for the unmodified SDK to talk to.

It serves real runtime metadata, so the SDK encodes, signs and decodes exactly as it does against the real
chain; keys, values, calls and events go over the wire in SCALE. Of the chain's rules it has those that
setting weights meets: registration, the rate limit, failing dispatches.
"""

import asyncio
import json
import lzma
from dataclasses import dataclass, field
from hashlib import blake2b
from pathlib import Path
from threading import Thread
from typing import Any

import bittensor_core
from websockets.asyncio.server import ServerConnection, serve
from websockets.exceptions import ConnectionClosed

# The SDK reads SubnetEpochConsensus, which is newer than this runtime: an item of the same shape that nothing
# here reads lends its place.
METADATA = lzma.decompress(Path(__file__).with_name("metadata.scale.xz").read_bytes()).replace(
    b"PendingRootAlphaDivs", b"SubnetEpochConsensus"
)
SPEC_VERSION = 461
SUBTENSOR_ERRORS = {"SettingWeightsTooFast": 29, "NeuronNoValidatorPermit": 15}

DISPATCH_INFO = {"weight": {"ref_time": 1, "proof_size": 1}, "class": "Normal", "pays_fee": "No"}


@dataclass
class Subnet:
    hotkeys: list[str]
    permits: list[bool]
    last_update: list[int]


@dataclass
class ChainNode:
    """`with ChainNode() as node:` listens at `node.url`; a test changes the attributes at will."""

    block: int = 1000
    subnets: dict[int, Subnet] = field(default_factory=dict)
    commit_reveal: bool = False
    rate_limit: int = 0
    # name of the error that the next dispatches end in
    dispatch_error: str | None = None
    # connections are taken but nothing is answered
    silent: bool = False
    # a submitted extrinsic is "applied" or "lost", and the connection drops before anybody says so
    drop_on_submit: str | None = None
    # methods that end in an error, and its message
    errors: dict[str, str] = field(default_factory=dict)
    # the prefixes of keys that were listed, which may be thousands on the real chain
    listed: set[str] = field(default_factory=set)
    # calls dispatched, as decoded, with the address of their signer
    calls: list[dict[str, Any]] = field(default_factory=list)

    def __post_init__(self):
        self._runtime = bittensor_core.Runtime(METADATA, SPEC_VERSION, 1, 42)
        self._extrinsics: dict[int, str] = {}
        self._events: dict[int, list] = {}

    def __enter__(self):
        self._loop = asyncio.new_event_loop()
        self._thread = Thread(target=self._loop.run_forever)
        self._thread.start()
        self._server = self._run(self._listen())
        self.url = f"ws://127.0.0.1:{self._server.sockets[0].getsockname()[1]}"
        return self

    def __exit__(self, *exc_info):
        self._run(self._stop())
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join()
        self._loop.close()

    def add_subnet(self, netuid: int, hotkeys: list[str], validators: tuple[int, ...] = ()) -> Subnet:
        """Register `hotkeys` as uids 0, 1, …; the uids in `validators` may set weights."""
        permits = [uid in validators for uid in range(len(hotkeys))]
        self.subnets[netuid] = Subnet(hotkeys, permits, [0] * len(hotkeys))
        return self.subnets[netuid]

    def _run(self, coroutine):
        return asyncio.run_coroutine_threadsafe(coroutine, self._loop).result(10)

    async def _listen(self):
        return await serve(self._serve, "127.0.0.1", 0, close_timeout=1)

    async def _stop(self):
        self._server.close()
        await self._server.wait_closed()

    async def _serve(self, connection: ServerConnection) -> None:
        try:
            async for message in connection:
                frame = json.loads(message)
                for request in frame if isinstance(frame, list) else [frame]:
                    await self._answer(connection, request)
        except ConnectionClosed:
            pass

    async def _answer(self, connection: ServerConnection, request: dict) -> None:
        if self.silent:
            return
        method, params = request["method"], request["params"]
        if method in self.errors:
            error = {"code": -32000, "message": self.errors[method]}
            await connection.send(json.dumps({"jsonrpc": "2.0", "id": request["id"], "error": error}))
            return
        if method == "author_submitAndWatchExtrinsic" and self.drop_on_submit:
            if self.drop_on_submit == "applied":
                self._include(params[0])
            connection.transport.abort()
            return
        result = getattr(self, f"_{method}")(*params)
        await connection.send(json.dumps({"jsonrpc": "2.0", "id": request["id"], "result": result}))
        if method == "author_submitAndWatchExtrinsic":
            update = {"subscription": result, "result": {"finalized": _hash(self.block)}}
            await connection.send(
                json.dumps({"jsonrpc": "2.0", "method": "author_extrinsicUpdate", "params": update})
            )

    # the RPC methods that the SDK calls, under their own names

    def _chain_getHead(self):
        return _hash(self.block)

    _chain_getFinalizedHead = _chain_getHead

    def _chain_getBlockHash(self, number):
        return _hash(number)

    def _chain_getHeader(self, hash=None):
        number = self.block if hash is None else _number(hash)
        root = "0x" + "00" * 32
        return {
            "number": hex(number),
            "parentHash": _hash(number - 1),
            "stateRoot": root,
            "extrinsicsRoot": root,
            "digest": {"logs": []},
        }

    def _chain_getBlock(self, hash):
        extrinsic = self._extrinsics.get(_number(hash))
        extrinsics = [] if extrinsic is None else [extrinsic]
        return {"block": {"header": self._chain_getHeader(hash), "extrinsics": extrinsics}}

    def _state_getRuntimeVersion(self, hash=None):
        return {"specName": "node-subtensor", "specVersion": SPEC_VERSION, "transactionVersion": 1}

    def _state_call(self, function, data, hash=None):
        if function == "Metadata_metadata_at_version":
            return "0x01" + (self._runtime.encode("Compact", len(METADATA)) + METADATA).hex()
        api, method = function.split("_", 1)
        encode = getattr(self, f"_{method}")
        output = self._runtime.runtime_api_map()[api][method]["output"]
        return "0x" + encode(output, bytes.fromhex(data.removeprefix("0x"))).hex()

    def _state_getStorageAt(self, key, hash=None):
        value = self._storage(self.block if hash is None else _number(hash)).get(key)
        return None if value is None else "0x" + value.hex()

    def _state_queryStorageAt(self, keys, hash=None):
        return [{"block": hash, "changes": [[key, self._state_getStorageAt(key, hash)] for key in keys]}]

    def _state_getKeysPaged(self, prefix, count, start=None, hash=None):
        self.listed.add(prefix)
        return []

    def key(self, pallet: str, name: str, *params: Any) -> str:
        """The key under which the chain stores this item."""
        return "0x" + bytes(self._runtime.storage_key(pallet, name, list(params))).hex()

    def _account_nextIndex(self, address):
        return len(self.calls)

    def _author_submitAndWatchExtrinsic(self, extrinsic):
        return self._include(extrinsic)

    def _author_unwatchExtrinsic(self, subscription):
        return True

    # what stands behind them

    def _get_metagraph(self, output: str, data: bytes) -> bytes:
        netuid = int.from_bytes(data, "little")
        subnet = self.subnets.get(netuid)
        if subnet is None:
            return b"\x00"
        # zeros decode to a record that has every field the runtime knows
        record = self._runtime.decode(output, b"\x01" + bytes(4096), False)
        size = len(subnet.hotkeys)
        record |= {
            "netuid": netuid,
            "block": self.block,
            "tempo": 360,
            "num_uids": size,
            "hotkeys": subnet.hotkeys,
            "coldkeys": subnet.hotkeys,
            "active": [True] * size,
            "validator_permit": subnet.permits,
            "last_update": subnet.last_update,
        }
        return self._runtime.encode(output, record)

    def _query_info(self, output: str, data: bytes) -> bytes:
        return self._runtime.encode(output, {**DISPATCH_INFO, "partial_fee": 0})

    def _storage(self, block: int) -> dict[str, bytes]:
        values = {("System", "Events", ()): self._events.get(block, [])}
        for netuid, subnet in self.subnets.items():
            for name, value in {
                "LastUpdate": subnet.last_update,
                "ValidatorPermit": subnet.permits,
                "CommitRevealWeightsEnabled": self.commit_reveal,
                "WeightsSetRateLimit": self.rate_limit,
                "MinAllowedWeights": 1,
            }.items():
                values["SubtensorModule", name, (netuid,)] = value
            for uid, hotkey in enumerate(subnet.hotkeys):
                values["SubtensorModule", "Uids", (netuid, hotkey)] = uid
        storage = {}
        for (pallet, name, params), value in values.items():
            key = self.key(pallet, name, *params)
            storage[key] = self._runtime.encode(self._runtime.storage_entry(pallet, name).value_type, value)
        return storage

    def _include(self, extrinsic: str) -> str:
        """Put the extrinsic into a new block, dispatch its call and return its hash."""
        data = bytes.fromhex(extrinsic.removeprefix("0x"))
        decoded = self._runtime.decode_extrinsic(data, True)
        self.block += 1
        self._extrinsics[self.block] = extrinsic
        call = decoded["call"]
        arguments = {argument["name"]: argument["value"] for argument in call["call_args"]}
        self.calls.append(
            {"function": call["call_function"], "signer": decoded["address"], "arguments": arguments}
        )
        if self.dispatch_error is None:
            subnet = self.subnets[arguments["netuid"]]
            subnet.last_update[subnet.hotkeys.index(decoded["address"])] = self.block
            event = {"ExtrinsicSuccess": {"dispatch_info": DISPATCH_INFO}}
        else:
            index = SUBTENSOR_ERRORS[self.dispatch_error]
            error = {"Module": {"index": 7, "error": "0x" + bytes([index, 0, 0, 0]).hex()}}
            event = {"ExtrinsicFailed": {"dispatch_error": error, "dispatch_info": DISPATCH_INFO}}
        self._events[self.block] = [
            {"phase": {"ApplyExtrinsic": 0}, "event": {"System": event}, "topics": []}
        ]
        return "0x" + blake2b(data, digest_size=32).hexdigest()


def _hash(number: int) -> str:
    return f"0x{(1 << 255) + number:064x}"


def _number(hash: str) -> int:
    return int(hash, 16) - (1 << 255)
