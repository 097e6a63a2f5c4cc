#!/usr/bin/env python3
"""Measure how long it takes to find the videos that may show the same footage, among many on disk.

Starts PostgreSQL of its own in a directory that it removes, and fills it with random videos of 40 hashes
each. Looked up are altered copies of some of them (a tenth of the bits of each hash changed) and videos that
are new, with the files in the system's cache and without.
"""

import argparse
import io
import os
import shutil
import sys
import tempfile
import time
from contextlib import closing
from datetime import UTC, datetime
from pathlib import Path
from statistics import quantiles
from typing import Any
from uuid import UUID

ROOT = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(ROOT))

import numpy as np
import psycopg2

from app import create_app, db, logs
from app.config import Settings
from app.duplicates import queries as duplicate_queries
from app.duplicates.matching import LOOKED_UP, Fingerprint, wanted_keys
from app.duplicates.service import COMPARED
from app.local.servers import Postgres

HASHES = 40
CHUNK = 5_000
LOOKUPS = 200
SECONDS = np.arange(HASHES, dtype=np.float32) / 2


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--videos", type=int, default=1_000_000)
    options = parser.parse_args()
    directory = Path(tempfile.mkdtemp(prefix="kibotos-bench-"))
    # PostgreSQL may have to run as another user
    directory.chmod(0o711)
    postgres = Postgres(directory / "postgres", durable=False)
    postgres.start()
    try:
        measure(options.videos, postgres)
    finally:
        postgres.stop()
        shutil.rmtree(postgres.data.parent, ignore_errors=True)
        shutil.rmtree(directory, ignore_errors=True)


def hashes_of(video: int) -> np.ndarray:
    """The 40 hashes of a stored video, the same each time."""
    return np.random.default_rng(video).integers(0, 256, (HASHES, 32), np.uint8)


def altered(hashes: np.ndarray, seed: int) -> np.ndarray:
    """Return what a copy's frames give: LOOKED_UP of them, with a tenth of the bits changed."""
    random = np.random.default_rng(seed)
    frames = hashes[np.linspace(0, HASHES - 1, LOOKED_UP).astype(int)]
    noise = np.packbits(random.random((len(frames), 256)) < 0.1, axis=1)
    return frames ^ noise


def measure(videos: int, postgres: Postgres) -> None:
    logs.configure("ERROR", "console")
    app = create_app(Settings.from_environ({"APP_ENV": "development", "DATABASE_URL": postgres.url}))
    with app.app_context():
        db.init_schema()
        with closing(
            psycopg2.connect(
                host="127.0.0.1",
                port=postgres.port,
                user="postgres",
                password=postgres.password,
                dbname="kibotos",
            )
        ) as connection:
            connection.autocommit = True
            with connection.cursor() as cursor:
                fill(cursor, videos)
                files = files_of(cursor, postgres.data)
        size = sum(file.stat().st_size for file in files)
        print(f"{videos:,} videos, {videos * HASHES:,} hashes, {size / 2**30:.1f} GiB on disk\n")
        print("| lookup | files | found | median | p95 | most |\n|---|---|---|---|---|---|")
        for cached in (False, True):
            for known in (True, False):
                look_up(videos, known, files, cached)


