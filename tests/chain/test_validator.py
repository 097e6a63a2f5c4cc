import gzip
import itertools
import json
import shutil
import socket
import subprocess
import sys
from datetime import UTC, datetime, timedelta
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from threading import Thread

import bittensor
import pytest
import requests
from werkzeug.serving import make_server

from app.clients.chain import Chain
from app.clients.wallet import WalletError, open_hotkey
from app.completion import service
from app.local.process import free_ports
from app.validator.loop import poll_once
from app.validator.memory import UnusableMemory
from app.validator.metrics import Metrics
from app.validator.record import RecordFile, UnusableRecord
from app.validator.weight_setter import WeightSetter, WrongWallet
from tests.clients.conftest import RawServer, drip
from tests.factories import make_cycle, make_result, miner
from tests.processes import environment

WEIGHTS = {"weights": {"1": 0.25, "2": 0.75}, "weights_u16": {"uids": [1, 2], "weights": [16384, 49151]}}


class Backend:
    """An HTTP server that gives `answer` (a dict) as the latest weights, with `status`."""

    def __init__(self):
        backend = self
        self.status = 200
        self.publish(1)

        class Handler(BaseHTTPRequestHandler):
            def do_GET(self):
                assert self.path == "/v1/weights/latest"
                self.send_response(backend.status)
                self.end_headers()
                self.wfile.write(json.dumps(backend.answer).encode())

            def log_message(self, *args):
                pass

        self.server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.url = f"http://127.0.0.1:{self.server.server_port}"

    def publish(self, cycle_id, **changes):
        self.answer = {"cycle_id": cycle_id, "created_at": datetime.now(UTC).isoformat()} | WEIGHTS | changes


@pytest.fixture
def backend():
    backend = Backend()
    thread = Thread(target=backend.server.serve_forever)
    thread.start()
    yield backend
    backend.server.shutdown()
    thread.join()
    backend.server.server_close()


@pytest.fixture
def wallets(tmp_path, node):
    """A directory with the wallet `cold` whose hotkey `hot` is the validator of the subnet."""
    wallet = bittensor.Wallet("cold", "hot", str(tmp_path))
    wallet.create_new_hotkey(use_password=False, overwrite=True)
    node.subnets[5].hotkeys[0] = wallet.hotkey.ss58_address
    return tmp_path


@pytest.fixture
def make_validator(node, backend, wallets):
    """Builds validators; each is what a restart of the one before would be."""

    def make(**changes):
        values = {
            "backend_url": backend.url,
            "chain": Chain(node.url, read_timeout_seconds=4),
            "netuid": 5,
            "hotkey": open_hotkey("cold", "hot", str(wallets)),
            "directory": wallets / "memory",
            "max_age": timedelta(hours=6),
        }
        return WeightSetter(**values | changes)

    return make


def test_weights_are_set_once_a_cycle_across_restarts(make_validator, node, backend):
    assert make_validator().step().name == "set"
    assert make_validator().step().name == "already_set"
    backend.publish(2, weights={"1": 1.0}, weights_u16={"uids": [1], "weights": [65535]})
    validator = make_validator()
    assert [validator.step().name, validator.step().name] == ["set", "already_set"]
    assert [call["signer"] for call in node.calls] == [node.subnets[5].hotkeys[0]] * 2
    # relative to the largest, as the chain wants them
    assert [(call["arguments"]["dests"], call["arguments"]["weights"]) for call in node.calls] == [
        ([1, 2], [21845, 65535]),
        ([1], [65535]),
    ]


def test_commit_reveal_is_followed(make_validator, node):
    node.commit_reveal = True
    assert make_validator().step().name == "set"
    assert [call["function"] for call in node.calls] == ["commit_timelocked_mechanism_weights"]


@pytest.mark.parametrize("fate", ["applied", "lost"])
def test_after_an_unknown_outcome_the_chain_is_looked_at_first(make_validator, node, fate):
    node.drop_on_submit = fate
    told = []
    assert make_validator(record=told.append).step().name == "outcome_unknown"
    node.drop_on_submit = None
    decision = make_validator(record=told.append).step()
    assert (decision.name, decision.settled) == ("set", True)
    assert len(node.calls) == 1
    again = [] if fate == "applied" else ["sending"]
    assert [each.event for each in told] == ["sending", "outcome_unknown", *again, "set"]
    assert bool(told[-1].extrinsic) is (fate == "lost")
    assert make_validator().step().name == "already_set"


