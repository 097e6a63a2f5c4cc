"""The contact sheet: some pictures of a video in one small WebP, for people to look at.

It is drawn of the stills that an evaluation has anyway. A remote evaluator sends one, so `is_sheet` looks at
what others have drawn. That needs no library for pictures, so a web process that only checks loads none.
"""

import math
import struct
from collections.abc import Sequence
from io import BytesIO

from app.video.frames import Still

MAX_BYTES = 60_000
MAX_SIDE = 1024
COLUMNS, ROWS = 4, 3
TILE_SIDE = 240
# the first that is small enough is taken; noise needs the last
QUALITIES = (70, 45, 20, 1)

# RIFF, its size, WEBP with the one chunk that lossy pictures have, and the size of that
_HEADER = struct.Struct("<4sI8sI")
# in that chunk: three bytes of which bit 0 is clear in a whole picture, a start code, width and height
_PICTURE = struct.Struct("<3s3sHH")


def draw(stills: Sequence[Still]) -> bytes:
    """Return a contact sheet of some of the stills, evenly spread, each with its second; or b"" of none.

    It is also b"" if the pictures do not get small enough.
    """
    from PIL import Image, ImageDraw, ImageFont

    if not stills:
        return b""
    count = min(COLUMNS * ROWS, len(stills))
    chosen = [stills[(2 * number + 1) * len(stills) // (2 * count)] for number in range(count)]
    font = ImageFont.load_default(15)
    sheet, width, height = None, 0, 0
    for number, still in enumerate(chosen):
        jpeg = Image.open(BytesIO(still.jpeg))
        jpeg.draft("RGB", (TILE_SIDE, TILE_SIDE))
        picture = jpeg.convert("RGB")
        if sheet is None:
            picture.thumbnail((TILE_SIDE, TILE_SIDE))
            width, height = picture.size
            sheet = Image.new("RGB", (width * min(COLUMNS, count), height * math.ceil(count / COLUMNS)))
        place = (number % COLUMNS * width, number // COLUMNS * height)
        sheet.paste(picture.resize((width, height)), place)
        label = (place[0] + 6, place[1] + 4)
        drawing = ImageDraw.Draw(sheet)
        drawing.text(label, f"{still.seconds:.1f} s", "white", font, stroke_width=2, stroke_fill="black")
    assert sheet is not None
    for quality in QUALITIES:
        written = BytesIO()
        sheet.save(written, "WEBP", quality=quality)
        if is_sheet(written.getvalue()):
            return written.getvalue()
    return b""


def is_sheet(content: bytes) -> bool:
    """Whether it is one lossy WebP picture of a bounded size, and nothing more.

    It has no animation, no transparency, no data besides the picture, and nothing follows it. So no other
    kind of file can be hidden in it, and of a browser's decoders it reaches the simplest.
    """
    if not _HEADER.size + _PICTURE.size <= len(content) <= MAX_BYTES:
        return False
    riff, size, kind, chunk_size = _HEADER.unpack_from(content)
    frame, start_code, width, height = _PICTURE.unpack_from(content, _HEADER.size)
    return (
        (riff, kind) == (b"RIFF", b"WEBPVP8 ")
        and size == len(content) - 8
        and chunk_size + chunk_size % 2 == len(content) - _HEADER.size
        and not frame[0] & 1
        and start_code == b"\x9d\x01\x2a"
        # the upper bits ask a player to enlarge it
        and 0 < width <= MAX_SIDE
        and 0 < height <= MAX_SIDE
    )
