"""The whole way of an appeal, with the real processes and over HTTP."""

import hashlib
import json

import pytest
import requests
from bittensor import http_auth

from app.local.process import free_ports
from app.proofs.keys import create_key
from app.weights import service as weights
from tests.appeals.conftest import statement
from tests.factories import miner
from tests.processes import eventually
from tests.test_end_to_end import Client, Submission, prompts
from tests.webhooks.conftest import Receiver


@pytest.fixture
def receiver():
    receiver = Receiver()
    yield receiver
    receiver.close()


@pytest.fixture
def backend(processes, vlm, tmp_path):
    """API, worker and scheduler, with cycles of some seconds: the address."""
    (port,) = free_ports(1)
    create_key(tmp_path / "key")
    changes = {
        "vlm_model": vlm.model,
        "vlm_appeal_model": "second-judge",
        "check_interval_seconds": 1.0,
        "receipt_key_file": str(tmp_path / "key"),
        "webhook_allow_private": True,
    }
    processes("api", "--host", "127.0.0.1", "--port", str(port), **changes)
    processes("worker", **changes)
    processes("scheduler", cycle_duration_minutes=0.2, **changes)
    url = f"http://127.0.0.1:{port}"
    eventually(lambda: find(f"{url}/v1/cycles/status", "active_cycle_id"), 60)
    return url


def find(url, field):
    try:
        answer = requests.get(url, timeout=10)
    except requests.RequestException:
        return None
    return answer.json().get(field) if answer.ok else None


def test_a_wrong_rejection_is_appealed_overturned_and_paid_in_the_next_cycle(
    app, backend, videos, vlm, receiver, run_kibotos, tmp_path
):
    vlm.answer_with(action_match=0.05)
    vlm.others["second-judge"] = {"action_match": 0.9}
    client = Client(backend)
    client.post("/v1/admin/prompts", prompts(100)[0])
    body = {"url": receiver.url("/hook")}
    made = client.post("/v1/webhooks", body, sign(body, "/v1/webhooks"))
    receiver.secrets["/hook"] = made["secret"]
    video = videos.make("bikes", seconds=2)
    receipt = client.submit(Submission(1, "e2e-mug", video, (), claims={"duration_sec": 2.0}))
    uuid, cycle = receipt["submission_uuid"], receipt["cycle_id"]
    path = f"/v1/submissions/{uuid}"
    eventually(lambda: client.get(path)["status"] == "REJECTED", 120)
    eventually(lambda: client.get(f"/v1/scores/{cycle}")["status"] == "COMPLETED", 90)

    reason = "A hand picks up a mug.\nLook again."
    body = statement(uuid, reason=reason, keypair=miner("miner-1"))
    assert client.post(f"{path}/appeal", body)["state"] == "OPEN"
    appeal = eventually(lambda: (a := client.get(f"{path}/appeal"))["state"] == "IN_REVIEW" and a, 120)
    assert appeal["reason_sha256"] == hashlib.sha256(reason.encode()).hexdigest()
    assert appeal["evaluation"]["judge_model"] == "second-judge"
    score = appeal["evaluation"]["final_score"]
    assert client.get(path)["status"] == "REJECTED"
    assert not any("Look again" in request.text for request in vlm.requests)

    # the person sees what the miner says, and the video
    review = client.get(f"/v1/admin/reviews/{uuid}")
    assert review["appeal"]["reason"] == reason
    assert requests.get(review["video_url"], timeout=10).content == video.read_bytes()
    client.post(f"/v1/admin/reviews/{uuid}", {"decision": "accept", "reason": "It is a mug.", "by": "Ada"})
    result = client.get(path)
    assert (result["status"], result["evaluation"]["final_score"]) == ("SCORED", score)
    (correction,) = result["corrections"]
    assert (correction["kind"], correction["decided_by"], correction["is_late"]) == ("appeal", "Ada", True)
    assert client.post(f"{path}/appeal", body)["state"] == "OVERTURNED"

    paid = eventually(lambda: find(f"{backend}/v1/weights/latest", "cycle_id"), 90)
    assert paid > cycle and client.get("/v1/weights/latest")["weights"] == {"1": 1.0}
    (row,) = client.get(f"/v1/scores/{paid}")["miner_scores"]
    assert (row["miner_uid"], row["total_submissions"], row["total_score"]) == (1, 0, score)
    assert client.get(f"/v1/scores/{cycle}")["miner_scores"][0]["total_score"] == 0
    with app.app_context():
        assert [weights.recompute(each).differences for each in (cycle, paid)] == [[], []]

    # a stranger finds both cycles right, and so the late correction between them
    for each in (cycle, paid):
        said = eventually(lambda each=each: verify(run_kibotos, backend, each, tmp_path), 60)
    assert f"Cycle {paid} is right: 0 submissions, 1 weights" in said and "one chain with cycle" in said
    assert "taken as recorded" not in said
    # the receipt proves what it counted for first
    (tmp_path / "receipt").write_bytes(requests.get(f"{backend}{path}/receipt", timeout=10).content)
    (tmp_path / "keys").write_bytes(requests.get(f"{backend}/v1/keys", timeout=10).content)
    result = run_kibotos("receipt", "verify", str(tmp_path / "receipt"), "--keys", str(tmp_path / "keys"))
    assert result.exit_code == 0 and "REJECTED" in result.stdout and "genuine" in result.stdout, result.output
    # the miner was told of everything, in order, and signed
    told = [body for _, _, body in eventually(lambda: len(receiver.messages) >= 3 and receiver.messages, 60)]
    assert [each["type"] for each in told] == [
        "submission.evaluated",
        "submission.corrected",
        "appeal.decided",
    ]
    assert {each["data"]["submission_uuid"] for each in told} == {uuid}
    assert told[2]["data"]["is_overturned"] and told[2]["data"]["final_score"] == score
    # and people see it
    shown = requests.get(f"{backend}/submissions/{uuid}", timeout=10).text
    for words in ("Decided since", "It is a mug.", "Ada", f"{score:.4f}".rstrip("0")):
        assert words in shown
    assert miner("miner-1").ss58_address in requests.get(f"{backend}/cycles/{paid}", timeout=10).text


def sign(body, path):
    return http_auth.sign(miner("miner-1"), method="POST", path=path, body=json.dumps(body).encode())


def verify(run_kibotos, backend, cycle, tmp_path):
    """What `kibotos weights verify` says of a cycle, or None while its ledger is not in storage yet."""
    state = ("--state", str(tmp_path / "state"))
    result = run_kibotos("weights", "verify", "--backend-url", backend, "--cycle", str(cycle), *state)
    assert result.exit_code in {0, 2}, result.output
    return result.exit_code == 0 and result.stdout
