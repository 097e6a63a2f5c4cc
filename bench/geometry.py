#!/usr/bin/env python3
"""Measure how many copies are recognised whose pictures were cropped, turned, framed or bent.

Takes 6 s of each named file, alters them in 40 ways, and compares the copies with all of them as an
evaluation does, by hashes and by features. `--fixed` names films by a fixed camera: their spans are takes of
one scene and must not be taken for copies. Pictures are altered in memory and coded as JPEG, which takes a
tenth of the time that video would. Reads the files by OpenCV.
"""

import argparse
import sys
import time
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from itertools import islice
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(ROOT))

import cv2
import numpy as np

from app.assessment.formula import MAX_MATCHED
from app.duplicates import geometry, matching, support
from app.duplicates.service import COMPARED_BY_FEATURES, MIN_SHARED_FEATURES
from app.video import borders, insets
from app.video import features as packing
from app.video.frames import Still
from app.video.measures import GreyFrame
from app.video.scan import LONG_SIDE, hash_frame

RATE = 8
SECONDS = 6
SIDE = 640
QUALITY = 40
# the pictures of a copy are that far off those of its source, as a share of the time between two
PHASE = 0.45
HARD = {
    "in a picture, 60 %",
    "in a picture, 45 %",
    "in a picture, 35 %",
    "side by side",
    "from a screen",
    "from a screen, askew",
}

Alteration = Callable[[GreyFrame, float], GreyFrame]


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("files", nargs="*", type=Path)
    parser.add_argument("--fixed", nargs="*", type=Path, default=[])
    parser.add_argument("--part", type=int, nargs=2, default=(0, 1), help="of so many parts, alter this one")
    options = parser.parse_args()
    cv2.setNumThreads(1)
    if options.files:
        measure_copies(options.files, *options.part)
    if options.fixed:
        measure_takes(options.fixed)


@dataclass(frozen=True)
class Film:
    """What is known of a video."""

    features: packing.Features
    plain: matching.Fingerprint
    mirrored: matching.Fingerprint
    # of what is shown inside of its picture
    insets: list[tuple[matching.Fingerprint, matching.Fingerprint]]


def read(file: Path, seconds: float = 1e9, phase: float = 0.0) -> list[GreyFrame]:
    """The grey pictures of a file, eight a second, from a part of an eighth of a second on."""
    capture, pictures, count = cv2.VideoCapture(str(file)), [], 0
    rate = capture.get(cv2.CAP_PROP_FPS) or 25
    while count < seconds * rate and capture.grab():
        if count >= (len(pictures) + phase) * rate / RATE:
            picture = cv2.cvtColor(capture.retrieve()[1], cv2.COLOR_BGR2GRAY)
            scale = SIDE / max(picture.shape)
            pictures.append(cv2.resize(picture, None, fx=scale, fy=scale, interpolation=cv2.INTER_AREA))
        count += 1
    return pictures


def spans(pictures: list[GreyFrame], seconds: float = SECONDS) -> list[list[GreyFrame]]:
    size = int(seconds * RATE)
    cut = [pictures[first : first + size] for first in range(0, len(pictures), size)]
    return [each for each in cut if len(each) >= 3 * RATE and np.mean([p.std() for p in each]) > 15]


def film(pictures: list[GreyFrame]) -> Film:
    jpegs = [cv2.imencode(".jpg", picture, [cv2.IMWRITE_JPEG_QUALITY, QUALITY])[1] for picture in pictures]
    seconds = [(index + 0.5) / RATE for index in range(len(pictures))]
    decoded = [cv2.imdecode(jpeg, cv2.IMREAD_GRAYSCALE) for jpeg in jpegs]
    small = _sized(decoded, 192)
    # as the scan does: 32 pictures, none from the margins
    shown = np.linspace(0.05, 0.95, 32) * (len(pictures) - 1)
    stills = [Still(seconds[index], jpegs[index].tobytes()) for index in np.unique(shown.round().astype(int))]
    plain, mirrored = _hashed(small, seconds)
    inner = [
        _hashed(shown, seconds)
        for shown in islice(insets.cut(_sized(decoded, LONG_SIDE)), packing.MAX_INSETS)
    ]
    return Film(packing.extract(stills, small, seconds), plain, mirrored, inner)


