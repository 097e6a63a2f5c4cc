"""The miner's commands against a real production backend with a worker."""

import hashlib
import json
import os
import pty
import subprocess
import sys
import threading
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, HTTPServer

import bittensor
import pytest
import requests
from sqlalchemy import text

from app.clients.backend import Backend
from app.clients.hotkey import Hotkey
from app.clients.upload import put
from app.db import db
from app.hotkeys import submission_statement
from app.miner.client import PARTS_FROM_BYTES, MinerClient
from app.miner.journal import Journal
from tests import factories
from tests.api.conftest import running
from tests.processes import ROOT, eventually

UNKNOWN_KEY = "uploads/00000000-0000-0000-0000-000000000001/video.mp4"
PRODUCTION = {
    "app_env": "production",
    "admin_token": ("a" * 32,),
    "evaluator_token": ("e" * 32,),
    "licences": ("CC-BY-4.0",),
}


@pytest.fixture(autouse=True)
def prompt(app):
    with app.app_context():
        factories.make_cycle()
        yield factories.make_prompt(id="mug", requirements={"min_duration": 2})


@pytest.fixture(scope="module")
def backend(settings, tmp_path_factory):
    """The address of a backend for all tests."""
    with running(settings, tmp_path_factory.mktemp("backend"), **PRODUCTION) as url:
        yield url


@pytest.fixture
def worker(processes, vlm):
    return processes("worker", vlm_model=vlm.model, **PRODUCTION)


@pytest.fixture
def wallet(tmp_path):
    """A wallet that consists of a hotkey file: a coldkey is not there to be touched."""
    wallet = bittensor.Wallet("filmer", "camera", str(tmp_path / "wallets"))
    return wallet.create_new_hotkey(suppress=True)


@pytest.fixture
def mine(run_kibotos, backend, wallet, tmp_path):
    """Runs `kibotos miner <arguments>` as the wallet's owner."""

    def mine(command, *arguments, signed=True):
        keys = (
            "--wallet-name",
            "filmer",
            "--hotkey-name",
            "camera",
            "--wallet-path",
            str(tmp_path / "wallets"),
        )
        arguments = (command, *arguments, *(keys if signed else ()), "--api-url", backend)
        return run_kibotos("miner", *map(str, arguments), HOME=str(tmp_path))

    return mine


def rows(statement):
    with db.engine.connect() as connection:
        return connection.execute(text(statement)).all()


def test_one_command_from_a_file_to_a_score(mine, worker, wallet, videos):
    options = (videos.make(seconds=3), "--prompt", "mug", "--uid", "7", "--watch", "--json")
    result = mine("submit-video", *options)
    assert result.exit_code == 0, result.output
    scored = json.loads(result.stdout)
    assert scored["status"] == "SCORED"
    assert scored["report"]["verdict"]["final_score"] == scored["evaluation"]["final_score"] > 0.5
    ((hotkey, claimed_seconds),) = rows("SELECT miner_hotkey, duration_sec FROM submissions")
    assert hotkey == wallet.hotkey.ss58_address
    assert claimed_seconds == pytest.approx(3, abs=0.1)

    again = json.loads(mine("submit-video", *options).stdout)
    assert again["submission_uuid"] == scored["submission_uuid"]
    assert rows("SELECT count(*) FROM submissions") == [(1,)]
    assert rows("SELECT count(*) FROM uploads") == [(1,)]

    shown = mine("status", scored["submission_uuid"], signed=False)
    assert shown.exit_code == 0
    assert f"Final score: {scored['evaluation']['final_score']:.4f}" in shown.stdout
    assert isinstance(scored["report"]["measures"]["spans"], list)

    link = mine("status", scored["submission_uuid"], "--open").stdout.split()[-1]
    page = requests.get(link, timeout=10)
    assert page.ok and "<video controls" in page.text
    eventually(lambda: rows("SELECT count(*) FROM contact_sheets") == [(1,)])
    sheet = requests.get(link.replace("/video?", "/contact-sheet?"), timeout=10)
    assert sheet.ok and sheet.content[:4] == b"RIFF" and len(sheet.content) <= 60_000
    nameless = mine("status", scored["submission_uuid"], "--open", signed=False)
    assert nameless.exit_code == 1 and "Name the hotkey" in nameless.output


def test_a_rejected_submission_ends_with_1_and_its_reason(mine, worker, videos, vlm):
    vlm.answer_with(action_match=0.1)
    result = mine("submit-video", videos.make(seconds=3), "--prompt", "mug", "--uid", "7", "--watch")
    assert result.exit_code == 1
    told = "The video does not show the requested task: A hand picks up a mug."
    assert told in " ".join(result.stdout.split())


def test_what_would_be_rejected_is_not_uploaded(mine, videos):
    result = mine("submit-video", videos.make(seconds=1), "--prompt", "mug", "--uid", "7")
    assert result.exit_code == 1
    assert "The video lasts 1.00 s, not between 2 and 300 s" in result.output
    black = mine("submit-video", videos.make("color=black", seconds=3), "--prompt", "mug", "--uid", "7")
    assert black.exit_code == 1
    assert rows("SELECT count(*) FROM uploads") == [(0,)]


