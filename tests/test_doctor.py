import dataclasses
import json
import os
import pwd
import shutil
import subprocess
import sys
import threading
import uuid
from contextlib import ExitStack, closing
from datetime import UTC, datetime, timedelta
from urllib.parse import urlsplit

import psycopg2
import pytest
from sqlalchemy import text

from app.clients.storage import Storage
from app.db import db
from app.doctor.checks import Doctor, Finding
from app.ledger import service as ledger
from app.local.judge import OfflineJudge
from app.mirror import service as mirror
from app.proofs.keys import create_key
from app.storage.bucket import Bucket
from tests import factories
from tests.conftest import harmless_user, read_only
from tests.pooler import pgbouncer, stand_in
from tests.processes import environment
from tests.tls import self_sign, tls_proxy
from tests.vlm_server import completion, refuses_when, sees_only

NOWHERE = "127.0.0.1:1"


@pytest.fixture
def examine(run_kibotos, settings, database, redis, vlm):
    """Runs `kibotos doctor --json` on a whole installation with changes to its settings: {check: finding}."""

    def examine(**changes):
        changes = {"vlm_api_url": vlm.url, "vlm_model": vlm.model} | changes
        result = run_kibotos("doctor", "--json", **environment(settings, **changes))
        findings = {finding["check"]: finding for finding in json.loads(result.stdout)}
        assert result.exit_code == int(not all(finding["ok"] for finding in findings.values()))
        return findings

    return examine


@pytest.fixture
def self_signed(tmp_path):
    """Puts self-signed TLS before a server: `self_signed(url)` is (certificate file, new address)."""
    context, certificate = self_sign(tmp_path)
    with ExitStack() as proxies:

        def start(url):
            parts = urlsplit(url)
            port = proxies.enter_context(tls_proxy(context, parts.port))
            return certificate, f"rediss://:{parts.password}@127.0.0.1:{port}{parts.path}"

        yield start


def reds(findings):
    return {name for name, finding in findings.items() if not finding["ok"]}


@pytest.fixture
def at_work(app, redis):
    """What a running installation leaves in the database and Redis: a tick, a worker, a prompt."""
    redis.sadd("rq:workers:evaluations", "rq:worker:one")
    redis.hset("rq:worker:one", "birth", "now")
    with app.app_context():
        factories.make_prompt()
        factories.insert("ticks", name="cycles", last_started_at=datetime.now(UTC))


def test_a_sound_installation_is_green(examine, at_work, vlm):
    findings = examine(paint_writing=True)
    assert reds(findings) == set()
    assert "paints it over" in findings["painter"]["detail"]
    assert findings["database"]["detail"].startswith("PostgreSQL 18.")
    assert "PUT, GET and DELETE" in findings["storage"]["detail"]
    assert ", ffprobe " in findings["ffmpeg"]["detail"]
    assert "append-only file" in findings["redis"]["detail"]
    assert [len(request.images) for request in vlm.requests] == [9, 9]
    assert "sees all of 9 pictures of 768 pixels" in findings["judge"]["detail"]


def test_an_idle_installation_says_what_to_run(examine):
    findings = examine()
    assert reds(findings) == {"scheduler", "workers", "prompts"}
    assert findings["scheduler"]["advice"] == "Run: kibotos scheduler"
    assert "kibotos worker" in findings["workers"]["advice"]
    assert "kibotos prompts load" in findings["prompts"]["advice"]
    assert "Leave PAINT_WRITING out" in findings["painter"]["advice"]


@pytest.mark.parametrize(
    ("changes", "red", "said"),
    [
        ({"redis_url": f"redis://:secret@{NOWHERE}/0"}, {"redis", "workers", "queue"}, "out of reach"),
        ({"s3_endpoint": f"http://{NOWHERE}"}, {"storage"}, "out of reach"),
        ({"s3_bucket": "kibotos-no-such-bucket"}, {"storage"}, "does not exist"),
        ({"aws_access_key_id": "unknown"}, {"storage"}, "does not know the access key unknown"),
        ({"aws_secret_access_key": "wrong"}, {"storage"}, "AWS_SECRET_ACCESS_KEY does not belong"),
        ({"vlm_api_url": ""}, {"judge"}, "VLM_API_URL is not set"),
        ({"vlm_model": "no-such-model"}, {"judge"}, "404"),
        ({"vlm_api_url": f"http://secret@{NOWHERE}/v1?key=secret"}, {"judge"}, "***"),
        ({"s3_endpoint": f"http://user:secret@{NOWHERE}"}, {"storage"}, "out of reach"),
        ({"netuid": 1, "network": f"ws://{NOWHERE}"}, {"chain"}, "out of reach"),
        ({"app_env": "production"}, {"settings"}, "ADMIN_TOKEN is not set"),
        ({"database_pool_size": 200}, {"connections"}, "want up to"),
    ],
)
def test_what_is_wrong_is_red_and_nothing_else(examine, at_work, changes, red, said):
    findings = examine(**changes)
    assert reds(findings) == red
    first = next(finding for finding in findings.values() if not finding["ok"])
    assert said in first["detail"]
    assert first["advice"]
    assert "secret" not in json.dumps(findings)