def _sized(pictures: list[GreyFrame], side: int) -> GreyFrame:
    height, width = pictures[0].shape
    scale = side / max(height, width)
    size = (round(width * scale), round(height * scale))
    return np.array([cv2.resize(picture, size, interpolation=cv2.INTER_AREA) for picture in pictures])


def _hashed(pictures: GreyFrame, seconds: list[float]) -> tuple[matching.Fingerprint, matching.Fingerprint]:
    shown_in = borders.find(pictures)
    hashes = (hash_frame(shown_in.of(picture), at) for picture, at in zip(pictures, seconds, strict=True))
    return matching.fingerprints(found for found in hashes if found)


def stored(known: Film) -> tuple[packing.Features, matching.Fingerprint]:
    return packing.unpack(packing.pack(packing.stored(known.features))), known.plain.thinned()


def shares(copy: Film, known: tuple[packing.Features, matching.Fingerprint]) -> tuple[float, float]:
    """The shares of a copy that are found in a known video, by hashes and by features."""
    features, fingerprint = known
    by_hashes = len(by_hash(copy, fingerprint).frames) / max(1, len(copy.plain))
    seconds = copy.features.seconds
    found = geometry.match(copy.features, features)
    return by_hashes, sum(s.end - s.start for s in found) / float(seconds[-1] - seconds[0])


def by_hash(copy: Film, known: matching.Fingerprint) -> matching.Match:
    """What of a copy is found by the hashes of its picture, and of what is shown inside of it."""
    match = matching.match(copy.plain, copy.mirrored, known)
    for inset in copy.insets:
        match = match.joined(matching.match_inset(inset, copy.plain.seconds, known, matching.MAX_LINES))
    return match


def measure_copies(files: Sequence[Path], part: int, parts: int) -> None:
    sources = {file.stem: spans(read(file, 3 * SECONDS))[0] for file in files}
    known = {name: stored(film(span)) for name, span in sources.items()}
    keys = {name: set(geometry.keys(features, geometry.STORED_KEYS)) for name, (features, _) in known.items()}
    sizes = [len(packing.pack(features)) for features, _ in known.values()]
    print(f"{len(sources)} sources; {np.mean(sizes) / 1000:.0f} kB of features are stored of each\n")
    results: dict[str, list[tuple[str, float, float, bool]]] = {}
    confidences: list[tuple[float, bool]] = []
    wrong, pairs, took, copies = [], 0, 0.0, 0
    for name, file in [(file.stem, file) for file in files][part::parts]:
        span = spans(read(file, 3 * SECONDS, PHASE))[0]
        beside = next(other for label, other in reversed(sources.items()) if label != name)
        for alteration, alter in alterations(beside).items():
            copy = film([np.ascontiguousarray(alter(p, index / RATE)) for index, p in enumerate(span[2:-1])])
            around = beside if alteration in HARD else None
            others = {other: each for other, each in known.items() if sources[other] is not around}
            copies += 1
            began = time.process_time()
            compared = _compared(copy, others, keys)
            for other, each in others.items():
                by_features = 0.0
                reached = other in compared
                if reached or other == name:
                    by_hashes, by_features = shares(copy, each)
                else:
                    by_hashes = len(by_hash(copy, each[1]).frames) / max(1, len(copy.plain))
                share = max(by_hashes, by_features if reached else 0.0)
                confidences.append((share, other == name))
                if other == name:
                    results.setdefault(alteration, []).append((name, by_hashes, by_features, reached))
                else:
                    pairs += 1
                    if share:
                        wrong.append((name, alteration, other, share))
            took += time.process_time() - began
        print(f"{name} done", file=sys.stderr, flush=True)
    tell(results)
    print(f"\nDifferent footage taken for a copy: {len(wrong)} of {pairs:,} pairs")
    for one in wrong[:20]:
        print(f"- {one[0]}, {one[1]}, in {one[2]}: {one[3]:.0%}")
    print(
        f"\nµAP {average_precision(confidences, copies):.3f}; {took / copies:.2f} s of processor time a copy"
    )