def fill(cursor: Any, videos: int) -> None:
    began = time.monotonic()
    # rows of their own, without the submissions' other tables
    cursor.execute("SET session_replication_role = replica; SET maintenance_work_mem = '2GB'")
    cursor.execute("DROP INDEX fingerprints_keys")
    fill_submissions(cursor, videos)
    for first in range(1, videos + 1, CHUNK):
        lines = io.StringIO()
        for video in range(first, min(first + CHUNK, videos + 1)):
            stored = Fingerprint(SECONDS, hashes_of(video))
            keys = ",".join(map(str, stored.keys()))
            seconds = ",".join(map(str, SECONDS))
            content = f"{video:064x}"
            hotkey = f"5miner{video % 256}".ljust(48, "x")
            lines.write(
                f"{video}\t{hotkey}\t{content}\t{{{seconds}}}\t\\\\x{stored.hashes.tobytes().hex()}\t{{{keys}}}\n"
            )
        lines.seek(0)
        cursor.copy_expert(
            "COPY fingerprints (submission_id, miner_hotkey, content_hash, seconds, hashes, keys) FROM STDIN",
            lines,
        )
    print(f"rows: {time.monotonic() - began:.0f} s", file=sys.stderr, flush=True)
    cursor.execute("CREATE INDEX fingerprints_keys ON fingerprints USING gin (keys) WITH (fastupdate = off)")
    cursor.execute("VACUUM ANALYZE fingerprints; ")
    cursor.execute("ANALYZE submissions; ")
    cursor.execute("CHECKPOINT")
    print(f"with index: {time.monotonic() - began:.0f} s", file=sys.stderr, flush=True)


def fill_submissions(cursor: Any, videos: int) -> None:
    cursor.execute(
        """
        INSERT INTO submissions (cycle_id, prompt_id, prompt_weight, video_key, video_hash, miner_uid,
            miner_hotkey, duration_sec, resolution_width, resolution_height, fps, camera_type, actor_type,
            status, final_score, evaluated_at)
        SELECT 1, 'p', 1, 'uploads/' || n, encode(sha256(n::text::bytea), 'hex'), n %% 256,
               rpad('5miner' || n %% 256, 48, 'x'), 20, 640, 480, 30, 'ego_head', 'human',
               'SCORED', 0.5, now()
        FROM generate_series(1, %s) n
        """,
        (videos,),
    )


def files_of(cursor: Any, data: Path) -> list[Path]:
    """The files of the fingerprints and their indexes."""
    cursor.execute(
        "SELECT pg_relation_filepath(indexrelid) FROM pg_index WHERE indrelid = 'fingerprints'::regclass "
        "UNION ALL SELECT pg_relation_filepath('fingerprints')"
    )
    return [
        file for (name,) in cursor.fetchall() for file in (data / name).parent.glob((data / name).name + "*")
    ]


def look_up(videos: int, known: bool, files: list[Path], cached: bool) -> None:
    random = np.random.default_rng(int(known))
    # a video that came after all others: every one of them counts against it
    subject = duplicate_queries.Subject(2**40, UUID(int=0), "5new", "p", "", datetime.now(UTC), False)
    took, found = [], 0
    for number in range(LOOKUPS):
        video = int(random.integers(1, videos + 1)) if known else videos + 1 + number
        copy = altered(hashes_of(video), number)
        mirrored = np.random.default_rng(-number % 2**32).integers(0, 256, copy.shape, np.uint8)
        seconds = np.arange(len(copy), dtype=np.float32) / 2
        keys = wanted_keys(Fingerprint(seconds, copy), Fingerprint(seconds, mirrored))
        if not cached and number % 10 == 0:
            forget(files)
        began = time.perf_counter()
        sharing = duplicate_queries.list_sharing(keys, subject, COMPARED)
        took.append(time.perf_counter() - began)
        found += bool(sharing) and sharing[0].submission_id == video
        db.db.session.rollback()
    cuts = quantiles(took, n=20)
    print(
        f"| {'altered copy' if known else 'new video'} | {'cached' if cached else 'on disk'} "
        f"| {found} of {LOOKUPS} | {cuts[9] * 1000:.0f} ms | {cuts[18] * 1000:.0f} ms "
        f"| {max(took) * 1000:.0f} ms |",
        flush=True,
    )


def forget(files: list[Path]) -> None:
    """Drop these files from the system's cache."""
    for file in files:
        with file.open("rb") as opened:
            os.posix_fadvise(opened.fileno(), 0, 0, os.POSIX_FADV_DONTNEED)


if __name__ == "__main__":
    main()
