"""One HTTP exchange, as all our clients make it.

- No redirect is followed. So a credential goes to the configured address only, and answers come from there.
- The exchange ends at its deadline, however slowly the other side sends its headers or its body.
- At most a given number of decoded bytes is read of a body. No encoding is asked for.
- Proxies and certificates come from the environment. Credentials in `~/.netrc` are not used: they would
replace the token of the request.
- What a stranger named is reached at addresses that a `look_up` gives (see clients/strangers.py), and never
through a proxy, which would look up the name itself.
"""

import os
import socket
import threading
import time
import zlib
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from typing import Any
from urllib.parse import urljoin, urlsplit

import requests
import urllib3
from requests.adapters import HTTPAdapter
from requests.auth import HTTPBasicAuth

from app.clients.retry import RetryableError
from app.version import VERSION

# (host, port, deadline) -> the IP addresses to connect to; raises RetryableError if there are none
LookUp = Callable[[str, int, float], Sequence[str]]

CONNECT_SECONDS = 5.0
# the longest silence in the middle of an exchange
IDLE_SECONDS = 30.0
CHUNK_BYTES = 256 * 1024


@contextmanager
def exchange(
    method: str,
    url: str,
    deadline: float,
    *,
    headers: Mapping[str, str] | None = None,
    data: Any = None,
    idle_seconds: float = IDLE_SECONDS,
    look_up: LookUp | None = None,
) -> Iterator[requests.Response]:
    """Send a request and yield its response. The caller reads the body.

    At `deadline`, in time.monotonic(), the connection is cut. Raises RetryableError for any failure of the
    connection, also while the block reads the body. The caller checks the status.
    """
    sockets: list[socket.socket] = []
    watchdog = threading.Timer(deadline - time.monotonic(), _cut, (sockets,))
    watchdog.daemon = True
    watchdog.start()
    try:
        with (
            _open_session(sockets, deadline, look_up) as session,
            session.request(
                method,
                url,
                headers=dict(headers or {}),
                data=data,
                timeout=(CONNECT_SECONDS, idle_seconds),
                allow_redirects=False,
                stream=True,
            ) as response,
        ):
            yield response
    except (requests.RequestException, urllib3.exceptions.HTTPError) as error:
        if time.monotonic() >= deadline:
            raise RetryableError("it takes too long") from error
        raise RetryableError(f"the connection failed ({_why(error)})") from error
    finally:
        watchdog.cancel()


def read_start(response: requests.Response, max_bytes: int) -> bytes:
    """Return what has come of a streamed body, without its decoding: at most `max_bytes`, b"" if it fails.

    It waits for the first piece only.
    """
    try:
        return response.raw.read1(max_bytes, decode_content=False)
    except (urllib3.exceptions.HTTPError, OSError):
        return b""


def read_bounded(response: requests.Response, max_bytes: int, deadline: float) -> bytes:
    """Return the body of a streamed response, decoded; raise RetryableError if it is too large or too slow.

    No more than `max_bytes` are ever held, whatever the body says it unpacks to.
    """
    unpack = _unpacker(response.headers.get("Content-Encoding", ""))
    body, received = bytearray(), 0
    # read() would wait for whole chunks, however slowly they come
    while chunk := response.raw.read1(CHUNK_BYTES, decode_content=False):
        received += len(chunk)
        try:
            body += unpack(chunk, max_bytes + 1 - len(body))
        except zlib.error as error:
            raise RetryableError("its answer is damaged") from error
        if max(len(body), received) > max_bytes:
            raise RetryableError(f"its answer is larger than {max_bytes} bytes")
        if time.monotonic() >= deadline:
            break
    # a body of unknown length that was cut looks like one that has ended
    if time.monotonic() >= deadline:
        raise RetryableError("it takes too long")
    return bytes(body)


def find_redirect(response: requests.Response) -> str | None:
    """Return scheme and host of where a redirect leads, or None if `response` is none.

    Not the rest of the address, which may hold a credential.
    """
    if not 300 <= response.status_code < 400 or "Location" not in response.headers:
        return None
    parts = urlsplit(urljoin(response.url, response.headers["Location"]))
    return f"{parts.scheme}://{parts.hostname}" + (f":{parts.port}" if parts.port else "")


