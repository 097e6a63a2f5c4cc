"""`kibotos webhooks …`: where events are sent, and what has become of them."""

from datetime import UTC, datetime
from uuid import UUID

import click

from app.clients.strangers import Strangers
from app.config import Settings
from app.db import command_app
from app.enums import DeliveryState, WebhookEvent, values
from app.webhooks import queries, service
from app.webhooks.models import Endpoint, ReplayIn

webhook_argument = click.argument("webhook", type=click.UUID)


@click.group()
def webhooks() -> None:
    """Show and manage webhooks, and what was sent."""


@webhooks.command()
@click.argument("url")
@click.option(
    "--event",
    "events",
    type=click.Choice(values(WebhookEvent)),
    multiple=True,
    help="May be repeated.  [default: all]",
)
@click.pass_obj
def add(settings: Settings, url: str, events: tuple[str, ...]) -> None:
    """Send events of all miners and cycles to URL. Prints the secret, this once."""
    wanted = [WebhookEvent(event) for event in events] or None
    with command_app(settings).app_context():
        endpoint, secret = service.register(
            None, url, wanted, settings, Strangers(settings.webhook_allow_private)
        )
        _show(endpoint)
    click.echo(f"secret:    {secret}")


@webhooks.command("list")
@click.option("--limit", type=click.IntRange(1, 10_000), default=1000, show_default=True)
@click.pass_obj
def list_webhooks(settings: Settings, limit: int) -> None:
    """List webhooks, the oldest first."""
    with command_app(settings).app_context():
        found = queries.list_endpoints(None, 0, limit)
    for endpoint in found:
        click.echo(
            f"{endpoint.uuid}  {_state(endpoint):<10}  {endpoint.miner_hotkey or 'admin':<48}  {endpoint.url}"
        )
    if not found:
        click.echo("There are no webhooks.")


@webhooks.command()
@webhook_argument
@click.pass_obj
def show(settings: Settings, webhook: UUID) -> None:
    """Show a webhook."""
    with command_app(settings).app_context():
        _show(service.get_endpoint(None, webhook))


@webhooks.command()
@webhook_argument
@click.option("--state", type=click.Choice(values(DeliveryState)))
@click.option("--limit", type=click.IntRange(1, 1000), default=50, show_default=True)
@click.pass_obj
def deliveries(settings: Settings, webhook: UUID, state: str | None, limit: int) -> None:
    """List the latest deliveries of a webhook, each with the outcome of its last attempt."""
    with command_app(settings).app_context():
        endpoint = service.get_endpoint(None, webhook)
        for each in queries.list_deliveries(endpoint.id, state, None, limit):
            last = next(iter(queries.list_attempts(each.uuid, 1)), None)
            # a stranger wrote the answer: it must not move the cursor or colour the terminal
            said = f"  {last.error} {last.answer!a}" if last and last.error else ""
            click.echo(
                f"{each.uuid}  {each.created_at:%F %T}  {each.state:<9}  {each.attempts:>2} attempts  "
                f"{each.event}{said}"
            )


@webhooks.command()
@webhook_argument
@click.argument("delivery", type=click.UUID, nargs=-1)
@click.option("--failed-since", type=click.DateTime(), help="Send again what failed of events since (UTC).")
@click.pass_obj
def replay(
    settings: Settings, webhook: UUID, delivery: tuple[UUID, ...], failed_since: datetime | None
) -> None:
    """Send deliveries of a webhook again: those named, or all that failed of events since a time."""
    if bool(delivery) == (failed_since is not None):
        raise click.UsageError("Name deliveries, or give --failed-since.")
    since = failed_since and failed_since.replace(tzinfo=UTC)
    total = 0
    with command_app(settings).app_context():
        while replayed := service.replay(
            None, webhook, ReplayIn(deliveries=list(delivery) or None, failed_since=since)
        ):
            total += replayed
            if delivery:
                break
    click.echo(f"Deliveries that are sent again: {total}.")


@webhooks.command()
@webhook_argument
@click.pass_obj
def disable(settings: Settings, webhook: UUID) -> None:
    """Stop sending to a webhook. What waits for it is deleted after WEBHOOK_RETENTION_DAYS."""
    with command_app(settings).app_context():
        _show(service.change(None, webhook, None, False))


@webhooks.command()
@webhook_argument
@click.pass_obj
def enable(settings: Settings, webhook: UUID) -> None:
    """Send to a webhook again, at once."""
    with command_app(settings).app_context():
        _show(service.change(None, webhook, None, True))


@webhooks.command()
@webhook_argument
@click.pass_obj
def delete(settings: Settings, webhook: UUID) -> None:
    """Delete a webhook and its deliveries."""
    with command_app(settings).app_context():
        _show(service.remove(None, webhook))
    click.echo("It is deleted.")


@webhooks.command()
@webhook_argument
@click.option("--overlap-hours", type=click.FloatRange(0, 168), default=24, show_default=True)
@click.pass_obj
def rotate(settings: Settings, webhook: UUID, overlap_hours: float) -> None:
    """Print a new secret of a webhook. The old one signs too for some hours."""
    with command_app(settings).app_context():
        _, secret = service.rotate(None, webhook, overlap_hours)
    click.echo(secret)


def _state(endpoint: Endpoint) -> str:
    if endpoint.disabled_at:
        return "disabled"
    return "failing" if endpoint.failures else "well"


def _show(endpoint: Endpoint) -> None:
    click.echo(f"webhook:   {endpoint.uuid}, of {endpoint.miner_hotkey or 'an admin'}")
    click.echo(f"url:       {endpoint.url}")
    click.echo(f"events:    {', '.join(endpoint.events)}")
    click.echo(
        f"state:     {_state(endpoint)}" + (f": {endpoint.disabled_reason}" if endpoint.disabled_at else "")
    )
    if endpoint.failures and endpoint.paused_until and not endpoint.disabled_at:
        click.echo(f"failures:  {endpoint.failures} in a row; next call at {endpoint.paused_until:%F %T} UTC")