def _compared(
    copy: Film, known: dict[str, tuple[packing.Features, matching.Fingerprint]], keys: dict[str, set[int]]
) -> list[str]:
    """The names of the videos that a copy is compared with by features, as in an evaluation."""
    wanted, sought = set(geometry.keys(copy.features, geometry.WANTED_KEYS)), support.Sought(copy.features)
    names = [name for name in known if len(wanted & keys[name]) >= MIN_SHARED_FEATURES]
    supports = {index: sought.support(known[name][0]) for index, name in enumerate(names)}
    return [names[index] for index in support.likeliest(supports, COMPARED_BY_FEATURES)]


def tell(results: dict[str, list[tuple[str, float, float, bool]]]) -> None:
    print(f"| alteration | found | over {MAX_MATCHED:.0%} | hashes | features | not reached | not found |")
    print("|---|---|---|---|---|---|---|")
    for alteration, rows in results.items():
        found = [max(h, f if reached else 0.0) for _, h, f, reached in rows]
        missed = ", ".join(row[0] for row, share in zip(rows, found, strict=True) if not share) or "none"
        print(
            f"| {alteration} | {sum(share > 0 for share in found)} of {len(rows)} "
            f"| {sum(share > MAX_MATCHED for share in found)} | {sum(row[1] > 0 for row in rows)} "
            f"| {sum(row[2] > 0 for row in rows)} | {sum(not row[3] for row in rows)} | {missed} |"
        )


def average_precision(confidences: list[tuple[float, bool]], positives: int) -> float:
    """µAP over all pairs, as in the Video Similarity Challenge of 2022; of equals the wrong come first."""
    ranked = sorted((pair for pair in confidences if pair[0] > 0), key=lambda pair: (-pair[0], pair[1]))
    right, total = 0, 0.0
    for rank, (_, is_right) in enumerate(ranked, 1):
        if is_right:
            right += 1
            total += right / rank
    return total / positives


def measure_takes(files: Iterable[Path]) -> None:
    print("\n| fixed camera | pairs of takes | hashes | features | over 80 % |\n|---|---|---|---|---|")
    for file in files:
        takes = [film(span) for span in spans(read(file), 5)]
        known = [stored(take) for take in takes]
        found = [
            shares(one, other)
            for number, one in enumerate(takes)
            for index, other in enumerate(known)
            if index != number
        ]
        print(
            f"| {file.stem} | {len(found)} | {sum(h > 0 for h, _ in found)} | {sum(f > 0 for _, f in found)} "
            f"| {sum(max(each) > MAX_MATCHED for each in found)} |",
            flush=True,
        )


