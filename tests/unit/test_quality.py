import numpy as np
import pytest

from app.assessment import quality
from app.video.measures import FrameMeasures, Measures, blur, cuts, measure, summarise

chance = np.random.default_rng(1)
# sharp edges everywhere
SHARP = (chance.integers(0, 2, (27, 48)) * 160 + 40).astype(np.uint8).repeat(8, axis=0).repeat(8, axis=1)
BLACK = np.zeros_like(SHARP)


def smoothed(frame, size):
    kernel = np.ones(size) / size
    rows = np.apply_along_axis(np.convolve, 1, frame.astype(float), kernel, "same")
    return np.apply_along_axis(np.convolve, 0, rows, kernel, "same").astype(np.uint8)


def test_black_is_black_and_not_blurred_or_dark_as_well():
    frame = measure(0, BLACK, None)
    assert (frame.black, frame.blurred, frame.badly_exposed) == (True, False, False)


def test_blur_grows_with_smoothing():
    values = [blur(smoothed(SHARP, size)) for size in (1, 5, 15, 41)]
    assert values == sorted(values)
    assert not measure(0, SHARP, None).blurred
    assert measure(0, smoothed(SHARP, 41), None).blurred


@pytest.mark.parametrize("level", [15, 252])
def test_dim_and_burnt_frames_are_badly_exposed(level):
    frame = np.full_like(SHARP, level)
    frame[:40] = 90
    assert measure(0, frame, None).badly_exposed
    assert not measure(0, SHARP, None).badly_exposed


def test_a_frame_like_the_one_before_is_frozen_and_a_small_movement_is_not():
    moved = SHARP.copy()
    moved[100:124, 200:224] = 0
    assert measure(0.25, SHARP, SHARP).frozen
    assert not measure(0.25, moved, SHARP).frozen
    assert not measure(0, SHARP, None).frozen


def frames(*changes):
    return [
        FrameMeasures(number / 4, 0.5, 0, 0, 0.4, change, change)
        for number, change in enumerate((None, *changes))
    ]


def test_a_cut_is_a_change_far_above_those_around_it():
    assert cuts(frames(0.02, 0.03, 0.4, 0.02, 0.03)) == [0.75]
    # a shaken camera changes all the time
    assert cuts(frames(0.2, 0.3, 0.4, 0.3, 0.2)) == []


def test_the_peak_of_motion_is_no_cut_and_within_the_margins():
    summary = summarise(frames(0.01, 0.02, 0.5, 0.01, 0.08, 0.02, 0.01, 0.01))
    assert summary.cuts == (0.75,)
    assert summary.motion_peak == 1.25


def measures(**changes):
    values = {
        "frames": 40, "black": 0.0, "frozen": 0.0, "blurred": 0.0, "badly_exposed": 0.0,
        "mean_brightness": 0.5, "mean_blur": 0.4, "mean_motion": 0.05, "motion_peak": 5.0, "cuts": (),
    }  # fmt: skip
    return Measures(**values | changes)


@pytest.mark.parametrize(
    ("changes", "damaged", "expected"),
    [
        ({}, 0, 1.0),
        ({"black": 0.02, "frozen": 0.1, "blurred": 0.1, "badly_exposed": 0.1}, 0, 1.0),
        ({"black": 0.52}, 0, 0.5),
        ({"frozen": 0.6}, 0, 0.5),
        ({"blurred": 0.6}, 0, 0.65),
        ({"badly_exposed": 0.6}, 0, 0.75),
        ({}, 0.04, 0.96),
        ({"frozen": 0.6, "blurred": 0.6}, 0, 0.15),
        ({"frozen": 1.0, "blurred": 1.0}, 0.1, 0.0),
    ],
)
def test_quality_is_1_less_what_is_above_each_threshold(changes, damaged, expected):
    deductions = quality.deductions(measures(**changes), damaged)
    assert quality.score(deductions) == pytest.approx(expected)
    assert 1 - sum(each.points for each in deductions) <= quality.score(deductions)


def test_a_picture_is_no_video():
    assert "still picture" in quality.still(measures(frozen=0.95))
    assert "black" in quality.still(measures(black=0.95))
    assert quality.still(measures(frozen=0.94, black=0.94)) is None
