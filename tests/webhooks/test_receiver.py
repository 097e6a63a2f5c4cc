"""The receiver of docs/miners.md, run as it stands there; and a miner's commands."""

import os
import re
import subprocess
import sys

import bittensor
import pytest

from app.db import db
from app.local.process import free_ports
from app.webhooks import delivery, service
from app.webhooks.events import Evaluated
from tests.documents import ROOT
from tests.factories import make_result
from tests.processes import eventually
from tests.webhooks.conftest import execute, states

(EXAMPLE,) = [
    block
    for block in re.findall(r"^```python\n(.*?)^```", (ROOT / "docs/miners.md").read_text(), re.M | re.S)
    if "standardwebhooks" in block
]


@pytest.fixture
def receive(tmp_path):
    """Runs the example with a secret: gives its address and its log."""
    started = []

    def start(secret, port):
        log = tmp_path / f"receiver-{len(started)}.log"
        environ = os.environ | {"WEBHOOK_SECRET": secret, "PORT": str(port)}
        with log.open("w") as output:
            started.append(
                subprocess.Popen([sys.executable, "-c", EXAMPLE], env=environ, stdout=output, stderr=output)
            )
        return log

    yield start
    for process in started:
        process.kill()
        process.wait()


def test_the_example_is_short():
    assert len([line for line in EXAMPLE.splitlines() if line]) <= 15


def test_a_miner_registers_the_example_and_gets_his_events(
    app,
    serve,
    receive,
    run_kibotos,
    strangers,
    tmp_path,
):
    wallets = str(tmp_path / "wallets")
    hotkey = bittensor.Wallet("filmer", "default", wallets).create_new_hotkey(suppress=True).hotkey
    (port,) = free_ports(1)
    url = serve(webhook_allow_private=True)

    def run(*arguments):
        options = ("--wallet-name", "filmer", "--wallet-path", wallets, "--api-url", url)
        result = run_kibotos("miner", "webhook", *arguments, *options)
        assert result.exit_code == 0, result.output
        return result.output

    made = run("add", f"http://127.0.0.1:{port}/")
    uuid, secret = re.search(r"webhook:  (\S+)\nsecret:   (\S+)", made).groups()
    assert f"{uuid}  http://127.0.0.1:{port}/  well" in run("list")
    id = make_result(miner_hotkey=hotkey.ss58_address)
    service.record_submission(id, Evaluated(status="SCORED", final_score=0.8))
    db.session.commit()
    submission = execute("SELECT uuid FROM submissions")[0].uuid
    wrong = receive("whsec_" + "A" * 43 + "=", port)

    def failed_once():
        execute("UPDATE webhook_endpoints SET paused_until = NULL")
        execute("UPDATE webhook_deliveries SET not_before = now()")
        delivery.deliver_due(strangers, 0.1)
        return execute("SELECT 1 FROM webhook_attempts WHERE status = 401")

    eventually(failed_once)
    assert str(submission) not in wrong.read_text()
    (port2,) = free_ports(1)
    log = receive(secret, port2)
    execute("UPDATE webhook_endpoints SET url = :url", url=f"http://127.0.0.1:{port2}/")
    execute("UPDATE webhook_deliveries SET state = 'FAILED', ended_at = now()")
    assert f"submission.evaluated  {submission}" in run("deliveries", uuid)
    assert run("replay", uuid, "--failed-since", "2020-01-01T00:00:00Z").endswith("again: 1.\n")

    def delivered():
        execute("UPDATE webhook_endpoints SET paused_until = NULL")
        execute("UPDATE webhook_deliveries SET not_before = now() WHERE state = 'PENDING'")
        delivery.deliver_due(strangers, 0.1)
        return states()[0][0] == "DELIVERED"

    eventually(delivered)
    assert f"submission.evaluated {submission}" in log.read_text()
    assert "deleted" in run("delete", uuid)
    assert run("list") == ""
