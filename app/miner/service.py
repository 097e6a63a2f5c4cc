"""From a file to a submission, by way of the backend's public API."""

import tempfile
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from http import HTTPStatus
from pathlib import Path
from typing import Any, BinaryIO

import requests

from app.clients.backend import Backend, Refused
from app.clients.retry import TransientError, retrying
from app.errors import DomainError, Unavailable
from app.evaluation import pipeline
from app.evaluation.commands import claim_on
from app.evaluation.model import Claim
from app.miner.journal import Entry, Journal
from app.miner.keys import Hotkey

CONTENT_TYPES = {
    ".mp4": "video/mp4",
    ".m4v": "video/mp4",
    ".webm": "video/webm",
    ".mov": "video/quicktime",
    ".avi": "video/x-msvideo",
    ".mkv": "video/x-matroska",
}
CHUNK_BYTES = 256 * 1024
UPLOAD_ATTEMPTS = 8
UPLOAD_PATIENCE_SECONDS = 1800.0
POLL_SECONDS = 2.0

Progress = Callable[[int], None]


class Rejected(DomainError):
    """The evaluation would reject the video, so it is not uploaded."""


@dataclass(frozen=True)
class Video:
    """A local file, its hash, and what is true of it."""

    path: Path
    sha256: str
    facts: Claim


def inspect(path: Path, prompt: dict[str, Any]) -> tuple[Video, dict[str, Any]]:
    """Make the evaluation's own checks of a file, the judge's apart; return it with the report.

    Raises Rejected with the reason if the video would be rejected for what the checks found.
    """
    claim = claim_on(path, prompt)
    with tempfile.TemporaryDirectory() as directory:
        outcome = pipeline.evaluate_file(claim, path, None, Path(directory))
    if outcome.rejection_reason:
        raise Rejected(f"It would be rejected, and was not uploaded: {outcome.rejection_reason}")
    return Video(path, outcome.report["sha256"], claim), outcome.report


class Miner:
    """One hotkey's dealings with a backend. What was done for a video is kept in `journal`."""

    def __init__(self, backend: Backend, hotkey: Hotkey, journal: Journal):
        self._backend = backend
        self._hotkey = hotkey
        self._journal = journal

    def upload(self, path: Path, sha256: str, progress: Progress) -> Entry:
        """Bring a file into storage, unless it is there already; return under which key.

        `progress` is told the bytes sent so far, from 0 again when a connection broke. Raises Refused or
        Unavailable.
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
        """Submit an uploaded video; the same statement again gives the same receipt. Raises Refused.

        `statement` is the body of POST /v1/submissions without hotkey and signature. Without a `signature`
        made elsewhere the hotkey signs.
        """
        if signature is None:
            signature = self._hotkey.sign_submission(
                statement["miner_uid"],
                statement["prompt_id"],
                statement["video_key"],
                statement["video_hash"],
            )
        body = statement | {"miner_hotkey": self._hotkey.address, "signature": signature}
        return self._backend.post("/v1/submissions", body)

    def submit_video(self, video: Video, statement: dict[str, Any], progress: Progress) -> dict[str, Any]:
        """Upload and submit a video to a prompt, or go on where an earlier try stopped; return the receipt.

        A video that was submitted to this prompt already is not submitted again.
        """
        prompt_id = statement["prompt_id"]
        names = (self._backend.url, self._hotkey.address, video.sha256)
        known = self._journal.find(*names)
        if known and prompt_id in known.submissions:
            return {"submission_uuid": known.submissions[prompt_id], "status": "SUBMITTED_BEFORE"}
        if known and known.submissions:
            raise Rejected(
                "This video was submitted to another prompt already; a second time it would be a duplicate."
            )
        entry = self.upload(video.path, video.sha256, progress)
        receipt = self.submit(
            statement | {"video_key": entry.video_key, "video_hash": video.sha256} | facts(video.facts), None
        )
        entry.submissions[prompt_id] = receipt["submission_uuid"]
        self._journal.keep(entry, *names)
        return receipt


def facts(claim: Claim) -> dict[str, Any]:
    """What a submission says of its video."""
    return {
        "duration_sec": claim.duration_sec,
        "resolution_width": claim.resolution_width,
        "resolution_height": claim.resolution_height,
        "fps": claim.fps,
    }


def put(url: str, headers: dict[str, str], path: Path, progress: Progress) -> None:
    """Stream a file to a presigned address. Memory stays flat; a broken connection starts it over.

    Storage takes a presigned upload whole or not at all, so there is no half to go on from. Raises Refused
    if storage refuses it, and Unavailable when it stays away.
    """
    try:
        retrying(UPLOAD_ATTEMPTS, UPLOAD_PATIENCE_SECONDS)(_put, url, headers, path, progress)
    except TransientError as error:
        raise Unavailable(f"The upload failed: {error}. Run the command again to try anew.") from error


def _put(url: str, headers: dict[str, str], path: Path, progress: Progress) -> None:
    try:
        with path.open("rb") as file:
            body = _Counted(file, path.stat().st_size, progress)
            answer = requests.put(url, data=body, headers=headers, timeout=(10, 120), allow_redirects=False)
    except requests.RequestException as error:
        raise TransientError(f"the connection broke ({type(error).__name__})") from error
    if answer.status_code >= 500 or answer.status_code == HTTPStatus.TOO_MANY_REQUESTS:
        raise TransientError(f"storage answered {answer.status_code}")
    if not answer.ok:
        raise Refused(answer.status_code, f"Storage refused the upload: {answer.text[:300]}")


class _Counted:
    """A file that tells how much of it was read; its length becomes the Content-Length."""

    def __init__(self, file: BinaryIO, size: int, progress: Progress):
        self._file = file
        self._size = size
        self._progress = progress
        self._sent = 0

    def __len__(self) -> int:
        return self._size

    def __iter__(self) -> Iterator[bytes]:
        while chunk := self.read(CHUNK_BYTES):
            yield chunk

    def read(self, size: int = CHUNK_BYTES) -> bytes:
        chunk = self._file.read(size)
        self._sent += len(chunk)
        self._progress(self._sent)
        return chunk


def follow(backend: Backend, uuid: str, changed: Callable[[dict[str, Any]], None]) -> dict[str, Any]:
    """Wait until a submission has its result and return it; `changed` is told each new status."""
    status = None
    while True:
        submission = backend.get(f"/v1/submissions/{uuid}")
        if submission["status"] != status:
            status = submission["status"]
            changed(submission)
        if submission["evaluation"]:
            return submission
        time.sleep(POLL_SECONDS)
