"""The tables of docs/operators/reference.md that follow from the code: settings, commands, metrics."""

import re
from dataclasses import fields

import click
from prometheus_client.parser import text_string_to_metric_families

import cli
from app.config import Settings, default_text
from tests.documents import ROOT

PAGE = ROOT / "docs" / "operators" / "reference.md"


def written(exported):
    """The page with its tables made anew. `exported` is what /metrics answers."""
    text = PAGE.read_text()
    for name, table in (
        ("settings", _settings()),
        ("commands", _commands()),
        ("metrics", _metrics(exported)),
    ):
        begin, end = f"<!-- {name}: written by the code -->\n", f"<!-- end of {name} -->"
        text = re.sub(
            f"({re.escape(begin)}).*?({re.escape(end)})",
            lambda found, table=table: f"{found[1]}\n{table}\n{found[2]}",
            text,
            flags=re.DOTALL,
        )
    return text


def _table(head, rows):
    lines = [head, ("---",) * len(head), *rows]
    return "".join(f"| {' | '.join(cell.replace('|', chr(92) + '|') for cell in line)} |\n" for line in lines)


def _settings():
    rows = []
    for setting in fields(Settings):
        default = f"`{text}`" if (text := default_text(setting)) else ""
        rows.append((f"`{setting.name.upper()}`", default, setting.metadata["help"]))
    return _table(("setting", "default", "meaning"), rows)


def _commands():
    return _table(("command", "what it does"), _listed(cli.kibotos, "kibotos"))


def _listed(command, path):
    if isinstance(command, click.Group):
        context = click.Context(command, info_name=path)
        for name in command.list_commands(context):
            yield from _listed(command.get_command(context, name), f"{path} {name}")
    else:
        arguments = [
            each.make_metavar(click.Context(command))
            for each in command.params
            if each.param_type_name == "argument"
        ]
        # the first paragraph of what --help says
        about = " ".join((command.help or "").split("\n\n")[0].split())
        yield f"`{' '.join([path, *arguments])}`", about


def _metrics(exported):
    rows = [
        (f"`{family.name}{'_total' * (family.type == 'counter')}`", family.type, family.documentation)
        for family in text_string_to_metric_families(exported)
        # the times when counters were created, which appear with the first request that is counted
        if family.name.startswith("kibotos") and not family.name.endswith("_created")
    ]
    return _table(("metric", "type", "meaning"), sorted(rows))
