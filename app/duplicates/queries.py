"""SQL on the fingerprints of known videos."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import TYPE_CHECKING
from uuid import UUID

from sqlalchemy import text

from app.corrections.queries import JOIN_LAST
from app.db import Prepared, execute, fetch_all, fetch_one, fetch_value, fetch_values
from app.locks import FINGERPRINTS, MINER_RESULTS, VIDEO_HASHES

if TYPE_CHECKING:
    from app.duplicates.matching import Fingerprint

# of the videos that have a key, so many are looked at: where there are more, the key tells nothing
MAX_SHARING = 200
MAX_SHARING_FEATURES = 60
# the greatest number that a submission can have
_LAST_ID = 2**63 - 1

_COLUMNS = """
    f.submission_id, s.uuid AS submission_uuid, f.miner_hotkey, f.only_prompt IS NULL AS is_take,
    f.seconds, f.hashes,
    EXISTS (SELECT FROM takedowns t WHERE t.submission_id = f.submission_id) AS is_taken_down
"""
# many times as large as all other columns: only where it is compared
_WITH_FEATURES = f"{_COLUMNS}, f.features"
# of two videos: that of `f` came first and counts against the given one, or came later and is scored
_COUNTS = """
    (f.demoted, f.submission_id) < (:demoted, :id) AND (f.only_prompt IS NULL OR f.only_prompt = :prompt_id)
"""
_COMES_LATER = "(f.demoted, f.submission_id) > (:demoted, :id) AND f.content_hash IS NOT NULL"

_LOCK_MINER = Prepared(f"SELECT pg_advisory_xact_lock(hashtextextended(:miner_hotkey, {MINER_RESULTS}))")
_LOCK_MEMORY = text("SELECT pg_advisory_xact_lock(:key)")
_LOCK_HASH = f"""
    SELECT pg_advisory_xact_lock(hashtextextended(:video_hash, {VIDEO_HASHES})),
           pg_advisory_xact_lock_shared({FINGERPRINTS})
"""
_FIND_LATEST = Prepared("SELECT coalesce(max(remembered), 0) FROM fingerprints")
_FIND_SUBJECT = """
    SELECT id, uuid AS submission_uuid, miner_hotkey, prompt_id, video_hash, submitted_at, demoted
    FROM submissions WHERE id = :id
    -- a gold film is looked up like any video, since the time that it takes must not tell
    UNION ALL SELECT id, uuid, miner_hotkey, prompt_id, video_hash, submitted_at, false
    FROM gold_showings WHERE id = :id
"""
_GET_SUBJECT = Prepared(_FIND_SUBJECT)
_ASSERTION = """
    s.id AS submission_id, s.uuid AS submission_uuid, s.miner_hotkey,
    f.content_hash IS NOT NULL AS verified, coalesce(f.demoted, false) AS demoted,
    t.submission_id IS NOT NULL AS is_taken_down, coalesce(NOT t.by_miner, false) AS is_banned
"""
_ASSERTIONS = f"""
    submissions s LEFT JOIN fingerprints f ON f.submission_id = s.id
    LEFT JOIN takedowns t ON t.submission_id = s.id {JOIN_LAST}
    WHERE s.video_hash = :video_hash
      AND (coalesce(last.status, s.status) = 'SCORED' OR t.submission_id IS NOT NULL)
"""
_LIST_HASH_ASSERTIONS = Prepared(f"SELECT {_ASSERTION} FROM {_ASSERTIONS} ORDER BY s.id")
_FIND_COUNTING = f"""
    SELECT {_ASSERTION} FROM ({_FIND_SUBJECT}) subject, {_ASSERTIONS}
      AND (coalesce(NOT t.by_miner, false)
           OR (coalesce(f.demoted, false), s.id) < (subject.demoted, subject.id))
    ORDER BY s.id LIMIT 1
