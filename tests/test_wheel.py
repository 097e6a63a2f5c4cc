"""The wheel by itself: built, installed into an empty environment away from the clone, and run."""

import shutil
import subprocess
import sys
import sysconfig
import venv
import zipfile
from pathlib import Path

import pytest
import requests

import cli
from app.local.process import free_ports
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