def _why(error: BaseException) -> str:
    """What the system says of the failure at the root of `error`; requests would repeat a signed address."""
    cause: BaseException | None = error
    while cause:
        if isinstance(cause, OSError) and cause.strerror:
            return cause.strerror
        cause = cause.__cause__ or cause.__context__
    return type(error).__name__


def _unpacker(encoding: str) -> Callable[[bytes, int], bytes]:
    """Return a function that decodes a chunk into at most the given number of bytes."""
    if encoding.lower() in {"", "identity"}:
        return lambda chunk, _: chunk
    if encoding.lower() in {"gzip", "x-gzip", "deflate"}:
        return zlib.decompressobj(wbits=zlib.MAX_WBITS | 32).decompress
    raise RetryableError(f"its answer is encoded as {encoding[:40]!r}, which was not asked for")


class _Session(requests.Session):
    def get_redirect_target(self, resp: requests.Response) -> None:
        """No answer is a redirect. Of one that is, requests would read the whole body, without a bound."""
        return None


def _open_session(sockets: list[socket.socket], deadline: float, look_up: LookUp | None) -> requests.Session:
    session = _Session()
    session.headers.update({"User-Agent": f"kibotos/{VERSION}", "Accept-Encoding": "identity"})
    if look_up:
        session.trust_env = False
        # the one thing of the environment that is wanted
        session.verify = os.environ.get("REQUESTS_CA_BUNDLE") or True
    # whatever is set here, requests takes instead of ~/.netrc
    session.auth = _authorise
    adapter = _WatchedAdapter(sockets, deadline, look_up)
    session.mount("http://", adapter)
    session.mount("https://", adapter)
    return session


def _authorise(request: requests.PreparedRequest) -> requests.PreparedRequest:
    """Add the user and password of the address, if there are any, and no other credential is sent."""
    user, password = requests.utils.get_auth_from_url(request.url or "")
    if user and "Authorization" not in request.headers:
        return HTTPBasicAuth(user, password)(request)
    return request


class _WatchedAdapter(HTTPAdapter):
    """Puts the socket of each connection it opens into `sockets`, also of one through a proxy.

    With `look_up`, it connects to an address from there. TLS and the header Host still have the name.
    """

    def __init__(self, sockets: list[socket.socket], deadline: float, look_up: LookUp | None):
        super().__init__()
        self._sockets = sockets
        self._deadline = deadline
        self._look_up = look_up

    def get_connection_with_tls_context(self, *args: Any, **kwargs: Any) -> Any:
        pool: Any = super().get_connection_with_tls_context(*args, **kwargs)
        sockets, deadline, look_up = self._sockets, self._deadline, self._look_up

        class Watched(pool.ConnectionCls):
            def _new_conn(self) -> socket.socket:
                if look_up is None:
                    return super()._new_conn()
                return _connect(look_up(self.host, self.port, deadline), self.port, deadline)

            def connect(self) -> None:
                super().connect()
                sockets.append(self.sock)
                if time.monotonic() >= deadline:
                    _cut(sockets)

        pool.ConnectionCls = Watched
        return pool


def _connect(addresses: Sequence[str], port: int, deadline: float) -> socket.socket:
    """Connect to the first of `addresses` that accepts. Raise RetryableError if none does in time."""
    failure: OSError = TimeoutError("it takes too long")
    for address in addresses:
        timeout = min(CONNECT_SECONDS, deadline - time.monotonic())
        if timeout <= 0:
            break
        try:
            connected = socket.create_connection((address, port), timeout)
            connected.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            return connected
        except OSError as error:
            failure = error
    raise RetryableError(f"the connection failed ({failure.strerror or failure})") from failure


def _cut(sockets: list[socket.socket]) -> None:
    """Make every thread that reads from or writes to `sockets` fail at once."""
    for each in sockets:
        with suppress(OSError):
            # not TLS's own shutdown, which belongs to the thread that uses it
            socket.socket.shutdown(each, socket.SHUT_RDWR)
