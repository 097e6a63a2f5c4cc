import pytest

from app.video.stills import PEAK_DISTANCE, targets
from tests.unit.test_technical import make_probe


def gop(frames):
    """A minute at 25 frames a second with a keyframe every `frames` frames."""
    times = tuple(number / 25 for number in range(1500))
    return make_probe(duration=60.0, times=times, keyframes=times[::frames])


@pytest.mark.parametrize("frames", [1, 12, 250, 1500])
@pytest.mark.parametrize("count", [5, 8])
def test_stills_are_distinct_uniform_and_within_the_margins(frames, count):
    probe = gop(frames)
    chosen = targets(probe, count)
    assert len(set(chosen)) == count
    assert chosen == sorted(chosen)
    assert chosen[0] >= 3.0
    assert chosen[-1] <= 57.0
    # never further from where they should be than a keyframe is
    step = 54.0 / (count - 1)
    assert all(abs(time - (3.0 + step * number)) <= 10.0 for number, time in enumerate(chosen))


def test_keyframes_stand_in_where_there_are_enough():
    probe = gop(250)
    assert set(targets(probe, 5)) <= set(probe.keyframes)
    assert not set(targets(gop(1500), 5)) <= set(gop(1500).keyframes)


def test_the_peak_of_motion_is_added_unless_it_is_shown_already():
    probe = gop(250)
    chosen = targets(probe, 5)
    assert set(targets(probe, 5, peak=25.51)) - set(chosen) == {25.52}
    assert targets(probe, 5, peak=chosen[2] + PEAK_DISTANCE / 2) == chosen


def test_a_video_of_few_frames_gives_what_it_has():
    probe = make_probe(duration=1.0, times=(0.0, 0.4, 0.8), keyframes=(0.0,))
    assert targets(probe, 8) == [0.4, 0.8]
