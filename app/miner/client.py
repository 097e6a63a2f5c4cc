"""Uploads and submits a file over the backend's public API."""

import tempfile
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from app.assessment import pipeline
from app.assessment.model import Brief
from app.assessment.report import Report
from app.clients.backend import Backend
from app.clients.hotkey import Hotkey
from app.clients.upload import Progress, put
from app.errors import DomainError
from app.hotkeys import statement_head
from app.miner.journal import Entry, Journal

CONTENT_TYPES = {
    ".mp4": "video/mp4",
    ".m4v": "video/mp4",
    ".webm": "video/webm",
    ".mov": "video/quicktime",
    ".avi": "video/x-msvideo",
    ".mkv": "video/x-matroska",
}
POLL_SECONDS = 2.0


class Rejected(DomainError):
    """The evaluation would reject the video, so it is not uploaded."""


@dataclass(frozen=True)
class Video:
    """A local file, its hash, and the measured values that a submission declares."""

    path: Path
    sha256: str
    declared: dict[str, Any]


def inspect(path: Path, prompt: dict[str, Any]) -> tuple[Video, Report]:
    """Run the evaluation's own checks on a file, without the judge. Return the file with its report.

    Raises Rejected with the reason if these checks would reject the video.
    """
    brief = Brief(prompt["category"], prompt["task"], prompt["scenario"], prompt["requirements"])
    with tempfile.TemporaryDirectory() as directory:
        outcome = pipeline.evaluate_file(path, brief, None, Path(directory))
    if outcome.rejection_reason:
        raise Rejected(
            f"The evaluation would reject this video, so it was not uploaded: {outcome.rejection_reason}"
        )
    report = outcome.report
    assert report.video and report.verified_sha256, "what is not rejected has been opened"
    declared = {
        "duration_sec": report.video.duration,
        "resolution_width": report.video.width,
        "resolution_height": report.video.height,
        "fps": report.video.fps,
    }
    return Video(path, report.verified_sha256, declared), report


class MinerClient:
    """A backend as one hotkey uses it. `journal` remembers what was done for each video."""

    def __init__(self, backend: Backend, hotkey: Hotkey, journal: Journal):
        self._backend = backend
        self._hotkey = hotkey
        self._journal = journal

    def upload(self, path: Path, sha256: str, progress: Progress) -> Entry:
        """Upload a file, unless it was uploaded before. Return its journal entry, with the video key.

        `progress` gets the number of bytes sent so far. It starts at 0 again if a connection breaks. Raises
        Refused or Unavailable.
        """
        names = (self._backend.url, self._hotkey.address, sha256)
        entry = self._journal.find(*names)
        if entry is None or not entry.is_usable:
            entry = self._presign(path)
            self._journal.keep(entry, *names)
        if not entry.is_uploaded:
            put(entry.upload_url, entry.headers, path, progress)
            entry.is_uploaded = True
            self._journal.keep(entry, *names)
        return entry

    def _presign(self, path: Path) -> Entry:
        wish = {"filename": path.name, "size_bytes": path.stat().st_size}
        if content_type := CONTENT_TYPES.get(path.suffix.lower()):
            wish["content_type"] = content_type
        answer = self._backend.post("/v1/upload/presign", wish, sign=self._hotkey.sign_request)
        return Entry(
            answer["video_key"], answer["upload_url"], answer["headers"], time.time() + answer["expires_in"]
        )

    def submit(self, statement: dict[str, Any], signature: str | None) -> dict[str, Any]:
        """Submit an uploaded video. The same statement again gives the same receipt. Raises Refused.

        `statement` is the body of POST /v1/submissions without hotkey and signature. Without `signature`, the
        hotkey signs.
        """
        if signature is None:
            consent = statement.get("consent") or {}
            head = statement_head(
                statement.get("licence"), consent.get("hash"), consent.get("version"), consent.get("date")
            )
            signature = self._hotkey.sign_submission(
                statement["miner_uid"],
                statement["prompt_id"],
                statement["video_key"],
                statement["video_hash"],
                head,
            )
        body = statement | {"miner_hotkey": self._hotkey.address, "signature": signature}
        return self._backend.post("/v1/submissions", body)

    def appeal(self, uuid: str, reason: str) -> dict[str, Any]:
        """Appeal against the result of a submission. The same again gives the same appeal. Raises Refused."""
        body = {
            "miner_hotkey": self._hotkey.address,
            "reason": reason,
            "signature": self._hotkey.sign_appeal(uuid, reason),
        }
        return self._backend.post(f"/v1/submissions/{uuid}/appeal", body)

    def take_down(self, uuid: str, reason: str) -> dict[str, Any]:
        """Take a video of this hotkey down. The same again changes nothing. Raises Refused."""
        body = {
            "miner_hotkey": self._hotkey.address,
            "reason": reason,
            "signature": self._hotkey.sign_takedown(uuid, reason),
        }
        return self._backend.post(f"/v1/submissions/{uuid}/takedown", body)

    def submit_video(self, video: Video, statement: dict[str, Any], progress: Progress) -> dict[str, Any]:
        """Upload and submit a video to a prompt, or continue where an earlier attempt stopped.

        Return the receipt. If the video was submitted to this prompt before, it is not submitted again.
        """
        prompt_id = statement["prompt_id"]
        names = (self._backend.url, self._hotkey.address, video.sha256)
        known = self._journal.find(*names)
        if known and prompt_id in known.submissions:
            return {"submission_uuid": known.submissions[prompt_id], "status": "SUBMITTED_BEFORE"}
        if known and known.submissions:
            raise Rejected("You have submitted this video to another prompt; film a new video for this one.")
        entry = self.upload(video.path, video.sha256, progress)
        receipt = self.submit(
            statement | {"video_key": entry.video_key, "video_hash": video.sha256} | video.declared, None
        )
        entry.submissions[prompt_id] = receipt["submission_uuid"]
        self._journal.keep(entry, *names)
        return receipt


def follow(backend: Backend, uuid: str, changed: Callable[[dict[str, Any]], None]) -> dict[str, Any]:
    """Wait until a submission has its result and return it. `changed` is called with each new status."""
    status = None
    while True:
        submission = backend.get(f"/v1/submissions/{uuid}")
        if submission["status"] != status:
            status = submission["status"]
            changed(submission)
        if submission["evaluation"]:
            return submission
        time.sleep(POLL_SECONDS)
