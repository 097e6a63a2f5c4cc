import cv2
import numpy as np
import pytest

from app.assessment import quality
from app.video import motion, shots
from app.video.measures import Faults, Found, blur, found, is_drawn, joined, measure, stretched

chance = np.random.default_rng(1)
# sharp edges everywhere
SHARP = (chance.integers(0, 2, (27, 48)) * 160 + 40).astype(np.uint8).repeat(8, axis=0).repeat(8, axis=1)
BLACK = np.zeros_like(SHARP)


def smoothed(frame, size):
    kernel = np.ones(size) / size
    rows = np.apply_along_axis(np.convolve, 1, frame.astype(float), kernel, "same")
    return np.apply_along_axis(np.convolve, 0, rows, kernel, "same").astype(np.uint8)


def test_black_is_black_and_not_blurred_or_dark_as_well():
    frame = measure(0, BLACK)
    assert (frame.black, frame.blurred, frame.badly_exposed) == (True, False, False)


def test_blur_grows_with_smoothing():
    values = [blur(smoothed(SHARP, size)) for size in (1, 5, 15, 41)]
    assert values == sorted(values)
    assert not measure(0, SHARP).blurred
    assert measure(0, smoothed(SHARP, 41)).blurred


def test_noise_is_not_taken_for_sharpness():
    noisy = smoothed(SHARP, 41) + chance.normal(0, 0.8, SHARP.shape)
    assert measure(0, noisy.clip(0, 255).astype(np.uint8)).blurred
    noisy = SHARP + chance.normal(0, 10, SHARP.shape)
    assert not measure(0, noisy.clip(0, 255).astype(np.uint8)).blurred


def test_the_fall_of_light_towards_the_edge_of_a_lens_is_no_blur():
    rows, columns = np.mgrid[:216, :384]
    light = np.clip(1.05 - 1.3 * (((rows - 108) / 192) ** 2 + ((columns - 192) / 192) ** 2), 0.02, 1)
    # a plain wall, and something sharp before its middle
    wall = np.full((216, 384), 180.0)
    wall[88:128, 172:212] = SHARP[:40, :40]
    assert not measure(0, (wall * light).astype(np.uint8)).blurred
    assert measure(0, (smoothed(wall, 21) * light).astype(np.uint8)).blurred


@pytest.mark.parametrize("level", [15, 252])
def test_dim_and_burnt_frames_are_badly_exposed(level):
    frame = np.full_like(SHARP, level)
    frame[:40] = 90
    assert measure(0, frame).badly_exposed
    assert not measure(0, SHARP).badly_exposed


def test_a_frame_without_contrast_is_flat_and_one_with_a_few_levels_is_not():
    assert measure(0, (100 + SHARP * 0.04).astype(np.uint8)).flat
    assert not measure(0, (30 + SHARP * 0.2).astype(np.uint8)).flat
    assert not measure(0, BLACK).flat


def test_what_is_drawn_has_areas_of_one_level():
    drawn = SHARP.repeat(4, axis=0).repeat(4, axis=1)[: SHARP.shape[0], : SHARP.shape[1]]
    assert is_drawn(drawn)
    assert not is_drawn(scene(0))
    # what is burnt out is flat as well
    assert not is_drawn(np.full_like(SHARP, 255))


def test_contrast_is_stretched_as_far_as_there_is_a_picture():
    flat = scene(0) * 0.2 + 100
    assert np.ptp(stretched(flat)) > 200
    assert np.ptp(stretched(scene(0) * 0.001)) < 10


def scene(shift, size=(108, 192), seed=2):
    """A smooth picture without an end, moved by `shift` pixels."""
    random = np.random.default_rng(seed)
    rows, columns = np.mgrid[: size[0], : size[1]]
    waves = sum(
        random.uniform(0.5, 1) * np.sin(a * rows + b * (columns + shift) + c)
        for a, b, c in random.uniform(0.05, 0.4, (12, 3))
    )
    return (127 + 25 * waves).clip(0, 255).astype(np.float32)


def film(frames):
    """Moments at 8 a second."""
    return np.array(frames).clip(0, 255).astype(np.uint8), [number / 8 for number in range(len(frames))]


