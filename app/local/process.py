"""A server process on this machine, with its directory, password and port.

It keeps everything in a directory of its own: data, log, the password it was set up with and
the port it last listened on. It listens on loopback only, with a password. It runs in a session of its
own, so that Ctrl-C in a terminal does not reach it before its users are done, and ends when its starter
ends, however that happens.
"""

import ctypes
import fcntl
import os
import secrets
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import IO, Any

HOST = "127.0.0.1"
START_SECONDS = 30
STOP_SECONDS = 15
# below those that the kernel gives to outgoing connections, which may come between choice and use
PORTS = range(10_240, 32_768)
_PR_SET_PDEATHSIG = 1
_LIBC = ctypes.CDLL(None) if sys.platform == "linux" else None


class ServerError(Exception):
    """A server could not be started or stopped; the message ends with the last lines of its log."""


def free_ports(count: int) -> list[int]:
    """Return `count` different TCP ports of PORTS, drawn at random, that nobody listens on at the moment."""
    free: set[int] = set()
    while len(free) < count:
        port = secrets.choice(PORTS)
        if is_free(port):
            free.add(port)
    return list(free)


def is_free(port: int) -> bool:
    """Whether a server could listen on `port` of loopback now."""
    with socket.socket() as s:
        s.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            s.bind((HOST, port))
        except OSError:
            return False
    return True


def end_with_parent(number: int) -> None:
    """Have the kernel send this process the signal `number` when its parent ends, however that happens."""
    if _LIBC is not None:
        _LIBC.prctl(_PR_SET_PDEATHSIG, number)


class Server:
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

    @property
    def url(self) -> str:
        """Where the server listens, with its password where the address has a place for it."""
        raise NotImplementedError

    @property
    def environ(self) -> dict[str, str]:
        """The settings that make the application use this server."""
        raise NotImplementedError

    @property
    def pid(self) -> int | None:
        """The process id while it is started."""
        return None if self._process is None else self._process.pid

    def start(self) -> None:
        """Start and return once the server answers; raise ServerError if it does not."""
        self.launch()
        self.wait_ready()

    def launch(self) -> None:
        """Start the process without waiting for it. Call it in a thread that outlives the server."""
        with self._locked() as lock:
            (self.directory / "port").write_text(str(self.port))
            command, options = self._prepare()
            with self.log.open("wb") as log:
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
        """Return once the launched server answers; raise ServerError if it ends or takes too long."""
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
        """Freeze the server until `resume()`: it accepts connections and does not answer.

        PostgreSQL's open sessions go on; each is a process in a group of its own.
        """
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
                    raise ServerError(message) from None
                time.sleep(0.05)

    def _end_with_parent(self) -> None:
        end_with_parent(self.stop_signal)

    def _error(self, what: str) -> ServerError:
        tail = self.log.read_text(errors="replace").splitlines()[-15:] if self.log.exists() else []
        return ServerError("\n  ".join([f"{self.name} {what}; the end of {self.log}:", *tail]))


def stop_all(servers: Sequence[Server]) -> None:
    """Stop all of `servers` at once."""
    with ThreadPoolExecutor() as pool:
        list(pool.map(lambda server: server.stop(), servers))


def start_all(servers: Sequence[Server]) -> None:
    """Start all of `servers` at once; if one fails, stop the others and raise its ServerError."""
    try:
        for server in servers:
            server.launch()
        for server in servers:
            server.wait_ready()
    except BaseException:
        stop_all(servers)
        raise
