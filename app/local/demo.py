"""The demo of `kibotos up --demo`: two miners submit films over HTTP and wait for their weights.

The films are real: a hand turns a box, and another tilts a bottle. films/NOTICE names their origin and
licence.
"""

import hashlib
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import requests
from bittensor_core import Keypair
from rich.console import Console
from rich.table import Table

from app.assessment.formula import FINAL_WEIGHTS, RELEVANCE_WEIGHTS
from app.clients.backend import Backend
from app.clients.hotkey import Hotkey
from app.clients.upload import put
from app.config import Settings
from app.errors import DomainError
from app.video.ffmpeg import tool

PATIENCE_SECONDS = 240
FILMS = Path(__file__).parent / "films"
PROMPTS = [
    {
        "id": "demo-box",
        "category": "manipulation",
        "task": "turn",
        "scenario": "Hold a box in one hand above a table, and turn it until several sides were in view.",
        "requirements": {"min_duration": 4, "max_duration": 30},
    },
    {
        "id": "demo-bottle",
        "category": "manipulation",
        "task": "tilt",
        "scenario": "Hold a closed bottle in one hand, tilt it to one side, and hold it upright again.",
        "requirements": {"min_duration": 4, "max_duration": 30},
    },
]


@dataclass(frozen=True)
class DemoVideo:
    """A file, the prompt that it is for, and what its miner declares of it: seconds and frames a second."""

    path: Path
    about: str
    prompt_id: str
    seconds: float
    fps: float


class DemoMiner:
    """A miner with a uid and a new hotkey."""

    def __init__(self, uid: int):
        self.uid = uid
        key = Keypair.create_from_mnemonic(Keypair.generate_mnemonic())
        self.hotkey = Hotkey(key.ss58_address, key)


