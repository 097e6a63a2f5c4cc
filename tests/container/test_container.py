"""compose.yaml as it stands gives what bin/up gives, from the image that the Dockerfile builds."""

import json
import os
import subprocess
import sys
from contextlib import suppress
from graphlib import TopologicalSorter

import pytest
import requests
import yaml

from tests.processes import ROOT, eventually
from tests.videos import footage

COMPOSE = ROOT / "deploy" / "docker" / "compose.yaml"
SERVICES = yaml.safe_load(COMPOSE.read_text())["services"]
API = "http://localhost:8080"
HOTKEY = "5GrwvaEF5zXb26Fz9rcQpDWS57CtERHpNehXCPcNoHGKutQY"
MAX_MEGABYTES = 1150


def podman(*arguments, check=True):
    done = subprocess.run(["podman", *arguments], capture_output=True, text=True)
    if check:
        assert done.returncode == 0, (arguments, done.stdout, done.stderr)
    return done


def compose(*arguments):
    command = ["podman-compose", "--file", str(COMPOSE), *arguments]
    done = subprocess.run(command, capture_output=True, text=True, timeout=300)
    assert done.returncode == 0, (arguments, done.stdout, done.stderr)


def container(service):
    return f"kibotos_{service}_1"


def in_container(service, *command, check=True):
    return podman("exec", container(service), *command, check=check)


def is_healthy(service):
    return podman("healthcheck", "run", container(service), check=False).returncode == 0


def logs(service):
    done = podman("logs", container(service))
    return done.stdout + done.stderr


def met(service, condition):
    """Whether what waits for `service` may start."""
    if condition == "service_healthy":
        return is_healthy(service)
    (found,) = json.loads(podman("inspect", container(service)).stdout)
    if condition == "service_started":
        return found["State"]["Running"]
    assert not found["State"]["ExitCode"], logs(service)
    return found["State"]["Status"] == "exited"


def up():
    """`up`, a service after the other: Debian's podman waits for no health, and trips over longer chains."""
    waits = {
        name: service.get("depends_on", {})
        | ({"front": {"condition": "service_started"}} if "network_mode" in service else {})
        for name, service in SERVICES.items()
        if "profiles" not in service
    }
    for name in TopologicalSorter(waits).static_order():
        for other, wanted in waits[name].items():
            eventually(lambda other=other, wanted=wanted: met(other, wanted["condition"]), 120)
        compose("up", "--no-build", "--no-deps", "--detach", name)
    eventually(lambda: answers("/ready"), 120)


def answers(path):
    with suppress(requests.RequestException):
        return requests.get(API + path, timeout=5).ok


def get(path):
    return requests.get(API + path, timeout=10).json()


@pytest.fixture(scope="module")
def stack():
    """Everything of compose.yaml, running."""
    compose("--profile", "releases", "down", "--volumes")
    try:
        up()
        yield
    except BaseException:
        for line in podman("ps", "--all", "--format", "{{.Names}} {{.Status}}").stdout.splitlines():
            print(line, podman("logs", "--tail", "20", line.split()[0], check=False).stdout[-3000:])
        raise
    finally:
        compose("--profile", "releases", "down", "--volumes")


def test_the_image_is_small_and_has_no_root():
    (image,) = json.loads(podman("image", "inspect", "localhost/kibotos").stdout)
    megabytes = image["Size"] / 1e6
    print(f"The image has {megabytes:.0f} MB")
    assert megabytes < MAX_MEGABYTES
    assert image["Config"]["User"] == "10001:10001"
    look = "id -u; ls /srv/kibotos; which pip gcc"
    found = podman("run", "--rm", "--network=none", "kibotos", "sh", "-c", look, check=False)
    assert found.stdout.split() == ["10001", "starter.json"]


def test_production_wants_its_settings():
    done = podman("run", "--rm", "--network=none", "kibotos", check=False)
    assert done.returncode == 1
    assert "DATABASE_URL is not set" in done.stderr


def test_a_film_gets_its_score(stack, tmp_path):
    assert len(get("/v1/prompts")) == 55
    assert "text/html" in requests.get(API, timeout=10).headers["Content-Type"]
    eventually(lambda: get("/v1/cycles/status")["active_cycle_id"], 120)
    command = [sys.executable, "-m", "cli", "miner", "submit-video", str(footage("bikes"))]
    command += ["--prompt", "manipulation-01", "--uid", "7", "--hotkey", HOTKEY, "--yes", "--json"]
    done = subprocess.run(
        command,
        cwd=tmp_path,
        env=os.environ | {"API_URL": API, "HOME": str(tmp_path), "PYTHONPATH": str(ROOT)},
        capture_output=True,
        text=True,
        timeout=300,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    place = f"/v1/submissions/{json.loads(done.stdout)['submission_uuid']}"
    found = eventually(lambda: (given := get(place))["evaluation"] and given, 300)
    report = get(f"{place}/report")
    print(f"It is {found['status']} with {found['evaluation']['final_score']}, by {report['judge']['model']}")
    assert found["status"] == "SCORED"
    assert report["judge"]["model"] == "offline-judge"


@pytest.mark.parametrize("service", ["web", "worker", "scheduler", "judge"])
def test_it_writes_nothing_but_its_scratch(stack, service):
    assert in_container(service, "id", "-u").stdout == "10001\n"
    assert in_container(service, "touch", "/srv/kibotos/x", check=False).returncode != 0
    in_container(service, "touch", "/tmp/x")


def test_the_health_check_tells(stack):
    assert is_healthy("web")
    signal_all = (
        "import os, signal; [os.kill(int(pid), signal.{}) for pid in os.listdir('/proc')"
        " if pid.isdecimal() and int(pid) not in (1, os.getpid())]"
    )
    in_container("web", "python", "-c", signal_all.format("SIGSTOP"))
    assert not is_healthy("web")
    in_container("web", "python", "-c", signal_all.format("SIGCONT"))
    eventually(lambda: is_healthy("web"))


def test_releases_start_when_asked_for(stack):
    compose("--profile", "releases", "up", "--no-build", "--no-deps", "--detach", "releases")
    eventually(lambda: "worker_started" in logs("releases"))


def test_it_stops_in_time_and_goes_on(stack):
    before = get("/v1/status")
    compose("down")
    up()
    assert get("/v1/status")["total_submissions"] == before["total_submissions"]
