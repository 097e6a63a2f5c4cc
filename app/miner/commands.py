"""`kibotos miner …`: list prompts, submit videos and see their scores."""

import hashlib
import json
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import datetime
from pathlib import Path
from typing import Any
from uuid import UUID

import click

from app.config import ConfigError, Settings
from app.enums import ActorType, CameraType, Category, values

file_argument = click.argument("file", type=click.Path(exists=True, dir_okay=False, path_type=Path))
api_option = click.option("--api-url", help="The backend.  [default: API_URL, http://localhost:8080]")
json_option = click.option("--json", "as_json", is_flag=True, help="Print JSON.")
yes_option = click.option(
    "--yes", is_flag=True, help="Do not ask whether to submit a video that loses points."
)


def _options(*options: Callable) -> Callable:
    def decorate(command: Callable) -> Callable:
        for option in reversed(options):
            command = option(command)
        return command

    return decorate


key_options = _options(
    click.option("--wallet-name", help="Name of the Bittensor wallet. Only its hotkey file is read."),
    click.option("--hotkey-name", default="default", show_default=True),
    click.option("--wallet-path", help="Directory of the wallets.  [default: ~/.bittensor/wallets]"),
    click.option("--hotkey", help="Address of the hotkey, if you have no wallet (in development)."),
)
statement_options = _options(
    click.option("--prompt", "prompt_id", required=True, help="Id of the prompt that the video shows."),
    click.option("--uid", "miner_uid", type=click.IntRange(0, 65535), required=True, help="Your uid."),
    click.option(
        "--camera-type", type=click.Choice(values(CameraType)), default="ego_head", show_default=True
    ),
    click.option("--actor-type", type=click.Choice(values(ActorType)), default="human", show_default=True),
    click.option("--camera-intrinsics", type=click.File(), help="A JSON file with an object."),
    click.option("--robot-model"),
    click.option("--environment", help="Where it was filmed."),
    click.option("--action-description", help="What is done."),
    click.option("--task-success/--no-task-success", default=None, help="Whether the task succeeded."),
    click.option("--licence", help="SPDX id of its licence, such as CC-BY-4.0.  [default: the operator's]"),
    click.option(
        "--consent-statement",
        type=click.Path(exists=True, dir_okay=False, path_type=Path),
        help="File with the text that the filmed people agreed to. Only its hash is sent.",
    ),
    click.option("--consent-version", default="1", show_default=True, help="Version of that text."),
    click.option(
        "--consent-date",
        type=click.DateTime(["%Y-%m-%d"]),
        help="When they agreed, as in 2026-01-15.  [default: today]",
    ),
)


def _statement(options: dict[str, Any]) -> dict[str, Any]:
    """The fields of a submission that come from the options."""
    if file := options.pop("camera_intrinsics"):
        try:
            options["camera_intrinsics"] = json.load(file)
        except ValueError as error:
            raise click.BadParameter(f"{file.name} is not JSON: {error}.") from error
    options["consent"] = _consent(**_take(options, "consent_statement", "consent_version", "consent_date"))
    return {name: value for name, value in options.items() if value is not None}


def _consent(
    consent_statement: Path | None, consent_version: str, consent_date: datetime | None
) -> dict[str, str] | None:
    if consent_statement is None:
        if consent_date is not None:
            raise click.UsageError("--consent-date needs --consent-statement.")
        return None
    return {
        "hash": hashlib.sha256(consent_statement.read_bytes()).hexdigest(),
        "version": consent_version,
        "date": f"{consent_date or datetime.now():%Y-%m-%d}",
    }


def _hotkey(keys: dict[str, Any]) -> Any:
    from app.clients.hotkey import Hotkey

    if keys["wallet_name"]:
        return Hotkey.from_wallet(keys["wallet_name"], keys["hotkey_name"], keys["wallet_path"])
    if keys["hotkey"]:
        return Hotkey(keys["hotkey"])
    raise ConfigError("Name the hotkey: give --wallet-name and --hotkey-name, or --hotkey in development.")


def _miner(settings: Settings, api_url: str | None, keys: dict[str, Any]) -> Any:
    from app.clients.backend import Backend
    from app.miner.client import MinerClient
    from app.miner.journal import Journal

    directory = Path.home() / ".kibotos" / "miner"
    return MinerClient(Backend(api_url or settings.api_url), _hotkey(keys), Journal(directory))


def _take(options: dict[str, Any], *names: str) -> dict[str, Any]:
    return {name: options.pop(name) for name in names}


KEYS = ("wallet_name", "hotkey_name", "wallet_path", "hotkey")


