"""What a verifier remembers between cycles: roots, and each submission that was paid. A file of SQLite.

It is what makes two ledgers of one cycle, a broken chain and a submission that is paid twice show. Nothing of
a ledger is remembered before all of it was found right.
"""

import secrets
import sqlite3
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from app.audit.block import Seen
from app.audit.difference import Difference

_FORMAT = 1
_SCHEMA = f"""
    CREATE TABLE facts (salt BLOB NOT NULL, run_start INTEGER);
    CREATE TABLE keys (key TEXT PRIMARY KEY) WITHOUT ROWID;
    CREATE TABLE ledgers (
        cycle INTEGER PRIMARY KEY, root TEXT NOT NULL, previous_cycle INTEGER, previous_root TEXT,
        is_verified INTEGER NOT NULL, head TEXT);
    CREATE TABLE submissions (
        uuid INTEGER PRIMARY KEY, cycle INTEGER NOT NULL, miner INTEGER NOT NULL, points INTEGER NOT NULL,
        accepted INTEGER NOT NULL);
    CREATE TABLE videos (video INTEGER PRIMARY KEY, cycle INTEGER NOT NULL);
    CREATE TABLE miners (
        cycle INTEGER, uid INTEGER, hotkey TEXT, holds_uid INTEGER NOT NULL, PRIMARY KEY (cycle, uid, hotkey)
    ) WITHOUT ROWID;
    CREATE TABLE balances (hotkey TEXT PRIMARY KEY, left TEXT NOT NULL) WITHOUT ROWID;
    PRAGMA user_version = {_FORMAT};
"""
# keeps a million submissions in memory while they are added
_CACHE_KIB = 96 * 1024


class UnusableMemory(Exception):
    """The file cannot serve as a verifier's memory; the message is a sentence about what to do."""


class MemoryInUse(UnusableMemory):
    """Another verifier uses the memory at the moment."""


@dataclass(frozen=True)
class Kept:
    """A root that is remembered, and the one that its ledger names. Not verified: only a link of the chain.

    `head` is the receipt that the backend gave of it, which shows others what it had said.
    """

    cycle: int
    root: str
    previous_cycle: int | None
    previous_root: str | None
    is_verified: bool
    head: str | None


@dataclass(frozen=True)
class Paid:
    """A submission that was in a verified ledger, as late corrections have left it."""

    cycle: int
    miner: int
    points: int
    accepted: int


