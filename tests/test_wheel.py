"""The wheel by itself: built, installed into an empty environment away from the clone, and run."""

import json
import os
import resource
import shutil
import subprocess
import sys
import sysconfig
import venv
import zipfile
from dataclasses import replace
from pathlib import Path

import bittensor
import pytest
import requests

import cli
from app.clients.chain import Chain
from app.clients.storage import Storage
from app.completion import service
from app.ledger import service as ledger
from app.local.process import free_ports
from tests import factories
from tests.api.conftest import EVALUATOR_TOKEN, PRODUCTION, running
from tests.chain.conftest import node as node
from tests.documents import ROOT
from tests.processes import Process, environment, eventually


@pytest.fixture(scope="module")
def wheel(tmp_path_factory):
    """The wheel, as `pip wheel . --no-deps --no-build-isolation` makes it, out of a copy of the sources."""
    directory = tmp_path_factory.mktemp("wheel")
    sources = directory / "sources"
    sources.mkdir()
    for name in ("app", "jobs"):
        shutil.copytree(
            ROOT / name, sources / name, symlinks=True, ignore=shutil.ignore_patterns("__pycache__")
        )
    for path in ROOT.iterdir():
        if path.is_file() and not path.name.startswith(".env"):
            shutil.copy(path, sources)
    build = "import sys; from setuptools import build_meta; build_meta.build_wheel(sys.argv[1])"
    done = subprocess.run(
        [sys.executable, "-c", build, directory], cwd=sources, capture_output=True, text=True
    )
    assert done.returncode == 0, done.stderr
    return next(directory.glob("*.whl"))


@pytest.fixture(scope="module")
def installed(wheel, tmp_path_factory):
    """The command `kibotos` of an environment that holds the wheel, and of this one the dependencies."""
    directory = tmp_path_factory.mktemp("environment of the wheel")
    venv.create(directory, symlinks=True)
    packages = Path(sysconfig.get_path("purelib", vars={"base": str(directory)}))
    with zipfile.ZipFile(wheel) as archive:
        archive.extractall(packages)
    # a path file of a directory that a path file names is not read: so the clone is not found by it
    (packages / "dependencies.pth").write_text(sysconfig.get_path("purelib"))
    return [str(directory / "bin" / "python"), "-c", "import sys; from cli import main; sys.exit(main())"]


@pytest.fixture
def environ(settings):
    environ = environment(settings)
    del environ["PYTHONPATH"]
    return environ


@pytest.fixture
def run(installed, environ, tmp_path):
    def run(*arguments):
        done = subprocess.run(
            [*installed, *arguments], env=environ, cwd=tmp_path, capture_output=True, text=True, timeout=60
        )
        assert done.returncode == 0, done.stdout + done.stderr
        return done.stdout

    return run


def test_it_holds_every_file_of_the_packages(wheel):
    held = set(zipfile.ZipFile(wheel).namelist())
    wanted = {
        str(path.relative_to(ROOT))
        for name in ("app", "jobs")
        for path in (ROOT / name).rglob("*")
        if path.is_file() and path.suffix != ".pyc"
    }
    assert wanted <= held
    assert {"cli.py", "wsgi.py"} <= held
    assert not any(name.startswith(("tests/", "bench/", "build/")) for name in held)


def test_it_is_the_wheel_that_runs(installed):
    where = subprocess.check_output(
        [*installed[:2], "import app, cli; print(app.__file__, cli.__file__)"], text=True, cwd="/"
    )
    assert str(ROOT) not in where


@pytest.mark.parametrize("command", sorted([*cli.COMMANDS, *cli.kibotos.commands]))
def test_every_command_is_there(run, command):
    assert "Usage: " in run(command, "--help")


def test_it_sets_up_a_database(run, environ, new_database):
    environ["DATABASE_URL"] = new_database
    assert "The schema is in place." in run("db", "init")
    assert "has the current schema" in run("db", "check")
    starter = ROOT / "app" / "prompts" / "starter.json"
    assert " added, 0 changed." in run("prompts", "load", str(starter))
    run("db", "reset", "--force")