@click.group()
def miner() -> None:
    """List prompts, submit videos and see their scores."""


@miner.command()
@click.option("--category", type=click.Choice(values(Category)))
@api_option
@json_option
@click.pass_obj
def prompts(settings: Settings, category: str | None, api_url: str | None, as_json: bool) -> None:
    """List the prompts that you can film."""
    from rich.console import Console
    from rich.table import Column, Table

    from app.assessment import technical
    from app.clients.backend import Backend

    found = Backend(api_url or settings.api_url).get("/v1/prompts", category=category)
    if as_json:
        click.echo(json.dumps(found, indent=2))
        return
    id_column = Column("id", no_wrap=True, overflow="fold")
    table = Table(id_column, "category", "scenario", "seconds", "weight")
    for prompt in found:
        limits = technical.limits(prompt["requirements"])
        seconds = f"{limits['min_duration']:g}-{limits['max_duration']:g}"
        table.add_row(prompt["id"], prompt["category"], prompt["scenario"], seconds, f"{prompt['weight']:g}")
    # a scenario may have brackets, which are no markup
    Console(markup=False).print(table)


@miner.command()
@file_argument
@key_options
@api_option
@json_option
@click.pass_obj
def upload(settings: Settings, file: Path, api_url: str | None, as_json: bool, **keys: Any) -> None:
    """Upload FILE, and print the video key for `kibotos miner submit`."""
    digest = _hash(file)
    runner = _miner(settings, api_url, keys)
    with _progress(file) as progress:
        entry = runner.upload(file, digest, progress)
    if as_json:
        click.echo(json.dumps({"video_key": entry.video_key, "video_hash": digest}))
    else:
        click.echo(f"video_key:   {entry.video_key}\nvideo_hash:  {digest}")


@miner.command()
@file_argument
@click.option("--video-key", required=True, help="The video key that `kibotos miner upload` printed.")
@statement_options
@click.option("--signature", help="A signature in hex, made on another machine. Use it with --hotkey.")
@key_options
@yes_option
@api_option
@json_option
@click.pass_obj
def submit(
    settings: Settings,
    file: Path,
    api_url: str | None,
    as_json: bool,
    signature: str | None,
    yes: bool,
    **options: Any,
) -> None:
    """Submit FILE to a prompt. Upload it first; --video-key names the upload."""

    keys = _take(options, *KEYS)
    statement = _statement(options)
    runner = _miner(settings, api_url, keys)
    video = _inspect(settings, api_url, file, statement["prompt_id"], yes)
    receipt = runner.submit(statement | {"video_hash": video.sha256} | video.declared, signature)
    _show_receipt(receipt, as_json)


@miner.command()
@file_argument
@statement_options
@key_options
@click.option("--watch", is_flag=True, help="Wait for the score.")
@yes_option
@api_option
@json_option
@click.pass_context
def submit_video(
    ctx: click.Context,
    file: Path,
    watch: bool,
    yes: bool,
    api_url: str | None,
    as_json: bool,
    **options: Any,
) -> None:
    """Check FILE, upload it and submit it to a prompt.

    The backend is asked first whether it would accept it. After an interruption, run the command again: it
    continues where it stopped and submits nothing twice.
    """
    from app.miner.client import Rejected

    settings: Settings = ctx.obj
    keys = _take(options, *KEYS)
    statement = _statement(options)
    runner = _miner(settings, api_url, keys)
    if obstacles := runner.ask(file, _hash(file), statement):
        raise Rejected(f"This would be refused, so nothing was uploaded: {' '.join(obstacles)}")
    video = _inspect(settings, api_url, file, statement["prompt_id"], yes)
    with _progress(file) as progress:
        receipt = runner.submit_video(video, statement, progress)
    if not watch:
        _show_receipt(receipt, as_json)
        return
    ctx.exit(_watch(settings, api_url, receipt["submission_uuid"], as_json))


@miner.command()
@click.argument("video_key")
@key_options
@api_option
@click.pass_obj
def abort(settings: Settings, video_key: str, api_url: str | None, **keys: Any) -> None:
    """Give up the upload VIDEO_KEY, if it is one in parts that is not complete.

    An upload that nobody goes on with is aborted after a day by itself.
    """
    _miner(settings, api_url, keys).abort(video_key)
    click.echo("It is aborted.")


