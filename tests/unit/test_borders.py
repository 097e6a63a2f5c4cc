"""Borders of any colour, and of blur, are found; what only looks like one is left."""

import cv2
import numpy as np
import pytest

from app.video import borders
from app.video.borders import Inner
from tests.unit.test_quality import with_hand

SIZE = (108, 192)
WHOLE = Inner(0, 108, 0, 192)
GRAIN = np.random.default_rng(5).normal(0, 1, (24, *SIZE))


def textured(seed=3, size=SIZE):
    """A picture with detail everywhere, as footage has."""
    random = np.random.default_rng(seed)
    picture = np.full(size, 110.0)
    for scale in (1, 2, 4, 16):
        cells = random.normal(0, 14 * scale**0.4, (size[0] // scale + 1, size[1] // scale + 1))
        picture += cv2.resize(cells, (size[1], size[0]), interpolation=cv2.INTER_CUBIC)
    return picture


FRAMES = np.array([with_hand(textured(), 4 * number) for number in range(24)]).clip(0, 255)


def framed(level, top, bottom, left, right, noise=0.0):
    """The footage in a border, in frames of its own size."""
    films = np.array([
        cv2.copyMakeBorder(
            cv2.resize(frame, (192 - left - right, 108 - top - bottom), interpolation=cv2.INTER_AREA),
            top, bottom, left, right, cv2.BORDER_CONSTANT, value=level,
        )
        for frame in FRAMES
    ])  # fmt: skip
    return (films + noise * GRAIN).clip(0, 255).astype(np.uint8)


def near(found, wanted):
    return np.abs(np.subtract((found.top, found.bottom, found.left, found.right), wanted)).max() <= 1


@pytest.mark.parametrize("level", [0, 60, 128, 200, 255])
@pytest.mark.parametrize(
    "sides", [(10, 10, 18, 18), (0, 0, 40, 40), (20, 20, 0, 0), (5, 25, 10, 30)], ids=str
)
@pytest.mark.parametrize("noise", [0, 2])
def test_a_border_of_any_colour_is_cut_off(level, sides, noise):
    found = borders.find(framed(level, *sides, noise=noise))
    top, bottom, left, right = sides
    assert near(found, (top, 108 - bottom, left, 192 - right))


def test_a_border_in_a_border_is_cut_off():
    films = framed(235, 8, 8, 14, 14)
    films[:, :, :10] = films[:, :, -10:] = 0
    assert near(borders.find(films), (8, 100, 14, 178))


def test_a_fixed_mark_in_a_border_is_cut_off_with_it():
    films = framed(128, 20, 20, 0, 0)
    films[:, 6:14, 20:60] = 250
    assert near(borders.find(films), (20, 88, 0, 192))


@pytest.mark.parametrize("upright", [True, False])
@pytest.mark.parametrize("cut", [True, False])
def test_footage_on_its_own_blur_is_cut_out(upright, cut):
    films = []
    for frame in FRAMES:
        shown = frame if upright else frame[:, 66:126]
        # what covers the whole is cut to its middle, or bent to its shape
        middle = shown[:, 66:126] if upright else shown[37:71]
        whole = cv2.resize(middle if cut else shown, (108, 192) if upright else (192, 108))
        around = cv2.GaussianBlur(whole, (0, 0), 5) * 0.8
        size = (108, 60) if upright else (60, 108)
        inner = cv2.resize(shown, size, interpolation=cv2.INTER_AREA)
        y, x = (around.shape[0] - size[1]) // 2, (around.shape[1] - size[0]) // 2
        around[y : y + size[1], x : x + size[0]] = inner
        films.append(around)
    found = borders.find(np.array(films).clip(0, 255).astype(np.uint8))
    assert near(found, (66, 126, 0, 108) if upright else (0, 108, 66, 126))


def plain_above():
    """A plain wall over what is filmed."""
    films = FRAMES.copy()
    films[:, :40] = 170
    return films


def plain_around():
    """A bright bench in whose middle something is done."""
    films = np.full_like(FRAMES, 240)
    for number, film in enumerate(films):
        cv2.ellipse(film, (90 + number, 54), (50, 30), 10, 0, 360, 60, -1)
    return films


def shallow_focus():
    """Blurred more and more towards both sides."""
    blurred = np.array([cv2.GaussianBlur(frame, (0, 0), 6) for frame in FRAMES])
    weight = np.clip(np.abs(np.linspace(-1.4, 1.4, 192)) - 0.2, 0, 1)
    return FRAMES * (1 - weight) + blurred * weight


@pytest.mark.parametrize(
    "films",
    [FRAMES, plain_above(), plain_around(), shallow_focus(), FRAMES * 0.06, FRAMES * 0 + 128],
    ids=["footage", "a wall above", "a bright bench", "a shallow focus", "dark", "grey"],
)
def test_what_is_no_border_stays(films):
    assert borders.find(films.clip(0, 255).astype(np.uint8)) == WHOLE