def alterations(beside: list[GreyFrame]) -> dict[str, Alteration]:
    """Forty alterations. `beside` is other footage, which some of them need."""
    return {
        "cropped by 10 %": crop(0.1),
        "cropped by 20 %": crop(0.2),
        "cropped by 30 %": crop(0.3),
        "cropped to a corner, by 20 %": crop(0.2, 0, 0),
        "cropped to a side, by 35 %": crop(0.35, 1, 0.5),
        "rotated by 5°": rotate(5),
        "rotated by 10°, zoomed": rotate(10, 1.1),
        "rotated by -15°, zoomed": rotate(-15, 1.2),
        "rotated by 30°": rotate(30),
        "rotated by 45°": rotate(45),
        "turned by 90°": lambda p, _: np.rot90(p),
        "turned by 180°": lambda p, _: p[::-1, ::-1],
        "turned by 270°": lambda p, _: np.rot90(p, 3),
        "mirrored": lambda p, _: p[:, ::-1],
        "upside down": lambda p, _: p[::-1],
        "over the diagonal": lambda p, _: p.T,
        "in a white frame of 5 %": frame(0.05, 255),
        "in a grey frame of 10 %": frame(0.1, 120),
        "in a black frame of 20 %": frame(0.2, 0),
        "negative": lambda p, _: 255 - p,
        "negative, mirrored": lambda p, _: 255 - p[:, ::-1],
        "shaken by 1 %": shake(0.01),
        "shaken by 2 %": shake(0.02),
        "upright on its own blur": blur_padded,
        "perspective of 8 %": bend(0.08),
        "perspective of 15 %": bend(0.15),
        "perspective of 25 %": bend(0.25),
        "emoji over 10 %": emoji(0.1),
        "emoji over 25 %": emoji(0.25),
        "Ken Burns, 1 to 1.2": zoom(1, 1.2),
        "Ken Burns, 1.3 to 1": zoom(1.3, 1),
        "Ken Burns, 1.05 to 1.5": zoom(1.05, 1.5),
        "in a picture, 60 %": inset(beside, 0.6, 0.9, 0.9),
        "in a picture, 45 %": inset(beside, 0.45, 0.1, 0.1),
        "in a picture, 35 %": inset(beside, 0.35, 0.9, 0.1),
        "side by side": side_by_side(beside),
        "from a screen": from_screen,
        "from a screen, askew": lambda p, at: rotate(8)(from_screen(p, at), at),
        "cropped by 15 %, paler": lambda p, at: lighten(crop(0.15, 0.3, 0.6)(p, at)),
        "cropped, rotated, framed": lambda p, at: frame(0.08, 200)(rotate(7, 1.15)(crop(0.1)(p, at), at), at),
    }


def lighten(picture: GreyFrame) -> GreyFrame:
    return np.clip(picture * 0.7 + 50, 0, 255).astype(np.uint8)


def crop(share: float, left: float = 0.5, top: float = 0.5) -> Alteration:
    def alter(picture: GreyFrame, at: float) -> GreyFrame:
        height, width = picture.shape
        rows, columns = int(height * (1 - share)), int(width * (1 - share))
        y, x = int((height - rows) * top), int((width - columns) * left)
        return picture[y : y + rows, x : x + columns]

    return alter


def rotate(degrees: float, scale: float = 1.0) -> Alteration:
    def alter(picture: GreyFrame, at: float) -> GreyFrame:
        height, width = picture.shape
        turn = cv2.getRotationMatrix2D((width / 2, height / 2), degrees, scale)
        return cv2.warpAffine(picture, turn, (width, height))

    return alter


def frame(share: float, level: int) -> Alteration:
    def alter(picture: GreyFrame, at: float) -> GreyFrame:
        wide = int(picture.shape[1] * share)
        return cv2.copyMakeBorder(picture, wide, wide, wide, wide, cv2.BORDER_CONSTANT, value=level)

    return alter


def shake(share: float) -> Alteration:
    way = np.random.default_rng(3).normal(0, 1, (500, 3))

    def alter(picture: GreyFrame, at: float) -> GreyFrame:
        height, width = picture.shape
        x, y, degrees = way[int(at * RATE) % len(way)]
        turn = cv2.getRotationMatrix2D((width / 2, height / 2), degrees, 1.08)
        turn[:, 2] += np.array([x, y]) * width * share
        return cv2.warpAffine(picture, turn, (width, height))

    return alter


def blur_padded(picture: GreyFrame, at: float) -> GreyFrame:
    padded = cv2.GaussianBlur(cv2.resize(picture, (540, 960)), (0, 0), 25)
    height = int(540 * picture.shape[0] / picture.shape[1])
    inner = cv2.resize(picture, (540, height), interpolation=cv2.INTER_AREA)[:960]
    top = (960 - len(inner)) // 2
    padded[top : top + len(inner)] = inner
    return padded


