"""A closed-loop HTTP load generator: each connection sends its next request when the last is answered."""

import asyncio
import time
from collections import Counter
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from statistics import quantiles


@dataclass
class Load:
    """What came of it: latencies in seconds, counts by status, the bodies if they were to be kept."""

    seconds: float = 0.0
    latencies: list[float] = field(default_factory=list)
    statuses: Counter = field(default_factory=Counter)
    bodies: list[bytes] = field(default_factory=list)

    @property
    def rate(self) -> float:
        return len(self.latencies) / self.seconds

    def percentile_ms(self, percent: int) -> float:
        return quantiles(self.latencies, n=100)[percent - 1] * 1000


def request(method: str, path: str, body: bytes = b"", headers: str = "") -> bytes:
    """A request as it goes over the wire."""
    kind = f"Content-Type: application/json\r\nContent-Length: {len(body)}\r\n" if body else ""
    return f"{method} {path} HTTP/1.1\r\nHost: 127.0.0.1\r\n{kind}{headers}\r\n".encode() + body


def run(
    port: int, requests: Iterable[bytes], connections: int, seconds: float, keep_bodies: bool = False
) -> Load:
    """Send `requests` over `connections` for `seconds`, or until there are none left."""
    return asyncio.run(_run(port, iter(requests), connections, seconds, keep_bodies))


async def _run(
    port: int, requests: Iterator[bytes], connections: int, seconds: float, keep_bodies: bool
) -> Load:
    load = Load()
    began = time.perf_counter()

    async def send_all() -> None:
        reader, writer = await asyncio.open_connection("127.0.0.1", port)
        while time.perf_counter() < began + seconds and (message := next(requests, None)) is not None:
            sent = time.perf_counter()
            writer.write(message)
            head = await reader.readuntil(b"\r\n\r\n")
            length = next(
                (line[15:] for line in head.split(b"\r\n") if line[:15].lower() == b"content-length:"), 0
            )
            body = await reader.readexactly(int(length))
            load.latencies.append(time.perf_counter() - sent)
            load.statuses[int(head[9:12])] += 1
            if keep_bodies:
                load.bodies.append(body)
            if b"connection: close" in head.lower():
                writer.close()
                reader, writer = await asyncio.open_connection("127.0.0.1", port)
        writer.close()

    await asyncio.gather(*(send_all() for _ in range(connections)))
    load.seconds = time.perf_counter() - began
    return load
