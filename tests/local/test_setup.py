"""bin/setup on machines that lack something: a Python and a uv that only note what they are asked for."""

import os
import shutil
import subprocess

import pytest

from tests.documents import ROOT

# Makes environments and installs nothing. LACKS says what this Python does without, REFUSES who cannot reach
# the registry.
PYTHON = """#!/bin/bash
echo "python $*" >>"$NOTES"
case "$*" in
    -c*) exit 0 ;;
    "-m pip "*) [[ $0 == *pip/bin* || $LACKS != *pip* ]] || exit 1 ;;
    "-m venv --without-pip "*) mkdir -p "$4/bin" && cp "$0" "$4/bin/python" ;;
    "-m venv "*) [[ $LACKS != *ensurepip* ]] || exit 1; mkdir -p "$4/bin" && cp "$0" "$4/bin/python" ;;
esac
[[ "$*" != *install* || $REFUSES != *pip* ]]
"""
UV = """#!/bin/bash
echo "uv $*${UV_SYSTEM_CERTS:+ with the certificates of the system}" >>"$NOTES"
case "$*" in
    venv*) mkdir -p "${!#}/bin" && cp "$PYTHON" "${!#}/bin/python" ;;
    "pip install"*) [[ $REFUSES != *uv* && ( $REFUSES != *bundle* || -n $UV_SYSTEM_CERTS ) ]] || exit 1 ;;
esac
"""


@pytest.fixture
def machine(tmp_path):
    """Runs bin/setup of a clone: `machine(uv=True, LACKS="pip")`; gives its exit status, output and calls."""
    clone = tmp_path / "my clone"
    (clone / "bin").mkdir(parents=True)
    for name in ("bin/setup", "requirements-dev.txt", "setup.cfg", "pyproject.toml"):
        shutil.copy(ROOT / name, clone / name)
    programs = tmp_path / "my programs"
    programs.mkdir()
    for tool in ("bash", "cat", "cksum", "cp", "dirname", "mkdir", "rm"):
        (programs / tool).symlink_to(shutil.which(tool))
    notes = tmp_path / "notes"

    def write(name, content):
        (programs / name).write_text(content)
        (programs / name).chmod(0o755)

    def run(uv=False, **environ):
        notes.write_text("")
        write("python", PYTHON)
        if uv:
            write("uv", UV)
        environ = {"PATH": str(programs), "NOTES": str(notes), "PYTHON": str(programs / "python")} | environ
        done = subprocess.run(
            [clone / "bin" / "setup"], env=environ, cwd="/", capture_output=True, text=True, timeout=60
        )
        return done.returncode, done.stdout + done.stderr, notes.read_text().splitlines()

    return run


def test_uv_of_the_machine_is_used(machine):
    status, output, calls = machine(uv=True)
    assert status == 0, output
    assert "uv pip install --quiet --requirement requirements-dev.txt" in calls
    assert "850 MB from the internet, 1.8 GB on disk" in output.splitlines()[0]
    assert not any("pip" in call for call in calls if call.startswith("python"))


def test_where_all_is_done_nothing_is_done_again(machine):
    machine(uv=True)
    status, output, calls = machine(uv=True)
    assert (status, output) == (0, "")
    assert not any("install" in call for call in calls)


def test_uv_that_does_not_trust_the_proxy_asks_the_machine(machine):
    status, output, calls = machine(uv=True, REFUSES="bundle")
    assert status == 0, output
    assert "uv pip install --quiet --no-deps --editable . with the certificates of the system" in calls
    assert "with pip" not in output


def test_where_uv_fails_pip_does_it(machine):
    status, output, calls = machine(uv=True, REFUSES="uv")
    assert status == 0, output
    assert "Installing into .venv with pip" in output
    assert "python -m pip --python .venv/bin/python install --quiet --no-deps --editable ." in calls


def test_without_uv_pip_is_asked_for_it(machine):
    status, output, calls = machine()
    assert status == 0, output
    assert "python -m pip install --quiet --target .kibotos/uv uv" in calls


def test_a_python_without_pip_that_can_make_one_does(machine):
    status, output, calls = machine(LACKS="pip")
    assert status == 0, output
    assert "python -m venv --clear .kibotos/pip" in calls
    assert "python -m pip --python .venv/bin/python install --quiet --no-deps --editable ." in calls


def test_a_python_without_pip_and_ensurepip_is_told_in_one_sentence(machine):
    status, output, _ = machine(LACKS="pip ensurepip")
    assert status == 1
    [sentence] = output.splitlines()
    assert "apt install python3-pip" in sentence
    assert machine(uv=True, LACKS="pip ensurepip")[0] == 0


def test_where_nothing_can_be_fetched_it_says_what_to_set(machine):
    status, output, _ = machine(uv=True, REFUSES="uv pip")
    assert status == 1
    assert "PIP_CERT and SSL_CERT_FILE" in output.splitlines()[-1]
    assert machine(uv=True)[0] == 0


def test_a_python_that_is_too_old_is_told(machine):
    status, output, _ = machine(PYTHON=os.devnull)
    assert status == 1
    assert "Python 3.11 or later is needed" in output