def test_an_interrupted_miner_goes_on_where_it_stopped(mine, videos):
    video = videos.make(seconds=3)
    key = json.loads(mine("upload", video, "--json").stdout)["video_key"]
    assert json.loads(mine("upload", video, "--json").stdout)["video_key"] == key
    assert mine("submit-video", video, "--prompt", "mug", "--uid", "7").exit_code == 0
    assert rows("SELECT video_key FROM uploads") == [(key,)]
    assert rows("SELECT video_key FROM submissions") == [(key,)]
    other = mine("submit-video", video, "--prompt", "other", "--uid", "7")
    assert "There is no such prompt" in other.output
    factories.make_prompt(id="other")
    other = mine("submit-video", video, "--prompt", "other", "--uid", "7")
    assert "submitted this video to another prompt" in other.output


def test_a_signature_made_elsewhere(mine, wallet, videos):
    video = videos.make(seconds=3)
    uploaded = json.loads(mine("upload", video, "--json").stdout)
    hotkey = wallet.hotkey
    statement = submission_statement(
        hotkey.ss58_address, 7, "mug", uploaded["video_key"], uploaded["video_hash"]
    )
    options = (video, "--video-key", uploaded["video_key"], "--prompt", "mug", "--uid", "7")
    options += ("--hotkey", hotkey.ss58_address)
    refused = mine("submit", *options, "--signature", "00" * 64, signed=False)
    assert "not an sr25519 signature of this submission by miner_hotkey" in refused.output
    accepted = mine("submit", *options, "--signature", hotkey.sign(statement).hex(), signed=False)
    assert accepted.exit_code == 0
    assert rows("SELECT count(*) FROM submissions") == [(1,)]


def test_what_would_be_refused_is_said_before_the_first_byte(mine, wallet, videos):
    video = videos.make(seconds=3)
    for _ in range(4):
        factories.make_submission(miner_hotkey=wallet.hotkey.ss58_address)
    uploads = rows("SELECT count(*) FROM uploads")
    refused = mine("submit-video", video, "--prompt", "mug", "--uid", "7")
    assert refused.exit_code == 1
    told = " ".join(refused.output.split())
    assert "nothing was uploaded: This hotkey has used up its 4 submissions an hour; try again in 3" in told
    assert rows("SELECT count(*) FROM uploads") == uploads

    shown = mine("standing").stdout
    assert "4 of 4 in the last hour; room for the next in 3" in shown and "0.00% of the weights" in shown
    assert json.loads(mine("standing", "--json").stdout)["submissions"]["used"] == 4
    listed = mine("list", "--limit", "3").stdout.splitlines()
    assert len(listed) == 3 and all("PENDING" in line for line in listed)
    assert len(json.loads(mine("list", "--json").stdout)) == 4


def test_at_a_terminal_what_loses_points_asks_first(mine, backend, wallet, videos, tmp_path):
    """A script is not asked: it has no terminal."""
    factories.make_prompt(id="sharp", requirements={"min_width": 4000})
    video = videos.make(seconds=3)
    options = ["--wallet-name", "filmer", "--hotkey-name", "camera", "--api-url", backend]
    options += ["--wallet-path", str(tmp_path / "wallets"), "--prompt", "sharp", "--uid", "7"]
    command = [sys.executable, "-m", "cli", "miner", "submit-video", str(video), *options]
    environ = dict(os.environ, HOME=str(tmp_path), PYTHONPATH=str(ROOT))
    ours, theirs = pty.openpty()
    os.write(ours, b"n\n")
    declined = subprocess.run(
        command, stdin=theirs, capture_output=True, text=True, env=environ, timeout=120, check=False
    )
    os.close(ours)
    os.close(theirs)
    assert declined.returncode == 1
    assert "Loses points: " in declined.stderr and "Submit it all the same?" in declined.stderr
    assert "As you wished" in declined.stderr
    assert rows("SELECT count(*) FROM uploads") == [(0,)]
    scripted = mine("submit-video", video, "--prompt", "sharp", "--uid", "7")
    assert scripted.exit_code == 0 and "Loses points: " in scripted.output
    assert "Submit it all the same?" not in scripted.output


def test_an_upload_in_parts_can_be_given_up(mine, app, wallet, tmp_path):
    key = factories.make_upload(miner_hotkey=wallet.hotkey.ss58_address, size_bytes=20_000_000)
    upload_id = app.extensions["storage"].start_multipart(key, "video/mp4")
    factories.insert("multipart_uploads", "1", video_key=key, upload_id=upload_id, part_bytes=5_242_880)
    assert "open uploads: 1 of 8" in mine("standing").stdout
    assert mine("abort", key).exit_code == 0
    assert rows("SELECT state FROM multipart_uploads") == [("ABORTED",)]
    assert "no upload in parts" in mine("abort", UNKNOWN_KEY).output


def test_prompts_are_listed(mine):
    factories.make_prompt(id="stairs", category="locomotion")
    listed = mine("prompts", "--json", "--category", "manipulation", signed=False)
    assert [prompt["id"] for prompt in json.loads(listed.stdout)] == ["mug"]
    assert "stairs" in mine("prompts", signed=False).stdout


