"""Clients that send or read slowly, or do nothing at all."""

import socket
from contextlib import ExitStack
from urllib.parse import urlsplit

CLIENTS_A_KIND = 50
HEAD = b"POST /v1/submissions HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\n"
# kind -> what it sends at first
SLOW = {
    "idle": b"",
    "slow headers": b"GET /health HTTP/1.1\r\nHost: localhost\r\nX-Slow: ",
    "slow bodies": HEAD + b"Content-Length: 1000\r\n\r\n{",
    "slow chunks": HEAD + b"Transfer-Encoding: chunked\r\n\r\n5\r\n{",
    "slow readers": b"GET /v1/prompts HTTP/1.1\r\nHost: localhost\r\n\r\n",
}


def connect(url, receive_buffer=None, timeout=60):
    parts = urlsplit(url)
    client = socket.socket()
    if receive_buffer:
        client.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, receive_buffer)
    client.settimeout(timeout)
    client.connect((parts.hostname, parts.port))
    return client


def connect_all(url, stack: ExitStack):
    """Connect CLIENTS_A_KIND of each kind until `stack` ends; return them with their kind."""
    clients = []
    for kind, sent in SLOW.items():
        for _ in range(CLIENTS_A_KIND):
            client = stack.enter_context(connect(url, 4096 if kind == "slow readers" else None))
            client.sendall(sent)
            clients.append((kind, client))
    return clients


def dawdle(kind, client):
    """Send or read a little."""
    if kind == "slow readers":
        client.recv(10)
    elif kind != "idle":
        client.sendall(b"a")
