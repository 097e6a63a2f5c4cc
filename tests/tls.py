"""TLS before a server that has none."""

import socket
import socketserver
import ssl
import threading
from contextlib import contextmanager, suppress


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


@contextmanager
def tls_proxy(context: ssl.SSLContext, upstream: int):
    """Pass what comes over TLS on to the port `upstream` of this machine; gives the proxy's port."""
    with _Proxy(context, upstream) as proxy:
        threading.Thread(target=proxy.serve_forever, kwargs={"poll_interval": 0.02}, daemon=True).start()
        yield proxy.server_address[1]
        proxy.shutdown()