def test_production_without_a_subnet_is_warned(examine, at_work):
    findings = examine(app_env="production", admin_token=("a" * 32,), evaluator_token=("e" * 32,))
    assert "chain" not in reds(findings)
    assert "Set NETUID" in findings["chain"]["advice"]
    assert not examine()["chain"]["advice"]


def test_without_a_database_the_rest_is_still_examined(examine, at_work):
    findings = examine(database_url=f"postgresql+psycopg2://u:secret@{NOWHERE}/k")
    assert {"database", "schema", "cycle"} <= reds(findings)
    assert findings["redis"]["ok"] and findings["storage"]["ok"] and findings["judge"]["ok"]
    assert "psql" in findings["database"]["advice"]
    assert "secret" not in json.dumps(findings)


@pytest.mark.parametrize("pooler", [stand_in, pgbouncer])
def test_a_pooler_is_green_in_session_mode_and_red_in_transaction_mode(examine, at_work, database, pooler):
    with pooler(database, "session") as url:
        assert reds(examine(database_url=url)) == set()
    with pooler(database, "transaction") as url:
        findings = examine(database_url=url)
    assert reds(findings) == {"database"}
    assert "transaction or statement mode" in findings["database"]["detail"]
    assert "pool_mode = session" in findings["database"]["advice"]


def test_a_database_that_may_only_be_read_is_red(examine, at_work, database):
    with read_only(database):
        findings = examine()
    assert reds(findings) == {"database"}
    assert "standby" in findings["database"]["detail"]


def test_a_missing_table_is_not_told_as_an_absent_database(examine, at_work, postgres):
    with closing(psycopg2.connect(postgres.url)) as connection:
        connection.autocommit = True
        connection.cursor().execute("CREATE DATABASE without_schema")
    findings = examine(database_url=postgres.database_url("without_schema"))
    assert findings["database"]["ok"]
    assert findings["schema"]["advice"] == "Run: kibotos db init"
    assert {finding["detail"].count("out of reach") for finding in findings.values()} == {0}


def test_a_redis_user_without_dangerous_commands_is_green(examine, at_work, redis, valkey):
    findings = examine(redis_url=harmless_user(redis, valkey))
    assert reds(findings) == set()
    assert "may not read" in findings["redis"]["detail"]


def test_a_self_signed_redis_is_red_until_it_is_trusted(examine, at_work, valkey, self_signed):
    certificate, url = self_signed(valkey.url)
    findings = examine(redis_url=url)
    assert reds(findings) == {"redis", "workers", "queue"}
    assert "REDIS_TLS_VERIFY=false" in findings["redis"]["advice"]
    assert reds(examine(redis_url=url, redis_tls_verify=False)) == set()
    assert reds(examine(redis_url=f"{url}?ssl_ca_certs={certificate}")) == set()


def test_an_evicting_redis_is_red(examine, at_work, redis):
    redis.config_set("maxmemory-policy", "allkeys-lru")
    try:
        findings = examine()
    finally:
        redis.config_set("maxmemory-policy", "noeviction")
    assert reds(findings) == {"redis"}
    assert "allkeys-lru" in findings["redis"]["detail"]


def test_a_judge_without_form_is_red(examine, at_work, vlm):
    vlm.always(completion(message={"content": "A black digit, nice."}))
    findings = examine()
    assert reds(findings) == {"judge"}
    assert "no usable answer" in findings["judge"]["detail"]


