"""A damaged video gets one verdict: from run to run, and by every ffmpeg at hand.

HEVC is left out: for the rest of a slice that breaks off, ffmpeg shows whatever its memory held, another
thing in each run.
"""

import random
import warnings

import pytest

from tests import toolsets
from tests.odd_videos import AV1, H264, VP9
from tests.videos import footage, run_ffmpeg

CODECS = {
    "h264": (*H264, "-g", "50"),
    "vp9": (*VP9, "-g", "50"),
    "av1": (*AV1, "-g", "50"),
}


def flipped(data, count, seed):
    """The data with `count` bits flipped between its head and its end."""
    chance, changed = random.Random(seed), bytearray(data)
    for _ in range(count):
        changed[chance.randrange(len(data) // 10, len(data) * 9 // 10)] ^= 1 << chance.randrange(8)
    return bytes(changed)


DAMAGES = {
    "few bits": lambda data: flipped(data, 3, seed=2),
    "many bits": lambda data: flipped(data, 40, seed=4),
    "the end": lambda data: data[: len(data) * 97 // 100],
}
CASES = [
    ("h264", "few bits"),
    ("h264", "many bits"),
    ("h264", "the end"),
    ("vp9", "many bits"),
    ("av1", "many bits"),
]


@pytest.fixture(scope="module")
def films(tmp_path_factory):
    """Two seconds in each codec, small."""
    directory = tmp_path_factory.mktemp("films")
    shape = "fps=25,scale=320:240,setsar=1"
    for codec, options in CODECS.items():
        output = directory / f"{codec}.mkv"
        run_ffmpeg("-i", footage("bunny"), "-t", 2, "-an", "-vf", shape, *options, output)
    return directory


@pytest.fixture
def verdict_on(films, evaluate_file):
    """The verdict on a film of `codec` that was damaged, by a set of tools."""

    def verdict(codec, damage, toolset):
        path = films / f"{codec}-damaged.mkv"
        path.write_bytes(DAMAGES[damage]((films / f"{codec}.mkv").read_bytes()))
        with toolsets.using(toolset):
            found = evaluate_file(path, requirements={"min_width": 160, "min_height": 120})
        return bool(found.rejection_reason), round(found.quality_score, 3), round(found.technical_score, 3)

    return verdict


@pytest.mark.parametrize(("codec", "damage"), CASES)
def test_a_damaged_video_gets_the_same_verdict_everywhere(codec, damage, verdict_on):
    at_hand = toolsets.at_hand()
    if len(at_hand) == 1:
        warnings.warn("Compared from run to run only: this machine has no ffmpeg of its own.", stacklevel=1)
    one, other = (verdict_on(codec, damage, name) for name in (*at_hand, at_hand[0])[:2])
    assert one[0] == other[0]
    assert one[1:] == pytest.approx(other[1:], abs=0.001)
