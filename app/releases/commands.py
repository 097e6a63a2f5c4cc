"""`kibotos releases …`: make data sets of accepted videos, check and export them."""

import re
import time
from contextlib import suppress
from typing import Any

import click
from redis.exceptions import RedisError

from app.config import ConfigError, Settings
from app.db import command_app, db
from app.enums import Category, Codec, DataFormat, ReleaseState, values
from app.releases.models import Release, Rules

POLL_SECONDS = 1.0
# what a release that is being shown may take of the database's time
POLL_SHARE = 0.1
SHOWN_AT_MOST = 20

name_argument = click.argument("name")


def _cycles(_ctx: click.Context, _param: click.Parameter, value: str | None) -> tuple[int, int] | None:
    if value is None:
        return None
    found = re.fullmatch(r"(\d{1,18})(?:\.\.(\d{1,18}))?", value)
    if not found or int(found[1]) > int(found[2] or found[1]):
        raise click.BadParameter("Write one cycle, such as 12, or the first and the last, such as 12..40.")
    return int(found[1]), int(found[2] or found[1])


@click.group()
def releases() -> None:
    """Make data sets of accepted videos, check and export them."""


@releases.command()
@name_argument
@click.option("--min-score", type=click.FloatRange(0, 1), help="Lowest final score.  [default: any]")
@click.option(
    "--category", "categories", type=click.Choice(values(Category)), multiple=True, help="[default: all]"
)
@click.option(
    "--cycle", "cycles", callback=_cycles, metavar="A..B", help="First and last cycle.  [default: all]"
)
@click.option(
    "--licence", "licences", multiple=True, help="SPDX identifier, such as CC-BY-4.0.  [default: any]"
)
@click.option(
    "--format",
    "formats",
    type=click.Choice(values(DataFormat)),
    multiple=True,
    help="[default: all; with --from that release's]",
)
@click.option("--codec", type=click.Choice(values(Codec)), help="Of the films.  [default: h264]")
@click.option(
    "--long-side",
    type=click.Choice(["320", "640", "960", "1280", "1920"]),
    help="Pixels of the longer side of the films.  [default: 1280]",
)
@click.option(
    "--from", "predecessor", metavar="OTHER", help="Be the successor of OTHER, without what was taken down."
)
@click.option("--no-wait", is_flag=True, help="Leave the work to workers, and return at once.")
@click.pass_obj
def create(
    settings: Settings,
    name: str,
    min_score: float | None,
    categories: tuple[str, ...],
    cycles: tuple[int, int] | None,
    licences: tuple[str, ...],
    formats: tuple[str, ...],
    codec: str | None,
    long_side: str | None,
    predecessor: str | None,
    no_wait: bool,
) -> None:
    """Freeze a release of what is accepted now, and build it.

    Workers of the queue `releases` build it. If none is running, this command builds it itself. Ctrl-C leaves
    it as it is: workers go on, and so does the same command again. A successor has the rules and the episodes
    of OTHER, but for what was taken down or corrected since, and its films are not made again.
    """
    from app.clients.storage import Storage
    from app.releases import service
    from app.video.film import Recipe

    with command_app(settings).app_context():
        chosen = Rules(
            min_score=min_score or 0.0,
            categories=tuple(Category(each) for each in Category if each in categories) or None,
            first_cycle=cycles[0] if cycles else None,
            last_cycle=cycles[1] if cycles else None,
            licences=tuple(sorted(set(licences))) or None,
        )
        recipe = Recipe(codec=Codec(codec or Codec.H264), long_side=int(long_side or Recipe.long_side))
        if predecessor is not None:
            if chosen != Rules() or codec or long_side:
                raise click.UsageError(
                    "With --from the rules and the films are those of OTHER; leave out the others."
                )
            chosen, recipe, formats = service.inherit(predecessor, formats)
        release = service.create(
            name, chosen, [DataFormat(each) for each in formats or DataFormat], recipe, settings, predecessor
        )
        click.echo(
            f"{name}: {release.chosen:,} episodes are frozen"
            + (
                f", of which {release.left_out:,} are left out; `show` names them."
                if release.left_out
                else "."
            )
        )
        if no_wait and not release.is_over:
            click.echo(
                f"Workers build it: kibotos worker --queue releases. See: kibotos releases show {name}"
            )
            return
        release = _wait(name, settings, Storage(settings))
        if release.state == ReleaseState.FAILED:
            raise click.ClickException(f"{name} failed: {release.failure} The same command tries again.")
        _tell_complete(release)


