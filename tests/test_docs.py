"""README and docs: every command in them is known, and parses as written."""

import re
import shlex
from pathlib import Path

import click
import pytest

import cli
from app.config import env_example
from tests.documents import DOCUMENTS, ROOT, commands

LINK = re.compile(r"\]\(([^)#:]+)(?:#[^)]*)?\)")
ALL = [(document.name, command) for document in DOCUMENTS for command in commands(document)]


def parse(arguments):
    """Let click parse a whole command line of ours, without running it."""
    context, command = click.Context(cli.kibotos, info_name="kibotos"), cli.kibotos
    while isinstance(command, click.Group):
        name, *arguments = arguments
        command = command.get_command(context, name)
        assert command is not None, name
    command.make_context(name, arguments, parent=context)


def check_copy(arguments):
    sources = arguments[:-1]
    assert all(list(ROOT.glob(source)) for source in sources)


def check_units(arguments):
    units = {path.stem for path in (ROOT / "deploy" / "systemd").iterdir()}
    for name in arguments:
        assert re.sub("@.*", "@", name) in units


def check_sudo(arguments):
    program, *rest = arguments
    if program == "systemctl" and rest[0] == "enable":
        check_units(rest[2:])
    elif program == "cp":
        check_copy(rest)
    else:
        assert program in {"-u", "useradd", "systemctl"}


def check_script(arguments):
    assert all((ROOT / argument).exists() for argument in arguments if argument.startswith("tests/"))


def check_program(arguments):
    assert (ROOT / arguments[0]).exists()


# what can be said of each program's command line without running it; test_guide.py runs what can be run
CHECKS = {
    "kibotos": parse,
    "bin/up": check_script,
    "bin/test": check_script,
    "bin/test-readers": check_script,
    "cp": check_copy,
    "sudo": check_sudo,
    "journalctl": lambda arguments: check_units([arguments[1]]),
    "curl": lambda arguments: None,
    "psql": lambda arguments: None,
    "git": lambda arguments: None,
    "cd": lambda arguments: None,
    "zstd": lambda arguments: None,
    "python": check_program,
    "uv": lambda arguments: None,
    "export": lambda arguments: None,
}


@pytest.mark.parametrize(("document", "command"), ALL, ids=lambda value: value[:60])
def test_every_command_is_known_and_parses(document, command, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    files = (
        "video.mp4",
        "consent.txt",
        "receipt.json",
        "7.jsonl.zst",
        "rules.json",
        "app/prompts/starter.json",
    )
    for name in (*files, "app/prompts/starter.json"):
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).touch()
    program, *arguments = shlex.split(command, comments=True)
    CHECKS[program](arguments)


@pytest.mark.parametrize(
    ("document", "target"),
    [(document, target) for document in DOCUMENTS for target in LINK.findall(document.read_text())],
    ids=lambda value: getattr(value, "name", value),
)
def test_links_lead_somewhere(document, target):
    assert (document.parent / target).exists()


def test_env_example_is_written_by_the_settings():
    assert (ROOT / ".env.example").read_text() == env_example()


def test_operators_learn_of_every_command():
    text = "".join(Path(document).read_text() for document in DOCUMENTS)
    for name in [*cli.kibotos.commands, *cli.COMMANDS]:
        assert f"kibotos {name}" in text or f"bin/{name}" in text, name
