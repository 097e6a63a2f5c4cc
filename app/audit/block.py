"""The check of the lines by themselves: form, signature, formula. Blocks of lines are checked in parallel."""

import re
from collections import defaultdict
from dataclasses import dataclass, field
from decimal import MAX_EMAX, MIN_EMIN, Context, Decimal
from functools import lru_cache
from hashlib import blake2b
from typing import NamedTuple

from bittensor_core import Keypair

from app.assessment.formula import final_score
from app.audit.difference import Difference
from app.enums import SubmissionStatus
from app.hotkeys import STATEMENT_HEAD, is_canonical, submission_statement
from app.proofs.lines import (
    Correction,
    Line,
    SubmissionLine,
    decode,
    read_amount,
    read_score,
    write_score,
)
from app.proofs.merkle import leaf_hash, subtrees_of

# A submission takes some 900 bytes. Each correction adds at most 9 KiB.
MAX_LINE_BYTES = 256 * 1024
MAX_UID = 65535
# 18 digits: fewer than the database can count
MAX_WHOLE = 10**18 - 1
MAX_PROMPT_WEIGHT = 1000
# Amounts have at most 100 digits before the point and 1,000 after it: sums of as many as there are are exact.
EXACT = Context(prec=1500, Emin=MIN_EMIN, Emax=MAX_EMAX)

_UUID = re.compile(r"[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}")
_HASH = re.compile(r"[0-9a-f]{64}")
_SIGNATURE = re.compile(r"[0-9a-f]{128}")
_PROMPT_ID = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,63}")
_VIDEO_KEY = re.compile(r"[^\x00-\x1f]{1,200}")
_TIME = re.compile(r"\d{4}-[01]\d-[0-3]\dT[0-2]\d:[0-5]\d:[0-6]\d\.\d{6}Z", re.ASCII)


@dataclass
class Earned:
    """What a miner's submissions come to: how many, how many accepted, and points times prompt weights."""

    submissions: int = 0
    accepted: int = 0
    weighted_points: Decimal = Decimal(0)

    def add(self, other: "Earned") -> None:
        self.submissions += other.submissions
        self.accepted += other.accepted
        self.weighted_points = EXACT.add(self.weighted_points, other.weighted_points)


class Seen(NamedTuple):
    """What is remembered of a submission: hashes of its uuid, its video and its miner, and its result."""

    uuid: int
    video: int
    miner: int
    points: int
    accepted: int
    line: int


# by uid, hotkey and prompt weight: how many submissions, how many of them accepted, and their points
_Sums = defaultdict[tuple[int, str, str], list[int]]


@dataclass(frozen=True)
class Sample:
    """A submission in a ledger: the number of its line, the line, and what it says."""

    number: int
    text: bytes
    line: SubmissionLine


@dataclass
class Block:
    """What a block of lines comes to, up to its first fault.

    `others` are the lines that are no submissions, each with its number. `last_correction` is the highest id
    of a correction in a submission, with the number of the line. `samples` are the submissions that
    were wanted.
    """

    lines: int = 0
    subtrees: list[tuple[bytes, int]] = field(default_factory=list)
    earned: dict[tuple[int, str], Earned] = field(default_factory=dict)
    seen: list[Seen] = field(default_factory=list)
    others: list[tuple[int, Line]] = field(default_factory=list)
    last_correction: tuple[int, int] = (0, 0)
    samples: list[Sample] = field(default_factory=list)
    fault: Difference | None = None


def check_block(text: bytes, first: int, salt: bytes, wanted: frozenset[int] = frozenset()) -> Block:
    """Check whole lines, the first of which has the number `first`. `salt` is of the hashes in `seen`.

    `wanted` are numbers of lines that become samples, if they are submissions.
    """
    block, leaves = Block(), []
    sums: _Sums = defaultdict(lambda: [0, 0, 0])
    try:
        for number, line in enumerate(text[:-1].split(b"\n"), first):
            if len(line) > MAX_LINE_BYTES:
                raise Difference(number, "length", f"at most {MAX_LINE_BYTES} bytes", len(line))
            leaves.append(leaf_hash(line))
            read = _read(number, line)
            if isinstance(read, SubmissionLine):
                _check_submission(block, sums, number, read, salt)
                if number in wanted:
                    block.samples.append(Sample(number, line, read))
            else:
                block.others.append((number, read))
    except Difference as difference:
        block.fault = difference
    block.lines = len(leaves)
    block.subtrees = subtrees_of(leaves, first - 1)
    for (uid, hotkey, weight), (submissions, accepted, points) in sums.items():
        earned = Earned(submissions, accepted, EXACT.multiply(_amount(weight), points))
        block.earned.setdefault((uid, hotkey), Earned()).add(earned)
    return block


def _read(number: int, line: bytes) -> Line:
    try:
        return decode(line)
    except ValueError as error:
        raise Difference(
            number, "form", f"a line of a ledger ({error})", line.decode(errors="replace")
        ) from None


