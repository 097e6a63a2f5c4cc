"""The command line: `kibotos …`, and the same as `flask kibotos …`.

Only what a command needs is imported, and only when it runs.
"""

import os
import socket
import sys
from collections.abc import Mapping
from dataclasses import replace
from importlib import import_module
from pathlib import Path
from typing import Any

import click

from app.config import ConfigError, Settings, complete_environment, unknown_variables
from app.terminal import name_commands
from app.version import VERSION

ROOT = Path(__file__).parent

# The commands in other modules: name -> module with a click command of that name, help.
COMMANDS = {
    "cycles": ("app.cycles.commands", "Show, start and close cycles."),
    "doctor": ("app.doctor.commands", "Check everything that this installation needs, and say what to do."),
    "evaluate": ("app.evaluator.commands", "Evaluate one video file and show the report."),
    "evaluators": ("app.evaluation.commands", "List remote evaluators, and allow one that was blocked."),
    "gold": ("app.gold.commands", "Add, list and retire gold films, which check the judge."),
    "evaluator": ("app.evaluator.commands", "Evaluate submissions from a backend, over HTTP."),
    "keys": ("app.ledger.commands", "Make the key that signs receipts, and list the keys that ever did."),
    "ledger": ("app.ledger.commands", "Write the ledgers of completed cycles again, and check them."),
    "miner": ("app.miner.commands", "List prompts, submit videos and see their scores."),
    "releases": ("app.releases.commands", "Make data sets of accepted videos, check and export them."),
    "prompts": ("app.prompts.commands", "Load, list, retire and draft prompts."),
    "receipt": ("app.miner.receipt", "Check receipts of submissions, without a backend."),
    "reviews": ("app.reviews.commands", "List reviews of submissions, and decide them."),
    "shadow": ("app.shadow.commands", "Judge a cycle anew beside it, and show the differences."),
    "submissions": ("app.moderation.commands", "Correct the result of a submission, or take its video down."),
    "up": ("app.local.up", "Run everything on this machine."),
    "validate": ("app.validator.commands", "Set the latest weights on the chain."),
    "webhooks": ("app.webhooks.commands", "Show and manage webhooks, and what was sent."),
}
# Those of `kibotos db`, besides the ones below.
DB_COMMANDS = {
    "backup": ("app.backups.commands", "Write a backup of the database to a file."),
    "restore": ("app.backups.commands", "Load a backup into an empty database."),
}
# Those of `kibotos storage`. To set the bucket up needs no database.
STORAGE_COMMANDS = {
    "init": ("app.storage.commands", "Create the bucket and its rules, and print the policy for the key."),
    "prune": ("app.retention.commands", "Delete what is over its time, or unknown."),
    "usage": ("app.retention.commands", "Show what is in the bucket, by class, and what of it is due."),
}
# Those of `kibotos weights`. Anybody can verify; to recompute needs the database.
WEIGHTS_COMMANDS = {
    "recompute": ("app.weights.commands", "Compute the weights of a cycle again from the database."),
    "verify": ("app.verifier.commands", "Check a backend's ledger, without trusting the backend."),
}
# The extra of this package that has what a command needs; for all others it is `server`.
EXTRAS = {
    "evaluate": "miner",
    "evaluator": "evaluator",
    "miner": "miner",
    "up": "server,local",
    "validate": "validator",
}
# These begin with as little as possible, and configure the log when they need it.
LOG_THEMSELVES = ("evaluator", "miner", "validate")

# Sentences for clients over HTTP name endpoints. Who reads them here runs commands.
ENDPOINTS = {
    "GET /v1/cycles/status": "`kibotos cycles status`",
    "GET /v1/prompts": "`kibotos prompts list`",
}


class Commands(click.Group):
    """A group that loads the modules of its commands when used, and prints expected errors as a sentence."""

    def __init__(self, *args: Any, modules: Mapping[str, tuple[str, str]], **options: Any):
        super().__init__(*args, **options)
        self._modules = modules

    def list_commands(self, ctx: click.Context) -> list[str]:
        return sorted([*self.commands, *self._modules])

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        if cmd_name in self._modules:
            try:
                return getattr(import_module(self._modules[cmd_name][0]), cmd_name)
            except ModuleNotFoundError as error:
                raise _lacking(error, ctx, cmd_name) from error
        return super().get_command(ctx, cmd_name)

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        rows = {name: command.get_short_help_str(100) for name, command in self.commands.items()}
        rows |= {name: help for name, (_, help) in self._modules.items()}
        with formatter.section("Commands"):
            formatter.write_dl(sorted(rows.items()))

    def invoke(self, ctx: click.Context) -> Any:
        try:
            return super().invoke(ctx)
        except ModuleNotFoundError as error:
            raise _lacking(error, ctx, ctx.invoked_subcommand or "") from error
        except Exception as error:
            sentence = _sentence(error)
            if sentence is None:
                raise
            raise click.ClickException(sentence) from error


