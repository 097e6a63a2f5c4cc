#!/usr/bin/env python3
"""Measure which faces of real footage are blurred in a release, and how much else is.

The faces in bench/faces.json were labelled by eye, in frames of the films that the default recipe makes:
left, top, right and bottom in thousandths of the frame. CenterFace proposed boxes, which were looked at one
by one, and what it had missed was drawn by hand. Faces less wide than a fortieth of the frame, and heads that
show nothing of the face, are not labelled. A face counts as covered if nine tenths of it are blurred.

    python -m bench.faces DIRECTORY [--altered]

The footage is taken out of packages that npm fetches into DIRECTORY, and out of the wheels of the tests.
"""

import argparse
import hashlib
import json
import subprocess
import sys
import tarfile
import time
from collections.abc import Callable, Iterable
from itertools import islice
from pathlib import Path

import cv2
import numpy as np

ROOT = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(ROOT))

from app.attributes.faces import FaceFinder
from app.attributes.masks import Masks, Pixels
from app.attributes.watch import FaceWatch, in_grey
from app.video import film
from app.video.ffmpeg import tool
from app.video.film import Recipe
from tests.videos import footage, iscc

LABELS = Path(__file__).with_suffix(".json")
RECIPE = Recipe()
# the share of a face that must be blurred
COVERED = 0.9
# points of a face are looked at in a grid of so many
GRID = 15
# frames of a film that are altered
ALTERED = 60
# 95 %
DEVIATIONS = 1.96

Box = list[int]
# how a frame is altered, and where one of its boxes is then, in thousandths
Alteration = tuple[Callable[[Pixels], Pixels], Callable[[Box, float], Box]]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("directory", type=Path)
    parser.add_argument(
        "--altered", action="store_true", help="turned, dark, small and blurred footage instead"
    )
    arguments = parser.parse_args()
    known = json.loads(LABELS.read_text())
    print("| footage | frames | faces | covered | frames without a bare face | film blurred | CPU s/min |")
    print("|---|---|---|---|---|---|---|")
    if arguments.altered:
        for name in known["altered"]:
            _measure_altered(name, _fetch(known["sources"][name], arguments.directory), known["labels"][name])
        return
    totals = [0, 0, 0, 0]
    for name, source in known["sources"].items():
        path = _fetch(source, arguments.directory)
        counts = _measure(name, film.frames(path, RECIPE), known["labels"][name])
        totals = [total + count for total, count in zip(totals, counts, strict=True)]
    faces, covered, frames, good = totals
    print(f"| all | {frames} | {faces} | {_share(covered, faces)} | {_share(good, frames)} | | |")


def _measure_altered(name: str, path: Path, labels: dict[str, list[Box]]) -> None:
    first = next(film.frames(path, RECIPE))
    ratio = first.shape[1] / first.shape[0]
    early = {index: boxes for index, boxes in labels.items() if int(index) < ALTERED}
    for how, (change, move) in ALTERATIONS.items():
        altered = map(change, islice(film.frames(path, RECIPE), ALTERED))
        moved = {index: [move(box, ratio) for box in boxes] for index, boxes in early.items()}
        _measure(f"{name}, {how}", altered, moved)


def _measure(name: str, frames: Iterable[Pixels], labels: dict[str, list[Box]]) -> tuple[int, int, int, int]:
    """Print a line; return how many faces there are and are covered, and how many frames and good ones."""
    began = time.process_time()
    watch = FaceWatch(RECIPE.fps, FaceFinder())
    for frame in frames:
        watch.add(frame, in_grey(frame))
    masks = watch.masks()
    spent = (time.process_time() - began) * 60 * RECIPE.fps / masks.frames
    covered = {
        index: [_is_covered(masks, int(index), box) for box in boxes] for index, boxes in labels.items()
    }
    for index, each in covered.items():
        for box, is_covered in zip(labels[index], each, strict=True):
            if not is_covered:
                print(f"bare: {name} {index} {box}", file=sys.stderr)
    faces = sum(map(len, covered.values()))
    hits, good = sum(map(sum, covered.values())), sum(map(all, covered.values()))
    print(
        f"| {name} | {len(labels)} | {faces} | {_share(hits, faces)} | {_share(good, len(labels))} | "
        f"{_area(masks):.1%} | {spent:.0f} |",
        flush=True,
    )
    return faces, hits, len(labels), good