def bend(share: float) -> Alteration:
    def alter(picture: GreyFrame, at: float) -> GreyFrame:
        height, width = picture.shape
        whole = np.array([[0, 0], [width, 0], [width, height], [0, height]], np.float32)
        moved = [[share, share / 2], [1 - share * 0.3, 0], [1, 1 - share * 0.2], [0, 1 - share]]
        bent = cv2.getPerspectiveTransform(whole, np.array(moved, np.float32) * np.float32([width, height]))
        return cv2.warpPerspective(picture, bent, (width, height), borderValue=20)

    return alter


def zoom(first: float, last: float) -> Alteration:
    def alter(picture: GreyFrame, at: float) -> GreyFrame:
        height, width = picture.shape
        by = first + (last - first) * min(at / SECONDS, 1)
        move = np.array([[by, 0, -(by - 1) * width * 0.3], [0, by, -(by - 1) * height * 0.5]], np.float32)
        return cv2.warpAffine(picture, move, (width, height))

    return alter


def emoji(share: float) -> Alteration:
    def alter(picture: GreyFrame, at: float) -> GreyFrame:
        height, width = picture.shape
        radius = int((share * height * width / np.pi) ** 0.5)
        x, y = int(width * 0.6), int(height * 0.45)
        drawn = cv2.circle(picture.copy(), (x, y), radius, 230, -1)
        for side in (-1, 1):
            cv2.circle(drawn, (x + side * radius // 3, y - radius // 4), radius // 6, 30, -1)
        return cv2.ellipse(drawn, (x, y + radius // 5), (radius // 2, radius // 3), 0, 0, 180, 30, 5)

    return alter


def inset(beside: list[GreyFrame], share: float, left: float, top: float) -> Alteration:
    def alter(picture: GreyFrame, at: float) -> GreyFrame:
        around = cv2.resize(beside[int(at * RATE) % len(beside)], (640, 360))
        inner = cv2.resize(picture, None, fx=share, fy=share, interpolation=cv2.INTER_AREA)[:360]
        x, y = int(left * (640 - inner.shape[1])), int(top * (360 - inner.shape[0]))
        around[y : y + inner.shape[0], x : x + inner.shape[1]] = inner
        return around

    return alter


def side_by_side(beside: list[GreyFrame]) -> Alteration:
    def alter(picture: GreyFrame, at: float) -> GreyFrame:
        both = np.full((360, 640), 16, np.uint8)
        both[60:300, :320] = cv2.resize(beside[int(at * RATE) % len(beside)], (320, 240))
        inner = cv2.resize(picture, None, fx=0.5, fy=0.5, interpolation=cv2.INTER_AREA)[:360]
        top = (360 - len(inner)) // 2
        both[top : top + len(inner), 320 : 320 + inner.shape[1]] = inner
        return both

    return alter


def from_screen(picture: GreyFrame, at: float) -> GreyFrame:
    """Filmed by hand from a screen with lines and flicker, before a grey wall."""
    height, width = picture.shape
    random = np.random.default_rng(int(at * RATE))
    corners = np.array([[0.1, 0.12], [0.88, 0.07], [0.93, 0.9], [0.06, 0.86]])
    moved = ((corners + random.normal(0, 0.0015, (4, 2))) * [width, height]).astype(np.float32)
    whole = np.array([[0, 0], [width, 0], [width, height], [0, height]], np.float32)
    wall = np.full_like(picture, 70)
    shown = cv2.warpPerspective(
        picture,
        cv2.getPerspectiveTransform(whole, moved),
        (width, height),
        wall,
        borderMode=cv2.BORDER_TRANSPARENT,
    )
    line = np.arange(height)[:, None]
    lit = shown * (0.75 + 0.1 * np.sin(line * 1.9)) + 15 * np.sin(line / 40 + at * 9)
    noisy = lit.astype(np.float32) + random.normal(0, 6, shown.shape).astype(np.float32)
    return np.clip(cv2.GaussianBlur(noisy, (0, 0), 1.0), 0, 255).astype(np.uint8)


if __name__ == "__main__":
    main()
