"""Everything as `bin/up` starts it, driven over plain HTTP alone, and every number worked out by hand."""

import hashlib
import json
from dataclasses import dataclass, field
from pathlib import Path

import pytest
import requests
from bittensor import http_auth

from tests.factories import miner
from tests.processes import eventually
from tests.videos import iscc
from tests.vlm_server import MODEL, VlmServer

# What the judge sees is told apart by a bar of one colour at the bottom of each video. With each colour go
# the judge's scores: action_match, perspective_correct, demonstration_quality, training_utility.
COLOURS = {"red": (255, 0, 0), "green": (0, 128, 0), "blue": (0, 0, 255), "yellow": (255, 255, 0)}
COLOURS |= {"cyan": (0, 255, 255), "magenta": (255, 0, 255), "white": (255, 255, 255), "black": (0, 0, 0)}
VERDICTS = {
    "red": (0.9, 0.8, 0.7, 0.6),  # relevance 0.36 + 0.16 + 0.14 + 0.12 = 0.78
    "green": (0.6, 0.5, 0.4, 0.5),  # 0.24 + 0.10 + 0.08 + 0.10 = 0.52
    "blue": (0.1, 0.9, 0.2, 0.1),  # 0.04 + 0.18 + 0.04 + 0.02 = 0.28, under 0.3
    "yellow": (1.0, 1.0, 1.0, 1.0),  # 1
    "cyan": (0.5, 0.5, 0.5, 0.5),  # 0.5
    "magenta": (0.8, 0.8, 0.8, 0.8),  # 0.8
    "white": (0.2, 1.0, 1.0, 1.0),  # 0.08 + 0.20 + 0.20 + 0.20 = 0.68, but an action_match under 0.3
}
FIELDS = ("action_match", "perspective_correct", "demonstration_quality", "training_utility")