def _is_covered(masks: Masks, index: int, box: Box) -> bool:
    """Whether enough of the ellipse in a box is blurred."""
    steps = (np.arange(GRID) + 0.5) / GRID
    points = [(x, y) for x in steps for y in steps if np.hypot(2 * x - 1, 2 * y - 1) <= 1]
    left, top, right, bottom = (edge / 1000 for edge in box)
    hits = [masks.covers(index, left + x * (right - left), top + y * (bottom - top)) for x, y in points]
    return float(np.mean(hits)) >= COVERED


def _area(masks: Masks) -> float:
    """Return the share of the film that lies in boxes."""
    shares = [
        min(1.0, sum((box[2] - box[0]) * (box[3] - box[1]) for box in boxes) / 1e6)
        for boxes in masks.boxes.values()
    ]
    return sum(shares) / masks.frames


def _share(hits: int, count: int) -> str:
    """Return a share and its interval (Wilson)."""
    if not count:
        return "-"
    share, z = hits / count, DEVIATIONS**2 / count
    middle = (share + z / 2) / (1 + z)
    away = np.sqrt(z * (share * (1 - share) + z / 4)) / (1 + z)
    return f"{hits} = {share:.1%} ({max(middle - away, 0):.1%} to {min(middle + away, 1):.1%})"


def _fetch(source: dict[str, str], directory: Path) -> Path:
    """Return the path of a piece of footage. Raises ValueError if it is not what was labelled."""
    if package := source.get("npm"):
        archive = directory / f"{package.removeprefix('@').replace('/', '-').replace('@', '-')}.tgz"
        if not archive.exists():
            command = ["npm", "pack", "--silent", "--pack-destination", str(directory), package]
            subprocess.run(command, check=True, timeout=600, stdout=subprocess.DEVNULL)
        with tarfile.open(archive) as packed:
            path = Path(directory / Path(source["file"]).name)
            member = packed.extractfile(source["file"])
            assert member
            path.write_bytes(member.read())
    elif source["wheel"] == "iscc-samples":
        path = iscc().with_name(source["file"])
    else:
        path = footage(source["file"])
    if (found := hashlib.sha256(path.read_bytes()).hexdigest()) != source["sha256"]:
        raise ValueError(f"{path} has the SHA-256 {found}")
    if span := source.get("span"):
        start, seconds = span.split("+")
        piece = directory / f"piece-{path.stem}.mp4"
        command = [tool("ffmpeg"), "-v", "error", "-y", "-ss", start, "-t", seconds, "-i", str(path)]
        subprocess.run([*command, "-an", "-crf", "10", str(piece)], check=True, timeout=600)
        return piece
    return path


def _turned(degrees: float) -> Alteration:
    def change(frame: Pixels) -> Pixels:
        height, width = frame.shape[:2]
        turn = cv2.getRotationMatrix2D((width / 2, height / 2), degrees, 1)
        return np.asarray(cv2.warpAffine(frame, turn, (width, height)), np.uint8)

    def move(box: Box, ratio: float) -> Box:
        # the box of the same size around where its middle is then: a face is about as wide as high
        turn = cv2.getRotationMatrix2D((ratio / 2, 0.5), degrees, 1)
        x, y = turn @ (ratio * (box[0] + box[2]) / 2000, (box[1] + box[3]) / 2000, 1)
        half = min(ratio * (box[2] - box[0]), box[3] - box[1]) / 2000
        edges = ((x - half) / ratio, y - half, (x + half) / ratio, y + half)
        return [round(1000 * edge) for edge in edges]

    return change, move


def _smaller(times: int) -> Alteration:
    def change(frame: Pixels) -> Pixels:
        height, width = frame.shape[:2]
        small = cv2.resize(frame, (width // times, height // times), interpolation=cv2.INTER_AREA)
        canvas = np.full_like(frame, 90)
        canvas[: height // times, : width // times] = small
        return canvas

    return change, lambda box, ratio: [round(edge / times) for edge in box]


def _moving() -> Alteration:
    kernel = np.zeros((31, 31), np.float32)
    kernel[15] = 1 / 31
    return lambda frame: np.asarray(cv2.filter2D(frame, -1, kernel), np.uint8), lambda box, ratio: box


ALTERATIONS: dict[str, Alteration] = {
    "turned by 30°": _turned(30),
    "turned by -30°": _turned(-30),
    "turned by 90°": _turned(90),
    "upside down": _turned(180),
    "dark": (lambda frame: (frame * np.float32(0.15)).astype(np.uint8), lambda box, ratio: box),
    "a sixth of the size": _smaller(6),
    "blurred over 31 pixels": _moving(),
}

if __name__ == "__main__":
    main()
