"""The demo of `kibotos up --demo`: two miners submit sample videos over HTTP and wait for their weights."""

import hashlib
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import requests
from bittensor_core import Keypair
from rich.console import Console
from rich.table import Column, Table

from app.assessment import technical
from app.assessment.formula import RELEVANCE_WEIGHTS
from app.clients.backend import Backend
from app.clients.hotkey import Hotkey
from app.clients.upload import put
from app.config import Settings
from app.errors import DomainError
from app.local.samples import footage
from app.video.ffmpeg import tool

PATIENCE_SECONDS = 120


@dataclass(frozen=True)
class DemoVideo:
    """A file, and what its miner declares of it: category of the prompt, seconds, width and height."""

    path: Path
    about: str
    category: str
    seconds: float
    width: int
    height: int


class DemoMiner:
    """A miner with a uid and a new hotkey."""

    def __init__(self, uid: int):
        self.uid = uid
        key = Keypair.create_from_mnemonic(Keypair.generate_mnemonic())
        self.hotkey = Hotkey(key.ss58_address, key)


class Demo:
    def __init__(self, url: str, directory: Path):
        self.backend = Backend(url)
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
        self._say(f"Cycle {cycle_id} is open since {cycle['active_cycle_started_at']}")
        street, cartoon = self._videos()
        alice, bob = DemoMiner(1), DemoMiner(2)
        submitted = [
            (alice, street, self._submit(alice, street)),
            (bob, cartoon, self._submit(bob, cartoon)),
            *((alice, video, self._submit(alice, video)) for video in self._bad_videos(street)),
        ]
        copied = DemoVideo(street.path, "the other miner's street", street.category, 10.0, 640, 272)
        submitted.append((bob, copied, self._submit(bob, copied)))
        results = [
            self._wait_for(f"/v1/submissions/{uuid}", lambda s: s["evaluation"]) for _, _, uuid in submitted
        ]
        self._show_results(submitted, results)
        self._show_report(submitted[0][2])
        self._say("Waiting for the cycle to end")
        self._show_scores(self._wait_for(f"/v1/scores/{cycle_id}", lambda s: s["status"] == "COMPLETED"))
        self._show_weights(self.backend.get(f"/v1/weights/{cycle_id}"))

    # the videos

    def _videos(self) -> tuple[DemoVideo, DemoVideo]:
        street = DemoVideo(footage("bikes"), "a street with cyclists", "locomotion", 10.0, 640, 272)
        cartoon = DemoVideo(footage("bunny"), "a cartoon", "manipulation", 5.3, 1280, 720)
        return street, cartoon

    def _bad_videos(self, good: DemoVideo) -> Iterator[DemoVideo]:
        black = self.directory / "black.mp4"
        command = [
            tool("ffmpeg"),
            "-v",
            "error",
            "-f",
            "lavfi",
            "-i",
            "color=black:s=640x480:r=25",
            "-t",
            "10",
        ]
        subprocess.run([*command, "-pix_fmt", "yuv420p", str(black)], check=True)
        yield DemoVideo(black, "ten seconds of black", "locomotion", 10.0, 640, 480)
        cut = self.directory / "cut.mp4"
        shutil.copyfile(good.path, cut)
        with cut.open("r+b") as file:
            file.truncate(good.path.stat().st_size // 2)
        yield DemoVideo(cut, "the first half of a file", "locomotion", 10.0, 640, 272)

    # the calls

    def _submit(self, miner: DemoMiner, video: DemoVideo) -> str:
        """Upload and submit `video` to a prompt it is long enough for; return the submission's UUID."""
        prompt = next(
            prompt
            for prompt in self.backend.get("/v1/prompts", category=video.category)
            if technical.limits(prompt["requirements"])["min_duration"] <= video.seconds
        )
        self._say(f"DemoMiner {miner.uid} films {video.about} for {prompt['id']}: {prompt['scenario']}")
        size = video.path.stat().st_size
        wish = {"filename": video.path.name, "size_bytes": size}
        upload = self.backend.post("/v1/upload/presign", wish, sign=miner.hotkey.sign_request)
        put(upload["upload_url"], upload["headers"], video.path, lambda sent: None)
        self.console.print(f"         uploaded {size:,} bytes as {upload['video_key']}")
        stated = (miner.uid, prompt["id"], upload["video_key"], sha256(video.path))
        names = ("miner_uid", "prompt_id", "video_key", "video_hash")
        submission = dict(zip(names, stated, strict=True)) | {
            "miner_hotkey": miner.hotkey.address,
            "signature": miner.hotkey.sign_submission(*stated),
            "duration_sec": video.seconds,
            "resolution_width": video.width,
            "resolution_height": video.height,
            "fps": 25.0,
            "camera_type": "ego_head",
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
        """Give turns a quarter of a second apart; raise TimeoutError when they have been too many."""
        deadline = time.monotonic() + PATIENCE_SECONDS
        while time.monotonic() < deadline:
            yield
            time.sleep(0.25)
        raise TimeoutError(f"Not within {PATIENCE_SECONDS} s: {what}.")

    # what is shown

    def _say(self, text: str) -> None:
        self.console.print(f"[{time.monotonic() - self.began:5.1f} s] {text}", markup=False)

    def _show_results(self, submitted: list, results: list[dict[str, Any]]) -> None:
        self._say("All are evaluated")
        why = Column("why", overflow="fold")
        table = Table("miner", "video", "status", "technical", "relevance", "quality", "final", why)
        for (miner, video, _), result in zip(submitted, results, strict=True):
            scores = result["evaluation"]
            numbers = [
                f"{scores[f'{name}_score']:.4f}" for name in ("technical", "relevance", "quality", "final")
            ]
            reason = scores["rejection_reason"] or ""
            table.add_row(str(miner.uid), video.about, result["status"], *numbers, reason)
        self.console.print(table)

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

    def _show_scores(self, scores: dict[str, Any]) -> None:
        self._say(f"Cycle {scores['cycle_id']} is completed, with {scores['n_submissions']} submissions")
        table = Table("miner", "hotkey", "submitted", "accepted", "average", "total")
        for row in scores["miner_scores"]:
            counts = (str(row["total_submissions"]), str(row["accepted_submissions"]))
            numbers = (f"{row['avg_score']:.4f}", f"{row['total_score']:.4f}")
            table.add_row(str(row["miner_uid"]), row["miner_hotkey"], *counts, *numbers)
        self.console.print(table)

    def _show_weights(self, weights: dict[str, Any]) -> None:
        u16 = dict(zip(weights["weights_u16"]["uids"], weights["weights_u16"]["weights"], strict=True))
        table = Table("uid", "weight", "of 65535")
        for uid, weight in weights["weights"].items():
            table.add_row(uid, f"{weight:.6f}", str(u16[int(uid)]))
        table.add_row("sum", f"{sum(weights['weights'].values()):.6f}", str(sum(u16.values())))
        self.console.print(table)
        if not u16 or sum(u16.values()) != 65535:
            raise RuntimeError("The weights do not sum to 65535.")
        self._say("The weights are there: a validator would now set them on the chain")


def sha256(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def main() -> None:
    """Play the demo against the backend at API_URL; exit with 1 if it does not lead to weights."""
    with tempfile.TemporaryDirectory(prefix="kibotos-demo-") as directory:
        try:
            Demo(Settings.from_environ().api_url, Path(directory)).run()
        except (DomainError, RuntimeError, TimeoutError) as error:
            sys.exit(f"The demo stopped: {error}")


if __name__ == "__main__":
    main()
