import dataclasses

import pytest

from app.assessment.model import Declared
from app.assessment.technical import check, rejection, score
from app.video.probe import Probe


def make_probe(**changes):
    """A flawless video of 10 s, 640x480 at 25 frames a second."""
    values = {
        "format": "mov,mp4,m4a,3gp,3g2,mj2",
        "codec": "h264",
        "stream": 0,
        "width": 640,
        "height": 480,
        "coded_size": (640, 480),
        "rotation": 0,
        "size_bytes": 1_000_000,
        "start": 0.0,
        "duration": 10.0,
        "declared_duration": 10.0,
        "present": 1.0,
        "rates": (25.0,),
        "times": tuple(number / 25 for number in range(250)),
        "keyframes": (0.0,),
    }
    return Probe(**values | changes)


TRUTH = Declared(duration=10, width=640, height=480, fps=25)


def checks(probe=None, declared=TRUTH, requirements=(), fault=None, size_bytes=1_000_000):
    found = check(probe or make_probe(), size_bytes, declared, dict(requirements), fault)
    return {each.name: each for each in found}, found


def test_a_flawless_video_passes_all_seven_checks():
    by_name, found = checks()
    assert list(by_name) == [
        "readable", "valid_format", "valid_codec", "resolution", "fps", "duration", "file_size",
    ]  # fmt: skip
    assert score(found) == 1
    assert rejection(found) is None
    assert all(each.reason is None for each in found)


@pytest.mark.parametrize(
    ("changes", "name", "rejects"),
    [
        ({"format": "flv"}, "valid_format", True),
        ({"codec": "mpeg4"}, "valid_codec", True),
        ({"width": 479, "height": 479}, "resolution", False),
        ({"width": 640, "height": 359}, "resolution", False),
        ({"duration": 0.9, "declared_duration": 0.9}, "duration", True),
        ({"duration": 302.0, "declared_duration": 302.0}, "duration", True),
        ({"times": (0.0,)}, "readable", True),
        ({"present": 0.5}, "readable", True),
        ({"times": tuple(number / 14 for number in range(140))}, "fps", False),
        ({"times": tuple(number / 125 for number in range(1250))}, "fps", False),
    ],
)
def test_what_fails_and_what_rejects(changes, name, rejects):
    probe = make_probe(**changes)
    truth = Declared(probe.duration, probe.width, probe.height, probe.fps)
    by_name, found = checks(probe, truth)
    assert not by_name[name].passed
    assert by_name[name].rejects == rejects
    assert by_name[name].reason
    assert (rejection(found) is not None) == rejects


@pytest.mark.parametrize("format", ["mov,mp4,m4a,3gp,3g2,mj2", "matroska,webm", "avi"])
@pytest.mark.parametrize("codec", ["h264", "hevc", "vp8", "vp9", "av1"])
def test_the_containers_and_codecs_of_the_contract(format, codec):
    assert score(checks(make_probe(format=format, codec=codec))[1]) == 1


def test_portrait_counts_as_landscape():
    probe = make_probe(width=360, height=480)
    assert checks(probe, Declared(10, 480, 360, 25))[0]["resolution"].passed


@pytest.mark.parametrize(
    ("declared", "name"),
    [
        ({"duration": 11}, "duration"),
        ({"width": 1280}, "resolution"),
        ({"height": 240}, "resolution"),
        ({"fps": 30}, "fps"),
    ],
)
def test_a_false_declaration_costs_its_checks_points_but_does_not_reject(declared, name):
    by_name, found = checks(declared=dataclasses.replace(TRUTH, **declared))
    assert not by_name[name].passed
    assert "declared" in by_name[name].reason
    assert [each.name for each in found if not each.passed] == [name]
    assert rejection(found) is None


@pytest.mark.parametrize("declared", [{"duration": 10.5}, {"width": 660}, {"fps": 24}])
def test_a_declaration_may_be_5_percent_off(declared):
    assert score(checks(declared=dataclasses.replace(TRUTH, **declared))[1]) == 1


@pytest.mark.parametrize(
    ("changes", "declared"),
    [
        # sound that goes on for longer, as a player and `ffprobe -show_format` tell it
        ({"declared_duration": 12.0}, {"duration": 12}),
        ({"declared_duration": 12.0}, {"duration": 10}),
        # a phone that films at a nominal 30, in the dark at 24
        ({"rates": (24.0, 30.0)}, {"fps": 30}),
        # wide pixels: 1440 x 1080 shown as 1920 x 1080, and turned
        ({"width": 1920, "height": 1080, "coded_size": (1440, 1080)}, {"width": 1440, "height": 1080}),
        ({"width": 1080, "height": 1920, "coded_size": (1440, 1080)}, {"width": 1920, "height": 1080}),
    ],
)
def test_a_declaration_may_be_what_the_headers_say(changes, declared):
    probe = make_probe(**changes)
    truth = Declared(probe.duration, probe.width, probe.height, probe.fps)
    assert score(checks(probe, dataclasses.replace(truth, **declared))[1]) == 1


def test_a_size_is_declared_whole():
    """The width of one and the height of the other are no size of the video."""
    found = make_probe(width=1920, height=1080, coded_size=(1440, 1080))
    assert not checks(found, dataclasses.replace(TRUTH, width=1440, height=810))[0]["resolution"].passed


@pytest.mark.parametrize(
    ("requirements", "name"),
    [
        ({"min_width": 1280}, "resolution"),
        ({"min_height": 720}, "resolution"),
        ({"min_fps": 30}, "fps"),
        ({"max_fps": 20}, "fps"),
        ({"min_duration": 15}, "duration"),
        ({"max_duration": 5}, "duration"),
        ({"max_file_size_mb": 0.5}, "file_size"),
    ],
)
def test_requirements_override_the_defaults(requirements, name):
    found = checks(requirements=requirements)[1]
    assert [each.name for each in found if not each.passed] == [name]


def test_requirements_may_lower_to_0_and_null_means_the_default():
    short = make_probe(duration=0.5, declared_duration=0.5, times=(0.0, 0.25))
    truth = Declared(0.5, 640, 480, 4)
    assert rejection(checks(short, truth, {"min_duration": 0, "min_fps": 0})[1]) is None
    assert rejection(checks(short, truth, {"min_duration": None})[1])


def test_a_file_that_cannot_be_opened_fails_all_but_its_size():
    found = check(None, 1000, TRUTH, {}, "It has no video stream.")
    assert [each.name for each in found if each.passed] == ["file_size"]
    assert rejection(found) == "The file is no usable video: It has no video stream."


def test_a_fault_found_by_decoding_fails_readable():
    by_name, found = checks(fault="77% of its frames are damaged.")
    assert by_name["readable"].rejects
    assert "77%" in rejection(found)
