"""`kibotos up` as a whole: starts, keeps its data, stops when asked, and leaves nothing running."""

import os
import re
import signal
import stat
import subprocess

import requests
from dotenv import dotenv_values
from honcho.environ import parse_procfile

from app.local.up import PROCESSES
from tests import factories
from tests.processes import ROOT, command, eventually
from tests.up import Up


def _gone(pids):
    return not any(command(pid) for pid in pids)


def test_it_runs_the_processes_of_the_procfile():
    procfile = parse_procfile((ROOT / "Procfile").read_text()).processes
    # what builds releases is not needed all the time, and `kibotos releases create` does it itself
    assert list(PROCESSES) == [name for name in procfile if name not in ("release", "releases")]


def test_it_starts_serves_stops_and_goes_on(up):
    """One after the other, since each start costs ten seconds of a processor."""
    up.start().ready()
    prompts = requests.get(f"{up.url}/v1/prompts").json()
    assert len(prompts) == 55
    assert len(requests.get(f"{up.url}/v1/prompts/categories").json()) == 5
    assert requests.get(f"{up.url}/ready").json()["status"] == "ready"
    status = eventually(lambda: (s := requests.get(f"{up.url}/v1/status").json())["workers"] and s)
    assert eventually(lambda: requests.get(f"{up.url}/v1/cycles/status").json()["active_cycle_id"]) == 1
    assert status["total_prompts"] == 55
    first = up.environ()
    assert stat.S_IMODE((up.data / "env").stat().st_mode) == 0o600
    assert len(first["ADMIN_TOKEN"]) >= 32 and first["ADMIN_TOKEN"] != first["EVALUATOR_TOKEN"]
    # the operator guide's line, as printed
    body = {"id": "manip-001", "category": "manipulation", "task": "grasp", "scenario": "Pick up a mug"}
    assert requests.post(f"{up.url}/v1/admin/prompts", json=body).status_code == 201

    assert f"judge        {first['VLM_API_URL']}, model offline-judge" in up.output
    assert f"Look at it: {up.url}\n" in up.output

    # a second one on the same data is refused
    second = Up(up.data)
    second.log = up.data.with_suffix(".second")
    assert second.start().process.wait(120) == 1
    assert re.fullmatch(r"Error: It runs already, as .*/env says; stop that first.*\n", second.output)

    family = up.family()
    assert len(family) > 8
    assert up.stop(signal.SIGINT) == 0, up.output
    assert _gone(family)

    # as printed
    line = re.search(r"in a shell: (.*)\)", up.output)[1]
    printed = subprocess.check_output(["bash", "-c", f"{line}; echo $ADMIN_TOKEN"], text=True)
    assert printed.strip() == first["ADMIN_TOKEN"]

    # with what the first wrote read into the shell: these servers are its own, not another's
    up.start(**{name: first[name] for name in ("DATABASE_URL", "REDIS_URL", "S3_ENDPOINT", "VLM_API_URL")})
    up.ready()
    assert len(requests.get(f"{up.url}/v1/prompts").json()) == 56
    assert up.environ() == first
    family = up.family()
    up.process.kill()
    up.process.wait()
    # the web workers and a job get the time to end in order
    eventually(lambda: _gone(family))

    up.start().ready()
    family = up.family()
    scheduler = next(pid for pid in family if command(pid).rstrip().endswith("kibotos scheduler"))
    os.kill(scheduler, signal.SIGKILL)
    # all stops when one of the processes ends
    assert up.process.wait(120) == 1
    assert _gone(family)


def test_a_taken_port_is_told(up, services):
    up.port = services["valkey"].port
    assert up.start().process.wait(120) == 1
    assert f"Port {up.port} is taken" in up.output


def test_production_is_refused(up):
    assert up.start(APP_ENV="production", DATABASE_URL="postgresql://u:p@h/d").process.wait(120) == 1
    assert "unset APP_ENV" in up.output


def test_services_that_are_named_are_used_and_a_demo_that_fails_ends(up, settings, app, redis, vlm):
    with app.app_context():
        # the demo's own prompt: its database is not new
        factories.make_prompt(id="demo-box")
    up.start(
        "--demo",
        "--stay",
        DATABASE_URL=settings.database_url.replace("+psycopg2", ""),
        REDIS_URL=settings.redis_url,
        S3_ENDPOINT=settings.s3_endpoint,
        AWS_ACCESS_KEY_ID=settings.aws_access_key_id,
        AWS_SECRET_ACCESS_KEY=settings.aws_secret_access_key,
        VLM_API_URL=vlm.url,
        VLM_MODEL=vlm.model,
    )
    assert up.process.wait(120) == 1
    assert "Starting web, worker and scheduler" in up.output
    assert "Starting PostgreSQL" not in up.output
    assert "The demo stopped: " in up.output
    assert dotenv_values(up.data / "demo" / "env")["VLM_API_URL"] == vlm.url


def test_the_demo_ends_with_weights_whatever_proxy_leads_out_and_leaves_the_rest_alone(up):
    up.data.mkdir(mode=0o711)
    env = up.data / "env"
    env.write_text("ADMIN_TOKEN=of-what-runs-without-demo\n")
    before = env.stat()
    nobody = "http://127.0.0.1:9"
    proxies = dict.fromkeys(["http_proxy", "HTTP_PROXY", "https_proxy", "all_proxy"], nobody)
    up.start("--demo", "--stay", **proxies, no_proxy="", NO_PROXY="")
    eventually(lambda: "Ctrl-C ends it" in up.output or up.process.poll() is not None, 240)
    assert "does not understand pictures" in up.output
    assert re.search(r"sum +│ .* │ 1\.0000 │ 65535", up.output), up.output
    for said in ("black throughout", "cut short", "The same file was scored before"):
        assert said in re.sub(r"\s+", " ", up.output)

    # it stays, and shows what it said
    assert f"Look at it: {up.url}\n" in up.output
    first = re.search(r"submission (\S+) is PENDING", up.output)[1]
    assert "Hold a box in one hand" in requests.get(f"{up.url}/submissions/{first}").text
    assert requests.get(f"{up.url}/v1/cycles/status").json()["last_completed_cycle_id"] == 1
    family = up.family()
    assert up.stop(signal.SIGINT) == 0
    assert _gone(family)

    assert env.read_text() == "ADMIN_TOKEN=of-what-runs-without-demo\n"
    assert env.stat().st_mtime_ns == before.st_mtime_ns
    assert {path.name for path in up.data.iterdir()} == {"demo", "env", "lock"}
