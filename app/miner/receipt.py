"""`kibotos receipt …`: check receipts of submissions, without a backend."""

import json
from pathlib import Path

import click

# a receipt has one line of a ledger and a few dozen hashes
MAX_BYTES = 10 * 1024 * 1024


@click.group()
def receipt() -> None:
    """Check receipts of submissions, without a backend."""


@receipt.command()
@click.argument("file", type=click.Path(exists=True, dir_okay=False, path_type=Path))
@click.option(
    "--keys",
    type=click.Path(exists=True, dir_okay=False, path_type=Path),
    help="File with the answer of /v1/keys: the key must have been valid when it signed.",
)
@click.option("--key", help="Address of the key that must have signed.")
@click.option("--root", help="Root of the ledger, as /v1/weights shows it, that the receipt must have.")
def verify(file: Path, keys: Path | None, key: str | None, root: str | None) -> None:
    """Check that a receipt is genuine, and show what it proves.

    This needs no network. Without --keys, --key or --root, compare the key that it prints with one that you
    trust. Exits with 1 if anything is wrong.
    """  # fmt: skip
    from app.proofs.receipts import read_receipt

    try:
        found = read_receipt(_read(file))
        if key is not None and found.key != key:
            raise ValueError(f"Its key is {found.key or 'none'}, not {key}.")
        if root is not None and found.root != root.lower():
            raise ValueError(f"Its root is {found.root}, not {root.lower()}.")
        if keys is not None:
            _check_period(found.key, found.signed_at, _read(keys))
        if found.key is None and root is None:
            raise ValueError(
                "It is unsigned, so it proves nothing by itself: compare its root with the ledger_root of "
                f"/v1/weights/{found.cycle_id}, and give it by --root."
            )
        shown = _describe(found.read_line())
    except ValueError as error:
        raise click.ClickException(
            f"{file} is not a genuine receipt. {error} If you changed the file, download it again."
        ) from error
    # whoever made the receipt chose the texts in it
    click.echo("".join(sign if sign.isprintable() or sign == "\n" else "?" for sign in shown))
    click.echo(f"cycle:       {found.cycle_id}, line {found.index} of {found.lines}")
    click.echo(f"root:        {found.root}")
    click.echo(
        f"signed by:   {found.key or 'nobody'}" + (f" at {found.signed_at}" if found.signed_at else "")
    )
    click.echo("The receipt is genuine.")


def _read(file: Path) -> bytes:
    with file.open("rb") as opened:
        content = opened.read(MAX_BYTES + 1)
    if len(content) > MAX_BYTES:
        raise ValueError(f"{file} is too large.")
    return content


def _check_period(key: str | None, signed_at: str | None, answer: bytes) -> None:
    from datetime import datetime

    from app.proofs.lines import read_time

    try:
        periods = {
            item["key"]: (item["valid_from"], item["retired_at"]) for item in json.loads(answer)["keys"]
        }
        valid_from, retired_at = periods.get(key, (None, None))
        if valid_from is not None and signed_at is not None:
            moment = read_time(signed_at)
            if datetime.fromisoformat(valid_from) <= moment and (
                retired_at is None or moment <= datetime.fromisoformat(retired_at)
            ):
                return
    except (ValueError, KeyError, TypeError, AttributeError, RecursionError) as error:
        raise ValueError("The file of --keys is not an answer of /v1/keys.") from error
    raise ValueError(f"Its key {key or ''} was not valid when it signed, by the file of --keys.")


def _describe(line: object) -> str:
    """What a line of a ledger says, in short. Raises ValueError if the miner's signature in it is wrong."""
    from app.hotkeys import STATEMENT_HEAD, is_signed, submission_statement
    from app.proofs.lines import CycleLine, SubmissionLine

    if isinstance(line, SubmissionLine):
        statement = submission_statement(
            line.hotkey, line.uid, line.prompt_id, line.video_key, line.video_hash, line.statement
        )
        if not STATEMENT_HEAD.fullmatch(line.statement):
            raise ValueError("The statement in its line is none that a miner signs.")
        if line.signature and not is_signed(statement, bytes.fromhex(line.signature), line.hotkey):
            raise ValueError("The signature of the miner in its line is wrong.")
        return (
            f"submission:  {line.uuid} of {line.hotkey}, uid {line.uid}\n"
            f"result:      {line.effective_status}, {line.effective_score}, times {line.prompt_weight}"
        )
    if isinstance(line, CycleLine):
        return f"head:        the ledger before is that of cycle {line.previous_cycle_id or 'none'}"
    return f"line:        {line}"
