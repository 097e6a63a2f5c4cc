"""TLS before a server that has none."""

import shutil
import socket
import socketserver
import ssl
import subprocess
import threading
from contextlib import contextmanager, suppress

import pytest


class _Proxy(socketserver.ThreadingTCPServer):
    daemon_threads = True
    allow_reuse_address = True

    def __init__(self, context, upstream):
        super().__init__(("127.0.0.1", 0), _Connection)
        self.context = context
        self.upstream = upstream


class _Connection(socketserver.BaseRequestHandler):
    server: _Proxy

    def handle(self):
        # a client that does not trust the certificate ends the handshake
        with (
            suppress(OSError),
            self.server.context.wrap_socket(self.request, server_side=True) as client,
            socket.create_connection(("127.0.0.1", self.server.upstream)) as upstream,
        ):
            threading.Thread(target=_copy, args=(upstream, client), daemon=True).start()
            _copy(client, upstream)


def _copy(source, target):
    with suppress(OSError):
        while data := source.recv(65536):
            target.sendall(data)
        target.shutdown(socket.SHUT_RDWR)


def self_sign(directory):
    """Return a server's TLS context with a certificate of its own for 127.0.0.1, and that certificate's file.

    Skips the test where there is no openssl.
    """
    certificate, key = directory / "certificate.pem", directory / "key.pem"
    if shutil.which("openssl") is None:
        pytest.skip("openssl is not installed: it makes the certificate")
    command = ["openssl", "req", "-x509", "-newkey", "rsa:2048", "-nodes", "-subj", "/CN=localhost"]
    command += ["-addext", "subjectAltName=IP:127.0.0.1", "-keyout", key, "-out", certificate]
    subprocess.run(command, check=True, capture_output=True)
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(certificate, key)
    return context, certificate


@contextmanager
def tls_proxy(context: ssl.SSLContext, upstream: int):
    """Pass what comes over TLS on to the port `upstream` of this machine; gives the proxy's port."""
    with _Proxy(context, upstream) as proxy:
        threading.Thread(target=proxy.serve_forever, kwargs={"poll_interval": 0.02}, daemon=True).start()
        yield proxy.server_address[1]
        proxy.shutdown()
