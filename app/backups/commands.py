"""`kibotos db backup` and `kibotos db restore`."""

from pathlib import Path

import click
from rich.console import Console
from rich.progress import BarColumn, DownloadColumn, Progress, TextColumn

from app.backups import service
from app.config import Settings, masked

FILE = click.Path(dir_okay=False, path_type=Path)


def _progress() -> Progress:
    columns = (TextColumn("{task.description}"), BarColumn(), DownloadColumn())
    return Progress(*columns, console=Console(stderr=True))


@click.command()
@click.argument("file", type=FILE)
@click.pass_obj
def backup(settings: Settings, file: Path) -> None:
    """Write a backup of the database to FILE, while the service goes on.

    It is in pg_dump's custom format. FILE.manifest.json says what is in it; keep the two together.
    """
    with _progress() as progress:
        task = progress.add_task("Writing", total=None)
        manifest = service.back_up(settings, file, lambda size: progress.update(task, completed=size))
    click.echo(
        f"{file} holds {sum(manifest.rows.values()):,} rows of {len(manifest.rows)} tables in "
        f"{manifest.size_bytes:,} bytes, with the schema {manifest.migrations[-1]}."
    )
    click.echo("Videos, sheets and ledgers are in the bucket, which this does not copy.")


@click.command()
@click.argument("file", type=FILE)
@click.pass_obj
def restore(settings: Settings, file: Path) -> None:
    """Load the backup FILE into the empty database of DATABASE_URL: all of it or nothing."""
    with _progress() as progress:
        progress.add_task("Restoring", total=None)
        manifest = service.restore(settings, file, lambda: None)
    rows = f"{sum(manifest.rows.values()):,} rows"
    click.echo(f"{masked(settings.database_url)} has the {rows} of {manifest.created_at:%F %T} UTC.")
    click.echo("Next: `kibotos db migrate`, `kibotos db check`, `kibotos ledger check` of the last cycle.")
