"""`kibotos up` as a whole: starts, keeps its data, stops when asked, and leaves nothing running."""

import os
import re
import signal
import stat
import subprocess

import requests
from honcho.environ import parse_procfile

from app.local.up import PROCESSES
from tests.processes import ROOT, command, eventually
from tests.up import Up


def _gone(pids):
    return not any(command(pid) for pid in pids)


def test_it_runs_the_processes_of_the_procfile():
    procfile = parse_procfile((ROOT / "Procfile").read_text()).processes
    # what builds releases is not needed all the time, and `kibotos releases create` does it itself
    assert list(PROCESSES) == [name for name in procfile if name not in ("release", "releases")]


def test_it_starts_serves_stops_and_goes_on(up):
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
    family = up.family()
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
    assert up.stop(signal.SIGTERM) == 0


def test_a_second_one_on_the_same_data_is_refused(up):
    up.start().ready()
    second = Up(up.data)
    second.log = up.data.with_suffix(".second")
    assert second.start().process.wait(20) == 1
    assert re.fullmatch(r"Error: It runs already, as .*/env says; stop that first.*\n", second.output)


def test_a_taken_port_is_told(up, services):
    up.port = services["valkey"].port
    assert up.start().process.wait(20) == 1
    assert f"Port {up.port} is taken" in up.output


def test_production_is_refused(up):
    assert up.start(APP_ENV="production", DATABASE_URL="postgresql://u:p@h/d").process.wait(20) == 1
    assert "unset APP_ENV" in up.output


def test_nothing_outlives_it_when_it_is_killed(up):
    up.start().ready()
    family = up.family()
    assert len(family) > 8
    up.process.kill()
    up.process.wait()
    # the web workers and a job get the time to end in order
    eventually(lambda: _gone(family))
    up.start().ready()
    assert up.stop() == 0


def test_it_stops_when_one_of_its_processes_ends(up):
    up.start().ready()
    scheduler = next(pid for pid in up.family() if command(pid).rstrip().endswith("kibotos scheduler"))
    os.kill(scheduler, signal.SIGKILL)
    assert up.process.wait(40) == 1


def test_services_that_are_named_are_used(up, settings, database, redis, vlm):
    up.start(
        DATABASE_URL=settings.database_url.replace("+psycopg2", ""),
        REDIS_URL=settings.redis_url,
        S3_ENDPOINT=settings.s3_endpoint,
        AWS_ACCESS_KEY_ID=settings.aws_access_key_id,
        AWS_SECRET_ACCESS_KEY=settings.aws_secret_access_key,
        VLM_API_URL=vlm.url,
        VLM_MODEL=vlm.model,
    ).ready()
    assert "Starting PostgreSQL" not in up.output
    assert not any(name in command(pid) for pid in up.family() for name in ("postgres", "valkey", "weed"))
    assert up.environ()["VLM_API_URL"] == vlm.url
    assert f"judge        {vlm.url}, model {vlm.model}" in up.output
    assert "stand-in" not in up.output
    assert up.stop() == 0


def test_the_demo_ends_with_weights_whatever_proxy_leads_out(up):
    nobody = "http://127.0.0.1:9"
    proxies = dict.fromkeys(["http_proxy", "HTTP_PROXY", "https_proxy", "all_proxy"], nobody)
    assert up.start("--demo", **proxies, no_proxy="", NO_PROXY="").process.wait(120) == 0, up.output
    assert "does not understand pictures" in up.output
    assert re.search(r"sum +│ 1\.000000 +│ 65535", up.output)
