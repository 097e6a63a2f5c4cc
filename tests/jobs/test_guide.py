"""The operators' pages, command by command, against real servers and processes."""

import json
import os
import re
import shlex
import shutil
import subprocess
import sys
import uuid
from contextlib import closing
from http import HTTPStatus
from io import BytesIO
from pathlib import Path

import bittensor
import psycopg2
import pytest
import requests

from app.local.process import free_ports
from app.proofs.packing import unpack
from tests.documents import ROOT, commands
from tests.ledger.stranger import recompute
from tests.processes import environment, eventually

# not ours to run here: what fetches the code, makes a role, or belongs to a machine's init
ELSEWHERE = {"git", "cd", "uv", "cp", "chmod", "sudo", "journalctl", "export", "pip", "python3"}
SERVICES = {"api", "worker", "scheduler", "evaluator"}
DRAFTS = [
    f"{verb} {what} {where} and put everything back in its place afterwards."
    for verb in ("Wash", "Dry", "Polish", "Pack", "Sort")
    for what, where in (
        ("four bowls", "beside the sink"),
        ("a basket of towels", "on the bed"),
        ("muddy boots", "in the hallway"),
        ("garden tools", "on the balcony"),
    )
]


@pytest.fixture
def database_url(postgres):
    """A database as the guide's `CREATE DATABASE` leaves it."""
    name = f"guide_{uuid.uuid4().hex}"
    with closing(psycopg2.connect(postgres.url)) as connection:
        connection.autocommit = True
        connection.cursor().execute(f"CREATE DATABASE {name}")
    # it goes with its server: to drop it now, an autovacuum in it would have to be waited for
    return postgres.database_url(name)


@pytest.fixture
def guide(settings, database_url, vlm, redis, processes, run_kibotos, tmp_path):
    return Guide(settings, database_url, vlm, processes, run_kibotos, tmp_path)


UUID = r"[0-9a-f-]{36}"
NONE = "00000000-0000-0000-0000-000000000000"


class Failed(Exception):
    """A command ended with an error; the message has what it printed."""


class Guide:
    """Runs the commands of a document in a directory of its own, with its port replaced by a free one.

    Services are processes, and so are commands with a wallet: the SDK looks for it in the home that it was
    imported in. The other commands run in this process, since each start costs a second.
    """

    def __init__(self, settings, database_url, vlm, processes, run_kibotos, directory):
        self.url = f"http://localhost:{free_ports(1)[0]}"
        self._vlm = vlm
        self._start = processes
        self._run_kibotos = run_kibotos
        self._directory = directory
        # as the guide spells it
        self._settings = {"database_url": database_url.replace("postgresql://", "postgresql+asyncpg://")}
        self._settings |= {"vlm_api_url": vlm.url, "vlm_model": vlm.model}
        # no name is looked up for a webhook, and nobody is written to
        self._settings |= {"api_url": self.url, "webhook_allow_private": "true"}
        self._nobody = f"http://127.0.0.1:{free_ports(1)[0]}/"
        # the first that the last `… list` printed takes the place of NONE in the document
        self._listed = NONE
        self.environ = os.environ | environment(settings, **self._settings) | {"HOME": str(directory)}
        starter = Path("app", "prompts", "starter.json")
        (directory / starter).parent.mkdir(parents=True)
        shutil.copy(ROOT / starter, directory / starter)

    def run(self, command):
        """Run one command; return what it printed, or None for a service, which is left running."""
        port = self.url.rpartition(":")[2]
        program, *arguments = shlex.split(re.sub(r"\b8080\b", port, command), comments=True)
        if program in ELSEWHERE:
            return None
        if program == "psql":
            return self._query(arguments[-1])
        if program == "curl":
            return self._output("curl", "--silent", "--show-error", "--fail-with-body", *arguments)
        assert program == "kibotos"
        if arguments[0] in SERVICES:
            self._start(*arguments, **self._settings)
            if arguments[0] == "api":
                eventually(self._answers)
            return None
        if arguments[:2] == ["prompts", "generate"]:
            drafts = [
                {"task": "tidy up", "scenario": scenario, "min_seconds": 5, "max_seconds": 60}
                for scenario in DRAFTS
            ]
            self._vlm.then(json.dumps({"drafts": drafts[:10]}), json.dumps({"drafts": drafts[10:]}))
        arguments = [argument.replace("https://example.org/", self._nobody) for argument in arguments]
        arguments = [argument.replace(NONE, self._listed) for argument in arguments]
        if "--wallet-name" in arguments:
            printed = self._output(sys.executable, "-m", "cli", *arguments)
        else:
            printed = self._here(*arguments)
        if "list" in arguments:
            self._listed = (re.findall(UUID, printed) or [NONE])[0]
        return printed

    def configure(self, **settings):
        """Change settings of what is run from now on."""
        self._settings |= settings
        self.environ |= {name.upper(): value for name, value in settings.items()}

    def flask(self, *arguments):
        """What `flask kibotos <arguments>` prints."""
        return self._output(sys.executable, "-m", "flask", "kibotos", *arguments)

    def _here(self, *arguments):
        result = self._run_kibotos(*arguments, **self.environ)
        if result.exit_code:
            raise Failed(f"{arguments}: {result.output}") from result.exception
        return result.stdout

    def _output(self, *command):
        done = subprocess.run(
            command, cwd=self._directory, env=self.environ, capture_output=True, text=True, timeout=120
        )
        if done.returncode:
            raise Failed(f"{command}: {done.stdout}{done.stderr}")
        return done.stdout

    def _query(self, statement):
        url = self.environ["DATABASE_URL"].replace("+asyncpg", "")
        with closing(psycopg2.connect(url)) as connection, connection.cursor() as cursor:
            cursor.execute(statement)
            return str(cursor.fetchall())

    def _answers(self):
        try:
            return requests.get(f"{self.url}/health", timeout=2).ok
        except requests.RequestException:
            return False

    def get(self, path):
        return requests.get(self.url + path, timeout=5).json()

    def ledger(self, cycle_id):
        """The lines of a cycle's ledger, or None until its file is in storage."""
        answer = requests.get(f"{self.url}/v1/cycles/{cycle_id}/ledger", timeout=5)
        return unpack(BytesIO(answer.content)).read() if answer.ok else None


