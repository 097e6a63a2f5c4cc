"""Backups and restores with PostgreSQL's own tools, and the drill of an upgrade from the last release."""

import dataclasses
import json
import os
import stat

import psycopg2
import pytest
from click.testing import CliRunner

from app import create_app, db
from app.backups import service
from app.backups.commands import backup, restore
from app.clients.chain import Chain
from app.completion import service as completion
from app.errors import Conflict
from app.ledger.commands import check as check_ledger
from app.weights.commands import recompute
from cli import check, migrate
from tests.backups.last_release import LAST_RELEASE
from tests.factories import make_cycle, make_result
from tests.test_schema import CATALOG


def run(command, settings, *arguments):
    done = CliRunner().invoke(command, [str(each) for each in arguments], obj=settings)
    if done.exception and not isinstance(done.exception, SystemExit):
        raise done.exception
    return done


def query(database, sql):
    """The rows of a statement; `database` is settings or an address."""
    url = database if isinstance(database, str) else database.database_url.replace("+psycopg2", "")
    with psycopg2.connect(url) as connection, connection.cursor() as cursor:
        cursor.execute(sql)
        return cursor.fetchall()


@pytest.fixture
def completed(app, settings):
    """The id of a completed cycle with two results."""
    with app.app_context():
        cycle_id = make_cycle("EVALUATING")
        for uid, score in ((4, 0.25), (7, 0.75)):
            make_result(score, cycle_id=cycle_id, miner_uid=uid)
        completion.tick(settings, Chain("ws://127.0.0.1:1"))
    return cycle_id


@pytest.fixture
def saved(completed, settings, tmp_path):
    path = tmp_path / "kibotos.backup"
    run(backup, settings, path)
    return path


@pytest.fixture
def elsewhere(settings, new_database):
    """Settings of an empty database."""
    return dataclasses.replace(settings, database_url=new_database.replace("://", "+psycopg2://"))


def test_a_restored_backup_has_every_row_and_passes_every_check(settings, elsewhere, completed, saved):
    told = run(restore, elsewhere, saved).output
    manifest = service.read_manifest(saved)
    assert f"has the {sum(manifest.rows.values())} rows" in told
    # which the database is told once the backup is there
    noted = query(settings, "DELETE FROM ticks WHERE name = 'backup' RETURNING last_started_at")
    assert noted == [(manifest.created_at,)]
    for table in manifest.rows:
        everything = f"SELECT to_jsonb(t)::text FROM {table} t ORDER BY 1"
        assert query(elsewhere, everything) == query(settings, everything), table
    assert run(check, elsewhere).exit_code == 0
    assert run(recompute, elsewhere, completed, "--check").exit_code == 0
    # and it is used: the next ids come after those that there are
    with create_app(elsewhere).app_context():
        assert make_cycle("EVALUATING") == completed + 2
        db.db.engine.dispose()


def test_the_manifest_says_what_is_in_it(settings, saved):
    manifest = service.read_manifest(saved)
    assert manifest.rows["submissions"] == 2 and manifest.rows["cycles"] == 2
    assert manifest.migrations == [each.stem for each in db.migrations()]
    for path in (saved, service.manifest_of(saved)):
        assert settings.database_url.split(":")[2].split("@")[0].encode() not in path.read_bytes()
    assert stat.S_IMODE(saved.stat().st_mode) == 0o600
    assert not list(saved.parent.glob("*.part"))


def test_a_backup_is_one_moment_while_the_service_goes_on(settings, app, completed, tmp_path):
    """What is committed after it began is neither in the file nor in the manifest."""
    path, late = tmp_path / "kibotos.backup", []

    def submit_more(_size):
        if not late:
            with app.app_context():
                late.append(make_result(0.5, cycle_id=completed))

    manifest = service.back_up(settings, path, submit_more)
    assert late and manifest.rows["submissions"] == 2


def test_nothing_is_written_over(settings, saved):
    with pytest.raises(Conflict, match="is there already"):
        run(backup, settings, saved)