def test_a_wallet_that_is_not_there_is_told_in_a_sentence(run_kibotos, videos, tmp_path):
    video = videos.make(seconds=3)
    options = ("--wallet-name", "nobody", "--wallet-path", str(tmp_path))
    result = run_kibotos("miner", "upload", str(video), *options, HOME=str(tmp_path))
    assert result.exit_code == 1
    assert result.output.startswith("Error: The hotkey default of the wallet nobody cannot be used")
    nobody = run_kibotos("miner", "upload", str(video))
    assert nobody.output.startswith("Error: Name the hotkey")


@contextmanager
def breaking_storage(breaks):
    """A server that takes uploads but breaks off the first `breaks` of them: its address, what it has got."""
    received = []

    class Handler(BaseHTTPRequestHandler):
        def do_PUT(self):
            nonlocal breaks
            length = int(self.headers["Content-Length"])
            if breaks:
                breaks -= 1
                self.rfile.read(length // 2)
                self.connection.close()
                return
            received.append(self.rfile.read(length))
            self.send_response(200)
            self.end_headers()

        def log_message(self, *_):
            pass

    with HTTPServer(("127.0.0.1", 0), Handler) as server:
        threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.02}, daemon=True).start()
        yield f"http://127.0.0.1:{server.server_port}/video", received
        server.shutdown()


def test_a_broken_upload_starts_over(tmp_path):
    path = tmp_path / "video.mp4"
    path.write_bytes(bytes(range(256)) * 20_000)
    sent = []
    with breaking_storage(1) as (url, received):
        put(url, {"Content-Type": "video/mp4"}, path, sent.append)
    assert received == [path.read_bytes()]
    assert sent[-1] == path.stat().st_size
    assert min(sent[1:]) < max(sent[: len(sent) // 2])  # it went back to the beginning


def test_a_video_with_licence_and_consent_is_submitted_and_taken_down(mine, videos, tmp_path):
    video, text = videos.make(seconds=3), tmp_path / "consent.txt"
    text.write_text("You may use the film.")
    options = ("submit-video", video, "--prompt", "mug", "--uid", "7")
    alone = mine(*options, "--consent-date", "2026-01-15")
    assert alone.exit_code == 2 and "needs --consent-statement" in alone.output
    refused = mine(*options, "--licence", "CC0-1.0")
    assert refused.exit_code == 1 and "must be one of CC-BY-4.0" in refused.output
    terms = ("--licence", "CC-BY-4.0", "--consent-statement", text, "--consent-version", "2")
    sent = mine(*options, *terms, "--consent-date", "2026-01-15", "--json")
    assert sent.exit_code == 0, sent.output
    uuid = json.loads(sent.stdout)["submission_uuid"]
    assert rows("SELECT licence, consent_hash, consent_version, consent_date::text FROM submissions") == [
        ("CC-BY-4.0", hashlib.sha256(text.read_bytes()).hexdigest(), "2", "2026-01-15")
    ]
    assert "CC-BY-4.0" in mine("licences", signed=False).stdout
    assert mine("takedown", uuid, "--reason", "A face.").exit_code == 1, "nobody said yes"
    gone = mine("takedown", uuid, "--reason", "A face.", "--yes")
    assert gone.exit_code == 0 and "will be deleted soon" in gone.stdout
    assert json.loads(mine("takedown", uuid, "--reason", "A face.", "--yes", "--json").stdout)[
        "taken_down_at"
    ]


@contextmanager
def older_backend():
    """A backend that knows uploads in one piece only: its address, and what was uploaded to it."""
    received = []

    class Handler(BaseHTTPRequestHandler):
        def do_POST(self):
            self.rfile.read(int(self.headers["Content-Length"]))
            known = self.path == "/v1/upload/presign"
            upload = {"video_key": UNKNOWN_KEY, "upload_url": f"{url}/store", "headers": {}, "expires_in": 60}
            self.send_response(200 if known else 404)
            self.end_headers()
            self.wfile.write(json.dumps(upload if known else {"detail": "There is no such page."}).encode())

        def do_PUT(self):
            received.append(len(self.rfile.read(int(self.headers["Content-Length"]))))
            self.send_response(200)
            self.end_headers()

        def log_message(self, *_):
            pass

    with HTTPServer(("127.0.0.1", 0), Handler) as server:
        url = f"http://127.0.0.1:{server.server_port}"
        threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.02}, daemon=True).start()
        yield url, received
        server.shutdown()


def test_an_older_backend_gets_what_it_knows(tmp_path):
    path = tmp_path / "large.mp4"
    with path.open("wb") as file:
        file.truncate(PARTS_FROM_BYTES)
    with older_backend() as (url, received):
        client = MinerClient(
            Backend(url), Hotkey(factories.miner().ss58_address), Journal(tmp_path / "journal")
        )
        assert client.ask(path, "ab" * 32, {"prompt_id": "mug", "miner_uid": 7}) == []
        assert client.upload(path, "ab" * 32, lambda sent: None).video_key == UNKNOWN_KEY
    assert received == [PARTS_FROM_BYTES]
