import os
import shutil
import socket
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing
from importlib.metadata import entry_points
from pathlib import Path

import psycopg2
import pytest
from flask import current_app

import cli
from app.config import Settings
from app.db import OUTSIDE_TRANSACTION, command_app, migrate, migrations
from app.db import db as database
from app.errors import Conflict
from app.version import VERSION

NOWHERE = "postgresql://u:secret@127.0.0.1:1/nowhere"


@pytest.fixture
def run(run_kibotos):
    return run_kibotos


def query(url, statement):
    with closing(psycopg2.connect(url)) as connection, connection.cursor() as cursor:
        cursor.execute(statement)
        connection.commit()
        return cursor.fetchone() if cursor.description else None


def test_it_is_reached_as_kibotos_and_through_flask():
    assert entry_points(group="console_scripts", name="kibotos")["kibotos"].load() is cli.main
    assert entry_points(group="flask.commands", name="kibotos")["kibotos"].load() is cli.kibotos
    for program in (["kibotos"], ["flask", "kibotos"]):
        command = [str(Path(sys.executable).with_name(program[0])), *program[1:], "--version"]
        assert subprocess.check_output(command, text=True).strip().endswith(f"version {VERSION}")


def test_help_loads_neither_flask_nor_sqlalchemy():
    code = (
        "import sys, cli\n"
        "try: cli.kibotos(['--help'])\n"
        "finally: print({'flask', 'sqlalchemy', 'redis', 'pydantic'} & sys.modules.keys())"
    )
    output = subprocess.check_output([sys.executable, "-c", code], text=True, cwd=cli.ROOT)
    assert output.splitlines()[-1] == "set()"


@pytest.mark.parametrize("name", cli.COMMANDS)
def test_every_listed_command_is_there(run, name):
    result = run(name, "--help")
    assert result.exit_code == 0
    assert result.output.startswith(f"Usage: kibotos {name} ")


def test_settings_come_from_dotenv_and_the_environment_wins(run, tmp_path):
    (tmp_path / ".env").write_text(f"DATABASE_URL={NOWHERE}\nLOG_LEVEL=loud\n")
    assert run("db", "check").output.startswith("Error: LOG_LEVEL must be one of")
    result = run("db", "check", LOG_LEVEL="ERROR")
    assert result.exit_code == 1
    assert result.output.startswith("Error: The database is out of reach: ")


def test_a_dotenv_from_windows_is_read(run, tmp_path):
    (tmp_path / ".env").write_bytes(b"\xef\xbb\xbfLOG_LEVEL=loud\r\nPORT=80\r\n")
    assert run("db", "check").output.startswith("Error: LOG_LEVEL must be one of")


@pytest.mark.parametrize(
    "program",
    [
        ["cli", "db", "check"],
        ["cli", "api"],
        ["cli", "up"],
        ["cli", "miner", "prompts"],
        ["gunicorn", "wsgi:app"],
        ["wsgi"],
    ],
)
@pytest.mark.parametrize("unreadable", [True, False])
def test_a_dotenv_that_cannot_be_read_is_told_in_one_sentence(tmp_path, program, unreadable):
    if unreadable:
        # a file that nobody can read, root neither
        (tmp_path / ".env").symlink_to("/proc/self/mem")
    else:
        (tmp_path / ".env").write_text("LOG_LEVEL=INFO", encoding="utf-16")
    shutil.copy(cli.ROOT / "gunicorn.conf.py", tmp_path)
    done = subprocess.run(
        [sys.executable, "-m", *program],
        env={"PYTHONPATH": str(cli.ROOT), "PATH": os.defpath},
        cwd=tmp_path,
        capture_output=True,
        text=True,
        timeout=60,
    )
    assert done.returncode == 1
    [sentence] = (done.stdout + done.stderr).splitlines()
    assert str(tmp_path / ".env") in sentence
    assert ("cannot be read" if unreadable else "not text in UTF-8") in sentence


def test_an_unknown_variable_of_ours_is_warned_about(run):
    result = run(
        "db", "check", KIBOTOS_REDIS_URL="redis://localhost", KIBOTOS_COLOUR="green", DATABASE_URL=""
    )
    assert "KIBOTOS_REDIS_URL is not a setting and is ignored; its name is REDIS_URL." in result.stderr
    assert "KIBOTOS_COLOUR is not a setting and is ignored." in result.stderr


def test_an_unreachable_database_is_told_in_one_sentence_without_its_password(run):
    result = run("db", "init", DATABASE_URL=NOWHERE)
    assert result.exit_code == 1
    assert "secret" not in result.output
    assert "Traceback" not in result.output


