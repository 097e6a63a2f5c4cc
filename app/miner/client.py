"""Uploads and submits a file over the backend's public API."""

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from http import HTTPStatus
from pathlib import Path
from typing import Any

from app.clients.backend import COMMANDS, Backend, Refused
from app.clients.hotkey import Hotkey
from app.clients.parts import Address, PartsUpload
from app.clients.upload import Progress, put
from app.errors import DomainError
from app.hotkeys import statement_head
from app.miner.journal import Entry, Journal
from app.terminal import name_commands

CONTENT_TYPES = {
    ".mp4": "video/mp4",
    ".m4v": "video/mp4",
    ".webm": "video/webm",
    ".mov": "video/quicktime",
    ".avi": "video/x-msvideo",
    ".mkv": "video/x-matroska",
}
POLL_SECONDS = 2.0
# A file from this size on is uploaded in parts.
PARTS_FROM_BYTES = 16 * 1024 * 1024
# how an older backend answers
_UNKNOWN_ENDPOINT = (HTTPStatus.NOT_FOUND, HTTPStatus.METHOD_NOT_ALLOWED)


class Rejected(DomainError):
    """The evaluation would reject the video, so it is not uploaded."""


@dataclass(frozen=True)
class Video:
    """A local file, its hash, and the measured values that a submission declares.

    `losses` says what in it loses points, a sentence each.
    """

    path: Path
    sha256: str
    declared: dict[str, Any]
    losses: list[str]


class MinerClient:
    """A backend as one hotkey uses it. `journal` remembers what was done for each video."""

    def __init__(self, backend: Backend, hotkey: Hotkey, journal: Journal):
        self._backend = backend
        self._hotkey = hotkey
        self._journal = journal

    def upload(self, path: Path, sha256: str, progress: Progress) -> Entry:
        """Upload a file, unless it was uploaded before. Return its journal entry, with the video key.

        `progress` gets the number of bytes sent so far. It goes back if a connection breaks: to 0, or by a
        part if the file is large. Raises Refused or Unavailable.
        """
        names = (self._backend.url, self._hotkey.address, sha256)
        entry = self._journal.find(*names)
        if entry is None or not entry.is_usable:
            entry = self._begin(path)
            self._journal.keep(entry, *names)
        if not entry.is_uploaded:
            if entry.part_bytes:
                self._put_parts(entry, path, names, progress)
            else:
                put(entry.upload_url, entry.headers, path, progress)
            entry.is_uploaded = True
            self._journal.keep(entry, *names)
        return entry

    def _begin(self, path: Path) -> Entry:
        """Begin an upload: in parts if the file is large, and if the backend knows that."""
        if is_large(path):
            try:
                answer = self._post_signed("/v1/upload/multipart", _wish(path))
            except Refused as refusal:
                if refusal.status not in _UNKNOWN_ENDPOINT:
                    raise
            else:
                return Entry(
                    answer["video_key"],
                    "",
                    {},
                    time.time() + answer["expires_in"],
                    part_bytes=answer["part_size"],
                    etags=[None] * answer["part_count"],
                )
        return self._presign(path)

    def _put_parts(self, entry: Entry, path: Path, names: tuple[str, ...], progress: Progress) -> None:
        """Upload the parts that have not arrived yet, and complete the upload."""

        def ask(numbers: Sequence[int]) -> dict[int, Address]:
            body = {"video_key": entry.video_key, "part_numbers": list(numbers)}
            asked_at = time.time()
            answer = self._post_signed("/v1/upload/multipart/parts", body)
            good_until = asked_at + answer["parts_expire_in"]
            return {
                part["part_number"]: Address(part["upload_url"], part["headers"], good_until)
                for part in answer["parts"]
            }

        def keep() -> None:
            self._journal.keep(entry, *names)

        try:
            PartsUpload(path, entry.part_bytes, entry.etags, ask, keep, progress).run()
            body = {"video_key": entry.video_key, "etags": entry.etags}
            self._post_signed("/v1/upload/multipart/complete", body)
        except Refused as refusal:
            if refusal.status in (HTTPStatus.NOT_FOUND, HTTPStatus.CONFLICT):
                # it was aborted, or storage has lost a part of it
                self._journal.forget(*names)
                raise Rejected(
                    "The upload that was begun can no longer be completed. Run the command again: it begins "
                    "anew."
                ) from refusal
            raise

    def abort(self, video_key: str) -> None:
        """Give up an upload in parts. Raises Refused."""
        self._post_signed("/v1/upload/multipart/abort", {"video_key": video_key})

    def _post_signed(self, path: str, body: dict[str, Any]) -> Any:
        return self._backend.post(path, body, sign=self._hotkey.sign_request)

    def _presign(self, path: Path) -> Entry:
        answer = self._post_signed("/v1/upload/presign", _wish(path))
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

    def ask(self, path: Path, sha256: str, statement: dict[str, Any]) -> list[str]:
        """What would refuse this video if it were uploaded and submitted now: sentences that say what to do.

        Nothing is asked of a video that was submitted before. Older backends cannot be asked.
        """
        entry = self._journal.find(self._backend.url, self._hotkey.address, sha256)
        if entry and entry.submissions:
            return []
        body = {
            "prompt_id": statement["prompt_id"],
            "miner_uid": statement["miner_uid"],
            "miner_hotkey": self._hotkey.address,
            "size_bytes": path.stat().st_size,
            "in_parts": is_large(path),
            "video_hash": sha256,
        }
        body |= {name: statement[name] for name in ("licence", "consent") if name in statement}
        if entry and entry.is_usable:
            body["video_key"] = entry.video_key
        try:
            answer = self._post_signed("/v1/submissions/check", body)
        except Refused as refusal:
            if refusal.status in _UNKNOWN_ENDPOINT:
                return []
            raise
        return [name_commands(obstacle["detail"], COMMANDS) for obstacle in answer["obstacles"]]

    def list_submissions(self, limit: int) -> list[dict[str, Any]]:
        """The hotkey's own submissions, the newest first."""
        path = f"/v1/miners/{self._hotkey.address}/submissions"
        return self._backend.get(path, self._hotkey.sign_request, limit=limit)

    def get_standing(self) -> dict[str, Any]:
        """The hotkey's quotas, and how it stands in the active cycle."""
        path = f"/v1/miners/{self._hotkey.address}/standing"
        return self._backend.get(path, self._hotkey.sign_request)

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


def is_large(path: Path) -> bool:
    """Whether the file is uploaded in parts."""
    return path.stat().st_size >= PARTS_FROM_BYTES


def _wish(path: Path) -> dict[str, Any]:
    """What is asked of an upload."""
    wish: dict[str, Any] = {"filename": path.name, "size_bytes": path.stat().st_size}
    if content_type := CONTENT_TYPES.get(path.suffix.lower()):
        wish["content_type"] = content_type
    return wish


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