def _wait(name: str, settings: Settings, storage: Any) -> Release:
    """Show how far a release is until it is complete or has failed; build it here while no worker does."""
    from rich.console import Console
    from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

    from app.releases import service

    columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn())
    with Progress(*columns, console=Console(stderr=True), transient=True) as bar:
        films, files = bar.add_task("Films"), bar.add_task("Files", total=None)
        while True:
            began = time.monotonic()
            release = service.get(name)
            db.session.rollback()
            took = time.monotonic() - began
            total = release.chosen
            bar.update(films, completed=release.films, total=total)
            bar.update(files, completed=release.parts_done, total=release.parts or None)
            if release.last_fault:
                bar.update(films, description=f"Films (waits: {release.last_fault[:60]})")
            if release.is_over:
                return release
            if not _build(settings, storage, for_seconds=max(POLL_SECONDS, took / POLL_SHARE)):
                time.sleep(max(POLL_SECONDS, took / POLL_SHARE))


def _build(settings: Settings, storage: Any, for_seconds: float) -> bool:
    """Build what is due for some seconds, unless workers do; False if nothing was done."""
    import os
    import socket

    from app.queue import RELEASES, connect, count_workers
    from app.releases import building

    with suppress(RedisError, ConfigError):
        # where Redis is away, no worker gets work
        if count_workers(connect(settings, socket_timeout=5), RELEASES):
            return False
    building.check_tools()
    worker = f"{socket.gethostname()}-{os.getpid()}-create"
    until = time.monotonic() + for_seconds
    done = False
    while time.monotonic() < until and building.work_next(worker, storage, on_loss=lambda: None):
        done = True
    return done


def _tell_complete(release: Release) -> None:
    figures = release.figures or {}
    click.echo(
        f"{release.name} is complete: {figures.get('episodes', 0):,} episodes, "
        f"{figures.get('hours', 0):.2f} h, {figures.get('bytes', 0) / 1e6:,.1f} MB.\n"
        f"Its manifest: sha256:{release.manifest_sha256}\n"
        f"Export it: kibotos releases export {release.name} --out DIRECTORY"
    )


@releases.command("list")
@click.pass_obj
def list_releases(settings: Settings) -> None:
    """List the releases, the newest first."""
    from app.releases import queries

    with command_app(settings).app_context():
        before, found = None, queries.list_releases(None, queries.PAGE)
        if not found:
            click.echo("There are no releases; kibotos releases create makes one.")
        while found:
            for release in found:
                click.echo(f"{release.name}  {_how_far(release)}  frozen {release.frozen_at:%F}")
            before = found[-1].name
            found = queries.list_releases(before, queries.PAGE) if len(found) == queries.PAGE else []


def _how_far(release: Release) -> str:
    if release.state == ReleaseState.COMPLETE:
        figures = release.figures or {}
        gone = f"  {release.taken_down:,} taken down" if release.taken_down else ""
        return (
            f"complete  {figures.get('episodes', 0):,} episodes  {figures.get('hours', 0):.2f} h  "
            f"sha256:{(release.manifest_sha256 or '')[:12]}…{gone}"
        )
    if release.state == ReleaseState.FAILED:
        return f"failed  {release.failure}"
    if release.state == ReleaseState.FILMS:
        return f"making films  {release.films:,} of {release.chosen:,}"
    return f"writing files  {release.parts_done:,} of {release.parts:,}"