def test_db_init_twice_is_harmless(run, new_database):
    assert "no schema yet" in run("db", "check", DATABASE_URL=new_database).output
    assert "in place" in run("db", "init", DATABASE_URL=new_database).output
    query(new_database, "INSERT INTO cycles (ends_at) VALUES (now() + interval '1 hour')")
    again = run("db", "init", DATABASE_URL=new_database)
    assert (again.exit_code, "nothing changed" in again.output) == (0, True)
    assert query(new_database, "SELECT count(*) FROM cycles") == (1,)
    assert run("db", "check", DATABASE_URL=new_database).exit_code == 0
    # what names an endpoint to others names a command here
    assert (
        "`kibotos cycles status`" in run("ledger", "check", "--cycle", "9", DATABASE_URL=new_database).output
    )


def test_db_init_leaves_a_foreign_database_alone(run, new_database):
    query(new_database, "CREATE TABLE theirs ()")
    result = run("db", "init", DATABASE_URL=new_database)
    assert result.exit_code == 1
    assert "theirs" in result.output


def test_db_migrate_brings_an_new_database_to_the_schema(run, new_database):
    first = run("db", "migrate", DATABASE_URL=new_database)
    assert first.stdout == f"Applied: {', '.join(each.stem for each in migrations())}.\n"
    assert "nothing changed" in run("db", "migrate", DATABASE_URL=new_database).output
    query(new_database, f"DELETE FROM schema_migrations WHERE version = '{migrations()[-1].stem}'")
    behind = run("db", "check", DATABASE_URL=new_database)
    assert behind.exit_code == 1
    assert "kibotos db migrate" in behind.output


@pytest.fixture
def migrations_of(tmp_path):
    """Makes a directory of migrations: `migrations_of(a="SELECT 1")` has `0001_a.sql`."""

    def make(**files):
        directory = tmp_path / "migrations"
        directory.mkdir(exist_ok=True)
        for number, (name, sql) in enumerate(files.items(), start=1):
            (directory / f"{number:04}_{name}.sql").write_text(sql)
        return directory

    return make


STAMPS = "CREATE TABLE schema_migrations (version text PRIMARY KEY, applied_at timestamptz DEFAULT now())"
CONCURRENTLY = f"{OUTSIDE_TRANSACTION}\nCREATE UNIQUE INDEX CONCURRENTLY things_n ON things (n)"


@pytest.fixture
def migrating(new_database):
    """An application context of the empty database."""
    settings = Settings.from_environ({"DATABASE_URL": new_database})
    app = command_app(settings)
    with app.app_context():
        yield
        database.engine.dispose()


@pytest.mark.usefixtures("migrating")
def test_a_migration_is_applied_whole_or_not_at_all(new_database, migrations_of):
    files = migrations_of(stamps=STAMPS, broken="CREATE TABLE things (n int); SELECT 1 / 0")
    with pytest.raises(psycopg2.errors.DivisionByZero):
        migrate(files)
    assert query(new_database, "SELECT to_regclass('things')") == (None,)
    assert query(new_database, "SELECT array_agg(version) FROM schema_migrations") == (["0001_stamps"],)
    assert migrate(migrations_of(stamps=STAMPS, broken="CREATE TABLE things (n int)")) == ["0002_broken"]


@pytest.mark.usefixtures("migrating")
def test_a_migration_gives_up_rather_than_stop_the_service(new_database, migrations_of):
    files = migrations_of(stamps=STAMPS, things="CREATE TABLE things (n int)")
    migrate(files)
    files = migrations_of(stamps="", things="", wider="ALTER TABLE things ADD COLUMN m int")
    with closing(psycopg2.connect(new_database)) as connection, connection.cursor() as cursor:
        cursor.execute("SELECT FROM things")
        with pytest.raises(Conflict, match=r"0003_wider waited .* in 3 s.* run `kibotos db migrate` again"):
            migrate(files)
    assert migrate(files) == ["0003_wider"]


@pytest.mark.usefixtures("migrating")
def test_a_migration_outside_a_transaction_waits_for_those_who_use_the_table(new_database, migrations_of):
    files = migrations_of(stamps=STAMPS, things="CREATE TABLE things (n int)", index=CONCURRENTLY)
    assert migrate(files) == ["0001_stamps", "0002_things", "0003_index"]
    valid = "SELECT indisvalid FROM pg_index WHERE indexrelid = 'things_n'::regclass"
    assert query(new_database, valid) == (True,)


@pytest.mark.usefixtures("migrating")
def test_an_index_that_was_not_finished_is_named(new_database, migrations_of):
    things = "CREATE TABLE things (n int); INSERT INTO things VALUES (1), (1)"
    files = migrations_of(stamps=STAMPS, things=things, index=CONCURRENTLY)
    with pytest.raises(psycopg2.errors.UniqueViolation):
        migrate(files)
    with pytest.raises(Conflict, match="`DROP INDEX CONCURRENTLY things_n`"):
        migrate(files)
    query(new_database, "DROP INDEX things_n; DELETE FROM things")
    assert migrate(files) == ["0003_index"]


def test_an_index_that_was_made_before_its_migration_was_noted_is_kept(run, new_database):
    run("db", "init", DATABASE_URL=new_database)
    query(new_database, "DELETE FROM schema_migrations WHERE version LIKE '0031%'")
    result = run("db", "migrate", DATABASE_URL=new_database)
    assert result.exit_code == 0, result.output


