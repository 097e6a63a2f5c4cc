"""The whole way of an appeal, with the real processes and over HTTP."""

import hashlib

import pytest
import requests

from app.local.process import free_ports
from app.weights import service as weights
from tests.appeals.conftest import statement
from tests.factories import miner
from tests.processes import eventually
from tests.test_end_to_end import Client, Submission, prompts


@pytest.fixture
def backend(processes, vlm):
    """API, worker and scheduler, with cycles of some seconds: the address."""
    (port,) = free_ports(1)
    changes = {"vlm_model": vlm.model, "vlm_appeal_model": "second-judge", "check_interval_seconds": 1.0}
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


def test_a_wrong_rejection_is_appealed_overturned_and_paid_in_the_next_cycle(app, backend, videos, vlm):
    vlm.answer_with(action_match=0.05)
    vlm.others["second-judge"] = {"action_match": 0.9}
    client = Client(backend)
    client.post("/v1/admin/prompts", prompts(100)[0])
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