def with_hand(picture, place):
    """The picture, and something of its own that lies over it at `place`."""
    changed = picture.copy()
    changed[40:70, place : place + 30] = scene(0, (30, 30), seed=9) / 2
    return changed


def zoomed(picture, factor):
    """The middle of the picture, magnified."""
    height, width = picture.shape
    rows, columns = ((np.arange(side) - side / 2) / factor + side / 2 for side in (height, width))
    return np.array([np.interp(columns, np.arange(width), row) for row in np.array(
        [np.interp(rows, np.arange(height), column) for column in picture.T]
    ).T])  # fmt: skip


GRAIN = np.random.default_rng(3).normal(0, 1, (40, 108, 192))
DRAWING = smoothed((np.indices((108, 192)).sum(axis=0) // 27 % 3 * 90).astype(np.uint8), 3)


@pytest.mark.parametrize(
    "picture",
    [
        lambda number: scene(0),
        lambda number: scene(0) + GRAIN[number],
        lambda number: scene(0) + 12 * GRAIN[number],
        lambda number: scene(1.7 * number),
        lambda number: scene(1.7 * number) + 3 * GRAIN[number],
        lambda number: zoomed(scene(0), 1 + number / 50),
        lambda number: zoomed(DRAWING, 1 + number / 50),
        lambda number: scene(0) * (0.8 + 0.2 * np.sin(number)),
        # from one picture to another
        lambda number: scene(0) * (1 - number / 39) + scene(0, seed=5) * number / 39,
    ],
    ids=[
        *("the same", "noise", "the grain of film", "panned", "panned, with noise", "zoomed"),
        *("a drawing, zoomed", "lit otherwise", "faded"),
    ],
)
def test_a_picture_that_only_changes_as_a_whole_is_still(picture):
    small, seconds = film([picture(number) for number in range(40)])
    assert motion.frozen(small, seconds, ()).share > 0.95


def test_something_small_that_moves_is_enough_and_noise_does_not_hide_it():
    fingers = scene(0, (14, 14), seed=9)
    for noise in (0, 2):
        frames = [scene(0) + noise * GRAIN[number] for number in range(40)]
        for number, frame in enumerate(frames):
            row, column = 50 + int(5 * np.sin(number)), 80 + number % 7
            frame[row : row + 14, column : column + 14] = fingers
        small, seconds = film(frames)
        assert motion.frozen(small, seconds, ()).share < 0.3


def test_what_moves_of_itself_is_a_film_even_before_a_moving_camera():
    for shift in (0, 1.7):
        small, seconds = film([with_hand(scene(shift * number), 3 * number) for number in range(40)])
        assert motion.frozen(small, seconds, ()).share < 0.2


@pytest.mark.parametrize("sways", [0, 1])
def test_who_hardly_moves_before_a_camera_that_is_moved_is_no_photo(sways):
    frames = []
    for number in range(64):
        picture = scene(0)
        # some pixels to and fro in seconds, far less than an alignment is out by in a quarter of one
        picture[30:80, 70:130] = scene(sways * 5 * np.sin(number / 12), (50, 60), seed=9)
        moved = np.float32([[1, 0, 5 * np.sin(number)], [0, 1, 4 * np.sin(number / 1.4)]])
        frames.append(cv2.warpAffine(picture, moved, (192, 108), borderMode=cv2.BORDER_REFLECT))
    still = motion.frozen(*film(frames), ()).share
    assert still < 0.5 if sways else still > 0.95


def waves(time):
    """A picture made of waves that slowly go to and fro, each its own way."""
    random = np.random.default_rng(4)
    rows, columns = np.mgrid[:108, :192]
    parts = (
        np.sin(a * rows + b * columns + c + 0.12 * np.sin(d * time))
        for a, b, c, d in random.uniform((-0.12, -0.12, 0, 0.5), (0.12, 0.12, 6, 1.5), (30, 4))
    )
    return 120 + 12 * sum(parts)


def test_what_changes_slowly_everywhere_is_no_photo_but_a_slow_fade_is():
    slow = [waves(number / 8) for number in range(48)]
    assert motion.frozen(*film(slow), ()).share < 0.3
    other = 0.25 * (scene(0) - waves(0))
    faded = [waves(0) + number / 47 * other for number in range(48)]
    assert motion.frozen(*film(faded), ()).share > 0.95


def test_a_wait_counts_as_long_as_it_takes():
    frames = [with_hand(scene(0), 3 * min(number, 20)) for number in range(40)]
    small, seconds = film(frames)
    still = motion.frozen(small, seconds, ())
    assert still.share == pytest.approx(0.5, abs=0.1)
    assert still.at == pytest.approx(2.5, abs=0.4)
    [(start, end)] = still.spans
    assert start == still.at and end == pytest.approx(4.4, abs=0.2)


def thumbnails(numbers, seed=4):
    """Thumbnails of a film that is at the frame of each number, 25 a second."""
    frames = [scene(number / 2, (18, 32), seed).ravel() for number in numbers]
    return np.array(frames, np.uint8).reshape(-1, 18 * 32), np.arange(len(frames)) / 25


@pytest.mark.parametrize(
    ("numbers", "expected"),
    [
        (range(125), 0),
        ([number % 25 for number in range(250)], 0.9),
        ([min(number % 100, 100 - number % 100) for number in range(200)], 0.75),
        ([0] * 125, 0),
    ],
    ids=["once", "a second, ten times", "to and fro", "still"],
)
def test_what_was_shown_before_is_told(numbers, expected):
    assert motion.repeated(*thumbnails(numbers)).share == pytest.approx(expected, abs=0.13)


def test_a_loop_is_told_though_little_moves_in_it():
    small = scene(0, (18, 32)).repeat(100).reshape(18, 32, 100).transpose(2, 0, 1).copy()
    for number in range(100):
        column = 2 + number % 25
        small[number, 8:11, column : column + 3] = 250
    found = motion.repeated(small.reshape(100, -1).astype(np.uint8), np.arange(100) / 25)
    assert found.share > 0.5


def test_a_loop_is_told_though_its_light_changes():
    frames, seconds = thumbnails([number % 25 for number in range(100)])
    light, gain = 10 * np.sin(seconds)[:, None], np.linspace(0.7, 0.9, 100)[:, None]
    found = motion.repeated((frames * gain + 20 + light).astype(np.uint8), seconds)
    assert found.share == pytest.approx(motion.repeated(frames, seconds).share, abs=0.05)


def test_a_film_that_holds_its_frames_now_and_then_has_no_short_shots():
    # a camera that moves on meanwhile: 25 frames a second, of which some are lost
    numbers = [number if number % 25 < 16 else number // 5 * 5 for number in range(100)]
    assert split([2 * number for number in numbers]) == shots.Shots((), ())


def split(numbers, foreign=()):
    frames, seconds = thumbnails(numbers)
    others, _ = thumbnails(numbers, seed=8)
    for index in foreign:
        frames[index] = others[index]
    return shots.find(frames, seconds, len(frames) / 25)


def test_one_foreign_frame_is_found_and_the_shot_goes_on():
    film = split(range(100), foreign=[40])
    assert film.starts == ()
    assert film.brief == ((1.6, 1.64),)
    assert film.is_brief(1.61) and not film.is_brief(1.64)
    assert film.brief_shots(4.0) == Found(pytest.approx(0.01), 1.6, film.brief)


def test_spans_go_from_the_first_moment_that_is_so_to_the_next_that_is_not():
    seconds = [0.1, 0.3, 0.4, 0.6, 0.9]
    assert found([False, True, True, False, False], seconds) == Found(0.4, 0.3, ((0.3, 0.6),))
    assert found([True, False, True, False, True], seconds).spans == ((0.1, 0.3), (0.4, 0.6), (0.9, 0.9))
    assert found([True] * 5, seconds) == Found(1.0, 0.1, ((0.1, 0.9),))
    assert found([False] * 5, seconds) == found([], []) == Found(0.0)


def test_of_many_spans_the_nearest_become_one():
    spans = [(0.0, 1.0), (1.1, 2.0), (5.0, 6.0), (6.2, 7.0), (9.0, 9.0)]
    assert joined(spans, 5) == joined(spans, 9) == spans
    assert joined(spans, 3) == [(0.0, 2.0), (5.0, 7.0), (9.0, 9.0)]
    assert joined(spans, 1) == [(0.0, 9.0)]
    assert joined([], 3) == []


def test_a_cut_starts_a_shot_and_a_short_shot_is_none():
    assert split(range(100), foreign=range(50, 100)) == shots.Shots((2.0,), ())
    assert split(range(100), foreign=range(50, 60)).brief == ((2.0, 2.4),)
    assert split(range(100), foreign=range(0, 100, 2)).brief_shots(4.0).share >= 0.5


def test_of_two_pictures_that_take_turns_the_one_that_stays_is_the_shot():
    found = split(range(102), foreign=range(0, 102, 6))
    assert found.brief_shots(102 / 25).share == pytest.approx(1 / 6, abs=0.01)
    assert all(found.is_brief(number / 25 + 0.001) == (number % 6 == 0) for number in range(102))


def test_a_fast_camera_makes_no_shots():
    # it gathers way and stops again
    gone = np.cumsum(np.concatenate([np.full(30, 0.2), np.linspace(0.2, 3, 15), np.linspace(3, 0.2, 15)]))
    assert split(gone) == shots.Shots((), ())


def test_without_frames_there_are_no_shots():
    for count in (0, 1, 2):
        assert split(range(count)).brief == ()


def faults(**changes):
    values = dict.fromkeys(Faults.__dataclass_fields__, Found(0.0))
    return Faults(**values | {name: Found(share, 1.5) for name, share in changes.items()})


@pytest.mark.parametrize(
    ("changes", "expected"),
    [
        ({}, 1.0),
        ({"black": 0.02, "frozen": 0.6, "repeated": 0.1, "blurred": 0.1, "badly_exposed": 0.1}, 1.0),
        ({"brief_shots": 0.02, "unhashable": 0.1, "drawn": 0.1}, 1.0),
        ({"black": 0.52}, 0.5),
        ({"frozen": 0.8}, 0.7),
        ({"repeated": 0.9}, 0.2),
        ({"brief_shots": 0.12}, 0.85),
        ({"blurred": 0.6}, 0.685),
        ({"badly_exposed": 1.0}, 0.865),
        ({"drawn": 1.0}, 0.37),
        ({"unhashable": 0.4}, 0.7),
        ({"damaged": 0.04}, 0.96),
        ({"frozen": 0.8, "blurred": 0.6}, 0.385),
        ({"frozen": 0.94, "blurred": 1.0}, 0.0),
    ],
)
def test_quality_is_1_less_what_is_above_each_threshold(changes, expected):
    deductions = quality.deductions(faults(**changes))
    assert quality.score(deductions) == pytest.approx(expected)
    assert 1 - sum(each.points for each in deductions) <= quality.score(deductions)


def test_a_deduction_tells_the_second_the_threshold_and_the_remedy():
    (told,) = [each.reason for each in quality.deductions(faults(black=0.5)) if each.points]
    assert (
        told == "50% of the video is black, from 1.5 s on; 2% is allowed. Cut that off, or film with light."
    )


@pytest.mark.parametrize(
    ("changes", "reason"),
    [
        ({"frozen": 0.95}, "still picture"),
        ({"black": 0.95}, "black"),
        ({"brief_shots": 0.3}, "flickers"),
        # chance tells whether the few moments that are in no cut move
        ({"brief_shots": 0.9, "frozen": 1.0}, "flickers"),
        ({"unhashable": 0.5}, "too little contrast"),
        ({"unhashable": 0.3, "black": 0.3}, "too little contrast"),
        ({"frozen": 0.94, "black": 0.05, "brief_shots": 0.29, "unhashable": 0.4}, None),
    ],
)
def test_what_is_no_usable_video_is_rejected(changes, reason):
    told = quality.rejection(faults(**changes))
    assert (told is None) if reason is None else (reason in told)