class Demo:
    def __init__(self, settings: Settings, directory: Path):
        self.backend = Backend(settings.api_url)
        self.operator = Backend(settings.api_url, settings.admin_token[0])
        self.directory = directory
        self.console = Console(width=110, highlight=False)
        self.began = time.monotonic()

    def run(self) -> None:
        """Play all of it; raise if anything is not as it should be."""
        for _ in self._until("the API is ready"):
            if self._is_ready():
                break
        cycle = self._wait_for("/v1/cycles/status", lambda status: status["active_cycle_id"])
        cycle_id = cycle["active_cycle_id"]
        self._say(f"Cycle {cycle_id} is open. The operator publishes two prompts:")
        for prompt in PROMPTS:
            self.operator.post("/v1/admin/prompts", prompt)
            self.console.print(f"         {prompt['id']}: {prompt['scenario']}")
        alice, bob = DemoMiner(1), DemoMiner(2)
        box = DemoVideo(FILMS / "box.mp4", "a hand that turns a box", "demo-box", 8.0, 29.97)
        bottle = DemoVideo(FILMS / "bottle.mp4", "a hand that tilts a bottle", "demo-bottle", 7.0, 25.0)
        copied = replace(box, about="a copy of miner 1's film")
        sent = [(alice, box), (bob, bottle), (alice, self._black()), (alice, self._cut(box)), (bob, copied)]
        submitted = [(miner, video, self._submit(miner, video)) for miner, video in sent]
        results = [
            self._wait_for(f"/v1/submissions/{uuid}", lambda s: s["evaluation"]) for _, _, uuid in submitted
        ]
        self._show_results(submitted, results)
        self._show_report(submitted[0][2])
        self._say("The operator ends the cycle: kibotos cycles close")
        quiet = os.environ | {"LOG_LEVEL": "WARNING"}
        subprocess.run(["kibotos", "cycles", "close"], env=quiet, check=True, stdout=subprocess.DEVNULL)
        scores = self._wait_for(f"/v1/scores/{cycle_id}", lambda s: s["status"] == "COMPLETED")
        self._show_weights(scores, self.backend.get(f"/v1/weights/{cycle_id}"))

    # the videos that are of no use

    def _black(self) -> DemoVideo:
        path = self.directory / "black.mp4"
        picture = ["-f", "lavfi", "-i", "color=black:s=640x480:r=25", "-t", "10", "-pix_fmt", "yuv420p"]
        subprocess.run([tool("ffmpeg"), "-v", "error", *picture, str(path)], check=True)
        return DemoVideo(path, "ten seconds of black", "demo-bottle", 10.0, 25.0)

    def _cut(self, whole: DemoVideo) -> DemoVideo:
        path = self.directory / "cut.mp4"
        path.write_bytes(whole.path.read_bytes()[: whole.path.stat().st_size // 2])
        return replace(whole, path=path, about="the first half of a file")

    # the calls

    def _submit(self, miner: DemoMiner, video: DemoVideo) -> str:
        """Upload and submit `video`; return the submission's UUID."""
        self._say(f"Miner {miner.uid} sends {video.about}, for {video.prompt_id}")
        size = video.path.stat().st_size
        wish = {"filename": video.path.name, "size_bytes": size}
        upload = self.backend.post("/v1/upload/presign", wish, sign=miner.hotkey.sign_request)
        put(upload["upload_url"], upload["headers"], video.path, lambda sent: None)
        self.console.print(f"         uploaded {size:,} bytes as {upload['video_key']}")
        stated = (miner.uid, video.prompt_id, upload["video_key"], sha256(video.path))
        names = ("miner_uid", "prompt_id", "video_key", "video_hash")
        submission = dict(zip(names, stated, strict=True)) | {
            "miner_hotkey": miner.hotkey.address,
            "signature": miner.hotkey.sign_submission(*stated),
            "duration_sec": video.seconds,
            "resolution_width": 640,
            "resolution_height": 480,
            "fps": video.fps,
            # about where these were filmed from; no package has a film of a head camera
            "camera_type": "ego_chest",
            "actor_type": "human",
        }
        receipt = self.backend.post("/v1/submissions", submission)
        self.console.print(f"         submission {receipt['submission_uuid']} is {receipt['status']}")
        return receipt["submission_uuid"]

    def _is_ready(self) -> bool:
        try:
            return requests.get(f"{self.backend.url}/ready", timeout=5).ok
        except requests.RequestException:
            return False

    def _wait_for(self, path: str, condition: Any) -> Any:
        """Return what GET `path` answers as soon as `condition` holds for it."""
        for _ in self._until(f"{path} is as wanted"):
            answer = self.backend.get(path)
            if condition(answer):
                return answer

    def _until(self, what: str) -> Iterator[None]:
        """Give turns half a second apart; raise TimeoutError when they have been too many."""
        deadline = time.monotonic() + PATIENCE_SECONDS
        while time.monotonic() < deadline:
            yield
            time.sleep(0.5)
        raise TimeoutError(f"Not within {PATIENCE_SECONDS} s: {what}.")

    # what is shown

    def _say(self, text: str) -> None:
        self.console.print(f"[{time.monotonic() - self.began:5.1f} s] {text}", markup=False)

    def _show_results(self, submitted: list, results: list[dict[str, Any]]) -> None:
        self._say("All are evaluated")
        table = Table("miner", "video", "status", "technical", "relevance", "quality", "final")
        for (miner, video, _), result in zip(submitted, results, strict=True):
            scores = result["evaluation"]
            numbers = [
                f"{scores[f'{name}_score']:.3f}" for name in ("technical", "relevance", "quality", "final")
            ]
            table.add_row(str(miner.uid), video.about, result["status"], *numbers)
        self.console.print(table)
        for (_, video, _), result in zip(submitted, results, strict=True):
            if reason := result["evaluation"]["rejection_reason"]:
                self.console.print(f"Why not {video.about}? {reason}", markup=False)
        shares = " + ".join(f"{share} x {name}" for name, share in FINAL_WEIGHTS.items())
        self.console.print(f"final = {shares}, each from 0 to 1. What is rejected gets 0.")

    def _show_report(self, uuid: str) -> None:
        path = f"/v1/submissions/{uuid}/report"
        report = self.backend.get(path)
        self._say(f"The verification report of the first one, in short; all of it is at {path}")
        table = Table("check", "measured", "threshold", "verdict")
        for check in report["technical"]["checks"]:
            verdict = "passed" if check["passed"] else f"failed: {check['reason']}"
            table.add_row(check["name"], str(check["value"]), str(check["threshold"]), verdict)
        for deduction in report["quality"]["deductions"]:
            values = (f"{deduction['value']:.0%}", f"at most {deduction['threshold']:.0%}")
            points = deduction["points"]
            table.add_row(
                deduction["name"], *values, f"costs {points:.2f} of quality" if points else "passed"
            )
        judge = report["judge"]
        asked = f"{judge['model']}, {judge['prompt_version']}"
        for name in RELEVANCE_WEIGHTS:
            table.add_row(name, f"{judge[name]:.3f}", "", f"by {asked}")
        self.console.print(table)
        self.console.print(f"The judge: {judge['reasoning']}", markup=False)
        seconds = ", ".join(f"{frame['seconds']:.2f} s" for frame in report["keyframes"])
        self.console.print(f"It was shown the frames at {seconds}.", markup=False)

    def _show_weights(self, scores: dict[str, Any], weights: dict[str, Any]) -> None:
        """What each miner's videos were worth together, and the share that follows from it."""
        self._say(f"Cycle {scores['cycle_id']} is completed, with {scores['n_submissions']} submissions")
        u16 = dict(zip(weights["weights_u16"]["uids"], weights["weights_u16"]["weights"], strict=True))
        shares = weights["weights"]
        table = Table("miner", "submitted", "accepted", "average", "total", "weight", "of 65535")
        for row in scores["miner_scores"]:
            uid = row["miner_uid"]
            counts = (str(row["total_submissions"]), str(row["accepted_submissions"]))
            numbers = (row["avg_score"], row["total_score"], shares.get(str(uid), 0.0))
            table.add_row(str(uid), *counts, *(f"{number:.4f}" for number in numbers), str(u16.get(uid, 0)))
        table.add_section()
        table.add_row("sum", "", "", "", "", f"{sum(shares.values()):.4f}", str(sum(u16.values())))
        self.console.print(table)
        self.console.print("weight = the miner's total, divided by the sum of all totals.")
        if sum(u16.values()) != 65535:
            raise RuntimeError("The weights do not sum to 65535.")
        self._say("The weights are there. A validator would now set them on the chain.")


def sha256(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def main() -> None:
    """Play the demo against the backend at API_URL; exit with 1 if it does not lead to weights."""
    with tempfile.TemporaryDirectory(prefix="kibotos-demo-") as directory:
        try:
            Demo(Settings.from_environ(), Path(directory)).run()
        except (DomainError, RuntimeError, TimeoutError, subprocess.SubprocessError) as error:
            sys.exit(f"The demo stopped: {error}")


if __name__ == "__main__":
    main()