def test_whenever_it_is_killed_what_was_set_is_told(make_validator, node):
    class Killed(BaseException):
        pass

    def killed_while_telling(entry):
        if entry.event == "set":
            raise Killed

    with pytest.raises(Killed):
        make_validator(record=killed_while_telling).step()
    told = []
    assert make_validator(record=told.append).step().name == "set"
    assert [each.event for each in told] == ["set"]
    assert len(node.calls) == 1


def test_the_record_goes_on_after_a_cut_and_in_a_new_file(make_validator, node, backend, tmp_path):
    file = tmp_path / "set.jsonl"
    file.write_text('{"cut": ')
    validator = make_validator(record=RecordFile(file))
    backend.publish(1, hotkeys={"1": node.subnets[5].hotkeys[1], "2": miner("gone").ss58_address})
    assert validator.step().name == "set"
    cut, *lines = file.read_text().splitlines()
    assert cut == '{"cut": '
    sending, done = map(json.loads, lines)
    assert (sending["event"], sending["weights_u16"]) == ("sending", {"uids": [1], "weights": [16384]})
    assert (done["event"], done["netuid"], done["cycle_id"]) == ("set", 5, 1)
    block, _ = done["extrinsic"]["id"].split("-")
    assert int(block) and done["extrinsic"]["block_hash"].startswith("0x")
    file.rename(tmp_path / "set.jsonl.1")
    backend.publish(2)
    validator.step()
    assert [json.loads(line)["cycle_id"] for line in file.read_text().splitlines()] == [2, 2]
    with pytest.raises(UnusableRecord, match="Name another file by --log-file"):
        RecordFile(tmp_path / "none" / "set.jsonl")


def test_rate_limit_is_waited_out(make_validator, node, backend):
    validator = make_validator()
    validator.step()
    node.rate_limit = 100
    backend.publish(2)
    decision = validator.step()
    assert decision.name == "not_set" and "the rate limit is 100 blocks" in decision.detail
    node.block += 100
    assert validator.step().name == "set"
    assert len(node.calls) == 2


def test_failed_dispatch_is_tried_again(make_validator, node):
    node.dispatch_error = "SettingWeightsTooFast"
    validator = make_validator()
    assert validator.step().name == "not_set"
    node.dispatch_error = None
    assert validator.step().name == "set"


def test_outages_are_ridden_out(make_validator, node, backend):
    validator = make_validator()
    backend.status = 503
    assert validator.step().name == "backend_unavailable"
    backend.status = 404
    assert validator.step().name == "no_weights_yet"
    backend.status = 200
    node.silent = True
    assert validator.step().name == "chain_unavailable"
    node.silent = False
    assert validator.step().name == "set"


def test_backend_that_is_gone(make_validator):
    assert make_validator(backend_url="http://127.0.0.1:1").step().name == "backend_unavailable"


@pytest.fixture
def raw():
    server = RawServer()
    yield server
    server.close()


def test_weights_of_elsewhere_are_not_set(make_validator, node, backend, raw):
    raw.answer(b"HTTP/1.1 302 Found\r\nLocation: %s/v1/weights/latest\r\n\r\n" % backend.url.encode())
    decision = make_validator(backend_url=raw.url).step()
    assert decision.name == "refused" and f"redirects to {backend.url}," in decision.detail
    assert node.calls == []


def test_a_bomb_is_not_unpacked(make_validator, raw):
    bomb = gzip.compress(bytes(100_000_000))
    raw.answer(b"HTTP/1.1 200 OK\r\nContent-Encoding: gzip\r\nContent-Length: %d\r\n\r\n" % len(bomb), bomb)
    decision = make_validator(backend_url=raw.url).step()
    assert decision.name == "backend_unavailable" and "larger than 8388608 bytes" in decision.detail


def test_a_drip_does_not_hold_it(make_validator, raw):
    raw.answers.append(drip(b"X-Header: 1\r\n", b"HTTP/1.1 200 OK\r\n"))
    decision = make_validator(backend_url=raw.url, backend_seconds=0.5).step()
    assert decision.name == "backend_unavailable" and "takes too long" in decision.detail


def test_weights_of_too_many_uids_are_refused(make_validator, backend):
    backend.publish(1, weights_u16={"uids": [1] * 65537, "weights": [1] * 65537})
    decision = make_validator().step()
    assert decision.name == "refused" and "malformed" in decision.detail


