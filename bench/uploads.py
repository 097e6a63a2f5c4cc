"""How much of a large file is sent again when connections break: `python -m bench.uploads`.

A file is uploaded in parts into a SeaweedFS of its own. A proxy between cuts connections in random places.
"""

import argparse
import random
import shutil
import tempfile
import time
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path

from app.clients.parts import Address, PartsUpload
from app.clients.storage import Storage
from app.config import Settings
from app.local.process import start_all, stop_all
from app.local.servers import Seaweed
from app.uploads.models import PART_BYTES
from tests.faults.proxy import FaultyProxy

KEY = "uploads/bench/film.mp4"


def measure(directory: Path, size: int, cuts: int, seed: int) -> str:
    """Upload `size` bytes through `cuts` broken connections; return what that took."""
    seaweed = Seaweed(directory / "seaweed")
    start_all([seaweed])
    try:
        settings = Settings.from_environ({"APP_ENV": "development"} | seaweed.environ)
        Storage(settings).ensure_bucket()
        film = directory / "film.mp4"
        with film.open("wb") as file:
            file.truncate(size)
        count = -(-size // PART_BYTES)
        drawn = random.Random(seed)
        broken = set(drawn.sample(range(count), cuts))
        with FaultyProxy(seaweed.port) as proxy:
            proxy.cuts = [drawn.randrange(PART_BYTES) if each in broken else None for each in range(count)]
            storage = Storage(replace(settings, s3_public_endpoint=proxy.url))
            upload_id = storage.start_multipart(KEY, "video/mp4")

            def ask(numbers: Sequence[int]) -> Mapping[int, Address]:
                until = time.time() + 3600
                return {
                    number: Address(
                        *storage.presign_part(
                            KEY, upload_id, number, min(PART_BYTES, size - (number - 1) * PART_BYTES), 3600
                        ),
                        until,
                    )
                    for number in numbers
                }

            etags: list[str | None] = [None] * count
            began = time.process_time()
            PartsUpload(film, PART_BYTES, etags, ask, lambda: None, lambda sent: None).run()
            spent = time.process_time() - began
            assert storage.complete_multipart(KEY, upload_id, [etag or "" for etag in etags])
            again = proxy.taken_bytes - size
        return (
            f"{size / 2**20:.0f} MiB in {count} parts, {cuts} cuts: {again / 2**20:.1f} MiB sent again, "
            f"{again / size:.2%}; {spent:.1f} s of processor time in client and proxy"
        )
    finally:
        stop_all([seaweed])


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--mib", type=int, default=1024)
    parser.add_argument("--cuts", type=int, default=20)
    parser.add_argument("--seed", type=int, default=1)
    arguments = parser.parse_args()
    directory = Path(tempfile.mkdtemp(prefix="kibotos-bench-"))
    try:
        directory.chmod(0o711)
        print(measure(directory, arguments.mib * 2**20, arguments.cuts, arguments.seed))
    finally:
        shutil.rmtree(directory)


if __name__ == "__main__":
    main()