@miner.command("list")
@click.option("--limit", type=click.IntRange(1, 200), default=20, show_default=True)
@key_options
@api_option
@json_option
@click.pass_obj
def list_submissions(settings: Settings, limit: int, api_url: str | None, as_json: bool, **keys: Any) -> None:
    """List your own submissions, the newest first."""
    from app.terminal import printable

    found = _miner(settings, api_url, keys).list_submissions(limit)
    if as_json:
        click.echo(json.dumps(found, indent=2))
        return
    for each in found:
        score = "     -" if each["final_score"] is None else f"{each['final_score']:.4f}"
        reason = printable(each["rejection_reason"] or "")
        line = f"{each['submission_uuid']}  {each['submitted_at'][:19]}Z  {each['status']:<10}  {score}  "
        click.echo(f"{line}{each['prompt_id']}  {reason}".rstrip())


@miner.command()
@key_options
@api_option
@json_option
@click.pass_obj
def standing(settings: Settings, api_url: str | None, as_json: bool, **keys: Any) -> None:
    """Show your quotas, and how you stand in the active cycle.

    The share is the weight that you would get if the cycle ended now with the results that there are.
    """
    found = _miner(settings, api_url, keys).get_standing()
    if as_json:
        click.echo(json.dumps(found, indent=2))
        return
    uid = "none" if found["uid"] is None else found["uid"]
    click.echo(f"hotkey:       {found['miner_hotkey']}, uid {uid}")
    for what in ("submissions", "uploads"):
        quota = found[what]
        wait = quota["seconds_until_room"]
        room = "" if wait is None else f"; room for the next in {wait} s"
        click.echo(f"{what + ':':<13} {quota['used']} of {quota['limit']} in the last hour{room}")
    if found["open_multiparts"]:
        click.echo(f"open uploads: {found['open_multiparts']} of {found['max_open_multiparts']}")
    if (cycle := found["cycle"]) is None:
        click.echo("cycle:        none is active")
        return
    click.echo(
        f"cycle {cycle['cycle_id']}: {cycle['submissions']} submissions, {cycle['accepted']} accepted, "
        f"{cycle['open']} open; {cycle['total_score']:.4f} points, {cycle['share']:.2%} of the weights"
    )


@miner.command()
@click.argument("uuid")
@click.option("--watch", is_flag=True, help="Wait for the score.")
@click.option(
    "--open",
    "wants_link",
    is_flag=True,
    help="Print a link to a page with the video. It is good for 15 minutes. Name the hotkey as well.",
)
@key_options
@api_option
@json_option
@click.pass_context
def status(
    ctx: click.Context,
    uuid: str,
    watch: bool,
    wants_link: bool,
    api_url: str | None,
    as_json: bool,
    **keys: Any,
) -> None:
    """Show the status and the result of the submission UUID. Exits with 1 if it was rejected."""
    from app.clients.backend import Backend
    from app.terminal import printable

    settings: Settings = ctx.obj
    hotkey = _hotkey(keys) if wants_link else None
    backend = Backend(api_url or settings.api_url)
    if watch:
        code = _watch(settings, api_url, uuid, as_json)
    else:
        code = _show_submission(backend, backend.get(f"/v1/submissions/{uuid}"), as_json)
    if hotkey:
        link = backend.post(f"/v1/submissions/{uuid}/video-link", {}, sign=hotkey.sign_request)
        click.echo(f"{backend.url}{printable(link['path'])}", err=as_json)
    ctx.exit(code)


@miner.command()
@click.argument("uuid")
@click.option(
    "--output",
    type=click.Path(dir_okay=False, path_type=Path),
    help="File to write.  [default: receipt-UUID.json]",
)
@api_option
@click.pass_obj
def receipt(settings: Settings, uuid: str, output: Path | None, api_url: str | None) -> None:
    """Download the receipt of the submission UUID: the proof of what it counted for in its cycle."""
    from app.clients.backend import Backend
    from app.proofs.lines import encode_object
    from app.proofs.receipts import read_receipt

    found = Backend(api_url or settings.api_url).get(f"/v1/submissions/{uuid}/receipt")
    content = encode_object(found) + b"\n"
    try:
        read_receipt(content)
    except ValueError as error:
        raise click.ClickException(f"The backend sent a receipt that is not genuine. {error}") from error
    output = output or Path(f"receipt-{uuid}.json")
    output.write_bytes(content)
    click.echo(f"{output}\nkibotos receipt verify {output}")


