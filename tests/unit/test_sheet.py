"""Contact sheets: what is drawn, and what of others' making is taken for one."""

import base64
from io import BytesIO

import numpy as np
import pytest
from PIL import Image

from app.assessment import wire
from app.video import sheet
from app.video.frames import Still


def still(seconds, size=(768, 432), noise=False, seed=0):
    """A picture of one grey, or of nothing but noise."""
    if noise:
        pixels = np.random.default_rng(seed).integers(0, 255, (size[1], size[0], 3), np.uint8)
    else:
        pixels = np.full((size[1], size[0], 3), 10 * seed, np.uint8)
    written = BytesIO()
    Image.fromarray(pixels).save(written, "JPEG", quality=90)
    return Still(seconds, written.getvalue())


def written(kind="WEBP", size=(320, 180), **options):
    content = BytesIO()
    Image.new("RGB", size, "teal").save(content, kind, **options)
    return content.getvalue()


SHEET = written()


@pytest.mark.parametrize(
    ("size", "count", "expected"),
    [
        ((768, 432), 32, (960, 405)),
        ((432, 768), 12, (540, 720)),
        ((768, 432), 2, (480, 135)),
        ((2, 768), 9, None),
    ],
)
def test_pictures_stand_in_rows_in_their_own_shape(size, count, expected):
    drawn = sheet.draw([still(number, size) for number in range(count)])
    assert sheet.is_sheet(drawn)
    picture = Image.open(BytesIO(drawn))
    assert picture.format == "WEBP" and (expected is None or picture.size == expected)


def test_the_pictures_are_spread_over_the_whole_video():
    drawn = Image.open(BytesIO(sheet.draw([still(number, seed=number) for number in range(24)])))
    shown = [
        drawn.getpixel((240 * column + 120, 135 * row + 100))[0] for row in range(3) for column in range(4)
    ]
    assert shown == pytest.approx([10 * number for number in range(1, 24, 2)], abs=4)


def test_even_noise_becomes_small_enough():
    drawn = sheet.draw([still(number, noise=True, seed=number) for number in range(12)])
    assert sheet.is_sheet(drawn) and len(drawn) <= 60_000


def test_without_pictures_there_is_no_sheet():
    assert sheet.draw([]) == b""


@pytest.mark.parametrize(
    "content",
    [
        b"",
        b"<script>alert(1)</script>" * 9,
        written("PNG"),
        written("JPEG"),
        written("GIF"),
        written(lossless=True),
        written(exif=b"Exif\0\0" + b"x" * 40),
        written(save_all=True, append_images=[Image.new("RGB", (320, 180))]),
        written(size=(2000, 100)),
        SHEET + b"<script>",
        SHEET[:-2],
        SHEET[:12] + b"VP8L" + SHEET[16:],
        SHEET[:20] + bytes([SHEET[20] | 1]) + SHEET[21:],
        SHEET[:26] + b"\0\0" + SHEET[28:],
        SHEET[:4] + (60_001 - 8).to_bytes(4, "little") + SHEET[8:16] + (60_001 - 20).to_bytes(4, "little")
        + SHEET[20:] + bytes(60_001 - len(SHEET)),
    ],
)  # fmt: skip
def test_nothing_else_is_taken_for_a_sheet(content):
    assert not sheet.is_sheet(content)
    assert wire.unpack_sheet(base64.b64encode(content).decode()) == b""


@pytest.mark.parametrize("packed", [None, 7, {}, [], "", "ü", "a", "=" * 99, "A" * 10_000_000, True])
def test_what_is_no_base64_is_no_sheet(packed):
    assert wire.unpack_sheet(packed) == b""


def test_a_sheet_survives_the_wire():
    assert sheet.is_sheet(SHEET)
    assert wire.unpack_sheet(wire.pack_sheet(SHEET)) == SHEET
