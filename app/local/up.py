"""`kibotos up`: everything on this machine, for a first look and for development."""

import fcntl
import os
import secrets
import shlex
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import fields
from functools import partial
from pathlib import Path

import click
import requests
from dotenv import dotenv_values
from honcho.printer import Printer

from app import create_app, db, logs
from app.config import OFFLINE_MODEL, Settings, masked
from app.errors import Conflict
from app.local.process import Server, ServerError, end_with_parent, is_free, start_all, stop_all
from app.local.process_manager import ProcessManager
from app.local.servers import ROOT, OfflineJudgeServer, Postgres, Seaweed, Valkey
from app.prompts import service as prompts
from app.prompts.files import read_prompts
from app.video.ffmpeg import tool

STARTER_PROMPTS = ROOT / "app" / "prompts" / "starter.json"
# the variable that names another server, which is then used instead of ours
SERVERS: dict[str, type[Server]] = {
    "DATABASE_URL": Postgres,
    "REDIS_URL": Valkey,
    "S3_ENDPOINT": Seaweed,
    "VLM_API_URL": OfflineJudgeServer,
}
# those of the Procfile, which an installed wheel lacks
PROCESSES = {"web": "kibotos api", "worker": "kibotos worker", "scheduler": "kibotos scheduler"}
DEMO = {"CHECK_INTERVAL_SECONDS": "1"}
# a server of an `up` that was killed needs a moment to let go of its port
PORT_SECONDS = 5

REAL_JUDGE = """\
The judge is a stand-in that does not understand pictures. To have a vision language model judge, set
VLM_API_URL, VLM_MODEL and, where it wants one, VLM_API_KEY, and start again:
  Chutes     VLM_API_URL=https://llm.chutes.ai/v1 VLM_MODEL=Qwen/Qwen2.5-VL-72B-Instruct-TEE VLM_API_KEY=…
  vLLM       vllm serve Qwen/Qwen2.5-VL-7B-Instruct --limit-mm-per-prompt '{"image": 9}'
             VLM_API_URL=http://localhost:8000/v1 VLM_MODEL=Qwen/Qwen2.5-VL-7B-Instruct
  Ollama     ollama pull qwen2.5vl:7b
             VLM_API_URL=http://localhost:11434/v1 VLM_MODEL=qwen2.5vl:7b
  llama.cpp  llama-server -hf ggml-org/Qwen2.5-VL-7B-Instruct-GGUF --port 8081
             VLM_API_URL=http://localhost:8081/v1 VLM_MODEL=qwen2.5-vl"""


@click.command()
@click.option(
    "--demo", is_flag=True, help="Play two miners with real films, show scores and weights, and stop."
)
@click.option("--stay", is_flag=True, help="After the demo keep its pages up, until Ctrl-C.")
@click.option(
    "--data",
    type=click.Path(file_okay=False, path_type=Path, resolve_path=True),
    default=".kibotos",
    help="Directory for all data.  [default: .kibotos]",
)
def up(demo: bool, stay: bool, data: Path) -> None:
    """Run everything on this machine until Ctrl-C.

    PostgreSQL, Valkey, SeaweedFS and a stand-in for the judge come from installed packages. To use another
    server, name it in DATABASE_URL, REDIS_URL, S3_ENDPOINT or VLM_API_URL. PORT is the port of the API, by
    default 8080. Addresses and credentials are written to the file `env` in the data directory. The
    demo has a directory `demo` of its own in there, which it begins anew each time.
    """
    if stay and not demo:
        raise click.UsageError("--stay goes with --demo; without it, everything stays up anyway.")
    # others may pass through, not look: as root, PostgreSQL runs as `nobody`
    data.mkdir(mode=0o711, parents=True, exist_ok=True)
    try:
        with _alone(data):
            sys.exit(_run(data, demo, stay))
    except ServerError as error:
        raise click.ClickException(str(error)) from error


@contextmanager
def _alone(data: Path) -> Iterator[None]:
    """Hold the lock of the directory `data`; raise ServerError if another `up` does."""
    with (data / "lock").open("a") as lock:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            message = f"It runs already, as {data / 'env'} says; stop that first, with Ctrl-C or kill."
            raise ServerError(message) from None
        yield


def _run(data: Path, demo: bool, stay: bool) -> int:
    """Run everything until asked to stop, or the demo is over; return the exit status."""
    began = time.monotonic()

    def say(text: str) -> None:
        click.echo(f"[{time.monotonic() - began:4.1f} s] {text}")

    if demo:
        # of its own and new: a video that was submitted before would be a duplicate
        data = data / "demo"
        shutil.rmtree(data, ignore_errors=True)
        data.mkdir(mode=0o711)
    env_file = data / "env"
    servers = _embedded(data)
    environ = _environment(env_file, servers, demo)
    settings = Settings.from_environ(environ).require_server()
    logs.configure("WARNING", "console", sys.stderr)
    _check_port(int(environ["PORT"]))
    say(f"Found {tool('ffmpeg')} and {tool('ffprobe')}")
    try:
        if servers:
            say(f"Starting {', '.join(server.name for server in servers)}")
            for server in servers:
                if isinstance(server, Postgres) and not server.data.is_relative_to(data):
                    say(f"PostgreSQL's data is in {server.data}, where its user `nobody` can enter")
            start_all(servers)
        say("Bringing schema, bucket and prompts up to date")
        _prepare(settings)
        _write_environment(env_file, environ)
        say("Starting web, worker and scheduler")
        return _demonstrate(environ, env_file, stay) if demo else _serve(environ, env_file, say)
    finally:
        stop_all(servers)