def _check_submission(block: Block, sums: _Sums, number: int, line: SubmissionLine, salt: bytes) -> None:
    check_uuid(number, line.uuid)
    check_miner(number, line.uid, line.hotkey)
    check_form(number, "prompt_id", _PROMPT_ID, line.prompt_id)
    read_prompt_weight(number, line.prompt_weight)
    check_form(number, "video_key", _VIDEO_KEY, line.video_key)
    check_hash(number, "video_hash", line.video_hash)
    check_time(number, "submitted_at", line.submitted_at)
    check_form(number, "statement", STATEMENT_HEAD, line.statement)
    check_form(number, "signature", _SIGNATURE, line.signature or "none")
    if line.report_hash is not None:
        check_hash(number, "report_hash", line.report_hash)

    technical = read_part(number, "technical_score", line.technical_score)
    relevance = read_part(number, "relevance_score", line.relevance_score)
    quality = read_part(number, "quality_score", line.quality_score)
    check_status(number, "status", line.status)
    due = final_score(technical, relevance, quality) if line.status == SubmissionStatus.SCORED else 0.0
    check(number, "final_score", write_score(due), line.final_score)
    status, score = line.status, line.final_score
    points = points_of(number, "final_score", score)
    id = 0
    for correction in line.corrections:
        if correction.id <= id:
            raise Difference(number, "corrections.id", f"more than {id}", correction.id)
        id = correction.id
        points = check_correction(number, "corrections", correction, status, points)
        status, score = correction.status, correction.final_score
    check(number, "effective_status", status, line.effective_status)
    check(number, "effective_score", score, line.effective_score)

    statement = submission_statement(
        line.hotkey, line.uid, line.prompt_id, line.video_key, line.video_hash, line.statement
    )
    if not _key(line.hotkey).verify(statement, bytes.fromhex(line.signature or "")):
        raise Difference(number, "signature", f"one by {line.hotkey} over the statement", line.signature)

    accepted = int(status == SubmissionStatus.SCORED)
    sum = sums[line.uid, line.hotkey, line.prompt_weight]
    sum[0] += 1
    sum[1] += accepted
    sum[2] += points
    block.last_correction = max(block.last_correction, (id, number))
    block.seen.append(
        Seen(
            short_hash(line.uuid, salt),
            short_hash(line.video_key, salt),
            miner_hash(line.hotkey, line.uid, line.prompt_weight, salt),
            points,
            accepted,
            number,
        )
    )


def check(number: int | None, name: str, expected: object, found: object) -> None:
    # True is no 1
    if expected != found or type(expected) is not type(found):
        raise Difference(number, name, expected, found)


def check_form(number: int, name: str, form: re.Pattern[str], found: str) -> None:
    if not form.fullmatch(found):
        raise Difference(number, name, f"a text of the form {form.pattern}", found)


def check_uuid(number: int, found: str) -> None:
    check_form(number, "uuid", _UUID, found)


def check_hash(number: int, name: str, found: str) -> None:
    check_form(number, name, _HASH, found)


def check_time(number: int, name: str, found: str) -> None:
    check_form(number, name, _TIME, found)


def check_whole(number: int, name: str, found: int, most: int = MAX_WHOLE, least: int = 0) -> None:
    if not least <= found <= most:
        raise Difference(number, name, f"a number from {least} to {most}", found)


def check_miner(number: int, uid: int, hotkey: str) -> None:
    check_whole(number, "uid", uid, MAX_UID)
    check_hotkey(number, hotkey)


def check_hotkey(number: int, hotkey: str) -> None:
    if not _is_hotkey(hotkey):
        raise Difference(number, "hotkey", "an SS58 address of prefix 42", hotkey)


def check_status(number: int, name: str, found: str) -> None:
    if found not in {SubmissionStatus.SCORED, SubmissionStatus.REJECTED}:
        raise Difference(number, name, "SCORED or REJECTED", found)


def check_correction(number: int, name: str, found: Correction, status: str, points: int) -> int:
    """Check a correction of a result of `status` and `points`; return its own points."""
    check_whole(number, f"{name}.id", found.id)
    check_time(number, f"{name}.decided_at", found.decided_at)
    check_status(number, f"{name}.status", found.status)
    new = points_of(number, f"{name}.final_score", found.final_score)
    if found.status == SubmissionStatus.REJECTED:
        check(number, f"{name}.final_score", "0.0", found.final_score)
    check(number, f"{name}.points_change", new - points, found.points_change)
    change = (found.status == SubmissionStatus.SCORED) - (status == SubmissionStatus.SCORED)
    check(number, f"{name}.accepted_change", change, found.accepted_change)
    return new


def read_part(number: int, name: str, found: str) -> float:
    """The score in [0, 1] that `found` is."""
    try:
        return _score(found)
    except ValueError:
        expected = "a score from 0.0 to 1.0, written as its shortest decimal"
        raise Difference(number, name, expected, found) from None


def points_of(number: int, name: str, found: str) -> int:
    return round(read_part(number, name, found) * 10000)


def read_any_amount(number: int, name: str, found: str) -> Decimal:
    try:
        return _amount(found)
    except ValueError:
        raise Difference(number, name, "an exact decimal without needless digits", found) from None


def read_prompt_weight(number: int, found: str) -> Decimal:
    weight = read_any_amount(number, "prompt_weight", found)
    if not 0 <= weight <= MAX_PROMPT_WEIGHT:
        raise Difference(number, "prompt_weight", f"a number from 0 to {MAX_PROMPT_WEIGHT}", found)
    return weight


def short_hash(text: str, salt: bytes) -> int:
    """A hash that fits into SQLite's integers. `salt` is secret, so nobody can search for a collision."""
    return int.from_bytes(blake2b(text.encode(), digest_size=8, key=salt).digest(), "big", signed=True)


@lru_cache(10_000)
def miner_hash(hotkey: str, uid: int, prompt_weight: str, salt: bytes) -> int:
    return short_hash(f"{hotkey}\n{uid}\n{prompt_weight}", salt)


@lru_cache(10_000)
def _is_hotkey(text: str) -> bool:
    return is_canonical(text)


@lru_cache(10_000)
def _key(hotkey: str) -> Keypair:
    return Keypair(ss58_address=hotkey)


@lru_cache(10_000)
def _score(text: str) -> float:
    score = read_score(text)
    if not 0 <= score <= 1 or text == "-0.0":
        raise ValueError
    return score


@lru_cache(10_000)
def _amount(text: str) -> Decimal:
    return read_amount(text)
