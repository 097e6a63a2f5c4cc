"""The whole way of an appeal, with all processes as `bin/up` starts them, over HTTP and by commands."""

import hashlib
import json
import os
import subprocess
import sys

import pytest
import requests

from tests.appeals.conftest import statement
from tests.factories import miner
from tests.processes import ROOT, eventually
from tests.test_end_to_end import Client, Submission, prompts


@pytest.fixture(autouse=True)
def in_context():
    """These processes have a database of their own."""


def run(up, *arguments):
    environ = os.environ | {k: v for k, v in up.environ().items() if v}
    done = subprocess.run(
        [sys.executable, "-m", "cli", *arguments],
        cwd=ROOT,
        env=environ,
        capture_output=True,
        text=True,
        timeout=120,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


def test_a_wrong_rejection_is_appealed_overturned_and_paid_in_the_next_cycle(up, videos, vlm):
    vlm.answer_with(action_match=0.05)
    vlm.others["second-judge"] = {"action_match": 0.9}
    up.start(
        VLM_API_URL=vlm.url,
        VLM_MODEL=vlm.model,
        VLM_APPEAL_MODEL="second-judge",
        CYCLE_DURATION_MINUTES="0.2",
        CHECK_INTERVAL_SECONDS="1",
    ).ready()
    client = Client(up.url)
    client.post("/v1/admin/prompts", prompts(100)[0])
    eventually(lambda: client.get("/v1/cycles/status")["active_cycle_id"])
    submission = Submission(1, "e2e-mug", videos.make("bikes", seconds=4), ())
    receipt = client.submit(submission)
    uuid, cycle = receipt["submission_uuid"], receipt["cycle_id"]
    path = f"/v1/submissions/{uuid}"
    eventually(lambda: client.get(path)["status"] == "REJECTED", 120)
    eventually(lambda: client.get(f"/v1/scores/{cycle}")["status"] == "COMPLETED", 90)

    reason = "A hand picks up a mug at 0:02.\nLook again."
    body = statement(uuid, reason=reason, keypair=miner("miner-1"))
    assert client.post(f"{path}/appeal", body)["state"] == "OPEN"
    appeal = eventually(lambda: (a := client.get(f"{path}/appeal"))["state"] == "IN_REVIEW" and a, 120)
    assert appeal["reason_sha256"] == hashlib.sha256(reason.encode()).hexdigest()
    assert appeal["evaluation"]["judge_model"] == "second-judge"
    score = appeal["evaluation"]["final_score"]
    assert client.get(path)["status"] == "REJECTED"
    assert not any("Look again" in request.text for request in vlm.requests)

    # the person sees what the miner says, and the video
    shown = run(up, "reviews", "show", uuid)
    assert "the miner: Look again." in shown
    (url,) = [line.split(":", 1)[1].strip() for line in shown.splitlines() if line.startswith("video:")]
    assert (
        hashlib.sha256(requests.get(url, timeout=10).content).hexdigest()
        == hashlib.sha256(submission.path.read_bytes()).hexdigest()
    )
    run(up, "reviews", "accept", uuid, "--reason", "It is a mug.", "--by", "Ada")

    result = client.get(path)
    assert (result["status"], result["evaluation"]["final_score"]) == ("SCORED", score)
    (correction,) = result["corrections"]
    assert (correction["kind"], correction["decided_by"], correction["is_late"]) == ("appeal", "Ada", True)
    address = miner("miner-1").ss58_address
    printed = run(
        up, "miner", "appeal", uuid, "--reason", reason, "--hotkey", address, "--api-url", up.url, "--json"
    )
    assert json.loads(printed)["state"] == "OVERTURNED"
    assert client.get("/v1/appeals/statistics")["overturned"] in (0, 1)

    weights = eventually(lambda: find_weights(up.url), 90)
    assert weights["cycle_id"] > cycle and weights["weights"] == {"1": 1.0}
    (row,) = client.get(f"/v1/scores/{weights['cycle_id']}")["miner_scores"]
    assert (row["miner_hotkey"], row["total_submissions"], row["total_score"]) == (address, 0, score)
    assert client.get(f"/v1/scores/{cycle}")["miner_scores"][0]["total_score"] == 0
    recomputed = run(up, "weights", "recompute", str(weights["cycle_id"]))
    assert "differ" not in recomputed
    assert up.stop() == 0


def find_weights(url):
    answer = requests.get(f"{url}/v1/weights/latest", timeout=10)
    return answer.json() if answer.ok else None