def test_its_processes_run(installed, environ, database, redis, tmp_path):
    """In a directory whose modules have the names of ours, and whose .env they read."""
    (tmp_path / "app.py").write_text("raise SystemExit('another app')")
    (tmp_path / "wsgi.py").write_text("raise SystemExit('another wsgi')")
    (tmp_path / ".env").write_text(f"DATABASE_URL={environ.pop('DATABASE_URL')}\n")
    [port] = free_ports(1)
    script = tmp_path.with_suffix(".py")
    # as installers write them: a script's own directory is on the path, not the working directory
    script.write_text("import sys\nfrom cli import main\nsys.exit(main())\n")
    started = []
    try:
        for name, *options in (["api", "--port", str(port)], ["worker"], ["scheduler"]):
            log = tmp_path / f"{name}.log"
            program = [installed[0], script]
            started.append(Process([name, *options], environ, log, tmp_path, program).start())

        def is_up():
            assert all(each.is_running for each in started), "".join(each.log.read_text() for each in started)
            try:
                return requests.get(f"http://127.0.0.1:{port}/docs", timeout=5).ok
            except requests.RequestException:
                return False

        eventually(is_up)
        eventually(lambda: all("worker_started" in each.log.read_text() for each in started[1:]))
    finally:
        for each in started:
            each.clean_up()


EXTRAS = {"miner": "miner,ffmpeg", "validator": "validator", "evaluator": "evaluator,ffmpeg"}
SERVER = {"flask", "flask_sqlalchemy", "sqlalchemy", "psycopg2", "gunicorn", "redis", "rq", "boto3"}
# `kibotos …` of each role that is to begin quickly
FIRST_STEPS = {"miner": ["miner"], "validator": ["validate"], "evaluator": ["evaluator"]}


@pytest.fixture(scope="module")
def roles(wheel, tmp_path_factory):
    """The program `kibotos` of an environment for each role, made by uv out of the wheel and its extra."""
    uv = shutil.which("uv") or str(ROOT / ".kibotos" / "uv" / "bin" / "uv")
    if not Path(uv).exists():
        pytest.skip("NOT RUN: there is no uv; bin/setup fetches it where it can")
    made = {}
    for role in EXTRAS:
        directory = tmp_path_factory.mktemp(role) / "venv"
        subprocess.run([uv, "venv", "--quiet", "--python", sys.executable, directory], check=True)
        install = [uv, "pip", "install", "--quiet", "--python", directory / "bin" / "python"]
        install += [
            "--constraint",
            ROOT / "requirements-dev.txt",
            f"kibotos[{EXTRAS[role]}] @ {wheel.as_uri()}",
        ]
        # what bin/setup has installed lies in uv's cache
        if subprocess.run([*install, "--offline"], capture_output=True).returncode:
            subprocess.run(install, check=True)
        made[role] = directory / "bin" / "kibotos"
    return made


@pytest.mark.parametrize("role", EXTRAS)
def test_an_environment_of_a_role_has_no_server_and_its_commands_begin_quickly(roles, role, tmp_path):
    packages = {each.name for each in roles[role].parent.parent.glob("lib/python*/site-packages/*")}
    assert not SERVER & packages
    assert ("cv2" in packages) is (role != "validator")
    assert ("bittensor" in packages) is (role == "validator")
    command = [roles[role], *FIRST_STEPS[role], "--help"]
    subprocess.run(command, check=True, capture_output=True)
    before = resource.getrusage(resource.RUSAGE_CHILDREN)
    subprocess.run(command, check=True, capture_output=True)
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    print(f"{role}: {after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime:.2f} s")
    # what takes the time, instead of a time that a busy machine would stretch
    code = "import sys, cli\ntry: cli.kibotos(sys.argv[1:])\nfinally: print(*sys.modules)"
    python = roles[role].with_name("python")
    seen = subprocess.check_output([python, "-c", code, *command[1:]], text=True)
    slow = {"numpy", "cv2", "structlog", "pydantic", "bittensor", "rich", "onnxruntime", "requests"}
    assert not slow & {*seen.splitlines()[-1].split()}
    # what is of another role
    lacking = subprocess.run([roles[role], "db", "check"], capture_output=True, text=True, cwd=tmp_path)
    assert lacking.returncode == 1
    assert "is not installed. Run: pip install 'kibotos[server]'" in lacking.stderr


