"""What lies in deploy/ fits the service: metric names, commands, hardening."""

import json
import re
import shutil
import subprocess
from contextlib import suppress
from pathlib import Path

import pytest
import requests
import yaml
from click.testing import CliRunner
from prometheus_client.parser import text_string_to_metric_families

from app.local.process import free_ports
from app.retention.models import Tally
from cli import kibotos
from tests import factories
from tests.api.conftest import ADMIN_TOKEN, PRODUCTION, running
from tests.processes import eventually

DEPLOY = Path(__file__).parent.parent / "deploy"
UNITS = sorted((DEPLOY / "systemd").iterdir())
ALERTS = yaml.safe_load((DEPLOY / "prometheus" / "alerts.yml").read_text())
RULES = ALERTS["groups"][0]["rules"]
ALERTMANAGER = yaml.safe_load((DEPLOY / "prometheus" / "alertmanager.yml").read_text())
PROMETHEUS = shutil.which("prometheus")
PROMTOOL = shutil.which("promtool")
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
    panels = [target["expr"] for panel in DASHBOARD["panels"] for target in panel["targets"]]
    wanted = set(re.findall(r"kibotos_\w+", " ".join([*(rule["expr"] for rule in RULES), *panels])))
    assert wanted - exported == set()
    assert len(RULES) >= 10
    for rule in RULES:
        assert rule["annotations"].keys() == {"summary", "action"}
        assert rule["labels"]["severity"] in {"page", "warn"}


def test_alertmanager_sends_each_severity_somewhere_and_silences_what_exists():
    names = {rule["alert"] for rule in RULES}
    receivers = {receiver["name"] for receiver in ALERTMANAGER["receivers"]}
    route = ALERTMANAGER["route"]
    routed = {each["matchers"][0]: each["receiver"] for each in route["routes"]}
    assert (
        {route["receiver"], *routed.values()} == receivers == {rule["labels"]["severity"] for rule in RULES}
    )
    assert routed == {f'severity="{receiver}"': receiver for receiver in receivers - {route["receiver"]}}
    for rule in ALERTMANAGER["inhibit_rules"]:
        for matcher in rule["source_matchers"] + rule["target_matchers"]:
            (pattern,) = re.findall(r'alertname!?=~?"(.*)"', matcher)
            every = re.sub(
                r"(\w*)\(([^)]*)\)", lambda m: "|".join(m[1] + each for each in m[2].split("|")), pattern
            )
            assert all(any(re.fullmatch(each, name) for name in names) for each in every.split("|")), matcher


@pytest.fixture
def prometheus(settings, app, tmp_path):
    """Starts Prometheus with our rules, at a service with some work; gives what answers a query."""
    with app.app_context():
        factories.make_submission(cycle_id=factories.make_cycle())
        for tick in ("cycles", "backup"):
            factories.insert("ticks", name=tick, last_started_at="now")
        swept = {"accepted": vars(Tally(objects=2, size_bytes=1000)), "aborted": 1}
        factories.insert("storage_sweeps", found=swept, finished_at="now")
        factories.insert(
            "judge_usage", day="today", model="m", calls=2, prompt_tokens=10, completion_tokens=2
        )
        report = json.dumps({"report_version": 2, "stage_seconds": {"scan": 1.5}})
        factories.insert(
            "verification_reports", "1", submission_id=factories.make_result(), report=json.loads(report)
        )
    limits = {"vlm_daily_token_budget": 100, "storage_limit_gb": 1.0}
    with running(settings, tmp_path, **PRODUCTION, **limits) as url:
        yield from _scraping(url, tmp_path)