class SeeingJudge(VlmServer):
    """Scores by the colour of the bar in the first frame it is shown."""

    def answer(self, request):
        frame = request.images[0]
        bar = (
            frame.crop((0, frame.height * 9 // 10, frame.width, frame.height)).resize((1, 1)).getpixel((0, 0))
        )
        colour = min(
            COLOURS, key=lambda name: sum((a - b) ** 2 for a, b in zip(COLOURS[name], bar, strict=True))
        )
        return self.reply(request, **dict(zip(FIELDS, VERDICTS[colour], strict=True)))


@dataclass
class Submission:
    """What is submitted: by whom, to which prompt, which file; and what has to come of it."""

    miner: int
    prompt: str
    path: Path
    scores: tuple  # technical, relevance, quality, final
    reason: str | None = None  # how the rejection's reason begins
    claims: dict = field(default_factory=dict)
    uuid: str = ""

    @property
    def status(self):
        return "REJECTED" if self.reason else "SCORED"


def prompts(max_file_size_mb):
    """The three prompts: their weights are 1, 2 and a half."""
    return [
        {
            "id": "e2e-mug",
            "category": "manipulation",
            "task": "grasp",
            "scenario": "Pick up a mug from a table using one hand",
        },
        {
            "id": "e2e-stairs",
            "category": "locomotion",
            "task": "climb stairs",
            "scenario": "Walk up a flight of stairs",
            "requirements": {"min_duration": 2, "max_duration": 60},
            "weight": 2.0,
        },
        {
            "id": "e2e-wipe",
            "category": "household",
            "task": "wipe",
            "scenario": "Wipe a table with a cloth",
            "requirements": {"max_file_size_mb": max_file_size_mb},
            "weight": 0.5,
        },
    ]


def bar(colour):
    return (f"drawbox=x=0:y=ih*0.85:w=iw:h=ih*0.15:color={colour}:t=fill",)


@pytest.fixture
def submissions(videos):
    """Twelve submissions of four miners, in the order in which they come."""
    red = videos.make("bikes", seconds=4, filters=bar("red"))
    green = videos.make("bunny", seconds=4, filters=bar("green"))
    cyan = videos.make(iscc(), start=7, seconds=4, filters=bar("cyan"))
    magenta = videos.make(iscc(), start=21, seconds=4, filters=bar("magenta"), options=("-crf", "8"))
    white = videos.make("bikes", start=5, seconds=4, filters=bar("white"))
    # dark, but for that
    blue = videos.make(iscc(), start=35, seconds=4, filters=("eq=brightness=0.15", *bar("blue")))
    small = videos.make("carphone", seconds=4, size="320x240", filters=bar("yellow"))
    short = videos.make("testsrc2", seconds=1.4, filters=bar("blue"))
    garbled = videos.truncated(white, 0.4)
    recoded = videos.make("bunny", seconds=4, size="512x384", filters=bar("green"), options=("-crf", "32"))
    nothing = (0.0, 0.0)  # relevance and quality of what is rejected before they are asked for
    return [
        # 0.2 + 0.5 x 0.78 + 0.3
        Submission(1, "e2e-mug", red, (1, 0.78, 1, 0.89)),
        # 0.2 + 0.5 x 0.52 + 0.3, and counts twice
        Submission(1, "e2e-stairs", green, (1, 0.52, 1, 0.76)),
        # irrelevant
        Submission(1, "e2e-mug", blue, (1, 0.28, 1, 0), "The video does not show the requested task"),
        # too small a picture: technical (6 - 1) / 6, so 0.2 x 0.8333 + 0.5 + 0.3 = 0.96667
        Submission(
            2,
            "e2e-mug",
            small,
            (5 / 6, 1, 1, 0.9667),
            None,
            {"resolution_width": 320, "resolution_height": 240},
        ),
        # too short for this prompt, which costs the point of `duration` as well
        Submission(
            2, "e2e-stairs", short, (5 / 6, *nothing, 0), "The video lasts 1.40 s", {"duration_sec": 1.4}
        ),
        # corrupt: only `file_size` is passed, 0.5 of 6
        Submission(2, "e2e-mug", garbled, (0.5 / 6, *nothing, 0), "The file is no usable video"),
        # 0.2 + 0.5 x 0.5 + 0.3, and counts half
        Submission(3, "e2e-wipe", cyan, (1, 0.5, 1, 0.75)),
        # too large: technical (6 - 0.5) / 6, so 0.2 x 0.91667 + 0.5 x 0.8 + 0.3 = 0.88333, and counts half
        Submission(3, "e2e-wipe", magenta, (5.5 / 6, 0.8, 1, 0.8833)),
        # wrong hash
        Submission(
            3, "e2e-mug", white, (0, *nothing, 0), "The file under video_key has", {"video_hash": "0" * 64}
        ),
        # the first video over again, by somebody else: the judge is not asked
        Submission(4, "e2e-mug", red, (1, *nothing, 0), "The same file was scored before"),
        # the second one, encoded again
        Submission(
            4,
            "e2e-stairs",
            recoded,
            (1, 0, None, 0),
            "100% of the video was submitted before",
            {"resolution_width": 512, "resolution_height": 384},
        ),
        # everything is right but the action
        Submission(4, "e2e-stairs", white, (1, 0.68, 1, 0), "The video does not show the requested task"),
    ]


# Totals, of final score times weight: miner 1: 0.89 + 2 x 0.76 = 2.41; miner 2: 0.9667; miner 3: 0.5 x 0.75 +
# 0.5 x 0.8833 = 0.81665; miner 4: 0. Their sum is 4.19335.
SCORES = [
    # uid, submissions, accepted, average, total, by category
    (1, 3, 2, 0.825, 2.41, {"manipulation": 0.89, "locomotion": 1.52}),
    (2, 3, 1, 0.9667, 0.9667, {"manipulation": 0.9667, "locomotion": 0}),
    (3, 3, 2, 0.81665, 0.81665, {"household": 0.81665, "manipulation": 0}),
    (4, 3, 0, 0.0, 0.0, {"manipulation": 0, "locomotion": 0}),
]
WEIGHTS = {"1": 2.41 / 4.19335, "2": 0.9667 / 4.19335, "3": 0.81665 / 4.19335}
# 65535 x 2.41 / 4.19335 = 37664.242, 65535 x 0.9667 / 4.19335 = 15107.893 and
# 65535 x 0.81665 / 4.19335 = 12762.864: rounded down 65533, so the two largest remainders get one more
WEIGHTS_U16 = {"uids": [1, 2, 3], "weights": [37664, 15108, 12763]}


class Client:
    """The API as a client in the field calls it."""

    def __init__(self, url):
        self.url = url

    def get(self, path):
        answer = requests.get(self.url + path)
        assert answer.ok, answer.text
        return answer.json()

    def post(self, path, body, headers=()):
        data = json.dumps(body).encode()
        answer = requests.post(
            self.url + path, data=data, headers={"Content-Type": "application/json", **dict(headers)}
        )
        assert answer.ok, answer.text
        return answer.json()

    def submit(self, submission):
        """Presign, upload and submit, signed by the miner's hotkey; return the receipt."""
        key = miner(f"miner-{submission.miner}")
        data = submission.path.read_bytes()
        wish = {"filename": submission.path.name, "size_bytes": len(data)}
        signed = http_auth.sign(key, method="POST", path="/v1/upload/presign", body=json.dumps(wish).encode())
        upload = self.post("/v1/upload/presign", wish, signed)
        put = requests.put(upload["upload_url"], data=data, headers=upload["headers"])
        assert put.ok, put.text
        body = {
            "prompt_id": submission.prompt,
            "video_key": upload["video_key"],
            "video_hash": hashlib.sha256(data).hexdigest(),
            "miner_uid": submission.miner,
            "miner_hotkey": key.ss58_address,
            "duration_sec": 4.0,
            "resolution_width": 640,
            "resolution_height": 480,
            "fps": 25.0,
            "camera_type": "ego_head",
            "actor_type": "human",
        } | submission.claims
        names = ("miner_hotkey", "miner_uid", "prompt_id", "video_key", "video_hash")
        statement = "\n".join(["kibotos.submission.v1", *(str(body[name]) for name in names)])
        return self.post("/v1/submissions", body | {"signature": key.sign(statement.encode()).hex()})


def test_from_prompts_to_weights(up, submissions, run_kibotos):
    largest = next(s.path for s in submissions if s.scores[0] == 5.5 / 6)
    with SeeingJudge() as judge:
        up.start(VLM_API_URL=judge.url, VLM_MODEL=judge.model, CHECK_INTERVAL_SECONDS="1").ready()
        client = Client(up.url)
        for prompt in prompts(max_file_size_mb=largest.stat().st_size / 1e6 * 0.9):
            client.post("/v1/admin/prompts", prompt)
        cycle = eventually(lambda: client.get("/v1/cycles/status")["active_cycle_id"])

        for submission in submissions:
            receipt = client.submit(submission)
            submission.uuid = receipt.pop("submission_uuid")
            assert receipt == {"status": "PENDING", "cycle_id": cycle}

        for submission in submissions:
            path = f"/v1/submissions/{submission.uuid}"
            # each look costs the web process as much as the worker loses
            result = eventually(lambda path=path: (r := client.get(path))["evaluation"] and r, 240, poll=0.5)
            check_result(submission, result)
            check_report(submission, client.get(f"{path}/report"))
        run_kibotos("cycles", "close", **up.environ())
        eventually(lambda: client.get(f"/v1/scores/{cycle}")["status"] == "COMPLETED", 180)
        check_cycle(client, cycle)
        assert up.stop() == 0


def check_result(submission, result):
    evaluation = result["evaluation"]
    names = ("technical_score", "relevance_score", "quality_score", "final_score")
    found = tuple(evaluation[name] for name in names)
    wanted = tuple(f if w is None else w for w, f in zip(submission.scores, found, strict=True))
    assert found == pytest.approx(wanted, abs=1e-9), evaluation
    assert result["status"] == submission.status, evaluation
    assert (evaluation["rejection_reason"] or "").startswith(submission.reason or "")
    assert (evaluation["rejection_reason"] is None) == (submission.reason is None)
    assert result["attempts"] == 1
    assert evaluation["judge_model"] == (MODEL if submission.scores[1] else None)


def check_report(submission, report):
    assert report["verdict"]["final_score"] == pytest.approx(submission.scores[3])
    if submission.scores[1]:
        assert report["judge"]["model"] == MODEL
        assert len(report["keyframes"]) >= 3
        assert all(0 < frame["seconds"] < 4 for frame in report["keyframes"])


def check_cycle(client, cycle):
    scores = client.get(f"/v1/scores/{cycle}")
    assert scores["n_submissions"] == 12
    assert scores["judge_models"] == [MODEL]
    names = ("miner_uid", "total_submissions", "accepted_submissions", "avg_score", "total_score")
    for row, (*numbers, by_category) in zip(scores["miner_scores"], SCORES, strict=True):
        assert [row[name] for name in names] == pytest.approx(numbers, abs=1e-9)
        assert row["scores_by_category"] == pytest.approx(by_category, abs=1e-9)
        assert row["miner_hotkey"] == miner(f"miner-{row['miner_uid']}").ss58_address
    weights = client.get(f"/v1/weights/{cycle}")
    assert weights["weights"] == pytest.approx(WEIGHTS, abs=1e-12)
    assert weights["weights_u16"] == WEIGHTS_U16
    assert weights["judge_models"] == [MODEL]
    assert sum(WEIGHTS_U16["weights"]) == 65535
    assert client.get("/v1/weights/latest") == weights
    assert client.get("/v1/scores/latest") == scores
    # the next cycle began as this one closed
    status = client.get("/v1/cycles/status")
    assert status.keys() == {
        "active_cycle_id",
        "active_cycle_started_at",
        "evaluating_cycle_id",
        "last_completed_cycle_id",
        "total_cycles",
    }
    assert (status["active_cycle_id"], status["last_completed_cycle_id"]) == (cycle + 1, cycle)
    assert client.get("/v1/prompts/e2e-mug")["total_submissions"] == 6