def test_a_judge_whose_server_cuts_requests_silently_is_red(examine, at_work, vlm):
    vlm.habits = [sees_only(3)]
    findings = examine()
    assert reds(findings) == {"judge"}
    assert "was shown 9 pictures of 768 pixels and saw 3" in findings["judge"]["detail"]
    assert "OLLAMA_CONTEXT_LENGTH" in findings["judge"]["advice"]


def test_a_judge_that_takes_fewer_pictures_is_warned_of_and_under_the_floor_red(examine, at_work, vlm):
    for most, red in ((5, set()), (3, {"judge"})):
        said = f"At most {most} image(s) may be provided in one request."
        vlm.habits = [refuses_when(lambda request, most=most: len(request.images) > most, said)]
        findings = examine()
        assert reds(findings) == red
        assert "--limit-mm-per-prompt '{\"image\": 9}'" in findings["judge"]["advice"]
        assert (said in findings["judge"]["detail"]) == bool(red)


def test_a_judge_that_misreads_is_warned_of(examine, at_work, vlm):
    vlm.then({}, '{"digits": "000000000"}')
    finding = examine()["judge"]
    assert finding["ok"] and "reads 000000000" in finding["detail"]


def test_the_stand_in_for_a_judge_is_named_as_such(examine, at_work):
    with OfflineJudge() as judge:
        threading.Thread(target=judge.serve_forever, kwargs={"poll_interval": 0.02}, daemon=True).start()
        finding = examine(vlm_api_url=judge.url, vlm_model=judge.model)["judge"]
        judge.shutdown()
    assert finding["ok"] and "does not understand pictures" in finding["detail"]


def test_a_late_tick_is_red(examine, at_work, app):
    with app.app_context():
        factories.insert("ticks", name="reconcile", last_started_at=datetime.now(UTC), last_error="Oh.")
        assert reds(examine()) == {"scheduler"}


def test_it_tells_why_a_cycle_does_not_complete(examine, at_work, app):
    with app.app_context():
        cycle = factories.make_cycle("EVALUATING")
        assert "cycle 1 waits" in examine()["cycle"]["detail"]
        for fault in ("Storage: away.", "The judge is away.", "The judge is away."):
            factories.make_submission(cycle_id=cycle, attempts=1, faults=1, last_fault=fault)
    finding = examine()["cycle"]
    assert not finding["ok"]
    assert "3 pending submissions" in finding["detail"]
    assert "most often: The judge is away." in finding["detail"]


def test_it_tells_that_a_cycle_waits_for_the_metagraph(examine, at_work, app):
    with app.app_context():
        factories.make_cycle("EVALUATING")
    finding = examine(netuid=5)["cycle"]
    assert not finding["ok"]
    assert "for the first metagraph of subnet 5" in finding["detail"]
    with app.app_context():
        factories.insert("chain_state", metagraph_netuid=5, metagraph_snapshot_at="now")
    assert examine(netuid=5)["cycle"]["ok"]


def test_work_that_waits_too_long_is_red(examine, at_work, app):
    with app.app_context():
        factories.make_submission(not_before=datetime.now(UTC) - timedelta(hours=1))
    finding = examine()["queue"]
    assert "60 min" in finding["detail"]
    assert "--count" in finding["advice"]


def test_the_screen_has_a_line_a_check(run_kibotos, settings, database, redis):
    result = run_kibotos("doctor", **environment(settings))
    marks = ("ok ", "RED", "warn", "-- ")
    shown = [line.split() for line in result.stdout.splitlines() if line.startswith(marks)]
    assert [name for _, name, *_ in shown] == list(Doctor(settings).checks())
    assert "RED  judge" in result.stdout


@pytest.fixture
def black_hole(tmp_path):
    """Runs a command where no packet is answered: in a network of its own, whose one link leads nowhere."""
    if os.geteuid() != 0 or shutil.which("ip") is None:
        pytest.skip("needs root and iproute2: it makes a network that swallows all packets")
    setup = (
        "ip link set lo up && ip link add v0 type veth peer name v1 && ip link set v0 arp off && "
        "ip addr add 10.9.9.1/24 dev v0 && ip link set v0 up && ip link set v1 up && "
        "ip route add default dev v0 && "
        'mount --bind "$0" /etc/resolv.conf && exec "$@"'
    )
    resolver = tmp_path / "resolv.conf"
    resolver.write_text("nameserver 10.255.255.53\n")

    def run(*command, **environ):
        inside = ["unshare", "--net", "--mount", "sh", "-c", setup, resolver, *command]
        return subprocess.run(inside, env=environ, cwd=tmp_path, capture_output=True, text=True, timeout=300)

    return run


