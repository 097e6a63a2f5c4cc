#!/usr/bin/env python3
"""Make the vocabulary of visual words that app/duplicates/words.npy holds.

Takes the corners of all pictures below the named directories, for example those of Debian's opencv-doc and
visp-images-data, and finds the centres of 1,024 groups of them.
"""

import argparse
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(ROOT))

import cv2
import numpy as np

from app.duplicates import geometry
from app.video.features import VIEW_SIDE, view_of

ROUNDS = 10
SUFFIXES = {".jpg", ".jpeg", ".png", ".ppm", ".pgm"}


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("directories", nargs="+", type=Path)
    parser.add_argument("--most", type=int, default=400, help="pictures at most")
    options = parser.parse_args()
    files = sorted(
        file
        for directory in options.directories
        for file in directory.rglob("*")
        if file.suffix.lower() in SUFFIXES and file.stat().st_size > 20_000
    )
    chosen = [
        files[index] for index in np.linspace(0, len(files) - 1, min(options.most, len(files))).astype(int)
    ]
    descriptors = np.concatenate(
        [view_of(0.0, grey).descriptors for grey in map(read, chosen) if grey is not None]
    )
    np.save(geometry.VOCABULARY, learn(descriptors))
    print(f"{len(descriptors):,} corners of {len(chosen)} pictures")


def read(file: Path) -> np.ndarray | None:
    grey = cv2.imread(str(file), cv2.IMREAD_GRAYSCALE)
    if grey is None:
        return None
    scale = VIEW_SIDE / max(grey.shape)
    return cv2.resize(grey, None, fx=scale, fy=scale, interpolation=cv2.INTER_AREA)


def learn(descriptors: np.ndarray) -> np.ndarray:
    """Return centres of as many groups as there are words: each bit is that of the group's majority."""
    random = np.random.default_rng(1)
    words = descriptors[random.choice(len(descriptors), geometry.WORDS, replace=False)]
    bits = np.unpackbits(descriptors, axis=1).astype(np.float32)
    for _ in range(ROUNDS):
        nearest = geometry.nearest_words(descriptors, words)
        sums = np.zeros((geometry.WORDS, bits.shape[1]), np.float32)
        np.add.at(sums, nearest, bits)
        counts = np.bincount(nearest, minlength=geometry.WORDS)
        words = np.packbits(sums > counts[:, None] / 2, axis=1)
        empty = np.flatnonzero(counts == 0)
        words[empty] = descriptors[random.choice(len(descriptors), len(empty), replace=False)]
    return words


if __name__ == "__main__":
    main()