def _embedded(data: Path) -> list[Server]:
    """Those of our servers that the environment names no other for, each with its directory in `data`."""
    servers = []
    for variable, cls in SERVERS.items():
        server = cls(data / cls.__name__.lower())
        # ours, too, if the file `env` was read into the shell
        if os.environ.get(variable, "") in ("", server.url):
            servers.append(server)
    return servers


def _environment(env_file: Path, servers: list[Server], demo: bool) -> dict[str, str]:
    """The environment of our processes: the present one, with what it lacks. Tokens stay what they were."""
    if os.environ.get("APP_ENV", "development") != "development":
        raise ServerError("`kibotos up` runs a development set-up: unset APP_ENV, or set it to development.")
    port = os.environ.get("PORT", "") or "8080"
    known = dotenv_values(env_file) if env_file.exists() else {}
    environ = {
        name: known.get(name) or secrets.token_urlsafe(32) for name in ("ADMIN_TOKEN", "EVALUATOR_TOKEN")
    }
    environ |= {name: value for name, value in os.environ.items() if value}
    for server in servers:
        environ |= server.environ
    if sys.stdout.isatty() and not demo:
        environ.setdefault("LOG_FORMAT", "console")
    if demo:
        environ |= DEMO
    return environ | {
        "APP_ENV": "development",
        "PORT": port,
        "API_URL": f"http://127.0.0.1:{port}",
        "PATH": os.pathsep.join([str(Path(sys.executable).parent), os.environ.get("PATH", os.defpath)]),
        "PYTHONUNBUFFERED": "1",
        # what .env says stands here by now
        "PYTHON_DOTENV_DISABLED": "1",
    }


def _write_environment(file: Path, environ: Mapping[str, str]) -> None:
    """Write all settings to `file`, for `set -a; . file` in a shell, readable by its owner alone."""
    names = [setting.name.upper() for setting in fields(Settings)]
    partial = file.with_suffix(".partial")
    partial.unlink(missing_ok=True)
    partial.touch(mode=0o600)
    partial.write_text(
        "".join(f"{name}={shlex.quote(environ[name])}\n" for name in names if environ.get(name))
    )
    partial.rename(file)


def _check_port(port: int) -> None:
    deadline = time.monotonic() + PORT_SECONDS
    while not is_free(port):
        if time.monotonic() > deadline:
            raise ServerError(f"Port {port} is taken; choose another for the API: PORT=8081 bin/up.")
        time.sleep(0.1)


def _prepare(settings: Settings) -> None:
    """Bring schema and bucket into place, and publish those starter prompts that do not exist."""
    app = create_app(settings)
    with app.app_context():
        db.migrate()
        app.extensions["storage"].ensure_bucket()
        for prompt in read_prompts(STARTER_PROMPTS):
            try:
                prompts.create_prompt(prompt.model_dump())
            except Conflict:
                continue
        db.db.engine.dispose()


def _manager(environ: dict[str, str], printer: Printer) -> ProcessManager:
    """The processes of the Procfile."""
    manager = ProcessManager(printer)
    for name, command in PROCESSES.items():
        manager.add_process(name, f"exec {command}", env=environ, cwd=str(ROOT))
    return manager


def _serve(environ: dict[str, str], env_file: Path, say: Callable[[str], None]) -> int:
    """Run the processes until Ctrl-C or SIGTERM, or one of them ends; return the exit status."""
    manager = _manager(environ, Printer(sys.stdout))

    def announce() -> None:
        _wait_ready(environ["API_URL"])
        say(f"Ready\n{_summary(environ, env_file)}\n\nLook at it: {environ['API_URL']}")

    manager.loop_with(announce)
    return 0 if manager.was_asked_to_stop else 1


def _demonstrate(environ: dict[str, str], env_file: Path, stay: bool) -> int:
    """Run the processes until the demo is over or, if they are to `stay`, until Ctrl-C; return its status.

    Their output goes to the file `log` beside `env_file`.
    """
    log = env_file.with_name("log")
    url = environ["API_URL"]
    with log.open("w") as output:
        manager = _manager(environ, Printer(output))
        demo = subprocess.Popen(
            [sys.executable, "-m", "app.local.demo"],
            env=environ,
            cwd=ROOT,
            start_new_session=True,
            preexec_fn=partial(end_with_parent, signal.SIGTERM),
        )

        def finish() -> None:
            if demo.wait() or not stay:
                manager.terminate()
            else:
                click.echo(f"Look at it: {url}\nCtrl-C ends it.")

        manager.loop_with(finish)
    demo.terminate()
    status = demo.wait()
    if status and not manager.was_asked_to_stop:
        click.echo(f"The demo failed; what the processes said is in {log}.", err=True)
    elif not stay:
        click.echo(f"To look at its pages, at {url}, run: bin/up --demo --stay")
    return status


def _wait_ready(url: str) -> None:
    while True:
        try:
            if requests.get(f"{url}/ready", timeout=5).ok:
                return
        except requests.RequestException:
            pass
        time.sleep(0.1)


def _summary(environ: Mapping[str, str], env_file: Path) -> str:
    url = environ["API_URL"]
    judge = f"{environ['VLM_API_URL']}, model {environ.get('VLM_MODEL', Settings.vlm_model)}"
    lines = [
        f"API          {url}  (documentation: {url}/docs)",
        f"PostgreSQL   {masked(environ['DATABASE_URL'])}",
        f"Redis        {masked(environ['REDIS_URL'])}",
        f"S3           {environ['S3_ENDPOINT']}",
        f"judge        {judge}",
        f"credentials  {env_file}  (in a shell: set -a; . {shlex.quote(str(env_file))})",
        f"data         {env_file.parent}  (stop with Ctrl-C; the next start goes on from there)",
    ]
    if environ.get("VLM_MODEL") == OFFLINE_MODEL:
        lines += ["", REAL_JUDGE]
    return "\n".join(lines)