"""
_FIND_COUNTING_ASSERTION = Prepared(_FIND_COUNTING)
# the second has a snapshot of its own, taken when the locks are held
_LOCK_HASH_AND_FIND_COUNTING = Prepared(_LOCK_HASH, _FIND_COUNTING)
# The likeliest, and of those that are not far behind the first submitted: decoys that look more like a copy
# than its original does come after the original.
_LIST_SHARING = Prepared(f"""
    SELECT {_COLUMNS}
    FROM (
        SELECT submission_id,
               row_number() OVER (ORDER BY likelihood DESC, submission_id) AS by_likelihood,
               row_number() OVER (ORDER BY likelihood < most / 20, submission_id) AS by_time
        FROM (
            SELECT submission_id, likelihood, max(likelihood) OVER () AS most
            FROM fingerprints_sharing(CAST(:keys AS integer[]), :at_most, :demoted, :id, :prompt_id, false)
        ) sharing
    ) k
    JOIN fingerprints f ON f.submission_id = k.submission_id
    JOIN submissions s ON s.id = f.submission_id
    WHERE k.by_likelihood <= :limit OR k.by_time <= :limit
    ORDER BY k.by_likelihood
""")
_LIST_SHARING_FEATURES = Prepared("""
    SELECT submission_id
    FROM (
        SELECT submission_id,
               row_number() OVER (ORDER BY likelihood DESC, submission_id) AS by_likelihood,
               row_number() OVER (ORDER BY likelihood < most / 4, submission_id) AS by_time
        FROM (
            SELECT submission_id, likelihood, max(likelihood) OVER () AS most
            FROM features_sharing(CAST(:keys AS integer[]), :at_most, :demoted, :id, :prompt_id, false)
        ) sharing
    ) k
    WHERE by_likelihood <= :limit OR by_time <= :limit / 4
    ORDER BY by_likelihood
""")
# Planned each time: a plan for any number would read far too much. The second statement has a snapshot of its
# own, taken when the lock is held.
_LOCK_MEMORY_AND_LIST_SINCE = text(f"""
    SELECT pg_advisory_xact_lock({FINGERPRINTS});
    SELECT {_COLUMNS}, f.demoted, f.only_prompt, f.content_hash IS NOT NULL AS is_scored,
           f.keys, f.feature_keys
    FROM fingerprints f JOIN submissions s ON s.id = f.submission_id
    WHERE f.remembered > :since ORDER BY f.remembered
""")
_LIST_LATER_SHARING_FEATURES = Prepared("""
    SELECT submission_id
    FROM features_sharing(CAST(:keys AS integer[]), :at_most, :demoted, :id, :prompt_id, true)
    ORDER BY likelihood DESC, submission_id LIMIT :limit
""")
_LIST_LATER = Prepared("""
    SELECT submission_id
    FROM fingerprints_sharing(CAST(:keys AS integer[]), :at_most, :demoted, :id, :prompt_id, true)
    ORDER BY likelihood DESC, submission_id LIMIT :limit
""")
# A row comparison bounds no index, and neither does a time in another table. So the numbers between which
# the window lies are found by the miner's own times. Submissions have ascending numbers and times, but for
# the moments in which several are accepted at once.
_LIST_OWN = Prepared(f"""
    SELECT {_COLUMNS} FROM fingerprints f JOIN submissions s ON s.id = f.submission_id
    WHERE f.miner_hotkey = :miner_hotkey AND {_COUNTS}
      AND f.submission_id <= CASE WHEN :demoted THEN {_LAST_ID} ELSE CAST(:id AS bigint) END
      AND f.submission_id >= (
        SELECT id FROM submissions
        WHERE miner_hotkey = :miner_hotkey
          AND submitted_at > CAST(:submitted_at AS timestamptz) - make_interval(hours => :hours + 1)
        ORDER BY submitted_at LIMIT 1)
      AND s.submitted_at > CAST(:submitted_at AS timestamptz) - make_interval(hours => :hours)
    ORDER BY f.submission_id DESC LIMIT :limit
""")
_OWN_LATER = f"""
    SELECT f.submission_id FROM fingerprints f JOIN submissions s ON s.id = f.submission_id
    WHERE f.miner_hotkey = :miner_hotkey AND {_COMES_LATER}
      AND f.submission_id <= coalesce((
        SELECT id FROM submissions
        WHERE miner_hotkey = :miner_hotkey
          AND submitted_at > CAST(:submitted_at AS timestamptz) + make_interval(hours => :hours + 1)
        ORDER BY submitted_at LIMIT 1), {_LAST_ID})
      AND s.submitted_at < CAST(:submitted_at AS timestamptz) + make_interval(hours => :hours)