def _lacking(error: ModuleNotFoundError, ctx: click.Context, command: str) -> Exception:
    """What to raise for a module that is not there: a sentence if a package of others is to bring it."""
    package = (error.name or "").partition(".")[0]
    if package in {"", "app", "jobs", "cli", "wsgi"}:
        return error
    extra = ctx.meta.get("kibotos.extra") or EXTRAS.get(command, "server")
    return click.ClickException(
        f"The package {package} is not installed. Run: pip install 'kibotos[{extra}]', or, in a clone, "
        f"pip install -e '.[{extra}]'."
    )


def _sentence(error: Exception) -> str | None:
    """The sentence to print about `error`, or None if it is a bug, which is shown with its traceback."""

    def is_one(module: str, name: str) -> bool:
        # such an error comes from a loaded module, so there is no need to load it here
        return module in sys.modules and isinstance(error, getattr(sys.modules[module], name))

    expected = (
        ("app.errors", "DomainError"),
        ("app.errors", "TransientError"),
        ("app.clients.chain", "ChainError"),
        ("app.clients.wallet", "WalletError"),
    )
    if isinstance(error, ConfigError) or any(is_one(*each) for each in expected):
        return name_commands(str(error), ENDPOINTS)
    if "app.db" in sys.modules and (sentence := sys.modules["app.db"].explain(error)):
        return sentence
    if is_one("redis", "RedisError"):
        return f"Redis is out of reach: {error}"
    return None


@click.group(cls=Commands, modules=COMMANDS)
@click.version_option(VERSION, package_name="kibotos")
@click.pass_context
def kibotos(ctx: click.Context) -> None:
    """The backend of the Kibotos subnet: collects, evaluates and rewards first-person videos.

    Settings come from the environment and from .env in the working directory; the environment wins.
    """
    try:
        complete_environment()
    except ConfigError as error:
        if ctx.invoked_subcommand != "doctor":
            raise
        # it says so, and what to do
        ctx.meta["kibotos.env_fault"] = str(error)
    for name, hint in unknown_variables(os.environ):
        click.echo(f"Warning: {name} is not a setting and is ignored{hint}.", err=True)
    ctx.obj = settings = Settings.from_environ()
    if ctx.invoked_subcommand not in LOG_THEMSELVES:
        from app import logs

        # stdout is for a command's own output; services log there
        logs.configure(settings.log_level, settings.log_format, sys.stderr)


@kibotos.command()
@click.option("--host", help="Bind address.  [default: 0.0.0.0; 127.0.0.1 in development]")
@click.option("--port", type=click.IntRange(1, 65535), help="Port.  [default: PORT, 8000]")
@click.option("--reload", is_flag=True, help="Restart when the code changes, in development only.")
@click.pass_obj
def api(settings: Settings, host: str | None, port: int | None, reload: bool) -> None:
    """Run the web service."""
    # it starts in the end, and could not say so as well
    import gunicorn  # noqa: F401

    settings.require_server()
    host = host or settings.default_host
    settings.require_bind(host)
    if reload and not settings.development:
        raise ConfigError("--reload is for development: leave it out, or set APP_ENV=development.")
    port = port or settings.port
    address = f"[{host}]" if ":" in host else host
    try:
        # gunicorn would try for five seconds, and not say what to do
        family = socket.AF_INET6 if ":" in host else socket.AF_INET
        socket.create_server((host, port), family=family).close()
    except OSError as error:
        # without the address, which Python adds in brackets
        reason = str(error.strerror).partition(" (")[0]
        raise ConfigError(
            f"Cannot listen on {address}:{port} ({reason}): stop what listens there, or give another "
            "--host or --port."
        ) from error
    command = ["gunicorn", "--config", "python:app.web.gunicorn_settings"]
    command += ["--bind", f"{address}:{port}", *(["--reload"] if reload else []), "wsgi:app"]
    # gunicorn imports from the working directory first, and another `app` or `wsgi` may be there
    os.chdir(ROOT)
    # the environment has the variables of .env already; another .env in ROOT must not be read
    environ = os.environ | {"PYTHON_DOTENV_DISABLED": "1"}
    os.execve(sys.executable, [sys.executable, "-m", *command], environ)  # noqa: S606


