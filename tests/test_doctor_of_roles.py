"""The doctors of miners, validators and hosts of evaluators: what is wrong, and what to do about it.

tests/test_wheel.py has them find nothing, at a real backend.
"""

import json
import threading
from datetime import UTC, datetime, timedelta
from email.utils import format_datetime
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import bittensor
import pytest

from app.version import VERSION
from tests.chain.conftest import node as node
from tests.factories import miner

NOWHERE = "http://127.0.0.1:1"
QUOTA = {"limit": 4, "used": 1, "seconds_until_room": None}
HEALTH = {"status": "ok", "version": VERSION}


class Answers:
    """A server that gives `answers` (path -> status, body), and is `ahead` of the true time."""

    def __init__(self):
        self.answers = {"/health": (200, HEALTH)}
        self.ahead = timedelta()

    def start(self):
        answers = self

        class Handler(BaseHTTPRequestHandler):
            def answer(self):
                self.rfile.read(int(self.headers.get("Content-Length", 0)))
                status, body = answers.answers.get(self.path.partition("?")[0], (404, {"detail": "none"}))
                content = json.dumps(body).encode()
                self.send_response(status)
                self.send_header("Content-Length", str(len(content)))
                self.end_headers()
                self.wfile.write(content)

            do_GET = do_POST = answer

            def date_time_string(self, timestamp=None):
                return format_datetime(datetime.now(UTC) + answers.ahead, usegmt=True)

            def log_message(self, *args):
                pass

        self.server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.url = f"http://127.0.0.1:{self.server.server_port}"
        threading.Thread(target=self.server.serve_forever).start()
        return self


@pytest.fixture
def backend():
    backend = Answers().start()
    yield backend
    backend.server.shutdown()
    backend.server.server_close()


@pytest.fixture
def wallets(tmp_path, node):
    """The wallet `default`, whose hotkey is the validator of the chain's subnet."""
    wallet = bittensor.Wallet("default", "default", str(tmp_path))
    node.subnets[5].hotkeys[0] = wallet.create_new_hotkey(suppress=True).hotkey.ss58_address
    return tmp_path


@pytest.fixture
def examine(run_kibotos):
    """Runs `kibotos doctor --role … --json`: {check: finding}."""

    def examine(role, *options, **environ):
        result = run_kibotos("doctor", "--role", role, "--json", *map(str, options), **environ)
        findings = {finding["check"]: finding for finding in json.loads(result.stdout)}
        assert result.exit_code == int(not all(finding["ok"] for finding in findings.values()))
        return findings

    return examine


def reds(findings):
    """What is red, without what was left out for that."""
    return [name for name, each in findings.items() if not each["ok"] and each["advice"]]


def test_with_everything_down_the_backend_comes_first(examine):
    findings = examine("miner", "--api-url", NOWHERE, "--wallet-name", "none")
    assert reds(findings) == ["backend", "key"]
    assert findings["quota"]["detail"] == "not examined: first repair the backend"
    findings = examine("validator", "--api-url", NOWHERE, "--netuid", "5", "--network", "ws://127.0.0.1:1")
    assert reds(findings) == ["backend", "key", "chain"]
    findings = examine(
        "evaluator", "--api-url", NOWHERE, VLM_API_URL=f"{NOWHERE}/v1", EVALUATOR_TOKEN="e" * 32
    )
    assert reds(findings) == ["backend", "judge"]
    assert findings["token"]["detail"] == "not examined: first repair the backend"


def test_what_is_no_backend_is_told(examine, backend):
    backend.answers = {}
    assert "is no Kibotos backend" in examine("evaluator", "--api-url", backend.url)["backend"]["detail"]


@pytest.mark.parametrize(("seconds", "said"), [(30, "behind"), (-30, "ahead of")])
def test_a_wrong_clock_is_told_before_what_it_breaks(examine, backend, wallets, seconds, said):
    backend.ahead = timedelta(seconds=seconds)
    findings = examine(
        "miner", "--api-url", backend.url, "--wallet-name", "default", "--wallet-path", wallets
    )
    assert reds(findings) == ["clock"]
    assert f"s {said} the backend's" in findings["clock"]["detail"]
    assert "timedatectl" in findings["clock"]["advice"]
    assert findings["registration"]["detail"] == "not examined: first repair the clock"


def test_a_miner_without_uid_or_room_or_store(examine, backend, wallets, node):
    standing = {"uid": None, "submissions": QUOTA, "uploads": QUOTA}
    backend.answers |= {
        f"/v1/miners/{node.subnets[5].hotkeys[0]}/standing": (200, standing),
        "/v1/status": (200, {"registration_checked": True}),
        "/v1/upload/presign": (200, {"upload_url": f"{NOWHERE}/videos/x?signature=secret"}),
    }
    options = ("miner", "--api-url", backend.url, "--wallet-name", "default", "--wallet-path", wallets)
    findings = examine(*options)
    assert reds(findings) == ["registration", "uploads"]
    assert "btcli subnet register" in findings["registration"]["advice"]
    assert findings["uploads"]["detail"].startswith(f"{NOWHERE} is out of reach")
    standing |= {"uid": 7, "submissions": QUOTA | {"used": 4, "seconds_until_room": 90}}
    quota = examine(*options)["quota"]
    assert quota["ok"] and "4 of 4 submissions" in quota["detail"] and "in 90 s" in quota["advice"]


def test_a_validator_without_weights_permit_or_registration(examine, backend, wallets, node):
    node.subnets[5].permits[0] = False
    options = ("validator", "--api-url", backend.url, "--netuid", 5, "--network", node.url)
    options += ("--wallet-path", wallets, "--mirror-url", NOWHERE)
    findings = examine(*options)
    assert reds(findings) == ["mirror", "permit"]
    assert "has not computed any yet" in findings["weights"]["detail"]
    assert findings["chain"]["detail"].endswith("3 neurons in subnet 5")
    node.subnets[5].permits[0] = True
    node.subnets[5].last_update[0] = 990
    node.rate_limit = 100
    rate = examine(*options)["rate limit"]
    assert rate["ok"] and rate["detail"] == "weights were last set 10 blocks ago, and the limit is 100"
    assert "in 18 min" in rate["advice"]
    node.subnets[5].hotkeys[0] = miner("another").ss58_address
    findings = examine(*options)
    assert reds(findings) == ["mirror", "registration"]
    assert findings["permit"]["detail"] == "not examined: first repair the registration"


def test_a_token_that_is_refused(examine, backend):
    backend.answers["/v1/evaluate/fetch"] = (401, {"detail": "This token is not known."})
    findings = examine("evaluator", "--api-url", backend.url, EVALUATOR_TOKEN="e" * 32)
    assert reds(findings) == ["token", "judge"]
    assert findings["token"]["detail"] == "the backend says: This token is not known."
    assert "VLM_API_URL is not set" in findings["judge"]["detail"]


def test_options_of_another_role_are_refused(run_kibotos):
    result = run_kibotos("doctor", "--netuid", "5")
    assert result.exit_code == 2 and "--netuid is no option for --role server" in result.output