@miner.command()
@click.argument("submission", type=click.UUID)
@click.option("--reason", required=True, help="Why the result is wrong, in at most 1,000 characters.")
@key_options
@api_option
@json_option
@click.pass_obj
def appeal(
    settings: Settings, submission: UUID, reason: str, api_url: str | None, as_json: bool, **keys: Any
) -> None:
    """Appeal against the result of a submission, once, within 24 hours of the result.

    The video is evaluated anew. If that agrees with the result, the result stands. If not, a person decides.
    Run the command again to see what became of the appeal.
    """
    found = _miner(settings, api_url, keys).appeal(str(submission), reason)
    if as_json:
        click.echo(json.dumps(found))
        return
    click.echo(f"{submission}: the appeal is {found['state']}")
    if evaluation := found["evaluation"]:
        click.echo(f"New evaluation: {evaluation['status']}, final score {evaluation['final_score']:.4f}")
    if found["decision_reason"]:
        click.echo(f"Decided by {found['decided_by']}: {found['decision_reason']}")


@miner.command()
@click.argument("submission", type=click.UUID)
@click.option("--reason", required=True, help="Why, in at most 1,000 characters. Everybody can read it.")
@click.option("--yes", is_flag=True, help="Do not ask.")
@key_options
@api_option
@json_option
@click.pass_obj
def takedown(
    settings: Settings,
    submission: UUID,
    reason: str,
    yes: bool,
    api_url: str | None,
    as_json: bool,
    **keys: Any,
) -> None:
    """Take your video of a submission down, for example because a person in it asks for that.

    Nobody can see it from then on, it is in no release, and it is deleted soon. A result stands; without one
    the submission is rejected. The footage cannot be submitted again, and nothing of this can be undone.
    """
    runner = _miner(settings, api_url, keys)
    if not yes:
        click.confirm(f"Delete the video of {submission} for good?", abort=True, err=as_json)
    taken = runner.take_down(str(submission), reason)
    if as_json:
        click.echo(json.dumps(taken))
        return
    gone = "is deleted" if taken["is_deleted"] else "will be deleted soon"
    click.echo(f"{submission}: taken down; the file {gone}.")


@miner.command()
@api_option
@json_option
@click.pass_obj
def licences(settings: Settings, api_url: str | None, as_json: bool) -> None:
    """List the licences that a submission may have."""
    from app.clients.backend import Backend

    found = Backend(api_url or settings.api_url).get("/v1/licences")
    if as_json:
        click.echo(json.dumps(found))
        return
    click.echo(f"--licence:  {', '.join(found['licences']) or 'none is taken; leave it out'}")
    click.echo(f"without:    {found['default'] or 'in no release'}")


def _hash(file: Path) -> str:
    with file.open("rb") as opened:
        return hashlib.file_digest(opened, "sha256").hexdigest()


def _inspect(settings: Settings, api_url: str | None, file: Path, prompt_id: str, yes: bool) -> Any:
    """Run the evaluation's checks on the file for that prompt. Raise Rejected if it would not pass.

    If it would lose points, say so, and ask at a terminal whether to go on, unless `yes`. A script goes on.
    """
    import sys

    from app import logs
    from app.clients.backend import Backend
    from app.miner import checks
    from app.miner.client import Rejected

    # not at the start of each command: to load it takes as long as all the rest
    logs.configure(settings.log_level, settings.log_format, sys.stderr)
    prompt = Backend(api_url or settings.api_url).get(f"/v1/prompts/{prompt_id}")
    video = checks.inspect(file, prompt)
    for loss in video.losses:
        click.echo(f"Loses points: {loss}", err=True)
    if video.losses and not yes and sys.stdin.isatty():
        question = "Submit it all the same? It counts as one of your submissions of this hour."
        if not click.confirm(question, err=True):
            raise Rejected("As you wished, the video was not submitted.")
    return video


@contextmanager
def _progress(file: Path) -> Iterator[Callable[[int], None]]:
    """Show a bar on stderr while the block runs. Yields the function that moves it."""
    from rich.console import Console
    from rich.progress import BarColumn, DownloadColumn, Progress, TextColumn, TransferSpeedColumn

    columns = (TextColumn("Uploading"), BarColumn(), DownloadColumn(), TransferSpeedColumn())
    with Progress(*columns, console=Console(stderr=True), transient=True) as bar:
        task = bar.add_task("upload", total=file.stat().st_size)
        yield lambda sent: bar.update(task, completed=sent)


def _show_receipt(receipt: dict[str, Any], as_json: bool) -> None:
    uuid = receipt["submission_uuid"]
    click.echo(json.dumps(receipt) if as_json else f"Submitted: {uuid}\nkibotos miner status {uuid} --watch")


