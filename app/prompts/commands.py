"""`kibotos prompts …`: load, list, retire and draft prompts."""

import json
from dataclasses import asdict
from pathlib import Path

import click

from app.config import ConfigError, Settings
from app.enums import Category, values

CATEGORIES = values(Category)
category_option = click.option("--category", type=click.Choice(CATEGORIES))
json_option = click.option("--json", "as_json", is_flag=True, help="Print JSON.")


@click.group()
def prompts() -> None:
    """Load, list, retire and draft prompts."""


@prompts.command()
@click.argument("file", type=click.Path(exists=True, dir_okay=False, path_type=Path))
@click.option("--update", is_flag=True, help="Change prompts that exist instead of refusing them.")
@click.pass_obj
def load(settings: Settings, file: Path, update: bool) -> None:
    """Load all prompts of a .json, .jsonl or .csv FILE. If one is wrong, none is loaded."""
    from app.db import command_app
    from app.prompts import service
    from app.prompts.files import read_prompts

    wanted = [prompt.model_dump() for prompt in read_prompts(file)]
    with command_app(settings).app_context():
        added = service.load_prompts(wanted, update)
    click.echo(f"{added} added, {len(wanted) - added} changed.")


@prompts.command("list")
@category_option
@click.option("--all", "everything", is_flag=True, help="List retired and expired prompts, too.")
@json_option
@click.pass_obj
def list_(settings: Settings, category: str | None, everything: bool, as_json: bool) -> None:
    """List the active prompts."""
    from rich.console import Console
    from rich.table import Column, Table

    from app.db import command_app
    from app.prompts import queries
    from app.prompts.models import PromptFilter, PromptOut

    with command_app(settings).app_context():
        found = queries.list_prompts(PromptFilter(category, not everything))
    if as_json:
        shown = [
            PromptOut.model_validate(each, from_attributes=True).model_dump(mode="json") for each in found
        ]
        click.echo(json.dumps(shown, indent=2))
        return
    # people copy ids, so an id is never cut, however narrow the terminal is
    id_column = Column("id, category", no_wrap=True, overflow="fold")
    table = Table(id_column, "task, scenario", "weight", "submissions", "state", show_lines=True)
    for each in found:
        weight, count = f"{each.weight:g}", str(each.total_submissions)
        state = "active" if each.is_active else "retired"
        table.add_row(f"{each.id}\n{each.category}", f"{each.task}\n{each.scenario}", weight, count, state)
    # a task may have brackets, which are no markup
    Console(markup=False).print(table)


@prompts.command()
@category_option
@json_option
@click.pass_obj
def stats(settings: Settings, category: str | None, as_json: bool) -> None:
    """Show for each prompt the number of submissions, scored and rejected ones, and the mean score."""
    from rich.console import Console
    from rich.table import Column, Table

    from app.db import command_app
    from app.prompts import queries

    with command_app(settings).app_context():
        found = queries.list_stats(category)
    if as_json:
        click.echo(json.dumps([asdict(each) for each in found], indent=2))
        return
    id_column = Column("id", no_wrap=True, overflow="fold")
    table = Table(id_column, "category", "submissions", "open", "scored", "rejected", "mean score")
    for each in found:
        mean = "" if each.mean_score is None else f"{each.mean_score:.3f}"
        counts = (each.submissions, each.open, each.scored, each.rejected)
        table.add_row(each.id, each.category, *map(str, counts), mean)
    Console(markup=False).print(table)


@prompts.command()
@click.argument("id")
@click.pass_obj
def retire(settings: Settings, id: str) -> None:
    """Close the prompt ID for new submissions. Submissions that were accepted before are still evaluated."""
    from app.db import command_app
    from app.prompts import service

    with command_app(settings).app_context():
        service.change_prompt(id, {"is_active": False})
    click.echo(f"{id} is retired.")


@prompts.command()
@click.option("--category", type=click.Choice(CATEGORIES), required=True)
@click.option("--count", type=click.IntRange(1, 500), default=10, show_default=True)
@click.option(
    "--output", type=click.Path(dir_okay=False, path_type=Path), required=True, help=".json, .jsonl or .csv"
)
@click.pass_obj
def generate(settings: Settings, category: str, count: int, output: Path) -> None:
    """Ask the model at VLM_API_URL for drafts of prompts. They go to a file, for you to edit and load."""
    from app.clients.vlm import Vlm
    from app.db import command_app
    from app.prompts import generation, queries
    from app.prompts.files import write_prompts
    from app.prompts.models import PromptFilter

    if not settings.vlm_api_url:
        raise ConfigError("VLM_API_URL is not set: drafting prompts needs a language model.")
    if output.suffix.lower() not in {".json", ".jsonl", ".csv"}:
        raise click.UsageError("--output must end in .json, .jsonl or .csv.")
    if output.exists():
        raise click.UsageError(f"{output} exists; name another file.")
    with command_app(settings).app_context():
        known = queries.list_prompts(PromptFilter(active_only=False))
    with click.progressbar(length=count, label="Drafting") as bar:
        drafts = generation.generate(
            Vlm(settings),
            Category(category),
            count,
            [each.scenario for each in known if each.category == category],
            [each.id for each in known],
            lambda done: bar.update(done - bar.pos),
        )
    write_prompts(output, drafts)
    click.echo(f"{len(drafts)} drafts are in {output}; edit them, then: kibotos prompts load {output}")
