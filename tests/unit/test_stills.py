import hashlib
import uuid
from itertools import pairwise

import pytest

from app.video.stills import CANDIDATES, Candidate, candidates, choose, moments
from tests.unit.test_technical import make_probe

SEED = uuid.UUID(int=7).hex


def film(seconds, fps=25):
    times = tuple(number / fps for number in range(round(seconds * fps)))
    return make_probe(duration=float(seconds), times=times)


@pytest.mark.parametrize(("seconds", "expected"), [(1, 25), (3, 48), (60, 480), (300, 2400), (900, 2400)])
def test_one_moment_lies_in_each_slice(seconds, expected):
    found = moments(film(seconds), SEED)
    rate = expected / seconds
    assert len(found) == expected
    assert [int(time * rate + 1e-9) for time in found] == list(range(expected))


def test_anyone_can_work_the_moments_out_again():
    # as docs/design.md tells
    def chance(number):
        return int.from_bytes(hashlib.sha256(f"{SEED}:{number}".encode()).digest()[:8], "big") / 2**64

    assert moments(film(10), SEED) == [(number + chance(number)) / 8 for number in range(80)]


def test_nobody_can_tell_the_moments_without_the_seed():
    one, other = (moments(film(60), seed) for seed in ("one", "other"))
    # their places within their slices have nothing in common
    places = [time * 8 % 1 for time in one]
    assert max(abs(sum(place < share for place in places) / 480 - share) for share in (0.25, 0.5, 0.75)) < 0.1
    assert sum(abs(a - b) < 0.005 for a, b in zip(one, other, strict=True)) < 60


@pytest.mark.parametrize("seconds", [1, 3, 60, 300])
def test_candidates_are_spread_over_the_video_without_its_margins(seconds):
    found = moments(film(seconds), SEED)
    chosen = candidates(found, seconds)
    assert chosen == sorted(set(chosen))
    assert len(chosen) >= min(CANDIDATES, len(found) * 0.85)
    assert all(0.05 * seconds <= found[index] <= 0.95 * seconds for index in chosen)
    gaps = [later - earlier for earlier, later in pairwise(chosen)]
    assert max(gaps) - min(gaps) <= 1


def made(motion=None, foreign=(), count=32):
    motion = motion or {}
    return [
        Candidate(number * 2.0, motion.get(number, 0.01), number not in foreign) for number in range(count)
    ]


def test_stills_are_uniform_and_the_one_in_which_most_moves_is_among_them():
    chosen = choose(made({13: 0.2}), 8)
    assert len(chosen) == 9
    assert 13 in chosen
    others = [index for index in chosen if index != 13]
    assert all(3 <= later - earlier <= 5 for earlier, later in pairwise(others))


def test_the_peak_of_motion_is_not_shown_twice():
    known = choose(made({0: 0.2}, count=8), 8)
    assert known == list(range(8))


def test_what_does_not_belong_to_its_neighbours_is_never_shown():
    foreign = set(range(0, 32, 2))
    chosen = choose(made({4: 0.9}, foreign), 8)
    assert len(chosen) >= 8
    assert not foreign & set(chosen)
    assert choose(made(foreign=set(range(32))), 8) == []


def test_a_video_of_few_pictures_shows_what_it_has():
    assert choose(made(count=3), 8) == [0, 1, 2]
