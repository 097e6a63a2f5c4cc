#!/usr/bin/env python3
"""Measure what it costs to compare a video with all that it may be compared with, in the worst cases.

Each video has 600 hashes, as one of five minutes has; compared are ten of other miners and twenty of its
own. Times are processor time.
"""

import argparse
import sys
import time
from collections.abc import Callable
from pathlib import Path
from uuid import UUID

ROOT = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(ROOT))

import numpy as np
from numpy.typing import NDArray

from app.duplicates import service as duplicates
from app.duplicates.matching import Fingerprint
from app.duplicates.queries import Known

Bits = NDArray[np.uint8]

FRAMES = 600
SECONDS = np.arange(FRAMES, dtype=np.float32) / 2
TRIES = 5


def main() -> None:
    argparse.ArgumentParser(description=__doc__).parse_args()
    print("| videos | known share | lines tried | median | most |\n|---|---|---|---|---|")
    for name, make in CASES.items():
        measure(name, make)


def fixed_camera(seed: int, noise: int = 8) -> Bits:
    """Takes in front of one camera: all pairs of frames are alike, and none is the same."""
    return noisy(np.tile(views(1)[0], (FRAMES, 1)), noise, seed)


def still(seed: int) -> Bits:
    return fixed_camera(seed, 0)


def copy_of_fixed_camera(seed: int) -> Bits:
    return noisy(fixed_camera(1), 2, seed)


def moving(seed: int) -> Bits:
    return np.random.default_rng(seed).integers(0, 2, (FRAMES, 256), np.uint8)


def cut(seed: int, kept: float = 1.0) -> Bits:
    """Twenty views, each its own mirror image, cut to and fro: lines wherever one looks."""
    random = np.random.default_rng(seed)
    shots = [np.tile(views(20)[random.integers(20)], (random.integers(1, 5), 1)) for _ in range(FRAMES)]
    bits = noisy(np.concatenate(shots)[:FRAMES], 6, seed)
    bits[int(FRAMES * kept) :] = moving(seed)[int(FRAMES * kept) :]
    return bits


CASES: dict[str, Callable[[int], Bits]] = {
    "moving, all different": moving,
    "takes before a fixed camera": fixed_camera,
    "copies of one such take": copy_of_fixed_camera,
    "a picture that stands still": still,
    "cut to and fro between twenty views": cut,
    "the same, half of each video": lambda seed: cut(seed, 0.5),
}


def views(count: int) -> Bits:
    half = np.random.default_rng(0).integers(0, 2, (count, 128), np.uint8)
    return np.concatenate([half, half[:, ::-1]], axis=1)


def noisy(bits: Bits, noise: int, seed: int) -> Bits:
    """Change up to `noise` bits of each frame."""
    random = np.random.default_rng(seed)
    changed = bits.copy()
    for frame in changed:
        frame[random.integers(0, 256, noise)] ^= 1
    return changed


def measure(name: str, make: Callable[[int], Bits]) -> None:
    known = [
        Known(number, UUID(int=number), "own" if number > 10 else "other", True, SECONDS.tolist(), stored)
        for number in range(1, 31)
        for stored in [memoryview(np.packbits(make(number), axis=1).tobytes())]
    ]
    bits = make(0)
    took = []
    for _ in range(TRIES):
        plain, mirrored = (Fingerprint(SECONDS, np.packbits(b, axis=1)) for b in (bits, bits[:, ::-1]))
        began = time.process_time()
        found = duplicates.match_all("own", plain, mirrored, known)
        result = duplicates.conclude("own", plain, found, known[10:])
        took.append(time.process_time() - began)
    lines = sum(each.match.lines for each in found)
    print(
        f"| {name} | {result.report.matched_share:.0%} | {lines} "
        f"| {np.median(took) * 1000:.0f} ms | {max(took) * 1000:.0f} ms |",
        flush=True,
    )


if __name__ == "__main__":
    main()