@pytest.mark.usefixtures("migrating")
def test_of_two_that_migrate_one_waits_for_the_other(new_database, migrations_of):
    files = migrations_of(stamps=STAMPS, things="CREATE TABLE things (n int)", index=CONCURRENTLY)
    app = current_app._get_current_object()

    def run():
        with app.app_context():
            return migrate(files)

    with ThreadPoolExecutor(4) as pool:
        done = [each.result() for each in [pool.submit(run) for _ in range(4)]]
    assert sorted(map(len, done)) == [0, 0, 0, 3]


@pytest.mark.parametrize(
    ("sql", "said"),
    [
        (
            "DROP TABLE circuit_breakers CASCADE; DROP TABLE ticks, metagraph, cycles CASCADE",
            "kibotos db migrate",
        ),
        (
            "ALTER DATABASE {name} SET default_transaction_read_only = on",
            "The database is out of reach: cannot ",
        ),
        (
            "ALTER TABLE cycles ADD CHECK (pg_sleep(9) IS NULL)",
            "could not do this: canceling statement due to",
        ),
    ],
)
def test_what_the_database_answers_is_told_in_a_sentence(run, new_database, sql, said):
    run("db", "init", DATABASE_URL=new_database)
    query(new_database, sql.format(name=new_database.rpartition("/")[2]))
    result = run("cycles", "start", DATABASE_URL=new_database, DATABASE_STATEMENT_TIMEOUT_SECONDS="0.5")
    assert result.exit_code == 1
    assert said in result.output
    assert result.output.count("\n") == 1, result.output


@pytest.mark.parametrize(
    "url", [f"{NOWHERE}?port=none", f"{NOWHERE}?foo=1", "postgresql://u:se/cret@h/nowhere"]
)
def test_an_address_that_cannot_be_used_is_told_in_a_sentence(run, url):
    result = run("db", "check", DATABASE_URL=url)
    assert result.output.startswith("Error: DATABASE_URL ")
    assert result.output.count("\n") == 1
    assert "cret" not in result.output


@pytest.mark.parametrize(
    ("environment", "options", "input", "deletes"),
    [
        ("development", ["--force"], None, True),
        ("development", [], "y\n", True),
        ("development", [], "n\n", False),
        ("production", ["--force"], None, False),
        ("production", ["--yes-delete-everything"], None, False),
        ("production", ["--force", "--yes-delete-everything"], None, True),
    ],
)
def test_db_reset_asks_and_names_the_database(run, new_database, environment, options, input, deletes):
    run("db", "init", DATABASE_URL=new_database)
    query(new_database, "INSERT INTO cycles (ends_at) VALUES (now() + interval '1 hour')")
    result = run("db", "reset", *options, input=input, DATABASE_URL=new_database, APP_ENV=environment)
    assert new_database.rpartition("/")[2] in result.output
    assert "***" in result.output
    assert result.exit_code == (0 if deletes else 1)
    assert query(new_database, "SELECT count(*) FROM cycles") == (0 if deletes else 1,)


@pytest.mark.parametrize(
    ("arguments", "environ", "sentence"),
    [
        (["api"], {"DATABASE_URL": ""}, "DATABASE_URL is not set"),
        (["api"], {}, "ADMIN_TOKEN is not set"),
        (["api", "--host", "0.0.0.0"], {"APP_ENV": "development"}, "listens on loopback only"),
        (
            ["api", "--reload"],
            {"ADMIN_TOKEN": "a" * 32, "EVALUATOR_TOKEN": "e" * 32},
            "--reload is for development",
        ),
        (["worker"], {}, "ADMIN_TOKEN is not set"),
        (["scheduler"], {"EVALUATOR_TOKEN": "short"}, "EVALUATOR_TOKEN holds a token of fewer than 32"),
    ],
)
def test_a_service_that_cannot_start_says_why_in_one_sentence(run, arguments, environ, sentence):
    result = run(*arguments, **{"DATABASE_URL": NOWHERE} | environ)
    assert result.exit_code == 1
    assert result.output.startswith("Error: ")
    assert sentence in result.output
    assert result.output.count("\n") == 1


def test_a_taken_port_is_named_with_what_to_do(run):
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = str(taken.getsockname()[1])
        result = run("api", "--port", port, DATABASE_URL=NOWHERE, APP_ENV="development")
    assert result.exit_code == 1
    assert result.output == (
        f"Error: Cannot listen on 127.0.0.1:{port} (Address already in use): stop what listens there, or "
        "give another --host or --port.\n"
    )


def test_an_option_out_of_range_is_a_usage_error(run):
    assert run("scheduler", "--cycle-duration", "0").exit_code == 2
    assert run("worker", "--count", "0").exit_code == 2
    assert run("api", "--port", "70000").exit_code == 2