@pytest.mark.parametrize(
    ("changes", "sentence"),
    [
        ({"created_at": "2020-01-01T00:00:00Z"}, "too old"),
        ({"weights": {"1": 0.25, "2": 0.7}}, "not to 1"),
        (
            {"weights": {"1": 0.25, "9": 0.75}, "weights_u16": {"uids": [1, 9], "weights": [16384, 49151]}},
            "[9]",
        ),
        ({"weights": "all"}, "malformed"),
        ({"cycle_id": "one"}, "malformed"),
    ],
)
def test_unsound_weights_are_refused(make_validator, node, backend, changes, sentence):
    backend.publish(**{"cycle_id": 1} | changes)
    decision = make_validator().step()
    assert decision.name == "refused" and sentence in decision.detail
    assert node.calls == []


def test_older_weights_than_those_set_are_refused(make_validator, backend):
    validator = make_validator()
    validator.step()
    backend.publish(1, created_at=(datetime.now(UTC) - timedelta(hours=1)).isoformat())
    decision = validator.step()
    assert decision.name == "refused" and "were set before; these are older" in decision.detail


def test_a_backend_that_begins_to_count_anew_is_followed(make_validator, node, backend):
    backend.publish(8)
    validator = make_validator()
    validator.step()
    for cycle_id in (1, 8):
        backend.publish(cycle_id)
        assert [validator.step().name, validator.step().name] == ["set", "already_set"]
    assert len(node.calls) == 3


def test_weights_that_are_set_stay_so_when_they_have_become_stale(make_validator):
    make_validator().step()
    later = make_validator(clock=lambda: datetime.now(UTC) + timedelta(days=1))
    assert later.step().name == "already_set"


def test_uid_that_changed_hands_is_left_out(make_validator, node, backend):
    backend.publish(1, hotkeys={"1": miner("one").ss58_address, "2": miner("two").ss58_address})
    node.subnets[5].hotkeys[2] = miner("newcomer").ss58_address
    decision = make_validator().step()
    assert decision.name == "set" and "without uids that other hotkeys now hold: [2]" in decision.detail
    assert [call["arguments"]["dests"] for call in node.calls] == [[1]]


def test_weights_of_nobody_who_is_left_are_refused(make_validator, node, backend):
    backend.publish(1, hotkeys={"1": miner("former").ss58_address, "2": miner("former too").ss58_address})
    decision = make_validator().step()
    assert decision.name == "refused" and "[1, 2]" in decision.detail
    assert node.calls == []


def test_late_arrival_of_an_earlier_submission_does_not_pass_for_that_of_a_refused_one(
    make_validator, node, backend
):
    node.drop_on_submit = "lost"
    assert make_validator().step().name == "outcome_unknown"
    node.drop_on_submit, node.dispatch_error = None, "SettingWeightsTooFast"
    backend.publish(2)
    assert make_validator().step().name == "not_set"
    node.subnets[5].last_update[0], node.dispatch_error = node.block, None
    assert make_validator().step().detail == "Set the weights of 2 uids."
    assert len(node.calls) == 2


def test_one_validator_at_a_time(make_validator):
    running = make_validator()
    with pytest.raises(UnusableMemory, match="Another validator uses"):
        make_validator()
    assert make_validator(dry_run=True).step().name == "dry_run"
    assert running.step().name == "set"
    del running
    assert make_validator().step().name == "already_set"


def test_what_cannot_be_remembered_is_not_sent_and_does_not_end_the_polling(make_validator, node):
    validator = make_validator()
    shutil.rmtree(validator.directory)
    assert poll_once(validator, Metrics()).name == "failed"
    assert node.calls == []
    validator.directory.mkdir()
    assert poll_once(validator, Metrics()).name == "set"


def test_without_permit_nothing_is_sent(make_validator, node):
    node.subnets[5].permits[0] = False
    assert make_validator().step().name == "no_permit"
    assert node.calls == []


def test_dry_run_sends_and_remembers_nothing(make_validator, node):
    assert make_validator(dry_run=True).step().name == "dry_run"
    assert node.calls == []
    assert make_validator().step().name == "set"


def test_unregistered_hotkey(make_validator, node):
    node.subnets[5].hotkeys[0] = miner("another").ss58_address
    with pytest.raises(WrongWallet, match="not registered on subnet 5"):
        make_validator().step()


def test_missing_and_broken_wallets(wallets):
    with pytest.raises(WalletError, match="hotkey warm of the wallet cold cannot be used"):
        open_hotkey("cold", "warm", str(wallets))
    (wallets / "cold" / "hotkeys" / "hot").write_text("nonsense")
    with pytest.raises(WalletError, match="cannot be used"):
        open_hotkey("cold", "hot", str(wallets))


def test_foreign_file_as_memory(make_validator):
    make_validator().step()
    (file,) = make_validator().directory.glob("*.json")
    file.write_text("[]")
    with pytest.raises(UnusableMemory, match="move it away"):
        make_validator()