def test_a_database_without_schema_has_nothing_to_back_up(elsewhere, tmp_path):
    with pytest.raises(Conflict, match="nothing to back up"):
        run(backup, elsewhere, tmp_path / "file")
    assert not list(tmp_path.iterdir())


def test_a_database_with_tables_is_not_restored_into(settings, saved):
    with pytest.raises(Conflict, match="is not empty"):
        run(restore, settings, saved)
    assert query(settings, "SELECT count(*) FROM submissions") == [(2,)]


def spoil(path):
    path.write_bytes(path.read_bytes()[:-1] + b"x")


def be_newer(path):
    manifest = json.loads(service.manifest_of(path).read_text())
    manifest["migrations"].append("9999_later")
    service.manifest_of(path).write_text(json.dumps(manifest))


@pytest.mark.parametrize(
    ("wrong", "said"),
    [
        (spoil, "is not the file that its manifest tells of"),
        (lambda path: os.truncate(path, 100), "is not the file that its manifest tells of"),
        (lambda path: path.unlink(), "is missing"),
        (lambda path: service.manifest_of(path).unlink(), "manifest.json is missing"),
        (lambda path: service.manifest_of(path).write_text("{}"), "is not the manifest of a backup"),
        (be_newer, "has the migration 9999_later"),
    ],
)
def test_what_is_not_whole_or_of_a_newer_release_changes_nothing(elsewhere, saved, wrong, said):
    wrong(saved)
    with pytest.raises(Conflict, match=said):
        run(restore, elsewhere, saved)
    assert query(elsewhere, "SELECT count(*) FROM pg_tables WHERE schemaname = 'public'") == [(0,)]


def test_a_restore_that_fails_half_way_leaves_the_database_empty(elsewhere, saved, tmp_path):
    """Its manifest is of a damaged file: pg_restore comes upon the damage after the first tables."""
    damaged = bytearray(saved.read_bytes())
    damaged[len(damaged) // 2 :] = bytes(len(damaged) - len(damaged) // 2)
    saved.write_bytes(damaged)
    manifest = json.loads(service.manifest_of(saved).read_text())
    manifest |= {"sha256": service._sha256(saved)}
    service.manifest_of(saved).write_text(json.dumps(manifest))
    with pytest.raises(Conflict, match="pg_restore failed, so nothing was done"):
        run(restore, elsewhere, saved)
    assert query(elsewhere, "SELECT count(*) FROM pg_tables WHERE schemaname = 'public'") == [(0,)]


def test_old_tools_are_refused_with_what_to_install(settings, completed, tmp_path, monkeypatch):
    """PATH has an old pg_dump first; the package's own is taken. A server that is newer still has none."""
    old = tmp_path / "bin" / "pg_dump"
    old.parent.mkdir()
    old.write_text("#!/bin/sh\necho 'pg_dump (PostgreSQL) 9.6'\n")
    old.chmod(0o755)
    monkeypatch.setenv("PATH", str(old.parent), prepend=os.pathsep)
    assert run(backup, settings, tmp_path / "file").exit_code == 0
    with pytest.raises(Conflict, match="apt install postgresql-client-99"):
        service.tools.find("pg_dump", 99)


def test_the_drill_of_an_upgrade_from_the_last_release(elsewhere, postgres):
    """Its backup is restored, migrated, checked and weighed again, and has the schema of this release."""
    run(restore, elsewhere, LAST_RELEASE)
    results = "SELECT id, uuid, status, final_score FROM submissions ORDER BY id"
    before = query(elsewhere, results)
    assert len(before) > 1
    run(migrate, elsewhere)
    assert run(check, elsewhere).exit_code == 0
    assert query(elsewhere, results) == before
    completed = query(elsewhere, "SELECT id FROM cycles WHERE status = 'COMPLETED'")
    assert completed
    for (cycle_id,) in completed:
        assert run(recompute, elsewhere, cycle_id, "--check").exit_code == 0
        assert run(check_ledger, elsewhere, "--cycle", cycle_id).exit_code == 0
    for kind, sql in CATALOG.items():
        assert query(elsewhere, sql) == query(postgres.url, sql), kind
