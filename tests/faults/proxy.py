"""An HTTP proxy on loopback that can fail in the ways storage fails."""

import os
import socket
import socketserver
import threading
from contextlib import suppress

CRLF = b"\r\n"


class FaultyProxy(socketserver.ThreadingTCPServer):
    """Passes requests on to `upstream` (a port), one a connection, while `fault` is None.

    `fault` may be `500`, `500 to GET` (uploads are still seen), `429`, `garbage` (bytes that are no HTTP),
    `nothing` (no answer until it is over) or `half` (the connection ends in the middle of the body),
    or `flipped` (one byte of the next request's body is another, and then it is over).

    `cuts` has a number of bytes, or None, for each of the next PUTs: so much of its body is read, and then
    the connection is cut. `taken_bytes` is how much of the bodies of all PUTs was read.
    """

    daemon_threads = True
    allow_reuse_address = True
    request_queue_size = 128

    def __init__(self, upstream):
        super().__init__(("127.0.0.1", 0), _Connection)
        self.upstream = upstream
        self.cuts = []
        self.taken_bytes = 0
        self._counting = threading.Lock()
        self._fault = None
        self._over = threading.Event()

    @property
    def url(self):
        return f"http://127.0.0.1:{self.server_address[1]}"

    @property
    def fault(self):
        return self._fault

    @fault.setter
    def fault(self, fault):
        self._fault = fault
        over, self._over = self._over, threading.Event()
        over.set()

    def next_cut(self):
        with self._counting:
            return self.cuts.pop(0) if self.cuts else None

    def count(self, taken):
        with self._counting:
            self.taken_bytes += taken

    def wait_until_over(self):
        self._over.wait(60)

    def __enter__(self):
        threading.Thread(target=self.serve_forever, kwargs={"poll_interval": 0.02}, daemon=True).start()
        return self

    def __exit__(self, *_):
        self.fault = None
        self.shutdown()
        self.server_close()


class _Connection(socketserver.StreamRequestHandler):
    server: FaultyProxy

    def handle(self):
        with suppress(OSError):
            head, body = self._read_request()
            if head:
                self._answer(head, body)

    def _read_request(self):
        lines = []
        while (line := self.rfile.readline(65536)) not in (b"", CRLF):
            if not line.lower().startswith(b"connection:"):
                lines.append(line)
        length = [int(line.split(b":")[1]) for line in lines if line.lower().startswith(b"content-length:")]
        head = b"".join(lines)
        if not head.startswith(b"PUT "):
            return head, self.rfile.read(length[0]) if length else b""
        cut = self.server.next_cut()
        body = self.rfile.read(length[0] if cut is None else min(cut, length[0]))
        self.server.count(len(body))
        return (head, body) if cut is None else (b"", b"")

    def _answer(self, head, body):
        fault = self.server.fault
        if fault == "500 to GET":
            fault = "500" if head.startswith(b"GET ") else None
        if fault in {"500", "429"}:
            wait = b"Retry-After: 1\r\n" if fault == "429" else b""
            self.wfile.write(b"HTTP/1.1 %s Fault\r\n%sContent-Length: 0\r\n" % (fault.encode(), wait))
            self.wfile.write(b"Connection: close\r\n\r\n")
        elif fault == "garbage":
            self.wfile.write(os.urandom(300))
        elif fault == "nothing":
            self.server.wait_until_over()
        elif fault == "flipped":
            self.server.fault = None
            self._pass_on(head, bytes([body[0] ^ 1]) + body[1:], cut=False)
        else:
            self._pass_on(head, body, cut=fault == "half")

    def _pass_on(self, head, body, cut):
        with socket.create_connection(("127.0.0.1", self.server.upstream), timeout=30) as upstream:
            upstream.sendall(head + b"Connection: close\r\n\r\n" + body)
            if cut:
                answer = b"".join(iter(lambda: upstream.recv(65536), b""))
                start = answer.index(CRLF + CRLF) + 4
                self.wfile.write(answer[: start + (len(answer) - start) // 2])
                return
            while chunk := upstream.recv(65536):
                self.wfile.write(chunk)