@kibotos.command()
@click.option("--count", type=click.IntRange(1, 256), default=1, show_default=True, help="Processes.")
@click.option(
    "--queue",
    type=click.Choice(["evaluations", "releases"]),
    default="evaluations",
    show_default=True,
    help="What they do. What builds releases never makes an evaluation wait.",
)
@click.pass_obj
def worker(settings: Settings, count: int, queue: str) -> None:
    """Run workers that evaluate submissions, or such that build releases."""
    from app import logs
    from jobs.worker import run

    logs.configure(settings.log_level, settings.log_format)
    run(settings.require_server(), count, queue)


@kibotos.command()
@click.option("--cycle-duration", type=click.FloatRange(0.05, 100_000), help="Minutes.  [default: 60]")
@click.option("--check-interval", type=click.FloatRange(0.5, 3600), help="Seconds.  [default: 30]")
@click.option("--no-auto-start", is_flag=True, help="Do not start cycles.")
@click.pass_obj
def scheduler(
    settings: Settings, cycle_duration: float | None, check_interval: float | None, no_auto_start: bool
) -> None:
    """Run the periodic jobs, which start and complete cycles. One scheduler is enough; a second does no harm.

    The options win over CYCLE_DURATION_MINUTES, CHECK_INTERVAL_SECONDS and AUTO_START_CYCLES.
    """
    from app import logs
    from jobs.scheduler import run

    changes: dict[str, Any] = {}
    if cycle_duration is not None:
        changes["cycle_duration_minutes"] = cycle_duration
    if check_interval is not None:
        changes["check_interval_seconds"] = check_interval
    if no_auto_start:
        changes["auto_start_cycles"] = False
    logs.configure(settings.log_level, settings.log_format)
    run(replace(settings, **changes).require_server())


@kibotos.group(cls=Commands, modules=STORAGE_COMMANDS)
def storage() -> None:
    """Set up the bucket of the videos, and see what is in it."""


@kibotos.group(cls=Commands, modules=WEIGHTS_COMMANDS)
def weights() -> None:
    """Check the weights of a cycle."""


@kibotos.group(cls=Commands, modules=DB_COMMANDS)
def db() -> None:
    """Create, migrate, check, back up or empty the database. No superuser is needed."""


@db.command()
@click.pass_obj
def init(settings: Settings) -> None:
    """Load the schema into an empty database. You can run it again without harm."""
    from app.db import command_app, init_schema

    with command_app(settings).app_context():
        created = init_schema()
    click.echo("The schema is in place." if created else "The schema was there already; nothing changed.")


@db.command()
@click.pass_obj
def migrate(settings: Settings) -> None:
    """Bring the database to the current schema. An empty database gets the whole schema."""
    from app.db import command_app, migrate

    with command_app(settings).app_context():
        applied = migrate()
    click.echo(f"Applied: {', '.join(applied)}." if applied else "The schema is current; nothing changed.")


@db.command()
@click.option("--force", is_flag=True, help="Do not ask.")
@click.option("--yes-delete-everything", is_flag=True, help="Also needed in production.")
@click.pass_obj
def reset(settings: Settings, force: bool, yes_delete_everything: bool) -> None:
    """Delete all data, then load the schema again."""
    from app.config import masked
    from app.db import command_app, drop_schema, init_schema

    target = masked(settings.require_database().database_url)
    if not settings.development and not (force and yes_delete_everything):
        raise ConfigError(
            f"{target} belongs to production (APP_ENV). To delete all of its data, give both --force and "
            "--yes-delete-everything."
        )
    if not force:
        click.confirm(f"Delete all data in {target}?", abort=True)
    with command_app(settings).app_context():
        drop_schema()
        init_schema()
    click.echo(f"{target} is empty and has the current schema.")


@db.command()
@click.pass_obj
def check(settings: Settings) -> None:
    """Exit with 0 if the database is reachable and has the current schema."""
    from app.db import command_app, pending_migrations

    with command_app(settings).app_context():
        pending = pending_migrations()
    if pending is None:
        raise click.ClickException("The database has no schema yet: run `kibotos db init`.")
    if pending:
        raise click.ClickException(
            f"These migrations are not applied yet: {', '.join(pending)}. Run `kibotos db migrate`."
        )
    click.echo("The database is reachable and has the current schema.")


def main() -> None:
    """Run the command line."""
    kibotos(prog_name="kibotos")


if __name__ == "__main__":
    main()
