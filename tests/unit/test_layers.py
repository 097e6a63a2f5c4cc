"""A sticker over a still picture is told from what moves of itself."""

import cv2
import numpy as np
import pytest

from app.video import layers
from tests.unit.test_borders import textured

SECONDS = [number / 8 for number in range(40)]
BELOW = textured()
STICKER = cv2.GaussianBlur(textured(9, (24, 30)), (0, 0), 0.7) * 2 - 110
GRAIN = np.random.default_rng(3).normal(0, 1, (40, 108, 192))


def film(place, part=lambda number: STICKER, noise=0.0, below=lambda number: BELOW):
    """Moments in which a part lies over what is below, at the place that `place` tells."""
    frames = []
    for number in range(40):
        frame = below(number).copy()
        patch = part(number)
        move = np.array([[1, 0, place(number)[0]], [0, 1, place(number)[1]]], np.float32)
        size = (192, 108)
        there = cv2.warpAffine(np.ones_like(patch), move, size)
        frame = frame * (1 - there) + there * cv2.warpAffine(patch, move, size, flags=cv2.INTER_CUBIC)
        frames.append(frame + noise * GRAIN[number])
    return np.array(frames).clip(0, 255).astype(np.uint8)


def straight(number):
    return 4.3 * (number % 36), 40


def around(number):
    return 80 + 60 * np.cos(number / 6), 45 + 35 * np.sin(number / 6)


@pytest.mark.parametrize("place", [straight, around])
@pytest.mark.parametrize("noise", [0, 2])
def test_a_sticker_that_is_moved_about_is_found(place, noise):
    assert layers.find(film(place, noise=noise), SECONDS, ()).share > 0.85


def test_a_sticker_that_turns_as_it_moves_is_found():
    disc = cv2.GaussianBlur(textured(9, (37, 37)), (0, 0), 0.7) * 2 - 110
    whole = cv2.circle(np.zeros((37, 37)), (18, 18), 17, 1, -1)
    frames = []
    for number in range(40):
        turn = cv2.getRotationMatrix2D((18, 18), 20 * number, 1)
        turn[:, 2] += around(number)
        there = cv2.warpAffine(whole, turn, (192, 108))
        frames.append(
            BELOW * (1 - there) + there * cv2.warpAffine(disc, turn, (192, 108), flags=cv2.INTER_CUBIC)
        )
    small = (np.array(frames) + GRAIN).clip(0, 255).astype(np.uint8)
    assert layers.find(small, SECONDS, ()).share > 0.6


def bent(number):
    """Fingers, seen from the side: they bend as they move."""
    rows, columns = np.mgrid[:24, :30].astype(np.float32)
    sway = columns + np.float32(2.5) * np.sin(rows / 4 + number)
    return cv2.remap(STICKER.astype(np.float32), sway, rows, cv2.INTER_CUBIC, borderMode=cv2.BORDER_REFLECT)


def turned(number):
    """A thing that is turned in a hand, so that other sides of it are seen."""
    return textured(9, (24, 230))[:, 4 * number : 4 * number + 30] * 1.5 - 60


def lit(number):
    """A thing that moves through a light from one side."""
    return STICKER * (0.6 + 0.4 * np.sin(number / 3 + np.linspace(0, 2, 30)))


@pytest.mark.parametrize("part", [bent, turned, lit])
def test_what_moves_of_itself_is_no_sticker(part):
    assert layers.find(film(around, part, noise=1), SECONDS, ()).share == 0


def test_before_a_moving_camera_nothing_is_told():
    below = textured(3, (108, 400))
    moving = film(straight, below=lambda number: below[:, 5 * number : 5 * number + 192])
    assert layers.find(moving, SECONDS, ()).share == 0


def test_a_still_picture_and_no_pictures_have_no_layers():
    assert layers.find(np.array([BELOW] * 40).astype(np.uint8), SECONDS, ()).share == 0
    for count in (0, 1, 3):
        assert layers.find(np.zeros((count, 108, 192), np.uint8), SECONDS[:count], ()).share == 0
