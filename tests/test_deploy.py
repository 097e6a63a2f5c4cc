"""What lies in deploy/ fits the service: metric names, commands, hardening."""

import json
import re
import shutil
import subprocess
from pathlib import Path

import pytest
import yaml
from click.testing import CliRunner
from prometheus_client.parser import text_string_to_metric_families

from cli import kibotos
from tests import factories

DEPLOY = Path(__file__).parent.parent / "deploy"
UNITS = sorted((DEPLOY / "systemd").iterdir())
ALERTS = yaml.safe_load((DEPLOY / "prometheus" / "alerts.yml").read_text())
DASHBOARD = json.loads((DEPLOY / "grafana" / "kibotos.json").read_text())


@pytest.fixture
def exported(app, client):
    """The names of all samples the service exports."""
    with app.app_context():
        factories.make_submission(cycle_id=factories.make_cycle())
    client.get("/health")
    text = client.get("/metrics").text
    names = {sample.name for family in text_string_to_metric_families(text) for sample in family.samples}
    # some have no samples before the first of their kind
    return names | set(re.findall(r"^# TYPE (\S+)", text, re.MULTILINE))


def test_alerts_and_dashboard_ask_for_metrics_that_exist(exported):
    rules = ALERTS["groups"][0]["rules"]
    panels = [target["expr"] for panel in DASHBOARD["panels"] for target in panel["targets"]]
    wanted = set(re.findall(r"kibotos_\w+", " ".join([*(rule["expr"] for rule in rules), *panels])))
    assert wanted - exported == set()
    assert len(rules) >= 10
    for rule in rules:
        assert rule["annotations"].keys() == {"summary", "action"}
        assert rule["labels"]["severity"] in {"page", "warn"}


@pytest.mark.parametrize("unit", UNITS, ids=lambda unit: unit.name)
def test_units_start_commands_that_exist(unit):
    (start,) = re.findall(r"^ExecStart=/opt/kibotos/.venv/bin/kibotos (.*)$", unit.read_text(), re.MULTILINE)
    command, *options = start.split()
    help = CliRunner().invoke(kibotos, [command, "--help"])
    assert help.exit_code == 0, help.output
    for option in options[::2]:
        assert f"{option} " in help.output


@pytest.mark.parametrize("unit", UNITS, ids=lambda unit: unit.name)
def test_units_are_hardened(unit):
    text = unit.read_text()
    for line in ("NoNewPrivileges=yes", "ProtectSystem=strict", "CapabilityBoundingSet=", "PrivateTmp=yes"):
        assert f"\n{line}\n" in text
    if analyze := shutil.which("systemd-analyze"):
        command = [analyze, "security", "--offline=true", "--no-pager", "--threshold=20", str(unit)]
        subprocess.run(command, check=True, capture_output=True)


@pytest.mark.parametrize(
    "unit", ["kibotos-worker@.service", "kibotos-releases@.service", "kibotos-evaluator@.service"]
)
def test_units_that_run_ffmpeg_let_it_be_confined(unit):
    text = (DEPLOY / "systemd" / unit).read_text()
    allowed = " ".join(re.findall(r"^SystemCallFilter=([^~].*)$", text, re.MULTILINE)).split()
    # no set of systemd 252 contains them
    needed = {"landlock_create_ruleset", "landlock_add_rule", "landlock_restrict_self", "seccomp"}
    assert needed <= set(allowed)


def test_nginx_refuses_with_problem_json():
    text = (DEPLOY / "nginx" / "kibotos.conf").read_text()
    (body,) = re.findall(r"return 200 '(.*)';", text)
    assert json.loads(body.replace("$status", "413")).keys() == {
        "type",
        "title",
        "status",
        "detail",
        "request_id",
    }
    (details,) = re.findall(r"\$kibotos_detail \{(.*?)\}", text, re.DOTALL)
    for detail in re.findall('"(.*)";', details):
        assert detail.endswith(".") and "\\" not in detail