def _scraping(url, tmp_path):
    scrape = yaml.safe_load((DEPLOY / "prometheus" / "scrape.yml").read_text())
    (job,) = scrape["scrape_configs"]
    (tmp_path / "token").write_text(ADMIN_TOKEN)
    job["authorization"]["credentials_file"] = str(tmp_path / "token")
    job["static_configs"][0]["targets"] = [url.removeprefix("http://")]
    job["scrape_interval"] = "1s"
    scrape["rule_files"] = [str(DEPLOY / "prometheus" / "alerts.yml")]
    (tmp_path / "prometheus.yml").write_text(yaml.safe_dump(scrape))
    (port,) = free_ports(1)
    command = [
        PROMETHEUS,
        f"--config.file={tmp_path}/prometheus.yml",
        f"--web.listen-address=127.0.0.1:{port}",
    ]
    command += [f"--storage.tsdb.path={tmp_path}/data"]

    def query(expression):
        answer = requests.post(
            f"http://127.0.0.1:{port}/api/v1/query", data={"query": expression}, timeout=5
        ).json()
        assert answer["status"] == "success", (expression, answer)
        return answer["data"]["result"]

    def has_scraped():
        requests.get(f"{url}/health", timeout=5)
        requests.post(f"{url}/v1/upload/presign", timeout=5)
        with suppress(requests.RequestException):
            counted = query("sum(count_over_time(kibotos_http_requests_total[1m]))")
            return counted and query("count_over_time(kibotos_database_up[1m]) >= 3")

    with (
        (tmp_path / "prometheus.log").open("w") as log,
        subprocess.Popen(command, stdout=log, stderr=log, cwd=tmp_path) as process,
    ):
        try:
            eventually(has_scraped)
            yield query
        finally:
            process.kill()


@pytest.mark.skipif(
    PROMETHEUS is None, reason="NOT RUN: no Prometheus; install it (apt-get install prometheus)"
)
def test_every_query_is_answered_by_a_real_prometheus(prometheus):
    """Each panel shows something, and no alert has an expression that fails."""
    for panel in DASHBOARD["panels"]:
        for target in panel["targets"]:
            assert prometheus(target["expr"]), (panel["title"], target["expr"])
    for rule in RULES:
        prometheus(rule["expr"])


@pytest.mark.skipif(PROMTOOL is None, reason="NOT RUN: no promtool; it comes with Prometheus")
def test_what_fills_up_or_stands_still_is_told_of(tmp_path):
    """By Prometheus itself, which is given samples of two days and asked which alerts it raises."""
    steady = {
        'kibotos_storage_bytes{class="accepted", instance="a"}': "70e9x48",
        'kibotos_storage_bytes{class="accepted", instance="b"}': "70e9x48",
        'kibotos_storage_bytes{class="release", instance="a"}': "18e9+1e9x48",
        "kibotos_storage_limit_bytes": "100e9x48",
        "kibotos_sweep_unfinished_seconds": "0+3600x48",
        "kibotos_release_films_pending": "5x48",
        'kibotos_tick_age_seconds{tick="backup"}': "172000+3600x48",
    }
    raised = {
        "KibotosStorageNearFull": (
            "3h",
            "The bucket holds 91GB, more than nine tenths of STORAGE_LIMIT_GB. "
            "When it is full, nothing can be uploaded.",
        ),
        "KibotosSweepUnfinished": (
            "13h",
            "The nightly sweep of the bucket began 13h 0m 0s ago and has not ended: "
            "what is over its time stays.",
        ),
        "KibotosReleaseStuck": ("2h", "5 films of releases wait, and none was made for an hour."),
        "KibotosBackupLate": ("1h", "The last backup of the database was begun 2d 0h 46m 40s ago."),
    }
    actions = {rule["alert"]: (rule["labels"], rule["annotations"]["action"]) for rule in RULES}
    expected = [
        {
            "eval_time": since,
            "alertname": name,
            "exp_alerts": [
                {
                    "exp_labels": actions[name][0],
                    "exp_annotations": {"summary": summary, "action": actions[name][1]},
                }
            ],
        }
        for name, (since, summary) in raised.items()
    ]
    cases = {
        "rule_files": [str(DEPLOY / "prometheus" / "alerts.yml")],
        "evaluation_interval": "1h",
        "tests": [
            {
                "interval": "1h",
                "input_series": [{"series": name, "values": values} for name, values in steady.items()],
                "alert_rule_test": [{"eval_time": "0m", "alertname": name} for name in raised] + expected,
            }
        ],
    }
    (tmp_path / "cases.yml").write_text(yaml.safe_dump(cases))
    checked = subprocess.run(
        [PROMTOOL, "test", "rules", str(tmp_path / "cases.yml")], capture_output=True, text=True, check=False
    )
    assert checked.returncode == 0, checked.stdout + checked.stderr


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


@pytest.mark.parametrize("name", ["worker", "releases", "evaluator"])
def test_units_that_run_ffmpeg_let_it_be_confined(name):
    text = (DEPLOY / "systemd" / f"kibotos-{name}@.service").read_text()
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