def test_no_directory_for_the_memory(make_validator, tmp_path):
    (tmp_path / "file").touch()
    with pytest.raises(UnusableMemory, match="cannot be used: File exists"):
        make_validator(directory=tmp_path / "file")


def start_command(settings, node, wallets, url, *options):
    arguments = [
        *("--backend-url", url, "--netuid", "5", "--network", node.url, "--wallet-name", "cold"),
        *("--wallet-path", wallets, "--state-dir", wallets / "memory", *options),
    ]
    environ = environment(settings) | {
        "BITTENSOR_RUNTIME_CACHE_DIR": str(wallets),
        "BTCLI_TOKEN_SYMBOLS_CACHE": str(wallets / "symbols.json"),
        "LOG_FORMAT": "json",
        "NOTIFY_SOCKET": str(wallets / "notify"),
    }
    return subprocess.Popen(
        [sys.executable, "-m", "cli", "validate", *arguments],
        env=environ,
        cwd=wallets,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )


def run_command(settings, node, wallets, url, *options):
    """Run the command once; return its exit code and what it wrote to stdout and stderr."""
    with start_command(settings, node, wallets, url, "--once", *options) as process:
        output = process.communicate(timeout=60)
    return process.returncode, *output


def test_command_polls_and_logs_each_decision_in_a_line(settings, node, wallets, backend):
    """It also writes its record, serves metrics, and tells systemd that it goes on."""
    backend.status = 404
    (port,) = free_ports(1)
    options = ("--hotkey-name", "hot", "--poll-interval", "1", "--metrics-port", str(port))
    options += ("--log-file", str(wallets / "set.jsonl"))
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as systemd:
        systemd.bind(str(wallets / "notify"))
        systemd.settimeout(60)
        process = start_command(settings, node, wallets, backend.url, *options)
        try:
            lines = (json.loads(line) for line in process.stdout)
            assert next(lines)["event"] == "no_weights_yet"
            heard = [systemd.recv(100)]
            backend.status = 200
            decisions = list(itertools.takewhile(lambda line: line["event"] != "already_set", lines))
            heard.append(systemd.recv(100))
            metrics = requests.get(f"http://127.0.0.1:{port}/metrics", timeout=5).text
        finally:
            process.kill()
            process.communicate()
    assert [line["event"] for line in decisions if line["event"] != "no_weights_yet"] == ["set"]
    assert (decisions[-1]["cycle_id"], decisions[-1]["detail"]) == (1, "Set the weights of 2 uids.")
    assert heard == [b"READY=1", b"WATCHDOG=1"]
    assert 'kibotos_validator_polls_total{decision="set"} 1.0' in metrics
    assert "kibotos_validator_last_set_cycle 1.0" in metrics and "kibotos_validator_settled 1.0" in metrics
    record = [json.loads(line) for line in (wallets / "set.jsonl").read_text().splitlines()]
    assert [entry["event"] for entry in record] == ["sending", "set"]


def test_command_of_a_hotkey_that_is_not_registered(settings, node, wallets, backend):
    node.subnets[5].hotkeys[0] = miner("another").ss58_address
    returncode, _, errors = run_command(settings, node, wallets, backend.url, "--hotkey-name", "hot")
    assert returncode == 1
    assert "is not registered on subnet 5" in errors


def test_command_sets_what_the_real_backend_publishes(app, settings, node, wallets):
    with app.app_context():
        make_cycle("EVALUATING")
        make_result(0.5, cycle_id=1, miner_uid=1, miner_hotkey=miner("one").ss58_address)
        make_result(0.3, cycle_id=1, miner_uid=2, miner_hotkey=miner("two").ss58_address)
        service.tick(settings, Chain(node.url))
    server = make_server("127.0.0.1", 0, app, threaded=True)
    thread = Thread(target=server.serve_forever)
    thread.start()
    try:
        url = f"http://127.0.0.1:{server.server_port}/"
        dry = run_command(settings, node, wallets, url, "--hotkey-name", "hot", "--dry-run")
        assert (dry[0], node.calls) == (0, [])
        done = run_command(settings, node, wallets, url, "--hotkey-name", "hot")
        assert done[0] == 0, done
        assert [call["arguments"]["weights"] for call in node.calls] == [[65535, 39321]]
        returncode, _, errors = run_command(settings, node, wallets, url, "--hotkey-name", "warm")
        assert returncode == 1
        assert "Error: The hotkey warm of the wallet cold cannot be used" in errors
    finally:
        server.shutdown()
        thread.join()
        server.server_close()