# nothing is there yet that these could be about
REFUSED = (
    "kibotos weights recompute",
    "kibotos reviews show",
    "kibotos reviews accept",
    "kibotos reviews reject",
    "kibotos reviews uphold",
    "kibotos submissions correct",
    "kibotos submissions takedown",
    "kibotos reviews judge-again",
    "kibotos ledger",
    "kibotos shadow",
)


# in the order in which an operator reads them
PAGES = ("install.md", "configure.md", "operate.md")


def test_the_guide_from_its_first_command_to_its_last(guide, videos, tmp_path):
    (tmp_path / "video.mp4").symlink_to(videos.make("bikes", seconds=5))
    printed = {}
    # what two pages say is run once
    for command in dict.fromkeys(
        command for page in PAGES for command in commands(ROOT / "docs" / "operators" / page)
    ):
        if command == "kibotos doctor":
            # the scheduler has made its first tick by then
            eventually(lambda: guide.get("/v1/status")["scheduler_last_tick_at"], 60)
            eventually(lambda: guide.get("/v1/status")["workers"] == 2, 60)
        if command.startswith(REFUSED) or command == "kibotos cycles start":
            # there is no fourth cycle yet, and one is active: both are refused with a sentence
            with pytest.raises(Failed, match="Error: "):
                guide.run(command)
            continue
        printed[command] = guide.run(command)

    assert printed["kibotos db init"].startswith("The schema is in place")
    assert "55 added" in printed["kibotos prompts load app/prompts/starter.json"]
    assert "manipulation-01 is retired" in printed["kibotos prompts retire manipulation-01"]
    (created,) = [text for command, text in printed.items() if "/v1/admin/prompts" in command]
    assert json.loads(created)["id"] == "manip-001"
    cycles = json.loads(printed["curl http://localhost:8080/v1/cycles/status"])
    assert set(cycles) == {
        "active_cycle_id",
        "active_cycle_started_at",
        "evaluating_cycle_id",
        "last_completed_cycle_id",
        "total_cycles",
    }
    (pending,) = [text for command, text in printed.items() if "/v1/evaluate/fetch" in command]
    assert json.loads(pending) == {"submissions": [], "pending": 0, "evaluating": 0}
    assert "RED" not in printed["kibotos doctor"]
    assert "Technical checks" in printed["kibotos evaluate video.mp4 --prompt manipulation-01"]
    assert "is closed" in printed["kibotos cycles close"]
    assert guide.get("/v1/cycles/status")["active_cycle_id"] == 2

    # the other spelling
    assert "current schema" in guide.flask("db", "check")
    assert "active:" in guide.flask("cycles", "status")
    # a prompt that exists
    again = requests.post(f"{guide.url}/v1/admin/prompts", json=json.loads(created), timeout=5)
    assert again.status_code == HTTPStatus.CONFLICT


