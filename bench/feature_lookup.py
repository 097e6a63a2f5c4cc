#!/usr/bin/env python3
"""Measure how long it takes to find the videos that share features, among many.

Starts PostgreSQL of its own in a directory that it removes, and fills it with videos of 1,200 random keys
each; a tenth of their keys are of 2,000 that many videos share. Looked up are copies that kept 30 keys of
theirs, and videos that are new. What is stored of the likeliest is read as well, 84 kB each. The keys of
20,000 videos take some minutes to index.
"""

import argparse
import shutil
import sys
import tempfile
import time
from contextlib import closing
from datetime import UTC, datetime
from pathlib import Path
from statistics import median
from typing import Any
from uuid import UUID

ROOT = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(ROOT))

import numpy as np
import psycopg2
from sqlalchemy import text

from app import create_app, db, logs
from app.config import Settings
from app.duplicates import queries
from app.duplicates.geometry import STORED_KEYS, WANTED_KEYS
from app.duplicates.service import LOOKED_AT, READ_AT_ONCE
from app.local.servers import Postgres
from bench.duplicate_lookup import fill_submissions

COMMON = 2_000
KEPT = 30
FEATURES_BYTES = 84_000
LOOKUPS = 60
KEYS_OF = text("SELECT feature_keys FROM fingerprints WHERE submission_id = :id")


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--videos", type=int, default=20_000)
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


def measure(videos: int, postgres: Postgres) -> None:
    logs.configure("ERROR", "console")
    app = create_app(Settings.from_environ({"APP_ENV": "development", "DATABASE_URL": postgres.url}))
    with app.app_context():
        db.init_schema()
        with (
            closing(
                psycopg2.connect(
                    host="127.0.0.1",
                    port=postgres.port,
                    user="postgres",
                    password=postgres.password,
                    dbname="kibotos",
                )
            ) as connection,
            connection.cursor() as cursor,
        ):
            connection.autocommit = True
            fill(cursor, videos)
        look_up(videos)


def fill(cursor: Any, videos: int) -> None:
    began = time.monotonic()
    cursor.execute("SET session_replication_role = replica; SET maintenance_work_mem = '1GB'")
    cursor.execute("DROP INDEX fingerprints_feature_keys")
    # real ones cannot be compressed
    cursor.execute("ALTER TABLE fingerprints ALTER features SET STORAGE EXTERNAL")
    fill_submissions(cursor, videos)
    # the keys of video n follow from n, so that its copies can be made
    cursor.execute(
        """
        INSERT INTO fingerprints (submission_id, miner_hotkey, seconds, hashes, keys, features, feature_keys)
        SELECT n, rpad('5miner' || n %% 256, 48, 'x'), '{}', '', '{}',
               decode(repeat(md5(n::text), %(bytes)s / 16), 'hex'),
               (SELECT array_agg(CASE WHEN k < %(keys)s / 10 THEN hashint4(n * 7919 + k) %% %(common)s
                                      ELSE hashint8(n::bigint * 100003 + k) END)
                FROM generate_series(0, %(keys)s - 1) k)
        FROM generate_series(1, %(videos)s) n
        """,
        {"keys": STORED_KEYS, "common": COMMON, "videos": videos, "bytes": FEATURES_BYTES},
    )
    print(f"rows: {time.monotonic() - began:.0f} s", file=sys.stderr, flush=True)
    index = "fingerprints USING gin (feature_keys) WITH (fastupdate = off)"
    cursor.execute(f"CREATE INDEX fingerprints_feature_keys ON {index}")
    cursor.execute("VACUUM ANALYZE fingerprints; ")
    cursor.execute("ANALYZE submissions; ")
    cursor.execute("SELECT pg_relation_size('fingerprints_feature_keys')")
    size = cursor.fetchone()[0]
    print(f"{videos:,} videos; the index has {size / 2**20:.0f} MiB, {size / videos / 1000:.1f} kB a video")
    print(f"with index: {time.monotonic() - began:.0f} s", file=sys.stderr, flush=True)


def look_up(videos: int) -> None:
    # a video that came after all others: every one of them counts against it
    subject = queries.Subject(2**40, UUID(int=0), "5new", "p", "", datetime.now(UTC), False)
    random = np.random.default_rng(1)
    for known in (True, False):
        took, read, found = [], [], 0
        for _ in range(LOOKUPS):
            video = int(random.integers(1, videos + 1))
            theirs = db.fetch_value(KEYS_OF, id=video)
            new = random.integers(-(2**31), 2**31, WANTED_KEYS).tolist()
            common = random.integers(0, COMMON, WANTED_KEYS // 10).tolist()
            kept = random.choice(theirs, KEPT, replace=False).tolist() if known else []
            keys = list({*kept, *common, *new[: WANTED_KEYS - len(common) - len(kept)]})
            began = time.perf_counter()
            sharing = queries.list_sharing_features(keys, subject, LOOKED_AT)
            took.append(time.perf_counter() - began)
            for start in range(0, len(sharing), READ_AT_ONCE):
                queries.list_known(sharing[start : start + READ_AT_ONCE])
            read.append(time.perf_counter() - began - took[-1])
            found += video in sharing
            db.db.session.rollback()
        print(
            f"| {'copy' if known else 'new'} | found {found} of {LOOKUPS} | {median(took) * 1000:.0f} ms "
            f"| most {max(took) * 1000:.0f} ms | {median(read) * 1000:.0f} ms to read what is stored |",
            flush=True,
        )


if __name__ == "__main__":
    main()