"""
# what is demoted comes after all others, whatever its number
_LIST_OWN_LATER = Prepared(f"""
    SELECT submission_id FROM (
        ({_OWN_LATER} AND f.submission_id > :id ORDER BY f.submission_id LIMIT :limit)
        UNION
        ({_OWN_LATER} AND f.demoted ORDER BY f.submission_id LIMIT :limit)
    ) later
    ORDER BY submission_id LIMIT :limit
""")
_LIST_KNOWN = Prepared(f"""
    SELECT {_WITH_FEATURES} FROM fingerprints f JOIN submissions s ON s.id = f.submission_id
    WHERE f.submission_id = ANY (CAST(:ids AS bigint[]))
""")
_FIND_COMPARED = Prepared("""
    SELECT u.seconds, u.hashes, u.mirrored, u.features, u.quality_score, e.technical_score, e.relevance_score
    FROM full_fingerprints u JOIN evaluations e ON e.submission_id = u.submission_id
    WHERE u.submission_id = :id
""")
_INSERT = Prepared("""
    INSERT INTO fingerprints (submission_id, miner_hotkey, content_hash, seconds, hashes, keys, demoted,
                              only_prompt, features, feature_keys)
    VALUES (:submission_id, :miner_hotkey, :content_hash, CAST(:seconds AS real[]), :hashes,
            CAST(:keys AS integer[]), :demoted, :only_prompt, :features, CAST(:feature_keys AS integer[]))
""")
_INSERT_FULL = Prepared("""
    INSERT INTO full_fingerprints (submission_id, seconds, hashes, mirrored, quality_score, features)
    VALUES (:submission_id, CAST(:seconds AS real[]), :hashes, :mirrored, :quality_score, :features)
""")
_FORGET_CONTENT = Prepared("""
    UPDATE fingerprints SET content_hash = NULL WHERE content_hash = :content_hash RETURNING submission_id
""")
# A new number, so that who is just comparing looks at it again.
_SET_CONTENT = text("""
    UPDATE fingerprints SET content_hash = :content_hash, remembered = DEFAULT,
                            only_prompt = CASE WHEN CAST(:content_hash AS text) IS NULL THEN only_prompt END
    WHERE submission_id = :submission_id
""")
_COUNT_EVERYWHERE = text("""
    UPDATE fingerprints SET remembered = DEFAULT, only_prompt = NULL WHERE submission_id = :submission_id
