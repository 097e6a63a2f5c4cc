"""SQL on the fingerprints of known videos."""

from dataclasses import dataclass
from uuid import UUID

import numpy as np
from sqlalchemy import text

from app.db import execute, fetch_all, fetch_value
from app.duplicates.matching import Fingerprint
from app.locks import FINGERPRINTS, MINER_RESULTS

# of the videos that share a band with one, so many are looked at, and the best of them returned
MAX_SHARING = 200

_COLUMNS = """
    f.submission_id, s.uuid AS submission_uuid, f.miner_hotkey, f.content_hash IS NOT NULL AS scored,
    f.seconds, f.hashes
"""

_LOCK_MINER = text(f"SELECT pg_advisory_xact_lock(hashtextextended(:miner_hotkey, {MINER_RESULTS}))")
_LOCK_MEMORY = text("SELECT pg_advisory_xact_lock(:key)")
_FIND_LATEST = text("SELECT coalesce(max(remembered), 0) FROM fingerprints")
_FIND_MINER = text("SELECT miner_hotkey FROM submissions WHERE id = :id")
_LIST_HASH_ASSERTIONS = text("""
    SELECT s.id AS submission_id, s.uuid AS submission_uuid, s.miner_hotkey,
           f.content_hash IS NOT NULL AS verified
    FROM submissions s LEFT JOIN fingerprints f ON f.submission_id = s.id
    WHERE s.video_hash = :video_hash AND s.status = 'SCORED' ORDER BY s.id
""")
_LIST_SHARING = text(f"""
    SELECT {_COLUMNS} FROM fingerprints_sharing(CAST(:keys AS integer[]), :at_most) k
    JOIN fingerprints f ON f.submission_id = k.submission_id
    JOIN submissions s ON s.id = f.submission_id
    ORDER BY k.shared DESC, f.submission_id LIMIT :limit
""")
_LIST_SHARING_SINCE = text(f"""
    SELECT {_COLUMNS} FROM fingerprints f JOIN submissions s ON s.id = f.submission_id
    WHERE f.remembered > :since AND f.keys && CAST(:keys AS integer[])
    ORDER BY f.remembered
""")
_LIST_RECENT = text(f"""
    SELECT {_COLUMNS} FROM fingerprints f JOIN submissions s ON s.id = f.submission_id
    WHERE f.miner_hotkey = :miner_hotkey
      AND s.submitted_at > now() - make_interval(hours => :hours)
    ORDER BY f.submission_id DESC LIMIT :limit
""")
_INSERT = text("""
    INSERT INTO fingerprints (submission_id, miner_hotkey, content_hash, seconds, hashes, keys)
    VALUES (:submission_id, :miner_hotkey, :content_hash, CAST(:seconds AS real[]), :hashes,
            CAST(:keys AS integer[]))
""")


@dataclass(frozen=True)
class HashAssertion:
    """A scored submission that claims a hash; `verified`: its bytes were seen to have it."""

    submission_id: int
    submission_uuid: UUID
    miner_hotkey: str
    verified: bool


@dataclass(frozen=True)
class Known:
    """A video as it is stored; not `scored`: it was rejected as a copy or a piece."""

    submission_id: int
    submission_uuid: UUID
    miner_hotkey: str
    scored: bool
    seconds: list[float]
    hashes: memoryview

    @property
    def fingerprint(self) -> Fingerprint:
        hashes = np.frombuffer(self.hashes, np.uint8).reshape(-1, 32)
        return Fingerprint(np.array(self.seconds, np.float32), hashes)


def lock_miner(submission_id: int) -> str:
    """Wait for other results of this submission's miner to be committed, and return its hotkey."""
    hotkey = fetch_value(_FIND_MINER, id=submission_id)
    execute(_LOCK_MINER, miner_hotkey=hotkey)
    return hotkey


def lock_memory() -> None:
    """Wait until what others remember is committed; until this transaction ends nobody else remembers.

    To be taken after a miner's lock, never before.
    """
    execute(_LOCK_MEMORY, key=FINGERPRINTS)


def find_latest() -> int:
    """The number of the fingerprint that was remembered last, 0 without any."""
    return fetch_value(_FIND_LATEST)


def list_hash_assertions(video_hash: str) -> list[HashAssertion]:
    """The scored submissions that claim this SHA-256, the first submitted first."""
    return fetch_all(HashAssertion, _LIST_HASH_ASSERTIONS, video_hash=video_hash)


def list_sharing(keys: list[int], limit: int) -> list[Known]:
    """The known videos that have the most of `keys`, found by index, of all cycles and miners."""
    return fetch_all(Known, _LIST_SHARING, keys=keys, at_most=MAX_SHARING, limit=limit)


def list_sharing_since(keys: list[int], since: int) -> list[Known]:
    """The known videos that have any of `keys` and were remembered after fingerprint number `since`."""
    return fetch_all(Known, _LIST_SHARING_SINCE, keys=keys, since=since)


def list_recent(miner_hotkey: str, hours: int, limit: int) -> list[Known]:
    """The miner's own known videos of the last hours, the latest first."""
    return fetch_all(Known, _LIST_RECENT, miner_hotkey=miner_hotkey, hours=hours, limit=limit)


def insert(submission_id: int, miner_hotkey: str, content_hash: str | None, stored: Fingerprint) -> None:
    execute(
        _INSERT,
        submission_id=submission_id,
        miner_hotkey=miner_hotkey,
        content_hash=content_hash,
        seconds=stored.seconds.tolist(),
        hashes=stored.hashes.tobytes(),
        keys=stored.keys() if len(stored) else [],
    )