@pytest.fixture
def role(roles, settings, tmp_path):
    """Runs `kibotos …` of a role, in an empty directory: `role("miner", "miner", "list")`."""

    def run(name, *arguments, code=0, **environ):
        base = {k: v for k, v in os.environ.items() if k in {"PATH", "LANG", "BITTENSOR_RUNTIME_CACHE_DIR"}}
        done = subprocess.run(
            [roles[name], *arguments],
            env=base | {"HOME": str(tmp_path), "TMPDIR": str(tmp_path), "APP_ENV": "production"} | environ,
            cwd=tmp_path,
            capture_output=True,
            text=True,
            timeout=120,
        )
        assert done.returncode == code, done.stdout + done.stderr
        return done.stdout

    return run


def colours(findings):
    return {each["check"]: each["ok"] and not each["advice"] for each in json.loads(findings)}


def test_each_role_does_its_work_with_its_own_packages(
    role, roles, app, settings, node, vlm, videos, tmp_path
):
    """A miner submits, an evaluator evaluates that, a validator sets weights; each asks its doctor before."""
    wallets = str(tmp_path / "wallets")
    keys = {}
    for name in ("filmer", "checker"):
        wallet = bittensor.Wallet(name, "default", wallets)
        keys[name] = wallet.create_new_hotkey(suppress=True).hotkey.ss58_address
    node.subnets[5].hotkeys[:2] = [keys["checker"], keys["filmer"]]
    on_chain = {"netuid": 5, "network": node.url}
    with app.app_context():
        factories.make_cycle("EVALUATING")
        factories.make_result(0.5, cycle_id=1, miner_uid=1, miner_hotkey=keys["filmer"])
        service.tick(replace(settings, **on_chain), Chain(node.url))
        ledger.store_all(Storage(settings))
        factories.make_prompt(id="mug", requirements={"min_duration": 2})
    with running(settings, tmp_path, **PRODUCTION, **on_chain) as url:
        filmer = ("--wallet-name", "filmer", "--wallet-path", wallets, "--api-url", url)
        found = role("miner", "doctor", "--role", "miner", *filmer, "--json")
        assert all(colours(found).values()), found
        video, statement = str(videos.make(seconds=2)), ("--prompt", "mug", "--uid", "1", "--yes")
        assert "Submitted: " in role("miner", "miner", "submit-video", video, *statement, *filmer)
        assert "PENDING" in role("miner", "miner", "list", *filmer)

        judge = {"EVALUATOR_TOKEN": EVALUATOR_TOKEN, "VLM_API_URL": vlm.url, "VLM_MODEL": vlm.model}
        found = role("evaluator", "doctor", "--role", "evaluator", "--api-url", url, "--json", **judge)
        assert all(colours(found).values()), found
        evaluator = Process(
            ["evaluator", "--api-url", url, "--poll-interval", "0.2"],
            environment(settings) | judge | {"PYTHONPATH": "", "DATABASE_URL": "", "APP_ENV": "production"},
            tmp_path / "evaluator.log",
            tmp_path,
            [roles["evaluator"]],
        ).start()
        try:
            eventually(lambda: "SCORED" in role("miner", "miner", "list", *filmer), 60)
        finally:
            evaluator.clean_up()

        checker = ("--wallet-name", "checker", "--wallet-path", wallets, "--backend-url", url)
        checker += ("--netuid", "5", "--network", node.url)
        found = role("validator", "doctor", "--role", "validator", *checker, "--json")
        assert all(colours(found).values()), found
        # the ledger shows the result that was put into the database without a submission
        refusal = role("validator", "validate", *checker, "--once", "--verify", code=1)
        assert "The weights are not those of their ledger" in refusal
        role("validator", "validate", *checker, "--once")
    assert [call["signer"] for call in node.calls] == [keys["checker"]]
