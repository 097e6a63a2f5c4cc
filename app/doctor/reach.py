"""Whether something takes a connection, told within seconds."""

import socket
import threading
import time
from collections.abc import Sequence
from queue import Empty, SimpleQueue
from urllib.parse import urlsplit

from requests.utils import get_environ_proxies, select_proxy

from app.config import masked
from app.doctor.findings import Unusable

# A machine whose name is not found, or that does not take a connection, within this time is out of reach.
CONNECT_SECONDS = 2.0
PORTS = {"https": 443, "wss": 443, "redis": 6379, "rediss": 6379, "socks5": 1080, "socks5h": 1080}


def reach(urls: Sequence[str], advice: str) -> None:
    """Raise Unusable if nothing takes a connection at any of `urls`, or at the proxy that leads there."""
    # NO_PROXY is among them, as "no"
    proxies = {url: get_environ_proxies(url) for url in urls}
    between = {proxy for url, known in proxies.items() if (proxy := select_proxy(url, known))}
    if any(known.keys() - {"no"} for known in proxies.values()) and not between:
        # the SDK of the chain chooses its proxy by rules of its own
        return
    parts = [urlsplit(url) for url in between or urls]
    try:
        connect([(each.hostname, each.port or PORTS.get(each.scheme, 80)) for each in parts if each.hostname])
    except OSError as error:
        said = f"out of reach: {error.strerror or error}"
        if between:
            detail = f"the proxy {' or '.join(map(masked, between))} is {said}"
            raise Unusable(
                detail, "Check HTTP_PROXY and HTTPS_PROXY; NO_PROXY names what needs none."
            ) from error
        raise Unusable(f"{' or '.join(urls)} is {said}", advice) from error


def connect(addresses: Sequence[tuple[str, int]]) -> None:
    """Return once something takes a connection at one of `addresses`; raise OSError if nothing does in time.

    Each is tried in a thread that nobody waits for, since the resolver alone can take a quarter of a minute.
    """
    answers: SimpleQueue[OSError | None] = SimpleQueue()
    found: set[str] = set()

    def attempt(host: str, port: int) -> None:
        try:
            socket.getaddrinfo(host, port)
            found.add(host)
            # longer than is waited for below: so what is said does not depend on who is first
            socket.create_connection((host, port), 2 * CONNECT_SECONDS).close()
        except OSError as error:
            answers.put(error)
        else:
            answers.put(None)

    for address in addresses:
        threading.Thread(target=attempt, args=address, daemon=True).start()
    deadline = time.monotonic() + CONNECT_SECONDS
    for number in range(len(addresses)):
        try:
            error = answers.get(timeout=max(0.0, deadline - time.monotonic()))
        except Empty:
            what = "it takes no connection" if found else "no name server says where that is"
            raise TimeoutError(f"{what} within {CONNECT_SECONDS:g} s") from None
        if error is None:
            return
        if number == len(addresses) - 1:
            raise error
