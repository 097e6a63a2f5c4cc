"""Addresses that strangers name: they must not lead into our own network.

A name is looked up once, and the connection goes to what that gave. So a name that leads elsewhere a moment
later (DNS rebinding) gains nothing.
"""

import socket
import threading
from collections.abc import Callable
from contextlib import closing, suppress
from ipaddress import IPv4Address, IPv4Network, IPv6Address, IPv6Network, ip_address
from time import monotonic
from urllib.parse import urlsplit

from app.clients.retry import RetryableError

PORTS = frozenset({80, 443, 8080, 8443})
LOOK_UP_SECONDS = 3.0
# of a name with more of them, only the first are tried
MAX_ADDRESSES = 4

# Only this part of IPv6 is given out for the public Internet.
_PUBLIC_V6 = IPv6Network("2000::/3")
# Within it: protocol assignments with Teredo, documentation, 6to4, documentation.
_SPECIAL_V6 = [IPv6Network(each) for each in ("2001::/23", "2001:db8::/32", "2002::/16", "3fff::/20")]
# NAT64: what a network with IPv6 alone calls the IPv4 address in the last 32 bits
_NAT64 = IPv6Network("64:ff9b::/96")
# What Python calls global and we do not: the relays of 6to4, and AS112.
_SPECIAL_V4 = [IPv4Network(each) for each in ("192.88.99.0/24", "192.31.196.0/24", "192.52.193.0/24")]


class AddressRefused(RetryableError):
    """The address does not lead to the public Internet, or cannot be found. The message says what to do."""


def is_public(address: IPv4Address | IPv6Address) -> bool:
    """Whether an address belongs to the public Internet, whichever way it is written."""
    if isinstance(address, IPv6Address):
        if address in _NAT64:
            return is_public(IPv4Address(int(address) & 0xFFFFFFFF))
        return address in _PUBLIC_V6 and not any(address in network for network in _SPECIAL_V6)
    return (
        address.is_global
        and not address.is_multicast
        and not address.is_reserved
        and not any(address in network for network in _SPECIAL_V4)
    )


def system_addresses(host: str, port: int) -> list[str]:
    """The addresses that the system knows for a name."""
    found = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)
    return list(dict.fromkeys(str(sockaddr[0]) for *_, sockaddr in found))


class Strangers:
    """Looks up what strangers named. With `allow_private` every address and port will do (development)."""

    def __init__(self, allow_private: bool, addresses: Callable[[str, int], list[str]] = system_addresses):
        self._allow_private = allow_private
        self._addresses = addresses

    def check_url(self, url: str) -> None:
        """Raise AddressRefused unless `url` is one that we would call. Looks up its name."""
        try:
            parts = urlsplit(url)
            host, port = parts.hostname, parts.port
        except ValueError:
            host, port = None, None
        if not host or parts.scheme not in {"http", "https"}:
            raise AddressRefused("it must look like https://example.org/path")
        if not url.isascii() or not url.isprintable() or " " in url or "\\" in url:
            raise AddressRefused("it must hold ASCII characters without spaces and backslashes only")
        if "@" in parts.netloc or "#" in url:
            raise AddressRefused("it must hold no user, no password and no fragment (#)")
        port = port if port is not None else {"http": 80, "https": 443}[parts.scheme]
        self.look_up(host, port, monotonic() + LOOK_UP_SECONDS)

    def look_up(self, host: str, port: int, deadline: float) -> list[str]:
        """Return the addresses of `host`. Raise AddressRefused if any of them is not public.

        It gives up after LOOK_UP_SECONDS: a name server may be as slow as it likes.
        """
        if not self._allow_private and port not in PORTS:
            ports = ", ".join(map(str, sorted(PORTS)))
            raise AddressRefused(f"port {port} is not permitted; use one of {ports}")
        host = host.strip("[]")
        found = self._find(host, port, min(deadline, monotonic() + LOOK_UP_SECONDS))
        if not self._allow_private:
            for each in found:
                if not _is_reachable(each, port):
                    raise AddressRefused(f"{host} leads to {each}, which is not on the public Internet")
        return found[:MAX_ADDRESSES]

    def _find(self, host: str, port: int, deadline: float) -> list[str]:
        found: list[str] = []
        failure: list[Exception] = []

        def ask() -> None:
            try:
                found.extend(self._addresses(host, port))
            # UnicodeError: no name at all
            except (OSError, UnicodeError) as error:
                failure.append(error)

        # the system's resolver knows no deadline
        thread = threading.Thread(target=ask, daemon=True)
        thread.start()
        thread.join(max(0.0, deadline - monotonic()))
        if thread.is_alive():
            raise AddressRefused(f"the name server of {host} does not answer")
        if not found:
            raise AddressRefused(f"{host} is not known to the name servers") from next(iter(failure), None)
        return found


def _is_reachable(address: str, port: int) -> bool:
    try:
        parsed = ip_address(address)
    except ValueError:
        # with the name of an interface: link-local
        return False
    return is_public(parsed) and not is_own(address, port)


def is_own(address: str, port: int) -> bool:
    """Whether an address is this machine's. Nothing is sent."""
    family = socket.AF_INET6 if ":" in address else socket.AF_INET
    with suppress(OSError), closing(socket.socket(family, socket.SOCK_DGRAM)) as probe:
        probe.connect((address, port))
        # what we would call it from
        return probe.getsockname()[0] == address
    return False