def test_machines_that_swallow_packets_are_told_of_at_once(black_hole, settings):
    """Each by the same two seconds, whether it was asked for by its address or by a name."""
    down = {
        "database_url": "postgresql+psycopg2://u:secret@10.255.255.1/k",
        "redis_url": "redis://redis.example.org/0",
        "s3_endpoint": "http://10.255.255.1:9000",
        "vlm_api_url": "http://judge.example.org/v1",
        "netuid": 1,
        "network": "finney",
    }
    result = black_hole(sys.executable, "-m", "cli", "doctor", "--json", **environment(settings, **down))
    findings = {finding["check"]: finding for finding in json.loads(result.stdout)}
    for name in ("database", "storage"):
        assert findings[name]["detail"].endswith("out of reach: it takes no connection within 2 s")
    for name in ("redis", "judge", "chain"):
        assert findings[name]["detail"].endswith("no name server says where that is within 2 s")
    assert all(
        finding["ok"] or finding["advice"] or "not examined" in finding["detail"]
        for finding in findings.values()
    )


def test_one_cause_comes_first_and_what_follows_from_it_is_left_out(run_kibotos, settings, redis):
    """Everything is down: the first line says with what to begin, and nothing is told twice."""
    down = {
        "database_url": f"postgresql+psycopg2://u:secret@{NOWHERE}/k",
        "redis_url": f"redis://{NOWHERE}/0",
        "s3_endpoint": f"http://{NOWHERE}",
        "vlm_api_url": f"http://{NOWHERE}/v1",
        "netuid": 1,
        "network": f"ws://{NOWHERE}",
        "mirror_bucket": "public",
    }
    result = run_kibotos("doctor", **environment(settings, **down))
    assert result.exit_code == 1
    lines = result.stdout.splitlines()
    # a mirror needs a key that signs
    assert lines[0].startswith("Begin with the settings: MIRROR_BUCKET is set")
    told = {line.split()[1] for line in lines if line.startswith("RED")}
    assert told == {"settings", "database", "redis", "storage", "judge", "chain"}
    left_out = {line.split()[1]: line.rpartition(" ")[2] for line in lines if line.startswith("-- ")}
    assert left_out == {
        "schema": "database",
        "connections": "database",
        "scheduler": "database",
        "workers": "redis",
        "queue": "database",
        "cycle": "database",
        "ledgers": "database",
        "mirror": "database",
        "prompts": "database",
    }
    assert "not known" not in result.output and "secret" not in result.output


def test_a_user_who_may_not_read_the_settings_is_told_who_may(settings, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / ".env").touch()
    unknown = dataclasses.replace(settings, database_url="")
    findings = Doctor(unknown, "/srv/.env cannot be read (Permission denied)").examine_all()
    first = findings[0]
    assert first.check == "settings" and "cannot be read" in first.detail
    assert f"sudo -u {pwd.getpwuid(os.getuid()).pw_name} kibotos doctor" in first.advice
    rest = {finding.check: finding for finding in findings[1:]}
    assert rest["ffmpeg"].ok
    for name in rest.keys() - {"ffmpeg", "painter"}:
        assert rest[name].detail == "not examined: first repair the settings"


