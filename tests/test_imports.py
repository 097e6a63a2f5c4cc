"""Who needs no server loads none, and who serves no engine: seen in a fresh interpreter."""

import json
import subprocess
import sys

import pytest

from tests.documents import ROOT

SERVER = ["flask", "flask_sqlalchemy", "sqlalchemy", "psycopg2", "redis", "rq", "rq_scheduler"]
ENGINE = ["numpy", "cv2", "PIL", "pdqhash", "requests", "bittensor"]
# every module of the package sys.argv[1]
IMPORT_ALL = """
from importlib import import_module
from pkgutil import walk_packages
package = import_module(sys.argv[1])
for module in walk_packages(package.__path__, package.__name__ + "."):
    import_module(module.name)
"""
RUN = """
import cli
try:
    cli.kibotos(sys.argv[1:])
except SystemExit as end:
    assert end.code == 0
"""


def loads(code, *arguments, of=SERVER):
    """Which of the modules `of` a fresh interpreter has loaded after `code`."""
    ending = f"\nprint()\nprint(json.dumps([name for name in {of} if name in sys.modules]))"
    command = [sys.executable, "-c", f"import json, sys\n{code}{ending}", *arguments]
    return json.loads(subprocess.check_output(command, text=True, cwd=ROOT).splitlines()[-1])


@pytest.mark.parametrize(
    "package",
    ["app.assessment", "app.video", "app.clients", "app.evaluator", "app.miner", "app.validator"],
)
def test_the_engine_and_its_programs_load_no_server(package):
    assert loads(IMPORT_ALL, package) == []


@pytest.mark.parametrize("command", ["evaluate", "evaluator", "miner", "validate"])
def test_help_of_their_commands_loads_no_server(command):
    assert loads(RUN, command, "--help") == []


def test_a_web_process_loads_no_engine():
    """It would take 40 MB in each."""
    settings = '{"APP_ENV": "development", "DATABASE_URL": "postgresql://127.0.0.1:1/none"}'
    start = f"import os\nos.environ |= {settings}\nimport wsgi"
    assert loads(start, of=ENGINE) == []
    assert "numpy" in loads(start + "\nimport app.duplicates.service", of=ENGINE)


def test_what_loads_a_server_is_seen():
    assert "sqlalchemy" in loads("import app.db")
