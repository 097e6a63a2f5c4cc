"""Miners who submit videos whatever the weather, and know what each is worth."""

import random
import threading
import time
from dataclasses import dataclass
from pathlib import Path

import requests

from app.hotkeys import submission_statement
from tests.factories import miner
from tests.videos import sha256

# scenario -> what the judge says of it
SCENARIOS = {
    "Pick up a mug": {"action_match": 0.9},
    "Pour water into a glass": {"action_match": 0.6, "training_utility": 0.4},
    "Open a drawer": {"action_match": 0.1},
}
MOST_OPEN = 10
HOPELESS = "prompt-2"
MINERS = [miner(name) for name in ("Alice", "Bob", "Charlie", "Dave")]


@dataclass
class Accepted:
    """A submission that got its 201 (or, sent again, its 200)."""

    uuid: str
    kind: str
    prompt_id: str
    path: Path


class Miner(threading.Thread):
    """Submits a video every `pause` seconds until `stop`; each request is repeated until it is answered.

    Waits while too many submissions are open: a slow machine gets fewer of them, not more that wait.
    """

    def __init__(self, uid, backend, videos, seed, pause):
        super().__init__(daemon=True)
        self._uid = uid
        self._backend = backend
        self._videos = videos
        self._random = random.Random(f"{seed}-{uid}")
        self._pause = pause
        self._stopping = threading.Event()
        self.accepted = []

    def stop(self):
        self._stopping.set()

    def run(self):
        number = self._uid * 1000
        while not self._stopping.is_set():
            self._submit(number)
            number += 1
            self._stopping.wait(self._pause)
            while self._backend.count_open() > MOST_OPEN and not self._stopping.wait(0.5):
                pass

    def video(self, number):
        """A video like no other: two seconds of moving noise."""
        source = f"perlin=size=480x360:rate=15:octaves=3:xscale=4:yscale=4:random_seed={number + 1}"
        return self._videos.make(source, seconds=2, fps=15, size="480x360")

    def _submit(self, number):
        kind = self._random.choices(["good", "corrupt", "wrong hash", "copy"], [70, 10, 10, 10])[0]
        # what was never accepted for its own sake may be sent again
        originals = [one for one in self.accepted if one.kind == "good" and one.prompt_id != HOPELESS]
        if kind == "copy" and not originals:
            kind = "good"
        path = self.video(number)
        if kind == "corrupt":
            path = self._videos.truncated(path, 0.3)
        if kind == "copy":
            path = self._random.choice(originals).path
        prompt_id = f"prompt-{self._random.randrange(len(SCENARIOS))}"
        upload = self._post("/v1/upload/presign", {"filename": "video.mp4"}, 200)
        self._put(upload, path.read_bytes())
        keypair = MINERS[self._uid]
        video_hash = "0" * 56 + f"{number:08x}" if kind == "wrong hash" else sha256(path)
        signed = (keypair.ss58_address, self._uid, prompt_id, upload["video_key"], video_hash)
        body = {
            "miner_hotkey": keypair.ss58_address,
            "miner_uid": self._uid,
            "prompt_id": prompt_id,
            "video_key": upload["video_key"],
            "video_hash": video_hash,
            "signature": keypair.sign(submission_statement(*signed)).hex(),
            "duration_sec": 2.0,
            "resolution_width": 480,
            "resolution_height": 360,
            "fps": 15.0,
            "camera_type": "ego_head",
            "actor_type": "human",
        }
        receipt = self._post("/v1/submissions", body, 200, 201)
        again = self._post("/v1/submissions", body, 200)
        assert again["submission_uuid"] == receipt["submission_uuid"]
        self.accepted.append(Accepted(receipt["submission_uuid"], kind, prompt_id, path))

    def _post(self, path, body, *wanted):
        while True:
            try:
                answer = requests.post(self._backend.url + path, json=body, timeout=15)
            except requests.RequestException:
                time.sleep(0.3)
                continue
            if answer.status_code in wanted:
                return answer.json()
            assert answer.status_code == 503, (path, answer.status_code, answer.text)
            assert int(answer.headers["Retry-After"]) > 0
            time.sleep(0.5)

    def _put(self, upload, content):
        while True:
            try:
                answer = requests.put(
                    upload["upload_url"], data=content, headers=upload["headers"], timeout=15
                )
                answer.raise_for_status()
                return
            except requests.RequestException:
                time.sleep(0.3)
