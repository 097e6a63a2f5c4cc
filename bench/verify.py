#!/usr/bin/env python3
"""Measure how long it takes to verify the ledger of a large cycle, and how much memory.

Writes a ledger of its own first, with truly signed submissions, which takes longer.
"""

import argparse
import os
import resource
import sys
import tempfile
import time
import uuid
from concurrent.futures import ProcessPoolExecutor
from decimal import Decimal
from fractions import Fraction
from multiprocessing import get_context
from pathlib import Path
from random import Random

ROOT = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(ROOT))

from bittensor_core import Keypair

from app.assessment.formula import final_score
from app.audit.memory import Memory
from app.audit.remote import read_chunks
from app.audit.service import verify_ledger
from app.hotkeys import STATEMENT_1, submission_statement
from app.proofs import lines as kinds
from app.proofs.normalise import normalise
from app.proofs.packing import pack

MINERS = 256
CHUNK = 10_000
TIME = "2026-11-26T17:00:00.000000Z"


def write_submissions(seed: int, number: int) -> tuple[bytes, dict[int, tuple[int, int]]]:
    """Return lines of submissions, and by uid how many there are and their points."""
    chance = Random(seed)
    pairs = [Keypair.create_from_uri(f"//{uid}") for uid in range(MINERS)]
    written, sums = [], {}
    for _ in range(number):
        uid = chance.randrange(MINERS)
        pair = pairs[uid]
        key = f"uploads/{uuid.UUID(bytes=chance.randbytes(16), version=4)}/video.mp4"
        hash, prompt = chance.randbytes(32).hex(), f"manipulation-{chance.randrange(100):02}"
        parts = [round(chance.uniform(0.3, 1), 4) for _ in range(3)]
        score = final_score(*parts)
        statement = submission_statement(pair.ss58_address, uid, prompt, key, hash)
        line = kinds.SubmissionLine(
            uuid=str(uuid.UUID(bytes=chance.randbytes(16), version=4)),
            hotkey=pair.ss58_address,
            uid=uid,
            prompt_id=prompt,
            prompt_weight="1.5",
            video_key=key,
            video_hash=hash,
            submitted_at=TIME,
            statement=STATEMENT_1,
            signature=bytes(pair.sign(statement)).hex(),
            technical_score=repr(parts[0]),
            relevance_score=repr(parts[1]),
            quality_score=repr(parts[2]),
            status="SCORED",
            final_score=repr(score),
            judge_model="Qwen/Qwen2.5-VL-72B-Instruct-TEE",
            prompt_version="5",
            report_hash=chance.randbytes(32).hex(),
            corrections=[],
            effective_status="SCORED",
            effective_score=repr(score),
        )
        written.append(kinds.encode(line) + b"\n")
        count, points = sums.get(uid, (0, 0))
        sums[uid] = count + 1, points + round(score * 10_000)
    return b"".join(written), sums


def write_ledger(path: Path, submissions: int) -> None:
    """Write the packed ledger of a cycle with so many submissions to `path`."""
    first = kinds.CycleLine(kinds.FORMAT, 1, TIME, TIME, TIME, 4_000_000, True, None, None, None, None, None)
    counts, points, lines = [0] * MINERS, [0] * MINERS, 2
    seeds = range(0, submissions, CHUNK)
    numbers = [min(CHUNK, submissions - seed) for seed in seeds]
    with (
        path.open("wb") as file,
        pack(file) as packed,
        ProcessPoolExecutor(os.cpu_count(), get_context("spawn")) as pool,
    ):
        packed.write(kinds.encode(first) + b"\n")
        for text, sums in pool.map(write_submissions, seeds, numbers):
            packed.write(text)
            lines += text.count(b"\n")
            for uid, (count, more) in sums.items():
                counts[uid] += count
                points[uid] += more
        totals = {uid: float(Fraction(points[uid]) * 3 / 20_000) for uid in range(MINERS) if counts[uid]}
        rest: list[kinds.Line] = []
        for uid, total in totals.items():
            address = Keypair.create_from_uri(f"//{uid}").ss58_address
            rest.append(kinds.MinerLine(uid, address, counts[uid], counts[uid], "0", repr(total), True))
        weights = normalise({uid: Fraction(Decimal(repr(total))) for uid, total in totals.items()})
        rest += [kinds.WeightLine(each.uid, repr(each.weight), each.weight_u16) for each in weights]
        for line in [*rest, kinds.EndLine(lines + len(rest))]:
            packed.write(kinds.encode(line) + b"\n")


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--submissions", type=int, default=1_000_000)
    parser.add_argument("--ledger", type=Path, help="keep the ledger in this file, and use it if it is there")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="kibotos-bench-") as directory:
        path = options.ledger or Path(directory) / "ledger.jsonl.zst"
        if not path.exists():
            began = time.monotonic()
            write_ledger(path, options.submissions)
            print(f"written in {time.monotonic() - began:.0f} s: {path.stat().st_size / 1e6:.0f} MB packed")
        before = resource.getrusage(resource.RUSAGE_CHILDREN)
        began, used = time.monotonic(), time.process_time()
        memory = Memory(Path(directory) / "memory")
        with path.open("rb") as file:
            verified = verify_ledger(read_chunks(file), memory, None)
        seconds, own = time.monotonic() - began, time.process_time() - used
        after = resource.getrusage(resource.RUSAGE_CHILDREN)
        workers = after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime
        print(
            f"{verified.ledger.lines} lines verified in {seconds:.1f} s; processor time {own:.1f} s, and "
            f"{workers:.1f} s of {os.cpu_count()} processes; load {os.getloadavg()[0]:.1f}"
        )
        peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
        print(f"memory at most {peak:.0f} MB, and {after.ru_maxrss / 1024:.0f} MB of each process")
        print(f"state {(Path(directory) / 'memory').stat().st_size / 1e6:.0f} MB")


if __name__ == "__main__":
    main()