class Memory:
    """The memory in `file`. With `read_only` what is learned is forgotten again.

    Every method may raise UnusableMemory, if the file is something else, or MemoryInUse.
    """

    def __init__(self, file: Path, read_only: bool = False):
        self._file = file
        self._read_only = read_only
        with self._explained():
            file.parent.mkdir(parents=True, exist_ok=True)
            self._db = sqlite3.connect(file, timeout=0, isolation_level=None)
            self._db.execute(f"PRAGMA cache_size = -{_CACHE_KIB}")
            self._db.execute("BEGIN EXCLUSIVE")
            if self._one("SELECT count(*) FROM sqlite_master") == 0:
                # executescript would commit first
                for statement in _SCHEMA.split(";")[:-1]:
                    self._db.execute(statement)
                self._db.execute("INSERT INTO facts VALUES (?, NULL)", (secrets.token_bytes(16),))
            self._db.execute("COMMIT")
            if self._one("PRAGMA user_version") != _FORMAT:
                raise UnusableMemory(f"{file} is of another version; move it away, or name another file.")
            self.salt: bytes = self._one("SELECT salt FROM facts")

    @contextmanager
    def _explained(self) -> Iterator[None]:
        try:
            yield
        except sqlite3.OperationalError as error:
            if "locked" in str(error):
                raise MemoryInUse(f"Another verifier uses {self._file}; wait until it is done.") from error
            raise UnusableMemory(f"{self._file} cannot be used: {error}.") from error
        except sqlite3.DatabaseError as error:
            raise UnusableMemory(
                f"{self._file} is not a verifier's memory; move it away, or name another file."
            ) from error
        except OSError as error:
            raise UnusableMemory(f"{self._file} cannot be used: {error.strerror}.") from error

    def _one(self, statement: str, *values: object) -> Any:
        row = self._db.execute(statement, values).fetchone()
        return row and row[0]

    @contextmanager
    def transaction(self) -> Iterator[None]:
        """Remember all of what the block does, or nothing if it raises. No other verifier is let in."""
        with self._explained():
            self._db.execute("BEGIN EXCLUSIVE")
            try:
                yield
            except BaseException:
                self._db.execute("ROLLBACK")
                raise
            self._db.execute("ROLLBACK" if self._read_only else "COMMIT")

    def forget_changes(self) -> None:
        """Undo what the running transaction has done so far."""
        self._db.execute("ROLLBACK")
        self._db.execute("BEGIN EXCLUSIVE")

    def list_keys(self) -> tuple[str, ...]:
        """The backend's keys, as it named them itself."""
        return tuple(key for (key,) in self._db.execute("SELECT key FROM keys"))

    def add_keys(self, keys: Iterable[str]) -> None:
        with self.transaction():
            self._db.executemany("INSERT OR IGNORE INTO keys VALUES (?)", [(key,) for key in keys])

    # the chain

    def find_ledger(self, cycle: int) -> Kept | None:
        return self._kept("WHERE cycle = ?", cycle)

    def find_ledger_before(self, cycle: int) -> Kept | None:
        return self._kept("WHERE cycle < ? ORDER BY cycle DESC", cycle)

    def find_ledger_after(self, cycle: int) -> Kept | None:
        return self._kept("WHERE cycle > ? ORDER BY cycle", cycle)

    def find_last_verified(self) -> Kept | None:
        return self._kept("WHERE is_verified ORDER BY cycle DESC")

    def _kept(self, where: str, *values: object) -> Kept | None:
        columns = "cycle, root, previous_cycle, previous_root, is_verified, head"
        row = self._db.execute(f"SELECT {columns} FROM ledgers {where} LIMIT 1", values).fetchone()
        return row and Kept(row[0], row[1], row[2], row[3], bool(row[4]), row[5])

    def keep_ledger(self, kept: Kept) -> None:
        self._db.execute(
            """
            INSERT INTO ledgers VALUES (?, ?, ?, ?, ?, ?)
            ON CONFLICT (cycle) DO UPDATE SET is_verified = is_verified OR excluded.is_verified,
                                              head = coalesce(head, excluded.head)
            """,
            (kept.cycle, kept.root, kept.previous_cycle, kept.previous_root, kept.is_verified, kept.head),
        )

    # the cycles that were verified one after the other

    @property
    def run_start(self) -> int | None:
        """The first of the cycles that were verified without a gap; None if there is none yet."""
        return self._one("SELECT run_start FROM facts")

    def begin_run(self, cycle: int) -> None:
        self._db.execute("UPDATE facts SET run_start = ?", (cycle,))

    def list_balances(self) -> dict[str, str]:
        """What the last verified ledger left open, by hotkey."""
        return dict(self._db.execute("SELECT hotkey, left FROM balances"))

    def replace_balances(self, balances: Mapping[str, str]) -> None:
        self._db.execute("DELETE FROM balances")
        self._db.executemany("INSERT INTO balances VALUES (?, ?)", balances.items())

    # submissions

    def add_submissions(self, cycle: int, seen: Sequence[Seen]) -> None:
        """Remember submissions of a cycle. Raises Difference if one, or its video, was there before."""
        self._insert(
            "INSERT INTO submissions VALUES (?, ?, ?, ?, ?)",
            [(each.uuid, cycle, each.miner, each.points, each.accepted) for each in seen],
            seen,
            "uuid",
            "SELECT cycle FROM submissions WHERE uuid = ?",
        )
        self._insert(
            "INSERT INTO videos VALUES (?, ?)",
            [(each.video, cycle) for each in seen],
            seen,
            "video_key",
            "SELECT cycle FROM videos WHERE video = ?",
        )

    def _insert(
        self, statement: str, rows: Sequence[tuple[int, ...]], seen: Sequence[Seen], name: str, find: str
    ) -> None:
        self._db.execute("SAVEPOINT rows")
        try:
            self._db.executemany(statement, rows)
        except sqlite3.IntegrityError:
            self._db.execute("ROLLBACK TO rows")
            # one by one, to name the first
            for row, each in zip(rows, seen, strict=True):
                try:
                    self._db.execute(statement, row)
                except sqlite3.IntegrityError:
                    cycle = self._one(find, row[0])
                    found = f"one that the ledger of cycle {cycle} has paid already"
                    raise Difference(each.line, name, "one that was not paid before", found) from None
        self._db.execute("RELEASE rows")

    def find_paid(self, uuid: int) -> Paid | None:
        find = "SELECT cycle, miner, points, accepted FROM submissions WHERE uuid = ?"
        row = self._db.execute(find, (uuid,)).fetchone()
        return row and Paid(*row)

    def correct(self, uuid: int, points: int, accepted: int) -> None:
        self._db.execute(
            "UPDATE submissions SET points = ?, accepted = ? WHERE uuid = ?", (points, accepted, uuid)
        )

    def forget_submissions(self, cycle: int) -> None:
        for table in ("submissions", "videos", "miners"):
            self._db.execute(f"DELETE FROM {table} WHERE cycle = ?", (cycle,))

    def add_miners(self, cycle: int, miners: Iterable[tuple[int, str, bool]]) -> None:
        self._db.executemany("INSERT INTO miners VALUES (?, ?, ?, ?)", [(cycle, *miner) for miner in miners])

    def find_holding(self, cycle: int, uid: int, hotkey: str) -> bool | None:
        """Whether the hotkey held the uid in a verified cycle; None if this is not known."""
        find = "SELECT holds_uid FROM miners WHERE cycle = ? AND uid = ? AND hotkey = ?"
        holds = self._one(find, cycle, uid, hotkey)
        return None if holds is None else bool(holds)