""")
_DELETE_FULL = text("DELETE FROM full_fingerprints WHERE submission_id < :id")


@dataclass(frozen=True)
class Subject:
    """A video that is compared with others, and its place among them.

    What came before it counts against it. One that is `demoted` came after all others.
    """

    id: int
    submission_uuid: UUID
    miner_hotkey: str
    prompt_id: str
    video_hash: str
    submitted_at: datetime
    demoted: bool

    @property
    def place(self) -> tuple[bool, int]:
        return self.demoted, self.id

    @property
    def binds(self) -> dict[str, object]:
        return {"id": self.id, "demoted": self.demoted, "prompt_id": self.prompt_id}


@dataclass(frozen=True)
class HashAssertion:
    """A scored submission with a hash assertion. `verified`: its bytes have this hash.

    One that `is_taken_down` counts also if it is not scored. If an operator took it down, it `is_banned`: it
    counts against all that is not evaluated yet, whoever asserted the hash and came first.
    """

    submission_id: int
    submission_uuid: UUID
    miner_hotkey: str
    verified: bool
    demoted: bool
    is_taken_down: bool
    is_banned: bool

    @property
    def place(self) -> tuple[bool, int]:
        return self.demoted, self.submission_id


@dataclass(frozen=True)
class Known:
    """A video as it is stored. `is_take`: it may count among the takes of a scene."""

    submission_id: int
    submission_uuid: UUID
    miner_hotkey: str
    is_take: bool
    seconds: list[float]
    hashes: memoryview
    # None if it has none, or if they were not asked for
    features: memoryview | None = None
    is_taken_down: bool = False

    @property
    def fingerprint(self) -> Fingerprint:
        return _fingerprint(self.seconds, self.hashes)


@dataclass(frozen=True, kw_only=True)
class Recent(Known):
    """One that was remembered after a search began, with all by which the search would have found it."""

    demoted: bool
    only_prompt: str | None
    is_scored: bool
    keys: list[int]
    feature_keys: list[int]

    def counts_against(self, subject: Subject) -> bool:
        return (self.demoted, self.submission_id) < subject.place and self.only_prompt in (
            None,
            subject.prompt_id,
        )

    def is_later(self, subject: Subject) -> bool:
        """Whether it was submitted after the subject, and is scored."""
        return (self.demoted, self.submission_id) > subject.place and self.is_scored


@dataclass(frozen=True)
class Stored:
    """What is kept of a video, as it is sent to the database."""

    seconds: str
    hashes: bytes
    keys: str
    features: bytes | None
    feature_keys: str


@dataclass(frozen=True)
class Compared:
    """All that a scored video was compared by, and its scores before duplicates."""

    seconds: list[float]
    hashes: memoryview
    mirrored: memoryview
    features: memoryview | None
    quality_score: float
    technical_score: float
    relevance_score: float

    @property
    def fingerprints(self) -> tuple[Fingerprint, Fingerprint]:
        return _fingerprint(self.seconds, self.hashes), _fingerprint(self.seconds, self.mirrored)


def _fingerprint(seconds: list[float], hashes: memoryview) -> Fingerprint:
    # numpy takes 11 MB: a web process that compares no videos does not need it
    import numpy as np

    from app.duplicates.matching import Fingerprint

    return Fingerprint(np.array(seconds, np.float32), np.frombuffer(hashes, np.uint8).reshape(-1, 32))


def _array(numbers: Sequence[float]) -> str:
    """An array as text, as PostgreSQL reads it. A list is sent as ARRAY[…], which takes ten times as long."""
    return f"{{{','.join(map(str, numbers))}}}"


def lock_miner(miner_hotkey: str) -> None:
    """Wait for other results of this miner to be committed."""
    execute(_LOCK_MINER, miner_hotkey=miner_hotkey)


def lock_memory() -> None:
    """Wait until what others remember is committed; until this transaction ends nobody else remembers.

    To be taken after a miner's lock, never before.
    """
    execute(_LOCK_MEMORY, key=FINGERPRINTS)


def lock_memory_and_list_since(since: int) -> list[Recent]:
    """Do what lock_memory() does, then list what was remembered after number `since`, the first first."""
    return fetch_all(Recent, _LOCK_MEMORY_AND_LIST_SINCE, since=since)


def lock_hash(video_hash: str, submission_id: int) -> HashAssertion | None:
    """Wait for other results with this hash, and for what others remember, to be committed.

    Until this transaction ends nobody remembers. Results with other hashes go on. Returns what
    find_counting_assertion() does, with one question less to the server.
    """
    return fetch_one(HashAssertion, _LOCK_HASH_AND_FIND_COUNTING, video_hash=video_hash, id=submission_id)


def find_counting_assertion(video_hash: str, submission_id: int) -> HashAssertion | None:
    """The first with this hash assertion that counts against a submission whose bytes nobody verified.

    It is scored, or was taken down, and came before it; or it is banned.
    """
    return fetch_one(HashAssertion, _FIND_COUNTING_ASSERTION, video_hash=video_hash, id=submission_id)


def get_subject(submission_id: int) -> Subject:
    subject = fetch_one(Subject, _GET_SUBJECT, id=submission_id)
    assert subject is not None
    return subject


def find_latest() -> int:
    """The number of the fingerprint that was remembered last, 0 without any."""
    return fetch_value(_FIND_LATEST)


def list_hash_assertions(video_hash: str) -> list[HashAssertion]:
    """The submissions with this hash assertion that are scored or taken down, the first submitted first."""
    return fetch_all(HashAssertion, _LIST_HASH_ASSERTIONS, video_hash=video_hash)


def list_sharing(keys: list[int], subject: Subject, limit: int) -> list[Known]:
    """Of the videos that count against `subject`, the likeliest first: those with the rarest of `keys`.

    The `limit` likeliest, and the `limit` that were submitted first of those that are not far behind.
    """
    binds = {"keys": _array(keys), "at_most": MAX_SHARING, "limit": limit, **subject.binds}
    return fetch_all(Known, _LIST_SHARING, **binds)


def list_sharing_features(keys: list[int], subject: Subject, limit: int) -> list[int]:
    """Of the videos that count against `subject`, the ids of those that share most features.

    A quarter as many more are those submitted first of those that are not far behind.
    """
    binds = {"keys": _array(keys), "at_most": MAX_SHARING_FEATURES, "limit": limit, **subject.binds}
    return fetch_values(_LIST_SHARING_FEATURES, **binds)


def list_later_sharing_features(keys: list[int], subject: Subject, limit: int) -> list[int]:
    """Of the scored videos that came after `subject`, the ids of those that share most features."""
    binds = {"keys": _array(keys), "at_most": MAX_SHARING_FEATURES, "limit": limit, **subject.binds}
    return fetch_values(_LIST_LATER_SHARING_FEATURES, **binds)


def list_later(keys: list[int], subject: Subject, limit: int) -> list[int]:
    """Of the scored videos that came after `subject`, the ids of those that share the rarest of `keys`."""
    binds = {"keys": _array(keys), "at_most": MAX_SHARING, "limit": limit, **subject.binds}
    return fetch_values(_LIST_LATER, **binds)


def list_own(subject: Subject, hours: int, limit: int) -> list[Known]:
    """The videos of the same miner in the hours before that count against `subject`, the latest first."""
    return fetch_all(Known, _LIST_OWN, **_window(subject, hours, limit))


def list_own_later(subject: Subject, hours: int, limit: int) -> list[int]:
    """The scored videos of the same miner in the hours after `subject`, the first first."""
    return fetch_values(_LIST_OWN_LATER, **_window(subject, hours, limit))


def _window(subject: Subject, hours: int, limit: int) -> dict[str, object]:
    return {
        "miner_hotkey": subject.miner_hotkey,
        "submitted_at": subject.submitted_at,
        "hours": hours,
        "limit": limit,
        **subject.binds,
    }


def find_known(submission_id: int) -> Known | None:
    return next(iter(list_known([submission_id])), None)


def list_known(ids: Sequence[int]) -> list[Known]:
    """These videos with their features, in any order."""
    return fetch_all(Known, _LIST_KNOWN, ids=_array(ids))


def find_compared(submission_id: int) -> Compared | None:
    """What a scored video was compared by, if it is still kept."""
    return fetch_one(Compared, _FIND_COMPARED, id=submission_id)


def stored(thinned: Fingerprint, features: bytes | None, feature_keys: list[int]) -> Stored:
    return Stored(
        _array(thinned.seconds.tolist()),
        thinned.hashes.tobytes(),
        _array(thinned.keys() if len(thinned) else []),
        features,
        _array(feature_keys),
    )


def insert(subject: Subject, content_hash: str | None, kept: Stored, only_prompt: str | None) -> None:
    execute(
        _INSERT,
        submission_id=subject.id,
        miner_hotkey=subject.miner_hotkey,
        content_hash=content_hash,
        demoted=subject.demoted,
        only_prompt=only_prompt,
        **vars(kept),
    )


def insert_full(
    subject: Subject, plain: Fingerprint, mirrored: Fingerprint, features: bytes, quality_score: float
) -> None:
    """Keep all that a scored video was compared by, and its quality before duplicates."""
    execute(
        _INSERT_FULL,
        submission_id=subject.id,
        seconds=_array(plain.seconds.tolist()),
        hashes=plain.hashes.tobytes(),
        mirrored=mirrored.hashes.tobytes(),
        features=features or None,
        quality_score=quality_score,
    )


def forget_content(content_hash: str) -> int | None:
    """Let a file be scored again; return the submission that it was scored as, if it was."""
    return fetch_value(_FORGET_CONTENT, content_hash=content_hash)


def set_content(submission_id: int, content_hash: str | None) -> None:
    """Remember a video as a scored one with this hash, or as one that is scored no longer."""
    execute(_SET_CONTENT, submission_id=submission_id, content_hash=content_hash)


def count_everywhere(submission_id: int) -> None:
    """Let the footage of a video count against videos for every prompt."""
    execute(_COUNT_EVERYWHERE, submission_id=submission_id)


def delete_full(before: int) -> None:
    """Forget what videos submitted before this id were compared by: nothing earlier is waited for."""
    execute(_DELETE_FULL, id=before)
