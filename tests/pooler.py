"""Poolers between us and PostgreSQL: PgBouncer where it is installed, and a small stand-in that always is.

The stand-in refuses what PgBouncer refuses in the startup packet. In transaction mode it lends a server's
session to whoever asks next, as PgBouncer does, so that what one client sets another one finds.
"""

import os
import shutil
import socket
import socketserver
import struct
import subprocess
import tempfile
import threading
from contextlib import contextmanager, suppress
from pathlib import Path
from urllib.parse import urlsplit

import pytest

from app.local.process import free_ports
from tests.processes import eventually

SSL_REQUEST = 80877103
CANCEL_REQUEST = 80877102
TAKEN = {
    "user", "database", "application_name", "client_encoding", "datestyle", "timezone",
    "standard_conforming_strings",
}  # fmt: skip


class Pooler(socketserver.ThreadingTCPServer):
    """Passes connections on to the PostgreSQL server at `url`, in the pool `mode` session or transaction."""

    daemon_threads = True
    allow_reuse_address = True

    def __init__(self, url, mode):
        super().__init__(("127.0.0.1", 0), _Client)
        self.upstream = urlsplit(url)
        self.mode = mode
        self._idle = []
        self._lock = threading.Lock()

    @property
    def port(self):
        return self.server_address[1]

    def server_close(self):
        super().server_close()
        for server in self._idle:
            server.close()

    def lend(self):
        """The server's session that was given back last."""
        with self._lock:
            return self._idle.pop()

    def give_back(self, server):
        with self._lock:
            self._idle.append(server)


class _Client(socketserver.BaseRequestHandler):
    server: Pooler

    def handle(self):
        with suppress(OSError, EOFError):
            startup = self._startup()
            if startup is None:
                return
            upstream = socket.create_connection((self.server.upstream.hostname, self.server.upstream.port))
            upstream.sendall(startup)
            self._log_in(upstream)
            if self.server.mode == "transaction":
                self._serve_by_transaction(upstream)
            else:
                self._serve(upstream)

    def _startup(self):
        while True:
            packet = _exactly(self.request, struct.unpack("!I", _exactly(self.request, 4))[0] - 4)
            code = struct.unpack("!I", packet[:4])[0]
            if code == CANCEL_REQUEST:
                return None
            if code != SSL_REQUEST:
                break
            self.request.sendall(b"N")
        names = [name.decode() for name in packet[4:].split(b"\0")[0::2] if name]
        if refused := set(names) - TAKEN:
            text = f"SFATAL\0C08P01\0Munsupported startup parameter: {refused.pop()}\0\0".encode()
            self.request.sendall(b"E" + struct.pack("!I", len(text) + 4) + text)
            return None
        return struct.pack("!I", len(packet) + 4) + packet

    def _serve(self, upstream):
        with upstream:
            while True:
                self._ask(upstream, _message(self.request)[1])

    def _serve_by_transaction(self, own):
        # the session outlives the client, for others
        self.server.give_back(own)
        while True:
            kind, message = _message(self.request)
            if kind == b"X":
                return
            lent = self.server.lend()
            while self._ask(lent, message) != b"I":
                message = _message(self.request)[1]
            self.server.give_back(lent)

    def _log_in(self, upstream):
        while True:
            kind, message = _message(upstream)
            self.request.sendall(message)
            if kind == b"Z":
                return
            # a request for a password or a step of SCRAM, not "ok" nor the last word of SCRAM
            if kind == b"R" and struct.unpack("!I", message[5:9])[0] in {3, 5, 10, 11}:
                upstream.sendall(_message(self.request)[1])

    def _ask(self, upstream, message):
        """Pass a simple query on and its answer back; return the state of the transaction after it."""
        upstream.sendall(message)
        while True:
            kind, answer = _message(upstream)
            self.request.sendall(answer)
            if kind == b"Z":
                return answer[-1:]


def _exactly(connection, size):
    data = b""
    while len(data) < size:
        if not (chunk := connection.recv(size - len(data))):
            raise EOFError
        data += chunk
    return data


def _message(connection):
    head = _exactly(connection, 5)
    return head[:1], head + _exactly(connection, struct.unpack("!I", head[1:])[0] - 4)


def _through(url, port):
    parts = urlsplit(url)
    return f"postgresql+psycopg2://{parts.username}:{parts.password}@127.0.0.1:{port}{parts.path}"


@contextmanager
def stand_in(url, mode):
    """Run the stand-in before the server at `url`; gives the address of the database through it."""
    with Pooler(url, mode) as pooler:
        threading.Thread(target=pooler.serve_forever, kwargs={"poll_interval": 0.02}, daemon=True).start()
        yield _through(url, pooler.port)
        pooler.shutdown()


@contextmanager
def pgbouncer(url, mode):
    """Run PgBouncer likewise; skips the test where it is not installed."""
    program = shutil.which("pgbouncer") or shutil.which("pgbouncer", path="/usr/sbin")
    if program is None:
        pytest.skip("PgBouncer is not installed (apt-get install pgbouncer): tried with the stand-in only")
    parts, port = urlsplit(url), free_ports(1)[0]
    # not pytest's own temporary directory: PgBouncer refuses to run as root, and `nobody` cannot enter that
    directory = Path(tempfile.mkdtemp(prefix="kibotos-tests-"))
    directory.chmod(0o711)
    users = directory / "users.txt"
    users.write_text(f'"{parts.username}" "{parts.password}"\n')
    config = directory / "pgbouncer.ini"
    config.write_text(
        f"[databases]\n* = host={parts.hostname} port={parts.port}\n"
        f"[pgbouncer]\nlisten_addr = 127.0.0.1\nlisten_port = {port}\nunix_socket_dir =\n"
        f"auth_type = scram-sha-256\nauth_file = {users}\npool_mode = {mode}\n"
    )
    options = {"user": "nobody"} if os.geteuid() == 0 else {}
    with (directory / "pgbouncer.log").open("wb") as log:
        process = subprocess.Popen([program, config], stdout=log, stderr=log, **options)
    try:
        eventually(lambda: _listens(port), 20)
        yield _through(url, port)
    finally:
        process.kill()
        process.wait()
        shutil.rmtree(directory)


def _listens(port):
    with suppress(OSError), socket.create_connection(("127.0.0.1", port), timeout=1):
        return True
    return False