def test_settings_that_other_users_can_read_are_warned_of(app, settings, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    for mode, said in ((0o600, ""), (0o640, "Run: chmod 600 .env"), (0o604, "Run: chmod 600 .env")):
        (tmp_path / ".env").touch()
        (tmp_path / ".env").chmod(mode)
        doctor = Doctor(settings)
        with app.app_context():
            finding = doctor.examine("settings", doctor.settings)
        assert finding.ok and finding.advice == said


def test_the_command_does_not_stop_at_settings_that_it_may_not_read(run_kibotos, tmp_path):
    # a file that nobody can read, root neither
    (tmp_path / ".env").symlink_to("/proc/self/mem")
    result = run_kibotos("doctor")
    assert result.exit_code == 1
    assert result.stdout.startswith(f"Begin with the settings: {tmp_path}/.env cannot be read")
    assert "ok   ffmpeg" in result.stdout


def test_a_database_that_is_not_named_is_said_once(run_kibotos, settings, redis):
    result = run_kibotos("doctor", "--json", **environment(settings, database_url=""))
    findings = {finding["check"]: finding for finding in json.loads(result.stdout)}
    assert "DATABASE_URL is not set" in findings["database"]["detail"]
    assert findings["schema"]["detail"] == "not examined: first repair the database"
    assert findings["storage"]["ok"]


def test_remote_evaluators_stand_in_for_workers_and_judge(examine, app):
    with app.app_context():
        factories.make_prompt()
        factories.insert("ticks", name="cycles", last_started_at=datetime.now(UTC))
        done = {"status": "SCORED", "final_score": 0.5, "evaluated_at": datetime.now(UTC)}
        id = factories.make_submission(**done)
        scores = {"technical_score": 1, "relevance_score": 1, "quality_score": 1}
        factories.insert("evaluations", submission_id=id, evaluated_by="evaluator", **scores)
    assert reds(examine(vlm_api_url="")) == set()


def test_the_key_of_receipts(examine, at_work, app, settings, tmp_path):
    missing = examine(receipt_key_file=str(tmp_path / "key"))["receipts"]
    assert not missing["ok"] and "kibotos keys new" in missing["detail"]
    address = create_key(tmp_path / "key").address
    fresh = examine(receipt_key_file=str(tmp_path / "key"))["receipts"]
    assert not fresh["ok"] and "not published yet" in fresh["detail"]
    with app.app_context():
        ledger.publish_key(dataclasses.replace(settings, receipt_key_file=str(tmp_path / "key")))
    assert f"signed by {address}" in examine(receipt_key_file=str(tmp_path / "key"))["receipts"]["detail"]
    (tmp_path / "key").chmod(0o644)
    assert "chmod 600" in examine(receipt_key_file=str(tmp_path / "key"))["receipts"]["advice"]


def test_a_ledger_that_does_not_come_into_storage(examine, at_work, app):
    with app.app_context():
        cycle_id = factories.make_cycle("COMPLETED")
        ledger.record(cycle_id, None, None)
        db.session.commit()
    finding = examine()["ledgers"]
    assert not finding["ok"] and "is not in storage" in finding["detail"]
    assert "kibotos storage init" in finding["advice"]


def test_a_ledger_that_the_database_no_longer_gives(examine, at_work, app):
    with app.app_context():
        ledger.record(factories.make_cycle("COMPLETED"), None, None)
        db.session.execute(text("UPDATE ledgers SET stored_at = now(), difference = 'one of the lines'"))
        db.session.commit()
    finding = examine()["ledgers"]
    assert not finding["ok"] and "no longer gives 1 of them, the first of cycle 1" in finding["detail"]
    assert "kibotos ledger check --cycle 1" in finding["advice"]


def test_the_mirror(app, settings, tmp_path):
    """Not by the command: the rest of an installation costs seconds each time."""

    def examine(**changes):
        doctor = Doctor(dataclasses.replace(settings, **changes))
        with app.app_context():
            return doctor.examine("mirror", doctor.mirror)

    assert examine() == Finding("mirror", True, "MIRROR_BUCKET is not set, so there is none")
    create_key(tmp_path / "key")
    changes = {"mirror_bucket": f"mirror-{uuid.uuid4()}", "receipt_key_file": str(tmp_path / "key")}
    missing = examine(**changes)
    assert not missing.ok and "gives no answer" in missing.detail
    with_mirror = dataclasses.replace(settings, **changes)
    own = dataclasses.replace(with_mirror, s3_bucket=with_mirror.mirror_bucket)
    Storage(own).ensure_bucket()
    assert examine(**changes).detail.endswith(" has all")
    with app.app_context():
        ledger.publish_key(with_mirror)
        ledger.record(factories.make_cycle("COMPLETED"), None, None)
        db.session.commit()
        ledger.store_all(Storage(settings))
    late = examine(**changes)
    assert not late.ok and "lacks files of 1 cycles, the first is 1" in late.detail
    with app.app_context():
        mirror.publish(with_mirror, Storage(settings))
    hidden = examine(**changes)
    assert hidden.ok and "strangers cannot read" in hidden.detail and "storage init" in hidden.advice
    Bucket(own).publish_mirror()
    assert examine(**changes) == Finding("mirror", True, f"{with_mirror.mirror_bucket} has all")
