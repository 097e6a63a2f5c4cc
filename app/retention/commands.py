"""`kibotos storage usage` and `kibotos storage prune`: what is in the bucket, and what of it goes."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import UTC, datetime

import click

from app.clients.storage import Storage
from app.config import Settings
from app.db import command_app
from app.retention import service
from app.retention.models import Judged, Tallies


@click.command()
@click.pass_obj
def usage(settings: Settings) -> None:
    """Show what is in the bucket, by class, and what of it is over its time. Nothing is deleted."""
    with command_app(settings).app_context(), _progress("Looking") as seen:
        found = service.look(settings, Storage(settings), datetime.now(UTC), progress=seen)
    _show(found, err=False)


@click.command()
@click.option("--dry-run", is_flag=True, help="Only list what would be deleted.")
@click.option("--yes", is_flag=True, help="Do not ask.")
@click.pass_obj
def prune(settings: Settings, dry_run: bool, yes: bool) -> None:
    """Delete what is over its time, and what nobody knows, now. The scheduler does so each night.

    What was accepted is never deleted, nor what is under review or may be appealed against.
    """
    storage, moment = Storage(settings), datetime.now(UTC)

    def tell(judged: Judged) -> None:
        if dry_run:
            click.echo(f"{judged.kind}  {judged.size_bytes}  {judged.key}")

    with command_app(settings).app_context():
        with _progress("Looking") as seen:
            found = service.look(settings, storage, moment, tell, seen)
        _show(found, err=True)
        if dry_run:
            return
        if found.has_too_many_orphans:
            click.echo(
                "Much of it is unknown to the database. If you have restored an old backup, this may be "
                "videos that it lacks.",
                err=True,
            )
        if not yes:
            click.confirm("Delete what is due?", abort=True, err=True)
        with _progress("Deleting") as seen:
            deleted = service.prune(settings, storage, moment, seen)
    objects = sum(tally.deleted for tally in deleted.by_kind.values())
    size = sum(tally.deleted_bytes for tally in deleted.by_kind.values())
    click.echo(f"Deleted {objects} objects of {size:,} bytes; aborted {deleted.aborted} uploads in parts.")


@contextmanager
def _progress(what: str) -> Iterator[Callable[[int], None]]:
    """Show on stderr how many objects were seen while the block runs. Yields the function that tells it."""
    from rich.console import Console
    from rich.progress import Progress, SpinnerColumn, TextColumn

    columns = (SpinnerColumn(), TextColumn(what), TextColumn("{task.completed:,} objects"))
    with Progress(*columns, console=Console(stderr=True), transient=True) as bar:
        task = bar.add_task(what, total=None)
        yield lambda objects: bar.update(task, completed=objects)


def _show(found: Tallies, *, err: bool) -> None:
    click.echo(f"{'class':<12} {'objects':>10} {'bytes':>20} {'due':>10} {'bytes due':>20}", err=err)
    for kind, tally in sorted(found.by_kind.items()):
        click.echo(
            f"{kind.replace('_', ' '):<12} {tally.objects:>10,} {tally.size_bytes:>20,} {tally.due:>10,} "
            f"{tally.due_bytes:>20,}",
            err=err,
        )
    click.echo(f"{'all':<12} {found.objects:>10,} {found.size_bytes:>20,}", err=err)
