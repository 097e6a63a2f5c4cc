#!/usr/bin/env python3
"""Measure which copies have their source among the videos that they are compared with by features.

Known are 6 s of each named film, and the pictures in a directory, each as a video that wanders over it. The
films are altered in 40 ways as by bench/geometry.py, but for those that hashes find. "At N videos": of N the
same share lies above the source as of the known videos that show other footage. That takes hundreds of
pictures, and most of the time goes into altering: a minute and a half of processor time a film.
"""

import argparse
import sys
import time
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(ROOT))

import cv2
import numpy as np
from numpy.typing import NDArray

from app.duplicates import geometry, support
from app.duplicates.service import COMPARED_BY_FEATURES, LOOKED_AT, MIN_SHARED_FEATURES
from app.video import features as packing
from app.video.features import Features, Glances
from app.video.measures import GreyFrame
from bench.geometry import QUALITY, RATE, SECONDS, SIDE, alterations, film, read, spans, stored

NUMBERS = (1_000, 10_000, 100_000)
# by their hashes
FOUND_OTHERWISE = ("turned", "mirrored", "upside", "over the", "negative")
HARD = (
    "in a picture",
    "side by",
    "from a screen",
    "emoji over 25",
    "upright on",
    "shaken by 2",
    "cropped to a side",
    "Ken Burns, 1.05",
    "cropped, rotated",
    "perspective of 25",
    "rotated by 30",
)


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("films", nargs="+", type=Path)
    parser.add_argument("--pictures", type=Path, required=True)
    options = parser.parse_args()
    cv2.setNumThreads(1)
    shown = {file.stem: spans(read(file, 3 * SECONDS))[0] for file in options.films}
    known = {name: stored(film(span))[0] for name, span in shown.items()}
    known |= {str(file): wandering(picture) for file, picture in pictures(options.pictures)}
    print(f"{len(shown)} films, {len(known) - len(shown)} pictures", file=sys.stderr, flush=True)
    ranks = list(measure(shown, known))
    tell("hard kinds", [each for each in ranks if each.alteration.startswith(HARD)])
    tell("other kinds", [each for each in ranks if not each.alteration.startswith(HARD)])


def pictures(directory: Path) -> Iterator[tuple[Path, GreyFrame]]:
    """The larger pictures below a directory that are no plain drawings."""
    for file in sorted(directory.rglob("*")):
        if file.suffix.lower() not in {".jpg", ".jpeg", ".png"}:
            continue
        picture = cv2.imread(str(file), cv2.IMREAD_GRAYSCALE)
        if picture is not None and min(picture.shape) >= 150 and picture.std() > 15:
            scale = 2 * SIDE / max(picture.shape)
            yield file, np.asarray(cv2.resize(picture, None, fx=scale, fy=scale), np.uint8)


def wandering(picture: GreyFrame) -> Features:
    """What would be stored of a video that shows five parts of a picture, one after the other."""
    height, width = (int(0.85 * side) for side in picture.shape)
    views = []
    for index in range(5):
        y, x = (int(0.15 * side * index / 4) for side in picture.shape)
        part = cv2.resize(picture[y : y + height, x : x + width], None, fx=0.58, fy=0.58)
        jpeg = cv2.imencode(".jpg", part, [cv2.IMWRITE_JPEG_QUALITY, QUALITY])[1]
        views.append(packing.view_of(index, cv2.imdecode(jpeg, cv2.IMREAD_GRAYSCALE)))
    none = Glances(np.empty((0, 2, packing.GLANCE_SIDE), np.uint8))
    return Features(np.empty(0, np.float32), none, tuple(views))


@dataclass(frozen=True)
class Ranks:
    """Of a copy: what speaks for its source, and for the known videos that show other footage.

    `likelihood` is what the index says, 0 if too few keys are shared; `corners` is the support.
    """

    alteration: str
    likelihood: float
    corners: int
    others: NDArray[np.float64]
    corners_of_others: NDArray[np.int64]


def measure(shown: dict[str, list[GreyFrame]], known: dict[str, Features]) -> Iterator[Ranks]:
    names = list(known)
    stored_keys = [geometry.keys(each, geometry.STORED_KEYS) for each in known.values()]
    keys = np.concatenate(stored_keys)
    owner = np.repeat(np.arange(len(names)), [len(each) for each in stored_keys])
    took, looks = 0.0, 0
    for name, span in shown.items():
        beside_name = next(other for other in reversed(shown) if other != name)
        for alteration, alter in alterations(shown[beside_name]).items():
            if alteration.startswith(FOUND_OTHERWISE):
                continue
            copy = film([np.ascontiguousarray(alter(p, index / RATE)) for index, p in enumerate(span[2:-1])])
            shared = np.isin(keys, geometry.keys(copy.features, geometry.WANTED_KEYS))
            _, which, sharing = np.unique(keys[shared], return_inverse=True, return_counts=True)
            count = np.bincount(owner[shared], minlength=len(names))
            likelihood = np.bincount(owner[shared], 1 / sharing[which], len(names))
            likelihood[count < MIN_SHARED_FEATURES] = 0
            own = names.index(name)
            others = np.array([other not in (name, beside_name) for other in names])
            ranked = np.flatnonzero(others & (likelihood > 0))
            ranked = ranked[np.argsort(-likelihood[ranked])][:LOOKED_AT]
            began = time.process_time()
            sought = support.Sought(copy.features)
            corners = [sought.support(known[names[each]]) for each in (own, *ranked)]
            took, looks = took + time.process_time() - began, looks + len(corners)
            yield Ranks(
                alteration, likelihood[own], corners[0], likelihood[others], np.array(corners[1:], int)
            )
        print(f"{name} done", file=sys.stderr, flush=True)
    print(f"{took / looks * 1000:.1f} ms of processor time a look at a video's corners")


def tell(kinds: str, ranks: list[Ranks]) -> None:
    others = np.sort(np.concatenate([each.others for each in ranks]))
    count = len(ranks[0].others)
    print(
        f"\n| {kinds}: {len(ranks)} copies, {len(others):,} pairs | four likeliest | looked at | compared |"
    )
    print("|---|---|---|---|")
    reached = [each.likelihood > 0 for each in ranks]
    above = [(each.others >= each.likelihood).sum() for each in ranks]
    behind = [(each.corners_of_others >= each.corners).sum() for each in ranks]
    line(f"really, of {count}", reached, above, behind)
    share = 1 - np.searchsorted(others, [each.likelihood for each in ranks]) / len(others)
    for number in NUMBERS:
        # those that share most of so many
        first = max(1, round(LOOKED_AT / number * count))
        rivals = np.concatenate([each.corners_of_others[:first] for each in ranks])
        candidates = min(LOOKED_AT, number * float((others > 0).mean()))
        behind = [float((rivals >= each.corners).mean()) * candidates for each in ranks]
        line(f"at {number:,} videos", reached, (share * number).tolist(), behind)


def line(what: str, reached: list[bool], above: Iterable[float], behind: Iterable[float]) -> None:
    """Print which share of copies has fewer others above the source by keys, and then by corners."""
    four, looked_at, compared = [], [], []
    for is_reached, by_keys, by_corners in zip(reached, above, behind, strict=True):
        four.append(is_reached and by_keys < COMPARED_BY_FEATURES)
        looked_at.append(is_reached and by_keys < LOOKED_AT)
        compared.append(looked_at[-1] and by_corners < COMPARED_BY_FEATURES)
    print(f"| {what} | {np.mean(four):.0%} | {np.mean(looked_at):.0%} | {np.mean(compared):.0%} |")


if __name__ == "__main__":
    main()
