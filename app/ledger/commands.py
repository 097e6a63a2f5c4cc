"""`kibotos ledger …` and `kibotos keys …`: write ledgers again and check them; make the key of receipts."""

from pathlib import Path

import click

from app.config import Settings

cycle_option = click.option("--cycle", type=click.IntRange(1, 2**63 - 1), required=True)


@click.group()
def ledger() -> None:
    """Write the ledgers of completed cycles again, and check them."""


@ledger.command()
@cycle_option
@click.option(
    "--output", type=click.Path(dir_okay=False, path_type=Path), help="Write it to this file instead."
)
@click.pass_obj
def write(settings: Settings, cycle: int, output: Path | None) -> None:
    """Write the ledger of a cycle again, from the database to storage.

    It is the same byte by byte. With --output, a name that ends in .zst gives a compressed file, any other
    name plain lines. Exits with 1, and stores nothing, if the database no longer gives the published lines.
    """
    from app.clients.storage import Storage
    from app.db import command_app
    from app.ledger import service
    from app.proofs.packing import pack

    with command_app(settings).app_context():
        if output is None:
            service.store(cycle, Storage(settings))
            click.echo(f"The ledger of cycle {cycle} is in storage.")
            return
        part = output.with_name(output.name + ".part")
        try:
            with part.open("wb") as file:
                if output.suffix == ".zst":
                    with pack(file) as packed:
                        service.write(cycle, packed)
                else:
                    service.write(cycle, file)
            part.replace(output)
        finally:
            part.unlink(missing_ok=True)
    click.echo(f"The ledger of cycle {cycle} is in {output}.")


@ledger.command()
@cycle_option
@click.pass_obj
def check(settings: Settings, cycle: int) -> None:
    """Check that the database still gives the ledger that was published for a cycle.

    The scheduler does it with each ledger every six hours. Receipts are refused while a ledger differs.
    """
    from app.db import command_app
    from app.ledger import service

    with command_app(settings).app_context():
        found = service.compare(cycle)
    click.echo(f"The database gives the {found.lines} lines that were published, with the root {found.root}.")


@click.group()
def keys() -> None:
    """Make the key that signs receipts, and list the keys that ever did."""


@keys.command()
@click.argument("file", type=click.Path(dir_okay=False, path_type=Path))
def new(file: Path) -> None:
    """Make a key in FILE, which only you can read, and print its address.

    Name the file in RECEIPT_KEY_FILE of the web service and the scheduler. A key that was used before is
    retired then, and stays on /v1/keys.
    """
    from app.proofs.keys import create_key

    click.echo(create_key(file).address)


@keys.command("list")
@click.pass_obj
def list_keys(settings: Settings) -> None:
    """List the keys that sign receipts or did so, the latest first."""
    from app.db import command_app
    from app.ledger import queries

    with command_app(settings).app_context():
        periods = queries.list_keys()
    for period in periods:
        end = f"retired {period.retired_at:%F %T} UTC" if period.retired_at else "valid"
        click.echo(f"{period.key}  from {period.valid_from:%F %T} UTC  {end}")
    if not periods:
        click.echo("No key has signed receipts yet: make one with `kibotos keys new`.")
