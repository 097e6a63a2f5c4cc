"""The text detectors that ship with Kibotos answer as those of the wheel of which they were made."""

import cv2
import numpy as np
import pytest

from app.video import painting, writing
from tests.evaluation.test_writing import on, written


@pytest.fixture(scope="module")
def ground():
    rng = np.random.default_rng(7)
    return cv2.resize(rng.integers(0, 255, (17, 30, 3), np.uint8), (480, 272), interpolation=cv2.INTER_CUBIC)


@pytest.mark.parametrize(
    ("shipped", "original"),
    [
        (
            writing.FIRST,
            ("ppocrv5/det/det.onnx", "4d97c44a20d30a81aad087d6a396b08f786c4635742afc391f6621f5c6ae78ae"),
        ),
        (
            writing.SECOND,
            ("ppocrv6/tiny/det/det.onnx", "193bab7a04fca699a6c82e6abb5b81bdb28177f0abd4062552b04908dafb19f8"),
        ),
    ],
)
def test_a_detector_sees_what_the_original_sees(ground, shipped, original):
    before, now = writing._load(painting.models(), *original), writing._load(writing.DETECTORS, *shipped)
    # a picture with writing, and one whose sides are odd and whose edges are written on
    for picture in (on(ground, written(30)), on(ground, written(62))[100:171, 100:379]):
        likely = writing.look(before, picture)
        assert likely.max() > 0.9
        assert np.abs(writing.look(now, picture) - likely).max() < 0.002