@releases.command()
@name_argument
@click.option("--all", "everything", is_flag=True, help="Name all that is left out, however many they are.")
@click.pass_obj
def show(settings: Settings, name: str, everything: bool) -> None:
    """Show a release: its rules, how far it is, what is left out, and what was taken down since."""
    from itertools import islice

    from app.releases import queries, service

    with command_app(settings).app_context():
        release = service.get(name)
        click.echo(f"{name}  {_how_far(release)}")
        click.echo(f"frozen      {release.frozen_at:%F %H:%M} UTC")
        click.echo(f"rules       {', '.join(f'{k} {_plain(v)}' for k, v in release.rules.items())}")
        click.echo(f"formats     {', '.join(release.formats)}")
        click.echo(f"films       {release.recipe}")
        if release.predecessor:
            click.echo(f"successor of {release.predecessor}")
        for what in ("by_split", "by_category", "by_licence"):
            if release.figures:
                counts = ", ".join(f"{key} {n:,}" for key, n in release.figures[what].items())
                click.echo(f"{what.replace('_', ' '):11} {counts}")
        if release.manifest_sha256:
            click.echo(f"manifest    sha256:{release.manifest_sha256}")
        if release.last_fault and not release.is_over:
            click.echo(f"waits since {release.last_fault}")
        if release.left_out:
            click.echo(f"left out    {release.left_out:,} of {release.chosen:,}")
            shown = queries.iterate_left_out(release.id)
            for each in shown if everything else islice(shown, SHOWN_AT_MOST):
                click.echo(f"  {each.submission_uuid}  {each.reason}")
            if release.left_out > SHOWN_AT_MOST and not everything:
                click.echo("  … more with --all")
        if release.taken_down:
            click.echo(f"taken down  {release.taken_down:,}, so it is exported no more")
            for uuid in queries.list_taken_down(
                release.id, release.taken_down if everything else SHOWN_AT_MOST
            ):
                click.echo(f"  {uuid}")
            click.echo(f"Make its successor: kibotos releases create NEW-NAME --from {name}")


def _plain(value: Any) -> str:
    return " or ".join(map(str, value)) if isinstance(value, list) else str(value)


@releases.command()
@name_argument
@click.option(
    "--rebuild", "again", is_flag=True, help="Then build all of it once more, and compare the bytes."
)
@click.pass_obj
def verify(settings: Settings, name: str, again: bool) -> None:
    """Read all that is stored of a release, and compare it with its manifest, and that with its hash."""
    from app.clients.storage import Storage
    from app.releases import exporting, service

    with command_app(settings).app_context():
        release = service.get(name)
        db.session.rollback()
        with _bytes_bar("Reading", release) as tell:
            problems = exporting.verify(release, Storage(settings), tell)
        if again and not problems:
            problems = _rebuild(release, Storage(settings))
    for problem in problems[:SHOWN_AT_MOST]:
        click.echo(f"{problem.path}: {problem.reason}")
    if release.taken_down:
        click.echo(
            f"{release.taken_down:,} videos in it were taken down; what held them is deleted from storage."
        )
    if problems:
        raise click.ClickException(f"{len(problems):,} files of {name} are not what they were.")
    click.echo(f"{name} is what its manifest says: sha256:{release.manifest_sha256}")


def _rebuild(release: Release, storage: Any) -> Any:
    from rich.console import Console
    from rich.progress import Progress

    from app.releases import rebuilding

    with Progress(console=Console(stderr=True), transient=True) as bar:
        task = bar.add_task("Building again", total=release.films - release.taken_down + release.parts)
        return rebuilding.rebuild(release, storage, lambda: bar.advance(task))


@releases.command()
@name_argument
@click.option("--out", required=True, help="A directory, or s3://bucket/prefix at the store of the videos.")
@click.pass_obj
def export(settings: Settings, name: str, out: str) -> None:
    """Copy the files of a complete release to a directory or another bucket.

    What is there already is not copied again, so after a break the same command goes on. The manifest comes
    last: where it is, all is.
    """
    from app.clients.storage import Storage
    from app.releases import exporting, service

    storage = Storage(settings)
    with command_app(settings).app_context():
        release = service.get(name)
        db.session.rollback()
        with _bytes_bar("Copying", release) as tell:
            copied = exporting.export(release, exporting.find_target(out, release, storage), storage, tell)
    click.echo(f"{name} is in {out}: {copied:,} files were copied.")


class _bytes_bar:
    """A progress bar over the bytes of a release."""

    def __init__(self, what: str, release: Release):
        from rich.console import Console
        from rich.progress import BarColumn, DownloadColumn, Progress, TextColumn, TransferSpeedColumn

        columns = (TextColumn("{task.description}"), BarColumn(), DownloadColumn(), TransferSpeedColumn())
        self._bar = Progress(*columns, console=Console(stderr=True), transient=True)
        self._task = self._bar.add_task(what, total=(release.figures or {}).get("bytes"))

    def __enter__(self) -> Any:
        self._bar.start()
        return lambda path, size: self._bar.update(self._task, advance=size)

    def __exit__(self, *_: object) -> None:
        self._bar.stop()
