"""`kibotos weights verify`: check a backend's ledger. It needs no server, no database and no account."""

from collections.abc import Collection
from pathlib import Path
from urllib.parse import urlsplit

import click

from app.audit.chain import TwoLedgers
from app.audit.difference import Difference
from app.audit.memory import Memory, UnusableMemory
from app.audit.remote import Remote, read_chunks
from app.audit.service import Verified, verify_ledger
from app.clients.published import Malformed, Published, read_keys, read_weights
from app.clients.sites import LeadsElsewhere, NoAnswer, NotAsPublished, NotThere, Site
from app.config import Settings


class NotChecked(click.ClickException):
    """Nothing is known about the ledger; the message is a sentence about why."""

    exit_code = 2


@click.command()
@click.option("--backend-url", help="The backend.  [default: API_URL, http://localhost:8080]")
@click.option("--mirror-url", help="Its mirror: compared with it, and read while it is away.")
@click.option(
    "--cycle", type=click.IntRange(1, 2**63 - 1), help="Which cycle.  [default: the last completed]"
)
@click.option(
    "--file",
    type=click.Path(exists=True, dir_okay=False, path_type=Path),
    help="Check this ledger alone, without asking the backend.",
)
@click.option(
    "--state",
    type=click.Path(dir_okay=False, path_type=Path),
    help="File to remember what was verified.  [default: ~/.kibotos/verifier/HOST.sqlite3]",
)
@click.pass_obj
def verify(
    settings: Settings,
    backend_url: str | None,
    mirror_url: str | None,
    cycle: int | None,
    file: Path | None,
    state: Path | None,
) -> None:
    """Check the ledger of a cycle, without trusting the backend.

    Each signature, each score, each total, the weights, the root, and the chain of roots since the ledgers
    that were verified before. Then what the backend says of eight submissions, drawn by lot: receipt, result
    and report. Exits with 0 if all is right, with 1 and the first difference if something is not, and with 2
    if it cannot be checked.
    """
    if file and (backend_url or mirror_url):
        raise click.UsageError("--file checks a file alone: leave out the addresses.")
    backend = Site.backend(backend_url or settings.api_url)
    if state is None:
        name = "files" if file else urlsplit(backend.url).netloc
        state = Path.home() / ".kibotos" / "verifier" / f"{name}.sqlite3"
    try:
        memory = Memory(state)
        verified = _verify_file(file, memory) if file else _verify_remote(backend, mirror_url, cycle, memory)
    except (Difference, Malformed, NotAsPublished, TwoLedgers) as wrong:
        raise click.ClickException(str(wrong)) from wrong
    except NotThere as error:
        raise NotChecked(
            f"Nothing was checked. {error} If that cycle is not completed yet, try again when it is; "
            "if this address is not that of the backend, correct it."
        ) from error
    except (LeadsElsewhere, NoAnswer, UnusableMemory) as error:
        raise NotChecked(f"Nothing was checked. {error}") from error
    _say(verified)


def _verify_file(file: Path, memory: Memory) -> Verified:
    with file.open("rb") as stream:
        return verify_ledger(read_chunks(stream), memory, None)


def _verify_remote(backend: Site, mirror_url: str | None, cycle: int | None, memory: Memory) -> Verified:
    mirror = Site.mirror(mirror_url) if mirror_url else None
    site, other = backend, mirror
    try:
        _keep_keys(memory, read_keys(backend))
        published = _find_weights(backend, cycle, memory)
    except NoAnswer as error:
        if mirror is None:
            raise
        click.echo(f"{error} The mirror is read instead.", err=True)
        site, other = mirror, None
        published = _find_weights(mirror, cycle, memory)
    number = cycle or (published.cycle_id if published else 0)
    remote = Remote(site, other, memory.list_keys())
    verified = remote.verify(memory, number)
    if published:
        remote.check_weights(published, verified.ledger)
    elif verified.ledger.weights:
        raise Difference(None, f"the published weights of cycle {number}", "those of its ledger", "none")
    return verified


def _keep_keys(memory: Memory, keys: Collection[str]) -> None:
    """Remember the backend's keys. Raises Difference if it no longer names one that it has named before."""
    memory.add_keys(keys)
    if forgotten := sorted(set(memory.list_keys()) - set(keys)):
        raise Difference(None, "the backend's keys", f"{forgotten[0]} among them, as before", "others only")


def _find_weights(site: Site, cycle: int | None, memory: Memory) -> Published | None:
    """What a site publishes of a cycle, or None if it has no weights. Raises NotThere if no cycle has any."""
    try:
        return read_weights(site, cycle, memory.list_keys())
    except NotThere:
        if cycle is None:
            raise
        return None


def _say(verified: Verified) -> None:
    ledger, linked = verified.ledger, verified.linked
    number = ledger.cycle.cycle_id
    click.echo(
        f"Cycle {number} is right: {ledger.submissions} submissions, {len(ledger.weights)} weights, "
        f"{ledger.lines} lines."
    )
    click.echo(f"Root {ledger.root}")
    if verified.compared:
        click.echo(f"The backend says the same of {verified.compared} submissions that were drawn by lot.")
    if silent := verified.drawn - verified.compared:
        click.echo(
            f"It gave no answer about {silent} of {verified.drawn} submissions that were drawn by lot. "
            "Verify again; if this goes on, ask its operator why.",
            err=True,
        )
    if linked.since is not None:
        click.echo(f"It is in one chain with cycle {linked.since}, with {linked.links} ledgers between them.")
    else:
        click.echo("There was no earlier ledger to compare it with. Its root is kept for the next time.")
    if ledger.unchecked:
        click.echo(
            f"{ledger.unchecked} late corrections were taken as recorded, since the cycles that they correct "
            "were not verified here, one after the other."
        )
