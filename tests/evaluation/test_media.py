"""What decoding finds: stills are of the frames they say, and heavy videos are decoded in parts."""

import dataclasses
import io

import numpy as np
import pytest
from PIL import Image

from app.errors import TransientError
from app.video import stills
from app.video.ffmpeg import MediaFault
from app.video.probe import Probe, probe
from app.video.scan import expected_cpu_seconds, scan

FPS = 25
# each frame is plain, and two levels brighter than the one before
RAMP = "format=yuv420p,geq=lum=16+2*mod(N\\,100):cb=128:cr=128"


def shown_frame(still):
    """The number, modulo 100, of the frame of a RAMP that a still shows."""
    level = np.asarray(Image.open(io.BytesIO(still.jpeg)).convert("L")).mean()
    # JPEG has the full range of levels, the video has 16 to 235
    return round(level * 219 / 255 / 2)


@pytest.mark.parametrize(
    ("codec", "container", "gop"),
    [
        ("h264", "mp4", 12),
        ("h264", "mp4", 250),
        ("h264", "mkv", 12),
        ("h264", "avi", 12),
        ("vp9", "webm", 250),
    ],
)
def test_stills_are_of_the_frames_they_say(videos, tmp_path, codec, container, gop):
    options = ["-g", gop]
    if codec == "h264":
        # AVI has no times for frames that are shown in another order than they are stored
        options += ["-crf", "10", "-bf", "0" if container == "avi" else "2"]
    path = videos.make(
        "color=gray",
        seconds=4,
        size="320x240",
        codec=codec,
        container=container,
        filters=(RAMP,),
        options=options,
    )
    found = probe(path)
    taken = stills.take(path, found, stills.targets(found, 8, peak=2.0), tmp_path)

    assert len(taken) >= 8
    for still in taken:
        assert shown_frame(still) == pytest.approx(round(still.seconds * FPS) % 100, abs=1)
    assert not list(tmp_path.iterdir())


def test_stills_are_no_larger_than_the_judge_needs(videos, tmp_path):
    path = videos.make("bunny", size="1280x720", seconds=2)
    found = probe(path)
    for still in stills.take(path, found, stills.targets(found, 3), tmp_path):
        image = Image.open(io.BytesIO(still.jpeg))
        assert (image.format, image.size) == ("JPEG", (768, 432))


@pytest.mark.parametrize(
    ("codec", "container"),
    [("h264", "mp4"), ("h265", "mkv"), ("vp8", "webm"), ("vp9", "webm"), ("av1", "mp4")],
)
def test_of_a_heavy_video_only_keyframes_are_decoded(videos, codec, container):
    path = videos.make("bikes", seconds=8, codec=codec, container=container, options=("-g", "25"))
    found = probe(path)
    whole = scan(path, found, lambda: None)
    # what the file's bytes take, and half of its pixels
    sparse = scan(path, found, lambda: None, most_cpu_seconds=between(found))

    assert 3 <= sparse.measures.frames < whole.measures.frames / 3
    assert (sparse.damaged, whole.damaged) == (0, 0)
    # no frame is counted twice
    assert (sparse.measures.frozen, whole.measures.frozen) == (0, 0)
    assert sparse.fingerprint


def between(found):
    """Return what decoding half of the frames is expected to take: enough for the keyframes, not for all."""
    half = dataclasses.replace(found, times=found.times[::2])
    return expected_cpu_seconds(half, half.times)


@pytest.mark.parametrize(
    ("codec", "size", "fps", "seconds", "keyframe_every", "megabytes", "refused"),
    [
        # 8K at 120 frames a second with one keyframe: 13 minutes on a wall clock
        ("vp9", (7680, 4320), 120, 20, 20, 37, True),
        # nothing but keyframes, or too many
        ("hevc", (7680, 4320), 60, 60, 1 / 60, 500, True),
        ("h264", (3840, 2160), 120, 300, 0.5, 500, False),
        # what phones and cameras make
        ("hevc", (3840, 2160), 60, 300, 1, 500, False),
        ("h264", (1920, 1080), 60, 300, 300, 200, False),
        # what browsers record: one keyframe
        ("vp9", (1920, 1080), 30, 300, 300, 200, False),
        ("vp8", (1280, 720), 30, 300, 300, 100, False),
        ("av1", (1920, 1080), 30, 300, 300, 200, False),
        ("hevc", (3840, 2160), 60, 300, 12, 500, True),
    ],
)
def test_what_takes_too_long_is_refused_before_it_is_decoded(
    tmp_path, codec, size, fps, seconds, keyframe_every, megabytes, refused
):
    found = Probe(
        format="matroska,webm",
        codec=codec,
        stream=0,
        width=size[0],
        height=size[1],
        rotation=0,
        size_bytes=megabytes * 10**6,
        start=0.0,
        duration=seconds,
        declared_duration=None,
        times=tuple(number / fps for number in range(seconds * fps)),
        keyframes=tuple(number * keyframe_every for number in range(round(seconds / keyframe_every))),
    )
    # there is no such file: what is not refused before fails to open
    expected = (MediaFault, "keyframe every .* smaller") if refused else (TransientError, "No such file")
    with pytest.raises(expected[0], match=expected[1]):
        scan(tmp_path / "absent", found, lambda: None)


def test_measures_tell_black_frozen_and_blurred_parts(videos):
    def measures(*filters):
        # without the edges of coarse blocks
        path = videos.make("bunny", seconds=5, filters=filters, options=("-crf", "10"))
        return scan(path, probe(path), lambda: None).measures

    assert measures("drawbox=t=fill:c=black:enable=gt(t\\,2.5)").black == pytest.approx(0.5, abs=0.06)
    assert measures("gblur=sigma=12:enable=gt(t\\,2.5)").blurred == pytest.approx(0.5, abs=0.06)
    assert measures("loop=loop=62:size=1:start=62").frozen == pytest.approx(0.5, abs=0.06)
    assert measures("eq=brightness=-0.45").badly_exposed > 0.9