# commands that name a submission of the miner's own
OWN = ("status", "receipt", "appeal", "takedown")


def test_the_commands_for_newcomers_and_miners(guide, videos, tmp_path):
    address = guide.run("kibotos keys new receipt-key.json").strip()
    guide.configure(receipt_key_file=str(tmp_path / "receipt-key.json"), licences="CC-BY-4.0")
    for command in ("db init", "prompts load app/prompts/starter.json", "api --port 8080", "worker"):
        guide.run(f"kibotos {command}")
    guide.run("kibotos cycles start")
    wallet = bittensor.Wallet("default", "default", str(tmp_path / ".bittensor" / "wallets"))
    wallet.create_new_hotkey(suppress=True)
    (tmp_path / "consent.txt").write_text("You may use the film.")
    # a video for each document: the same one twice would be a duplicate
    printed = ""
    for hue, document in enumerate(("README.md", "docs/miners.md")):
        video = videos.make("bikes", seconds=5, start=4 * hue, filters=[f"hue=h={90 * hue}"])
        (tmp_path / "video.mp4").unlink(missing_ok=True)
        (tmp_path / "video.mp4").symlink_to(video)
        for command in commands(ROOT / document):
            if command.startswith("bin/"):
                continue
            if command.startswith("kibotos miner submit "):
                (key,) = re.findall(r"video_key: +(\S+)", printed)
                command = re.sub(r"uploads/\S+", key, command)
            if submitted := re.findall(rf"^(?:Submitted: )?({UUID})(?::|$)", printed or "", re.MULTILINE):
                submission = submitted[0]
            if command.startswith("kibotos miner receipt"):
                with pytest.raises(Failed, match="not completed yet"):
                    guide.run(command.replace("0b9a2f6e-3a53-4c43-9d0c-1df0b0f2a001", submission))
                guide.run("kibotos cycles close")
                guide.run("kibotos scheduler --check-interval 0.5")
                eventually(
                    lambda: guide.get("/v1/keys")["keys"] and "ledger_root" in guide.get("/v1/weights/1")
                )
            if command.startswith(tuple(f"kibotos miner {verb}" for verb in OWN)):
                command = re.sub(UUID, submission, command)
            printed = guide.run(command)
            if "--watch" in command:
                assert "SCORED" in printed
            if "--open" in command:
                link = printed.split()[-1]
                assert "<video" in requests.get(link, timeout=10).text
            if command.startswith("kibotos evaluate"):
                assert "Technical checks" in printed
            if command.startswith("kibotos receipt verify"):
                assert f"signed by:   {address}" in printed
                assert guide.get("/v1/weights/1")["ledger_root"] in printed
            if command.startswith("kibotos miner appeal"):
                assert "the appeal is OPEN" in printed
            if command.startswith("kibotos miner takedown"):
                assert "taken down" in printed and guide.get(f"/v1/submissions/{submission}")["taken_down_at"]
    # the file is in storage, and the one that the database gives is the same
    eventually(lambda: guide.ledger(1))
    guide.run("kibotos ledger write --cycle 1 --output ledger.jsonl")
    assert (tmp_path / "ledger.jsonl").read_bytes() == guide.ledger(1)
    assert len(recompute(guide.ledger(1))["submission"]) == 2


def test_what_validators_read(guide, app):
    guide.run("kibotos db init")
    guide.run("kibotos api --port 8080")
    for command in commands(ROOT / "docs" / "validators.md"):
        if command.startswith("curl"):
            with pytest.raises(Failed, match="yet"):
                guide.run(command)