def _watch(settings: Settings, api_url: str | None, uuid: str, as_json: bool) -> int:
    from app.clients.backend import Backend
    from app.miner import client

    def tell(submission: dict[str, Any]) -> None:
        click.echo(f"{uuid}: {submission['status']}", err=True)

    backend = Backend(api_url or settings.api_url)
    return _show_submission(backend, client.follow(backend, uuid, tell), as_json)


def _show_submission(backend: Any, submission: dict[str, Any], as_json: bool) -> int:
    """Print a submission, with its report if it has one, and return the exit code."""
    from rich.console import Console

    from app.assessment.display import show
    from app.assessment.report import Report

    uuid, evaluation = submission["submission_uuid"], submission["evaluation"]
    report = backend.get(f"/v1/submissions/{uuid}/report") if evaluation else None
    if as_json:
        click.echo(json.dumps(submission | {"report": report}, indent=2))
    else:
        click.echo(f"{uuid}: {submission['status']}, cycle {submission['cycle_id'] or 'none yet'}")
        if report:
            show(Report.read(report), Console())
        if evaluation:
            click.echo(f"Final score: {evaluation['final_score']:.4f}")
    return 1 if submission["status"] == "REJECTED" else 0


@miner.group()
def webhook() -> None:
    """Have the backend tell an address of yours about your submissions."""


@webhook.command()
@click.argument("url")
@key_options
@api_option
@json_option
@click.pass_obj
def add(settings: Settings, url: str, api_url: str | None, as_json: bool, **keys: Any) -> None:
    """Register URL, and print the secret that verifies what it is sent. It is shown this once."""
    backend, sign = _signed(settings, api_url, keys)
    made = backend.post("/v1/webhooks", {"url": url}, sign=sign, once=True)
    click.echo(json.dumps(made) if as_json else f"webhook:  {made['uuid']}\nsecret:   {made['secret']}")


@webhook.command("list")
@key_options
@api_option
@json_option
@click.pass_obj
def list_webhooks(settings: Settings, api_url: str | None, as_json: bool, **keys: Any) -> None:
    """List your webhooks."""
    backend, sign = _signed(settings, api_url, keys)
    found = backend.get("/v1/webhooks", sign)
    if as_json:
        click.echo(json.dumps(found, indent=2))
        return
    for each in found:
        failing = f"{each['failures']} failures in a row" if each["failures"] else "well"
        click.echo(f"{each['uuid']}  {each['url']}  {each['disabled_reason'] or failing}")


@webhook.command()
@click.argument("uuid", type=click.UUID)
@key_options
@api_option
@json_option
@click.pass_obj
def deliveries(settings: Settings, uuid: UUID, api_url: str | None, as_json: bool, **keys: Any) -> None:
    """List what was last sent to the webhook UUID, or waits."""
    backend, sign = _signed(settings, api_url, keys)
    found = backend.get(f"/v1/webhooks/{uuid}/deliveries", sign)
    if as_json:
        click.echo(json.dumps(found, indent=2))
        return
    for each in found:
        submission = each["data"]["submission_uuid"]
        click.echo(
            f"{each['created_at']}  {each['state']:<9}  {each['attempts']:>2} attempts  "
            f"{each['event']}  {submission}"
        )


@webhook.command()
@click.argument("uuid", type=click.UUID)
@click.option("--failed-since", required=True, help="A time, such as 2026-01-15T10:00:00Z.")
@key_options
@api_option
@click.pass_obj
def replay(settings: Settings, uuid: UUID, failed_since: str, api_url: str | None, **keys: Any) -> None:
    """Enable the webhook UUID, and send again what failed of events since a time."""
    backend, sign = _signed(settings, api_url, keys)
    backend.patch(f"/v1/webhooks/{uuid}", {"is_enabled": True}, sign)
    total = 0
    body = {"failed_since": failed_since}
    while replayed := backend.post(f"/v1/webhooks/{uuid}/replay", body, sign=sign)["replayed"]:
        total += replayed
    click.echo(f"Deliveries that are sent again: {total}.")


@webhook.command()
@click.argument("uuid", type=click.UUID)
@key_options
@api_option
@click.pass_obj
def delete(settings: Settings, uuid: UUID, api_url: str | None, **keys: Any) -> None:
    """Delete the webhook UUID. Nothing more is sent to it."""
    backend, sign = _signed(settings, api_url, keys)
    backend.delete(f"/v1/webhooks/{uuid}", sign)
    click.echo("It is deleted.")


def _signed(settings: Settings, api_url: str | None, keys: dict[str, Any]) -> tuple[Any, Any]:
    """The backend, and what signs a request to it."""
    from app.clients.backend import Backend

    return Backend(api_url or settings.api_url), _hotkey(keys).sign_request
