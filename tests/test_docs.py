"""README and docs: every command in them is known, and parses as written."""

import re
import shlex
from dataclasses import fields
from itertools import pairwise
from pathlib import Path

import click
import pytest

import cli
from app.config import Settings, env_example
from tests import reference
from tests.documents import DOCUMENTS, MARKDOWN, ROOT, anchors, commands

LINK = re.compile(r"\]\((?!https?:)([^)\s]+)\)")
# a page that code, a comment or a message names
MENTION = re.compile(r"\b(?:docs|bench)/[\w/-]+\.md(?:#[\w-]+)?|\b[A-Z]{4,}\.md(?:#[\w-]+)?")
CODE = [
    *(ROOT / name for name in ("cli.py", "gunicorn.conf.py", "setup.cfg", "Procfile", "bench/run")),
    *(
        path
        for folder in ("app", "bench", "bin", "deploy", "docs", "jobs", "tests")
        for path in sorted((ROOT / folder).rglob("*"))
        if path.suffix in {".py", ".html", ".yml", ".service", ".conf", ".json", ".sql", ".js", ""}
        and path.is_file()
    ),
]
ALL = [(str(document.relative_to(ROOT)), command) for document in DOCUMENTS for command in commands(document)]


def parse(arguments):
    """Let click parse a whole command line of ours, without running it."""
    context, command = click.Context(cli.kibotos, info_name="kibotos"), cli.kibotos
    while isinstance(command, click.Group):
        name, *arguments = arguments
        command = command.get_command(context, name)
        assert command is not None, name
    command.make_context(name, arguments, parent=context)


def check_copy(arguments):
    """What is copied from the clone exists."""
    *sources, _ = (argument for argument in arguments if not argument.startswith("-"))
    ours = [source for source in sources if source.startswith(("deploy/", "app/", "."))]
    assert all(list(ROOT.glob(source)) for source in ours)


def check_units(names):
    units = {path.stem for path in (ROOT / "deploy" / "systemd").iterdir()}
    for name in names:
        if name.startswith("kibotos"):
            assert re.sub("@.*", "@", name) in units


def check_sudo(arguments):
    if arguments[0] == "-u":
        arguments = arguments[2:]
    program, *rest = arguments
    CHECKS[Path(program).name](rest)


def check_script(arguments):
    assert all((ROOT / argument).exists() for argument in arguments if argument.startswith("tests/"))


def check_program(arguments):
    if arguments[0] not in {"-m", "-c"}:
        assert (ROOT / arguments[0]).exists()


def check_docker(arguments):
    """The files are there, and what runs in our image is a command of ours."""
    for option, file in pairwise(arguments):
        assert option != "--file" or (ROOT / file).exists()
    if arguments[0] == "run":
        command = arguments[arguments.index("kibotos") + 1 :]
        if command:
            assert command[0] == "kibotos"
            parse(command[1:])


def check_heroku(arguments):
    """It sets settings, scales processes of the Procfile and runs commands of ours."""
    action, *rest = arguments
    if action == "run":
        assert rest[0] == "kibotos"
        parse(rest[1:])
    names = {each.partition("=")[0] for each in rest}
    if action == "config:set":
        assert names <= {setting.name.upper() for setting in fields(Settings)}
    if action == "ps:scale":
        assert names <= {line.partition(":")[0] for line in (ROOT / "Procfile").read_text().splitlines()}


def not_ours(arguments):
    """A program of others: nothing to compare its line with."""


# what can be said of each program's command line without running it; test_guide.py runs what can be run
CHECKS = {
    "kibotos": parse,
    "bin/up": check_script,
    "bin/test": check_script,
    "bin/test-readers": check_script,
    "bin/test-container": check_script,
    "cp": check_copy,
    "docker": check_docker,
    "heroku": check_heroku,
    "install": check_copy,
    "sudo": check_sudo,
    "systemctl": lambda arguments: check_units(arguments[1:]),
    "journalctl": lambda arguments: check_units(arguments[1:]),
    "python": check_program,
    "python3": check_program,
}
for _program in (
    *("apt-get", "cd", "chmod", "chown", "curl", "export", "git", "mkdir", "pip", "psql", "useradd", "uv"),
    *("amtool", "certbot", "nginx", "openssl", "promtool", "sed", "sha256sum", "vllm", "zstd"),
):
    CHECKS[_program] = not_ours


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


def leads_nowhere(page, target):
    """Whether the file of this link on a page is missing, or the heading after its #."""
    path, _, anchor = target.partition("#")
    linked = page.parent / path if path else page
    return not linked.exists() or (anchor and anchor not in anchors(linked))


@pytest.mark.parametrize("page", MARKDOWN, ids=lambda page: str(page.relative_to(ROOT)))
def test_links_lead_somewhere(page):
    assert [target for target in LINK.findall(page.read_text()) if leads_nowhere(page, target)] == []


def test_every_page_is_reached_from_another():
    linked = {
        (page.parent / target.partition("#")[0]).resolve()
        for page in MARKDOWN
        for target in LINK.findall(page.read_text())
        if not target.startswith("#")
    }
    assert [page for page in MARKDOWN if page not in linked and page != ROOT / "README.md"] == []


def test_pages_that_code_names_exist():
    mentions = {target for path in CODE for target in MENTION.findall(path.read_text())}
    assert "docs/ledger.md" in mentions
    assert [target for target in sorted(mentions) if leads_nowhere(ROOT / "README.md", target)] == []


def test_the_reference_and_the_example_are_written_by_the_code(client, request):
    example = ROOT / ".env.example"
    expected = {reference.PAGE: reference.written(client.get("/metrics").text), example: env_example()}
    if request.config.getoption("--write-docs"):
        for path, text in expected.items():
            path.write_text(text)
    for path, text in expected.items():
        assert path.read_text() == text, "run: bin/test tests/test_docs.py --write-docs"
